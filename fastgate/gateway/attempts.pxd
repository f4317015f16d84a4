cimport cython

from fastgate._core.bucket cimport DeploymentTable
from fastgate._core.sse cimport Scanner
from fastgate.gateway.catalog cimport Target
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.gateway.context cimport Context
from fastgate.gateway.record cimport tokens_used
from fastgate.gateway.retry_budget cimport RetryBudget
from fastgate.gateway.route cimport Router


@cython.final
cdef class Attempts:
    cdef public object pipeline
    cdef public Router router
    cdef public RetryBudget budget

    @cython.locals(target=Target)
    cpdef succeeded(self, Context context, long long now_ns)
    cpdef leave(self, Context context, long long tokens)
