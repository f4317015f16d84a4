"""The clock of the data plane: time.monotonic_ns for compiled callers, who make no object of it.

Read some eight times a request. Together with the compiled settings of shared.py it took a whole
request in process from 7.3 to 6.6 us (tests/perf/ops_request.py).
"""

from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec


cpdef long long monotonic_ns() noexcept:
    """Nanoseconds of CLOCK_MONOTONIC, which is the same in every process of the machine."""
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <long long>at.tv_sec * 1000000000 + at.tv_nsec


cpdef long long unix_us() noexcept:
    """Microseconds since 1970 by the wall clock."""
    cdef timespec at
    clock_gettime(CLOCK_REALTIME, &at)
    return <long long>at.tv_sec * 1000000 + at.tv_nsec // 1000


cpdef long long unix_ms() noexcept:
    """Milliseconds since 1970, as the wall clock has it: for people and ids, never for waiting."""
    cdef timespec at
    clock_gettime(CLOCK_REALTIME, &at)
    return <long long>at.tv_sec * 1000 + at.tv_nsec // 1000000
