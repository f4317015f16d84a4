cimport cython

from fastgate._core.http1 cimport NameSet
from fastgate.config.principal cimport Principal
from fastgate.config.scopes cimport Scoped
from fastgate.gateway.catalog cimport Plan
from fastgate.gateway.clock cimport monotonic_ns
from fastgate.gateway.context cimport Context
from fastgate.gateway.endings cimport Endings
from fastgate.gateway.limit cimport is_stale, reserve

cdef NameSet FIELDS


cdef class Admission(Endings):
    cdef public object keys
    cdef public object named

    @cython.locals(plan=Plan, principal=Principal, model=str, scoped=Scoped)
    cpdef bint admit(self, Context context, long long now_ns) except -1
    cpdef start(self, Context context)
    cdef _ask_again(self, Context context)
    cpdef _on_known(self, Context context, object error)
