cimport cython

cdef dict _BY_PATH


@cython.final
cdef class Endpoint:
    cdef readonly str name
    cdef readonly str suffix
    cdef readonly bytes method
    cdef readonly int kind
    cdef readonly str protocol
    cdef readonly bint public
    cdef readonly bint injects_usage
    cdef readonly str call_type
    cdef readonly bint makes_images
    cdef readonly bint metered
    cdef readonly bint generates


@cython.final
cdef class Match:
    cdef readonly Endpoint endpoint
    cdef readonly str model


@cython.locals(found=Match)
cpdef Match match(bytes path)
