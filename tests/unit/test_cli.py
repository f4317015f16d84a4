"""The command line: what it prints, and with which status it ends."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from fastgate import __version__, cli, supervisor

VALID = """
model_list:
  - {model_name: m, litellm_params: {model: llama, api_base: "http://h/v1"}}
  - {model_name: m, litellm_params: {model: llama, api_base: "http://i/v1", tags: [a]}}
litellm_settings: {cache: true, drop_parms: true}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LITELLM_MASTER_KEY", "FASTGATE_MASTER_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "config.yaml"
    path.write_text(VALID)
    return path


def test_check_says_what_becomes_of_each_key(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "honoured  model_list[*].model_name (2 times)" in lines
    assert "ignored   litellm_settings.cache: there is no response cache yet" in lines
    assert "unknown   litellm_settings.drop_parms: did you mean drop_params?" in lines
    assert lines[-1] == f"{file}: valid: 2 deployments in 1 model group, 0 virtual keys"


def test_check_lists_all_faults(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(VALID + "router_settings: {num_retries: x}\ngeneral_settings: [1]\n")
    assert cli.main(["check", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        f"{file}: invalid: 2 faults",
        "  router_settings.num_retries: expected a number, got other text",
        "  general_settings: expected a mapping",
    ]


def test_check_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--json", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["faults"]) == (True, [])
    assert {
        "path": "model_list[1].litellm_params.tags",
        "status": "ignored",
        "why": "deployments are not chosen by tags or regions yet",
    } in found["keys"]


@pytest.mark.parametrize("text", ["a: [\n", "- x\n"])
def test_check_of_what_is_no_configuration(
    file: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text)
    assert cli.main(["check", str(file)]) == 1
    assert "invalid: 1 fault" in capsys.readouterr().out


def test_check_of_a_missing_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", f"{file}.absent"]) == 1
    assert "No such file" in capsys.readouterr().out


def test_check_refuses_an_open_gateway(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(VALID + "fastgate_settings: {server: {host: 0.0.0.0}}\n")
    assert cli.main(["check", str(file)]) == 1
    assert "is not a loopback address" in capsys.readouterr().out
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-0123456789abcdef")
    assert cli.main(["check", str(file)]) == 0


def test_serve_hands_on_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def run(path: str, overrides: dict[str, Any]) -> int:
        calls.append((path, overrides))
        return 7

    monkeypatch.setattr(supervisor, "run", run)
    assert cli.main(["serve", "--config", "c.yaml"]) == 7
    options = ["--host", "::1", "--port", "0", "--workers", "3", "--unix", "/s"]
    assert cli.main(["serve", "--config", "c.yaml", *options, "--log-level", "debug"]) == 7
    assert calls == [
        ("c.yaml", {}),
        (
            "c.yaml",
            {"host": "::1", "port": 0, "workers": 3, "unix_socket": "/s", "log_level": "debug"},
        ),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["serve", "--config", "c", "--port", "65536"],
        ["serve", "--config", "c", "--port", "-1"],
        ["serve", "--config", "c", "--workers", "two"],
        ["serve", "--config", "c", "--log-level", "loud"],
        ["check"],
        ["nonsense"],
    ],
)
def test_wrong_arguments_end_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert "fastgate serve --config config.yaml" in printed
    assert printed.endswith(f"fastgate {__version__}\n")


def test_hash_key_prints_what_key_hash_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-x\n"))
    assert cli.main(["hash-key"]) == 0
    assert capsys.readouterr().out == hashlib.sha256(b"sk-x").hexdigest() + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.main(["hash-key"]) == 1
    assert "expected a key" in capsys.readouterr().err
