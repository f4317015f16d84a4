"""Service level objectives: which requests count as good."""

from __future__ import annotations

import re

__all__ = ["Slo"]

UNITS_NS = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
NAMES = ("ttft", "itl", "tpot", "e2e")


class Slo:
    """Bounds read from `ttft:200ms,itl:50ms`; what is not named has none.

    `itl` bounds the longest gap of a request, not the mean: a reader notices the longest.
    """

    def __init__(self, text: str = "") -> None:
        self.bounds_ns: dict[str, int] = {}
        for part in filter(None, text.split(",")):
            found = re.fullmatch(r"(\w+)[:=]([\d.]+)(us|ms|s)", part.strip())
            if found is None or found[1] not in NAMES or found[2].count(".") > 1:
                names = ", ".join(NAMES)
                raise ValueError(f"expected bounds such as ttft:200ms on {names}, got {part!r}")
            self.bounds_ns[found[1]] = round(float(found[2]) * UNITS_NS[found[3]])

    def __bool__(self) -> bool:
        return bool(self.bounds_ns)

    def met(self, ttft_ns: int, longest_gap_ns: int, tpot_ns: int, e2e_ns: int) -> bool:
        """Return whether a request that ended well kept every bound."""
        if not self.bounds_ns:
            return True
        values = {"ttft": ttft_ns, "itl": longest_gap_ns, "tpot": tpot_ns, "e2e": e2e_ns}
        return all(values[name] <= bound for name, bound in self.bounds_ns.items())
