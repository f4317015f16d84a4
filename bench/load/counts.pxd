cimport cython


@cython.final
cdef class Counts:
    cdef long long[::1] cells
    cdef readonly long long count
    cdef readonly long long total
    cdef readonly long long largest
    cdef readonly Py_ssize_t top

    @cython.locals(shift=int, cell="long long")
    cpdef void record(self, long long value)

    @cython.locals(cell=Py_ssize_t)
    cpdef list used(self)

    @cython.locals(cell=Py_ssize_t)
    cpdef void clear(self)

    @cython.locals(cell=Py_ssize_t, count="long long")
    cpdef add(self, tuple state)

    @cython.locals(rank="long long", seen="long long", cell=Py_ssize_t)
    cpdef long long quantile(self, double q)

    @cython.locals(inside="long long", cell=Py_ssize_t, at="long long")
    cpdef double share_between(self, long long low, long long high)


cpdef long long middle(long long cell)
