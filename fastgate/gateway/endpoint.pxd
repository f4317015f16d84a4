cimport cython


@cython.final
cdef class Endpoint:
    cdef readonly str name
    cdef readonly str suffix
    cdef readonly bytes method
    cdef readonly int kind
    cdef readonly str protocol
    cdef readonly bint public
    cdef readonly bint injects_usage
