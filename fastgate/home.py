"""Where fastgate keeps what must outlive it: the embedded database, the spend journal."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["home", "journal_home"]


def home() -> Path:
    """Return $FASTGATE_HOME, or `.fastgate` in the working directory; it need not exist."""
    return Path(os.environ.get("FASTGATE_HOME") or ".fastgate")


def journal_home() -> Path:
    """Return the folder of all workers' spend journals."""
    return home() / "journal"
