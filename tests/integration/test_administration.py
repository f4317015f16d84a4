"""The commands for keys, teams, users, budgets and spend, against a served API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastgate.cli import main
from tests.managing import MASTER
from tests.threaded import Threaded


@pytest.fixture
def fastgate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Return a function that runs a command: exit status, output, errors."""
    with Threaded(f"sqlite:///{tmp_path}/store.db") as running:
        monkeypatch.setenv("FASTGATE_URL", running.url)
        monkeypatch.setenv("FASTGATE_MASTER_KEY", MASTER)

        def run(*argv: str) -> tuple[int, str, str]:
            status = main(list(argv))
            return status, *capsys.readouterr()

        yield run


def test_a_key_from_the_cradle_to_the_grave(fastgate: Callable[..., Any]) -> None:
    options = ["--alias", "ci", "--max-budget", "0.25", "--model", "a", "--model", "b", "--json"]
    status, out, _ = fastgate("keys", "new", *options)
    made = json.loads(out)
    assert status == 0
    assert (made["max_budget"], made["models"]) == (0.25, ["a", "b"])
    status, out, _ = fastgate("keys", "list")
    head, line = out.splitlines()
    assert head.split() == [
        *("KEY_NAME", "KEY_ALIAS", "TEAM_ID", "USER_ID", "SPEND", "MAX_BUDGET", "TOKEN")
    ]
    assert line.split()[1:] == ["ci", "-", "-", "0", "0.25", made["token"]]
    status, out, _ = fastgate("keys", "info", made["key"])
    assert dict(line.split(maxsplit=1) for line in out.splitlines())["key_alias"] == "ci"
    status, out, _ = fastgate("keys", "block", made["token"], "--json")
    assert json.loads(out)["blocked"] is True
    status, out, _ = fastgate("keys", "delete", made["key"])
    assert (status, made["token"] in out) == (0, True)


def test_teams_users_budgets_and_spend(fastgate: Callable[..., Any]) -> None:
    for argv in (
        ("teams", "new", "--id", "t", "--alias", "Team", "--rpm", "5"),
        ("teams", "info", "t"),
        ("users", "new", "--id", "u", "--team", "t"),
        ("users", "list"),
        ("budgets", "new", "--id", "b", "--max-budget", "3"),
        ("budgets", "list"),
        *(("spend", what) for what in ("teams", "keys", "models", "tags", "logs")),
        ("spend", "teams", "--from", "2026-01-01", "--to", "2026-01-02"),
        ("budgets", "delete", "b"),
        ("users", "delete", "u"),
        ("teams", "delete", "t"),
    ):
        status, _, err = fastgate(*argv)
        assert (status, err) == (0, ""), argv


def test_a_refusal_is_one_line(fastgate: Callable[..., Any]) -> None:
    assert fastgate("keys", "info", "sk-none") == (
        *(1, "", "fastgate: Key not found in database\n"),
    )
    status, _, err = fastgate("keys", "new", "--max-budget", "-1")
    assert (status, err) == (1, "fastgate: max_budget: Expected `float` >= 0.0\n")
    status, _, err = fastgate("spend", "logs", "--from", "yesterday")
    assert (status, err.count("\n")) == (1, 1)
    status, _, err = fastgate("keys", "list", "--api-key", "sk-somebody")
    assert status == 1
    assert "Your role=key_owner" in err


def test_no_gateway_is_said_so(
    free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["keys", "list", "--url", url]) == 1
    assert "no answer: " in capsys.readouterr().err
    assert main(["keys", "list", "--url", "file:///etc/passwd"]) == 1
    assert "expected an http:// or https:// URL" in capsys.readouterr().err


def test_help_says_where_the_key_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["keys", "--help"])
    assert "FASTGATE_MASTER_KEY" in capsys.readouterr().out
