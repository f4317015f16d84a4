"""Text that goes out with every answer: header lines and the access log's line.

Numbers are written digit by digit: with snprintf, libc had 8.1 % of the worker's
time at 64 connections (perf).
"""

cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy, strlen

cdef enum:
    # Digits of the numbers and the words around them; each caller adds the lengths of its strings.
    ROOM = 768
    MAX_DIGITS = 20


# hot: begin

cdef inline char* put(char* to, const char* words) noexcept nogil:
    cdef size_t n = strlen(words)
    memcpy(to, words, n)
    return to + n


cdef inline char* put_bytes(char* to, const char* text, Py_ssize_t n) noexcept nogil:
    memcpy(to, text, n)
    return to + n


cdef inline char* put_hex(char* to, unsigned long long value, int digits) noexcept nogil:
    cdef const char* alphabet = b"0123456789abcdef"
    cdef int i
    for i in range(digits - 1, -1, -1):
        to[i] = alphabet[value & 15]
        value >>= 4
    return to + digits


cdef inline char* put_int(char* to, long long value) noexcept nogil:
    cdef char digits[MAX_DIGITS]
    cdef int n = 0
    cdef unsigned long long left
    if value < 0:
        to[0] = c'-'
        to += 1
        left = <unsigned long long>-(value + 1) + 1
    else:
        left = <unsigned long long>value
    while True:
        digits[n] = c'0' + <char>(left % 10)
        left //= 10
        n += 1
        if left == 0:
            break
    while n:
        n -= 1
        to[0] = digits[n]
        to += 1
    return to


