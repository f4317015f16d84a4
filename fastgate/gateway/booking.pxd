cimport cython

from fastgate._core.cost cimport Rates
from fastgate._core.journal cimport Columns


@cython.final
cdef class Booking:
    cdef readonly Columns columns
    cdef readonly Rates rates
    cdef readonly unsigned long long version


cpdef Booking booking(object context, unsigned long long version)
