cpdef Py_ssize_t send_now(int fd, bytes data) noexcept
cpdef int plain_fd(object transport) except -2
