cimport cython

from fastgate._core.bucket cimport DeploymentTable
from fastgate._core.sse cimport Scanner
from fastgate.gateway.catalog cimport Target
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.gateway.context cimport Context
from fastgate.gateway.record cimport tokens_used
from fastgate.gateway.route cimport Router


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


@cython.final
cdef class Attempts:
    cdef public object pipeline
    cdef public Router router
    cdef public RetryBudget budget

    @cython.locals(target=Target)
    cpdef succeeded(self, Context context, long long now_ns)
    cpdef leave(self, Context context, long long tokens)
