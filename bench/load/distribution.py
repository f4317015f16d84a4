"""Lengths in tokens: a number, or a distribution that is drawn from."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Distribution", "parse_distribution"]

_SHAPES = {
    "fixed": (1, "N"),
    "uniform": (2, "LOW,HIGH"),
    "normal": (2, "MEAN,DEVIATION"),
    "lognormal": (2, "MEDIAN,SIGMA"),
    "exponential": (1, "MEAN"),
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A shape and its parameters, in tokens; `sample` is never below 1."""

    shape: str = "fixed"
    parameters: tuple[float, ...] = (0.0,)

    @property
    def fixed(self) -> int | None:
        """The length when it is always the same."""
        return int(self.parameters[0]) if self.shape == "fixed" else None

    def sample(self, rng: random.Random) -> int:
        first, *rest = self.parameters
        if self.shape == "uniform":
            value = rng.uniform(first, rest[0])
        elif self.shape == "normal":
            value = rng.gauss(first, rest[0])
        elif self.shape == "lognormal":
            value = first * rng.lognormvariate(0.0, rest[0])
        elif self.shape == "exponential":
            value = rng.expovariate(1 / first)
        else:
            value = first
        return max(1, round(value))

    def __str__(self) -> str:
        shown = ",".join(f"{value:g}" for value in self.parameters)
        return shown if self.shape == "fixed" else f"{self.shape}:{shown}"


def parse_distribution(text: str) -> Distribution:
    """Read `200`, `uniform:50,400`, `normal:200,50`, `lognormal:200,0.5` or `exponential:200`.

    Raises ValueError.
    """
    shape, colon, given = text.rpartition(":")
    shape = shape if colon else "fixed"
    if shape not in _SHAPES:
        raise ValueError(f"expected one of {', '.join(_SHAPES)}, got {shape!r}")
    count, form = _SHAPES[shape]
    try:
        parameters = tuple(float(part) for part in given.split(","))
    except ValueError:
        parameters = ()
    if len(parameters) != count or min(parameters) < 0 or (shape == "exponential" and not given):
        raise ValueError(f"expected {shape}:{form}, got {text!r}")
    if shape in ("exponential", "lognormal") and parameters[0] <= 0:
        raise ValueError(f"expected {shape}:{form} above 0, got {text!r}")
    if shape == "uniform" and parameters[0] > parameters[1]:
        raise ValueError(f"expected {shape}:{form} with LOW <= HIGH, got {text!r}")
    return Distribution(shape, parameters)
