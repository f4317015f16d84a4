"""The spend journal under SIGKILL: nothing that was acknowledged is lost, nothing counts twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = ("lost", "lost_reservations", "invented", "doubled", "misbilled_orphans", "unbalanced")


def audit(home: Path, *options: str) -> dict[str, int]:
    """Return what is wrong after a kill loop, and how much there was."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.adversity.journal_kills", str(home), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def assert_books_are_right(found: dict[str, int], kills: int) -> None:
    assert {name: found[name] for name in (*WRONG, "findings")} == dict.fromkeys(
        (*WRONG, "findings"), 0
    )
    assert found["settled"] > kills
    assert found["orphans"] > kills / 10


def test_kills_of_writers_and_drainers_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    assert_books_are_right(audit(tmp_path, "--kills", "60", "--seed", "1"), 60)


def test_a_journal_buffered_in_the_process_is_caught(tmp_path: Path) -> None:
    found = audit(tmp_path, "--kills", "25", "--sabotage", "buffer")
    assert found["lost"] > 0
    assert found["lost_reservations"] > 0


def test_posting_without_unique_ids_is_caught(tmp_path: Path) -> None:
    found = audit(tmp_path, "--kills", "60", "--sabotage", "ids")
    assert found["unbalanced"] > 0
    assert found["findings"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_thousand_kills(tmp_path: Path) -> None:
    assert_books_are_right(audit(tmp_path, "--kills", "2000", "--seed", "2"), 2000)
