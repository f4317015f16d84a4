"""`python -m bench demo --once` takes every step and cleans up behind itself."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.processes import ROOT


def test_the_tour_with_simulated_engines_takes_every_step() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bench", "demo", "--once"],
        cwd=ROOT,
        env={**os.environ, "DEMO_ENGINE": "sim"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all steps did what they should" in result.stdout
