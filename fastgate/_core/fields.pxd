# Text that goes out with every answer, written with one allocation or none: header lines and the
# access log's line.

cimport cython


cpdef bytes request_id(
    unsigned long long unix_ms, unsigned long long epoch, unsigned long long sequence
)
cpdef bytes forward_fields(bytes request_id, bint json)
cpdef bytes answer_fields(
    bytes request_id,
    bytes client_request_id,        # None: the client sent none
    bytes target_fields,
    int attempts,
    long long authenticate_ns,
    long long route_ns,
    long long connect_ns,
    long long upstream_ns,
    long long gateway_ns,
    long long requests_limit,       # this and the others: below 0 is none
    long long requests_left,
    long long tokens_limit,
    long long tokens_left,
    long long cost_nano,
)


@cython.final
cdef class Lines:
    # Lines of the access log, one behind the other in one buffer.
    cdef char* _at
    cdef readonly Py_ssize_t capacity
    cdef readonly Py_ssize_t used
    cpdef bytes take(self)
    cpdef bint add(
        self,
        long long unix_ms,
        bytes request_id,
        bytes strings,
        int status,
        int attempts,
        long long bytes_in,
        long long bytes_out,
        long long input_tokens,
        long long output_tokens,
        long long total_ns,
        long long ttft_ns,
        long long upstream_ns,
        long long gateway_ns,
    )
