"""Where the shared test corpora are: too large, and too much others' data, to live in this tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["corpus"]

_BESIDE_THE_CHECKOUT = Path(__file__).parents[2] / "shared" / "data"


def corpus(name: str) -> Path:
    """Return the folder of one corpus; skip the test where there is none."""
    folder = Path(os.environ.get("FASTGATE_CORPUS") or _BESIDE_THE_CHECKOUT) / name
    if not folder.is_dir():
        pytest.skip(
            f"no {name} under {folder.parent}: set FASTGATE_CORPUS to the folder that has it"
        )
    return folder
