"""Made-up text of a given length: common short words, each about one token to any tokenizer.

How many tokens it really is, the engine's usage says. A text is cut out of one long text that is
made once, so that a prompt of 10,000 words costs a copy and not 10,000 draws.
"""

from __future__ import annotations

import random
from array import array
from itertools import accumulate

__all__ = ["Words"]

COMMON = """
the of and a to in is you that it he was for on are as with his they I at be this have from or
one had by word but not what all were we when your can said there use an each which she do how
their if will up other about out many then them these so some her would make like him into time
has look two more write go see number no way could people my than first water been call who oil
its now find long down day did get come made may part over new sound take only little work know
place year live me back give most very after thing our just name good man think say great where
help through much before line right too mean old any same tell boy follow came want show also
around form three small set put end does another well large must big even such because turn here
why ask went men read need land home us move try kind hand
"""

LENGTH = 1 << 16
"""Words in the long text: half a megabyte."""


class Words:
    def __init__(self) -> None:
        chosen = random.Random(0).choices(COMMON.split(), k=LENGTH)
        self._text = " ".join(chosen)
        lengths = (len(word) + 1 for word in chosen)
        self._starts = array("l", accumulate(lengths, initial=0))

    def text(self, mark: int, count: int) -> str:
        """Return `count` words; the first is the mark itself, so that no two marks share a text."""
        left = count - 1
        # Any odd factor spreads marks in a row over the whole text.
        at = mark * 40_503 % LENGTH
        parts = [f"#{mark}"]
        while left > 0:
            taken = min(left, LENGTH - at)
            parts.append(self._text[self._starts[at] : self._starts[at + taken] - 1])
            left -= taken
            at = 0
        return " ".join(parts)
