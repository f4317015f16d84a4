cimport cython

cdef double _KEPT, _FIRST_TOKENS, _FIRST_BYTES


@cython.final
cdef class Ratio:
    cdef double _bytes
    cdef double _tokens

    cpdef Py_ssize_t estimate(self, long long size_bytes) except -1
    cpdef learn(self, long long size_bytes, long long tokens)