cdef inline char* put_ms(char* to, long long ns) noexcept nogil:
    # Milliseconds with three places behind the point.
    cdef long long us = 0 if ns < 0 else ns // 1000
    cdef int rest = <int>(us % 1000)
    to = put_int(to, us // 1000)
    to[0] = c'.'
    to[1] = c'0' + <char>(rest // 100)
    to[2] = c'0' + <char>(rest // 10 % 10)
    to[3] = c'0' + <char>(rest % 10)
    return to + 4


cdef inline char* put_limits(char* to, long long requests_limit, long long requests_left,
                             long long tokens_limit, long long tokens_left) noexcept nogil:
    # x-ratelimit-* lines for the limits that are set (not below 0).
    if requests_limit >= 0:
        to = put(to, b"x-ratelimit-limit-requests: ")
        to = put_int(to, requests_limit)
        to = put(to, b"\r\nx-ratelimit-remaining-requests: ")
        to = put_int(to, requests_left if requests_left > 0 else 0)
        to = put(to, b"\r\n")
    if tokens_limit >= 0:
        to = put(to, b"x-ratelimit-limit-tokens: ")
        to = put_int(to, tokens_limit)
        to = put(to, b"\r\nx-ratelimit-remaining-tokens: ")
        to = put_int(to, tokens_left if tokens_left > 0 else 0)
        to = put(to, b"\r\n")
    return to


cdef inline char* put_cost(char* to, long long nano) noexcept nogil:
    # In dollars, exactly.
    cdef long long rest = nano % 1000000000
    cdef int i
    to = put(to, b"x-litellm-response-cost: ")
    to = put_int(to, nano // 1000000000)
    to[0] = c"."
    for i in range(9, 0, -1):
        to[i] = <char>(48 + rest % 10)
        rest //= 10
    return put(to + 10, b"\r\n")


cdef inline long long micros(long long ns) noexcept nogil:
    return 0 if ns < 0 else ns // 1000

# hot: end


cpdef bytes request_id(unsigned long long unix_ms, unsigned long long epoch,
                       unsigned long long sequence):
    """32 hex digits: 48 bits of time, 40 of the worker's random epoch, 40 of its sequence."""
    cdef char text[32]
    put_hex(put_hex(put_hex(text, unix_ms, 12), epoch, 10), sequence, 10)
    return PyBytes_FromStringAndSize(text, 32)


cpdef bytes forward_fields(bytes request_id, bint json):
    """Our own lines of a request to an upstream."""
    cdef char text[ROOM]
    cdef char* to = text
    if json:
        to = put(to, b"content-type: application/json\r\n")
    to = put(to, b"x-request-id: ")
    to = put_bytes(to, PyBytes_AS_STRING(request_id), 32)
    to = put(to, b"\r\n")
    return PyBytes_FromStringAndSize(text, to - text)


cpdef bytes answer_fields(bytes request_id, bytes client_request_id, bytes target_fields,
                          int attempts, long long authenticate_ns, long long route_ns,
                          long long connect_ns, long long upstream_ns, long long gateway_ns,
                          long long requests_limit, long long requests_left,
                          long long tokens_limit, long long tokens_left, long long cost_nano):
    """Our response header lines. `client_request_id` None: the client sent none."""
    cdef char text[ROOM]
    cdef char* id_text = PyBytes_AS_STRING(request_id)
    cdef char* to = put(text, b"x-fastgate-request-id: ")
    to = put_bytes(to, id_text, 32)
    to = put(to, b"\r\nx-litellm-call-id: ")
    to = put_bytes(to, id_text, 32)
    to = put(to, b"\r\nx-fastgate-attempts: ")
    to = put_int(to, attempts)
    to = put(to, b"\r\nx-fastgate-overhead-us: ")
    to = put_int(to, micros(gateway_ns))
    to = put(to, b"\r\nserver-timing: auth;dur=")
    to = put_ms(to, authenticate_ns)
    to = put(to, b", route;dur=")
    to = put_ms(to, route_ns)
    to = put(to, b", connect;dur=")
    to = put_ms(to, connect_ns)
    to = put(to, b", upstream;dur=")
    to = put_ms(to, upstream_ns)
    to = put(to, b", gateway;dur=")
    to = put_ms(to, gateway_ns)
    to = put(to, b"\r\n")
    to = put_limits(to, requests_limit, requests_left, tokens_limit, tokens_left)
    if cost_nano >= 0:
        to = put_cost(to, cost_nano)
    cdef Py_ssize_t size = to - text
    cdef Py_ssize_t own = PyBytes_GET_SIZE(target_fields)
    cdef Py_ssize_t echo = 0
    if client_request_id is not None:
        echo = PyBytes_GET_SIZE(client_request_id) + 16
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size + own + echo)
    to = put_bytes(PyBytes_AS_STRING(out), text, size)
    to = put_bytes(to, PyBytes_AS_STRING(target_fields), own)
    if client_request_id is not None:
        to = put(to, b"x-request-id: ")
        to = put_bytes(to, PyBytes_AS_STRING(client_request_id), echo - 16)
        put(to, b"\r\n")
    return out


@cython.final
cdef class Lines:
    """Access-log lines, written one behind the other into one buffer.

    A buffer that is used again stays in the cache: with an object for each line, the log took a
    sixth of the worker's time at 64 connections.
    """

    def __cinit__(self, Py_ssize_t capacity):
        if capacity <= 0:
            raise ValueError(f"expected a capacity in bytes, got {capacity}")
        self._at = <char*>PyMem_Malloc(capacity)
        if self._at == NULL:
            raise MemoryError()
        self.capacity = capacity
        self.used = 0

    def __dealloc__(self):
        PyMem_Free(self._at)

    cpdef bytes take(self):
        cdef bytes out = PyBytes_FromStringAndSize(self._at, self.used)
        self.used = 0
        return out

    cpdef bint add(self, long long unix_ms, bytes request_id, bytes strings, int status,
                   int attempts, long long bytes_in, long long bytes_out, long long input_tokens,
                   long long output_tokens, long long total_ns, long long ttft_ns,
                   long long upstream_ns, long long gateway_ns):
        cdef Py_ssize_t n_strings = PyBytes_GET_SIZE(strings)
        cdef Py_ssize_t n_id = PyBytes_GET_SIZE(request_id)
        if self.used + n_strings + n_id + ROOM > self.capacity:
            return False
        cdef char* to = put(self._at + self.used, b"{\"ts\":")
        to = put_ms(to, unix_ms * 1000)
        to = put(to, b",\"request_id\":\"")
        to = put_bytes(to, PyBytes_AS_STRING(request_id), n_id)
        to = put(to, b"\",")
        to = put_bytes(to, PyBytes_AS_STRING(strings), n_strings)
        to = put(to, b"\"status\":")
        to = put_int(to, status)
        to = put(to, b",\"attempts\":")
        to = put_int(to, attempts)
        to = put(to, b",\"bytes_in\":")
        to = put_int(to, bytes_in)
        to = put(to, b",\"bytes_out\":")
        to = put_int(to, bytes_out)
        to = put(to, b",\"input_tokens\":")
        to = put_int(to, input_tokens)
        to = put(to, b",\"output_tokens\":")
        to = put_int(to, output_tokens)
        to = put(to, b",\"total_ms\":")
        to = put_ms(to, total_ns)
        to = put(to, b",\"ttft_ms\":")
        to = put_ms(to, ttft_ns)
        to = put(to, b",\"upstream_ms\":")
        to = put_ms(to, upstream_ns)
        to = put(to, b",\"overhead_us\":")
        to = put_int(to, micros(gateway_ns))
        to = put(to, b"}\n")
        self.used = to - self._at
        return True
