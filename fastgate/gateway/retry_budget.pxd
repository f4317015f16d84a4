cimport cython


@cython.final
cdef class RetryBudget:
    cdef long long until_ns
    cdef long long requests
    cdef long long requests_before
    cdef long long retries
    cdef long long retries_before
    cpdef void on_request(self, long long now_ns)
    cpdef void on_retry(self, long long now_ns)
    cpdef bint allows(self, long long now_ns)
    cdef void _turn(self, long long now_ns)
