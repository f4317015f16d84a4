cimport cython

from fastgate._core.bucket cimport DeploymentTable, LimitTable
from fastgate.gateway.catalog cimport Choice, Plan, Target
from fastgate.gateway.context cimport Context


@cython.final
cdef class Router:
    cdef public DeploymentTable deployments
    cdef public LimitTable limits
    cdef public bint least_busy
    cdef public object random

    @cython.locals(entry=Py_ssize_t)
    cpdef leave(self, Context context, Target target, long long now_ns, long long tokens)

    @cython.locals(choice=Choice, target=Target, plan=Plan, n=Py_ssize_t)
    cpdef Choice choose(self, Context context, long long now_ns)

    @cython.locals(target=Target, until_ns="long long")
    cdef bint _usable(self, Choice choice, Context context, long long now_ns) except -1

    @cython.locals(choice=Choice, total=double, point=double)
    cdef Choice _shuffle(self, list usable)

    @cython.locals(choice=Choice, best=Choice, fewest="long long", busy="long long")
    cdef Choice _least_busy(self, list usable)

    @cython.locals(target=Target, entry=Py_ssize_t)
    cdef bint _admit(self, Target target, Context context, long long now_ns) except -1
