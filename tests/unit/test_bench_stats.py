from __future__ import annotations

import pytest

from bench.stats import spread


def test_spread() -> None:
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)
    assert spread([0.0, 0.0]) == 0.0
