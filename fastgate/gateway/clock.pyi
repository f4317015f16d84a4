def monotonic_ns() -> int:
    """Return nanoseconds of CLOCK_MONOTONIC, which is the same in every process of the machine."""
