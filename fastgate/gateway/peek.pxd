cimport cython

from fastgate._core.jscan cimport BodyScan, Place
from fastgate.gateway.context cimport Context


@cython.final
cdef class Peek:
    cdef readonly BodyScan scan
    cdef public Context owner

    @cython.locals(scan=BodyScan, user=Place, metadata=Place)
    cpdef look(self, Context context)
