def monotonic_ns() -> int:
    """Return nanoseconds of CLOCK_MONOTONIC, which is the same in every process of the machine."""

def unix_ms() -> int:
    """Return milliseconds since 1970 by the wall clock: for people and ids, never for waiting."""

def unix_us() -> int:
    """Return microseconds since 1970 by the wall clock: for rows of the spend log."""
