"""Small charts as inline SVG: bars, and lines over linear or logarithmic axes.

Colours are CSS variables of the page (--c0, --c1, ...), so that a chart follows light, dark and
print; every mark has a title, which browsers show on pointing at it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = ["Series", "bars", "lines"]

WIDTH = 640
BAR_HEIGHT = 22
LABEL_WIDTH = 130
VALUE_WIDTH = 90

PLOT_HEIGHT = 280
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 10, 42

Series = tuple[str, Sequence[tuple[float, float]]]
"""A name and its points."""


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def bars(rows: Sequence[tuple[str, float, float]], unit: str, colours: dict[str, int]) -> str:
    """Horizontal bars of (name, value, low-high spread as a share of the value)."""
    largest = max((value * (1 + spread / 2) for _, value, spread in rows), default=1.0) or 1.0
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    height = BAR_HEIGHT * len(rows) + 4
    parts = []
    for index, (name, value, spread) in enumerate(rows):
        y = index * BAR_HEIGHT + 2
        long = room * value / largest
        half = room * value * spread / 2 / largest
        middle = y + BAR_HEIGHT / 2 - 2
        parts.append(
            f"<g><title>{escape(name)}: {number(value)} {escape(unit)}, "
            f"± {spread * 50:.0f} %</title>"
            f'<text class="name" x="{LABEL_WIDTH - 8}" y="{middle + 4}">{escape(name)}</text>'
            f'<rect fill="var(--c{colours.get(name, 0)})" x="{LABEL_WIDTH}" y="{y}" '
            f'width="{max(1.0, long):.1f}" height="{BAR_HEIGHT - 6}" rx="2"/>'
            f'<line class="spread" x1="{LABEL_WIDTH + max(0.0, long - half):.1f}" '
            f'x2="{LABEL_WIDTH + long + half:.1f}" y1="{middle}" y2="{middle}"/>'
            f'<text x="{LABEL_WIDTH + long + half + 6:.1f}" y="{middle + 4}">{number(value)}</text>'
            "</g>"
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(unit)}">'
        + "".join(parts)
        + "</svg>"
    )


class Axis:
    """Maps values to a stretch of pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float, log: bool) -> None:
        positive = [value for value in values if value > 0] or [1.0]
        self.log = log
        self.low = min(positive) if log else min([0.0, *values])
        self.high = max(positive) if log else max([*values, 1e-9])
        if self.high <= self.low:
            self.high = self.low * 10 if log else self.low + 1
        self.start = start
        self.end = end

    def at(self, value: float) -> float:
        if self.log:
            value = max(value, self.low)
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.log:
            first = math.floor(math.log10(self.low))
            last = math.ceil(math.log10(self.high))
            found = [10.0**power for power in range(first, last + 1)]
            if len(found) <= 3:
                found = sorted([*found, *(2 * tick for tick in found), *(5 * t for t in found)])
        else:
            step = 10 ** math.floor(math.log10(self.high - self.low))
            if (self.high - self.low) / step < 4:
                step /= 2
            found = [self.low + step * n for n in range(int((self.high - self.low) / step) + 1)]
        return [tick for tick in found if self.low <= tick <= self.high]


def lines(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    colours: dict[str, int],
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """Lines with points, and a legend in words."""
    points = [point for _, each in series for point in each]
    if not points:
        return "<p>nothing was measured</p>"
    x = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, log_x)
    y = Axis([p[1] for p in points], PLOT_HEIGHT - BOTTOM, TOP, log_y)
    parts = [_grid(x, y, x_label, y_label)]
    for name, each in series:
        colour = f"var(--c{colours.get(name, 0)})"
        path = " ".join(f"{x.at(px):.1f},{y.at(py):.1f}" for px, py in each)
        parts.append(f'<polyline fill="none" stroke="{colour}" points="{path}"/>')
        parts += [
            f'<circle cx="{x.at(px):.1f}" cy="{y.at(py):.1f}" r="2.5" fill="{colour}">'
            f"<title>{escape(name)}: {number(py)} at {number(px)}</title></circle>"
            for px, py in each
        ]
    legend = "".join(
        f'<span><i style="background:var(--c{colours.get(name, 0)})"></i>{escape(name)}</span>'
        for name, _ in series
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {PLOT_HEIGHT}" role="img" aria-label="{escape(y_label)} over '
        f'{escape(x_label)}">{"".join(parts)}</svg><p class="legend">{legend}</p>'
    )


def _grid(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    bottom = PLOT_HEIGHT - BOTTOM
    parts = []
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="name" x="{LEFT - 6}" y="{at + 4:.1f}">{number(tick)}</text>'
        )
    for tick in x.ticks():
        at = x.at(tick)
        parts.append(
            f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>'
            f'<text class="middle" x="{at:.1f}" y="{bottom + 16}">{number(tick)}</text>'
        )
    parts.append(
        f'<text class="middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{PLOT_HEIGHT - 8}">'
        f"{escape(x_label)}</text>"
        f'<text class="middle" transform="translate(12 {bottom / 2}) rotate(-90)">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)
