"""Lengths in tokens: fixed, or drawn from a distribution."""

from __future__ import annotations

import math
import random

__all__ = ["Lengths"]

SHAPES = {"uniform": "least,most", "normal": "mean,deviation", "lognormal": "median,sigma"}


class Lengths:
    """Read from `200`, `uniform:100,300`, `normal:200,50` or `lognormal:200,0.5`; "": none."""

    def __init__(self, text: str) -> None:
        self.shape, _, rest = text.partition(":") if ":" in text else ("fixed", "", text)
        try:
            self.numbers = tuple(float(number) for number in rest.split(",")) if text else ()
        except ValueError:
            self.numbers = (math.nan,)
        sound = all(math.isfinite(number) and number >= 0 for number in self.numbers)
        if self.shape == "fixed":
            sound = sound and (not text or (len(self.numbers) == 1 and self.numbers[0] >= 1))
        else:
            sound = sound and self.shape in SHAPES and len(self.numbers) == 2
            sound = sound and (self.shape != "uniform" or self.numbers[0] <= self.numbers[1])
        if not sound:
            shapes = ", ".join(f"{shape}:{what.upper()}" for shape, what in SHAPES.items())
            raise ValueError(f"expected a number of tokens or {shapes}, got {text!r}")

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def draw(self, chance: random.Random) -> int:
        """Return a length of at least 1; 0 where none was asked for."""
        if not self.numbers:
            return 0
        first, second = self.numbers[0], self.numbers[-1]
        if self.shape == "uniform":
            length = chance.uniform(first, second)
        elif self.shape == "normal":
            length = chance.gauss(first, second)
        elif self.shape == "lognormal":
            length = first * math.exp(chance.gauss(0.0, second))
        else:
            length = first
        return max(1, round(length))
