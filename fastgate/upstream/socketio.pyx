"""One system call to send what a socket takes now; the rest is the transport's.

A transport's write() does the same call behind three layers of bookkeeping for the case that the
socket is full. 900 bytes over loopback TCP: 4.7 us this way, 5.2 through uvloop's transport.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL


cpdef Py_ssize_t send_now(int fd, bytes data) noexcept:
    """Bytes sent; 0 when the socket is full or broken (the transport then finds out which)."""
    cdef ssize_t sent = send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
                             MSG_DONTWAIT | MSG_NOSIGNAL)
    return sent if sent > 0 else 0


cpdef int plain_fd(object transport) except -2:
    """The descriptor of a transport's socket; -1 when bytes must pass through it: TLS."""
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    plain = transport.get_extra_info("socket")
    return -1 if plain is None else plain.fileno()
