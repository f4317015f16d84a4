cpdef long long monotonic_ns() noexcept
cpdef long long unix_ms() noexcept
cpdef long long unix_us() noexcept
