"""Text that goes out with every answer: header lines and the access log's line."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdio cimport snprintf
from libc.string cimport memcpy

cdef enum:
    # Digits of the numbers and the words around them; each caller adds the lengths of its strings.
    ROOM = 512


cdef inline long long micros(long long ns) noexcept nogil:
    return 0 if ns < 0 else ns // 1000


cdef inline long long whole(long long us) noexcept nogil:
    return us // 1000


cdef inline int rest(long long us) noexcept nogil:
    return <int>(us % 1000)


cpdef bytes request_id(unsigned long long unix_ms, unsigned long long epoch,
                       unsigned long long sequence):
    """32 hex digits: 48 bits of time, 40 of the worker's random epoch, 40 of its sequence."""
    cdef char text[40]
    snprintf(text, sizeof(text), b"%012llx%010llx%010llx", unix_ms & 0xFFFFFFFFFFFFULL,
             epoch & 0xFFFFFFFFFFULL, sequence & 0xFFFFFFFFFFULL)
    return PyBytes_FromStringAndSize(text, 32)


cpdef bytes answer_fields(bytes request_id, bytes client_request_id, bytes target_fields,
                          int attempts, long long authenticate_ns, long long route_ns,
                          long long connect_ns, long long upstream_ns, long long gateway_ns):
    """Our response header lines. `client_request_id` None: the client sent none."""
    cdef char text[ROOM]
    cdef long long a = micros(authenticate_ns)
    cdef long long r = micros(route_ns)
    cdef long long c = micros(connect_ns)
    cdef long long u = micros(upstream_ns)
    cdef long long g = micros(gateway_ns)
    cdef char* id_text = PyBytes_AS_STRING(request_id)
    cdef int size = snprintf(
        text, ROOM,
        b"x-fastgate-request-id: %.32s\r\nx-litellm-call-id: %.32s\r\n"
        b"x-fastgate-attempts: %d\r\nx-fastgate-overhead-us: %lld\r\n"
        b"server-timing: auth;dur=%lld.%03d, route;dur=%lld.%03d, connect;dur=%lld.%03d, "
        b"upstream;dur=%lld.%03d, gateway;dur=%lld.%03d\r\n",
        id_text, id_text, attempts, g, whole(a), rest(a), whole(r), rest(r), whole(c), rest(c),
        whole(u), rest(u), whole(g), rest(g))
    cdef Py_ssize_t total = size + PyBytes_GET_SIZE(target_fields)
    cdef Py_ssize_t echo = 0
    if client_request_id is not None:
        echo = PyBytes_GET_SIZE(client_request_id)
        total += echo + 16
    cdef bytes out = PyBytes_FromStringAndSize(NULL, total)
    cdef char* to = PyBytes_AS_STRING(out)
    memcpy(to, text, size)
    to += size
    memcpy(to, PyBytes_AS_STRING(target_fields), PyBytes_GET_SIZE(target_fields))
    to += PyBytes_GET_SIZE(target_fields)
    if client_request_id is not None:
        memcpy(to, b"x-request-id: ", 14)
        memcpy(to + 14, PyBytes_AS_STRING(client_request_id), echo)
        memcpy(to + 14 + echo, b"\r\n", 2)
    return out


cpdef bytes limit_fields(long long requests_limit, long long requests_left,
                         long long tokens_limit, long long tokens_left):
    """x-ratelimit-* lines for the limits that are set (not below 0)."""
    cdef char text[ROOM]
    cdef int size = 0
    if requests_limit >= 0:
        size += snprintf(text, ROOM, b"x-ratelimit-limit-requests: %lld\r\n"
                         b"x-ratelimit-remaining-requests: %lld\r\n", requests_limit,
                         requests_left if requests_left > 0 else 0)
    if tokens_limit >= 0:
        size += snprintf(text + size, ROOM - size, b"x-ratelimit-limit-tokens: %lld\r\n"
                         b"x-ratelimit-remaining-tokens: %lld\r\n", tokens_limit,
                         tokens_left if tokens_left > 0 else 0)
    return PyBytes_FromStringAndSize(text, size)


cpdef bytes access_line(bytes prefix, bytes request_id, bytes strings, int status, int attempts,
                        long long bytes_in, long long bytes_out, long long input_tokens,
                        long long output_tokens, long long total_ns, long long ttft_ns,
                        long long upstream_ns, long long gateway_ns):
    """One line of JSON. `prefix` opens the object; `strings` are members already encoded, each with a comma behind."""
    cdef char text[ROOM]
    cdef long long total = micros(total_ns)
    cdef long long ttft = micros(ttft_ns)
    cdef long long upstream = micros(upstream_ns)
    cdef int size = snprintf(
        text, ROOM,
        b"\"status\":%d,\"attempts\":%d,\"bytes_in\":%lld,\"bytes_out\":%lld,"
        b"\"input_tokens\":%lld,\"output_tokens\":%lld,\"total_ms\":%lld.%03d,"
        b"\"ttft_ms\":%lld.%03d,\"upstream_ms\":%lld.%03d,\"overhead_us\":%lld}\n",
        status, attempts, bytes_in, bytes_out, input_tokens, output_tokens, whole(total),
        rest(total), whole(ttft), rest(ttft), whole(upstream), rest(upstream), micros(gateway_ns))
    cdef Py_ssize_t n_prefix = PyBytes_GET_SIZE(prefix)
    cdef Py_ssize_t n_strings = PyBytes_GET_SIZE(strings)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, n_prefix + 48 + n_strings + size)
    cdef char* to = PyBytes_AS_STRING(out)
    memcpy(to, PyBytes_AS_STRING(prefix), n_prefix)
    to += n_prefix
    memcpy(to, b"\"request_id\":\"", 14)
    memcpy(to + 14, PyBytes_AS_STRING(request_id), 32)
    memcpy(to + 46, b"\",", 2)
    to += 48
    memcpy(to, PyBytes_AS_STRING(strings), n_strings)
    memcpy(to + n_strings, text, size)
    return out
