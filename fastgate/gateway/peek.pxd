cimport cython

from fastgate._core.jscan cimport BodyScan
from fastgate.gateway.context cimport Context


@cython.final
cdef class Peek:
    cdef readonly BodyScan scan
    cdef public Context owner
    cpdef look(self, Context context)
