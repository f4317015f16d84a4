cimport cython

from fastgate.tokens.ratio cimport Ratio

cdef long long FIRST_OUTPUT, LEAST_OUTPUT


@cython.final
cdef class Estimate:
    cdef readonly Ratio ratio
    cdef double _mean
    cdef double _deviation
    cdef bint _seen

    cpdef Py_ssize_t prompt(self, long long size_bytes) except -1
    cpdef Py_ssize_t output(self) except -1
    cpdef Py_ssize_t most_output(self, long long max_tokens) except -1

    @cython.locals(error=double)
    cpdef learn(self, long long size_bytes, long long prompt, long long output)
