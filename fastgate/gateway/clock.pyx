"""The clock of the data plane: time.monotonic_ns without making an object of it.

Read some eight times a request; 22 against 58 ns each here.
"""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cpdef long long monotonic_ns() noexcept:
    """Nanoseconds of CLOCK_MONOTONIC, which is the same in every process of the machine."""
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <long long>at.tv_sec * 1000000000 + at.tv_nsec
