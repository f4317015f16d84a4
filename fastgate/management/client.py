"""One request to a gateway's management API for the command line, and its answer for people."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastgate.administration import Command

__all__ = ["Asking", "run"]

_TIMEOUT_S = 60.0
_CELL_CHARS = 40


class Asking:
    """Whom to ask, and as whom: what the command line says, else the environment."""

    def __init__(self, url: str | None, key: str | None, environment: Mapping[str, str]) -> None:
        self.url = (url or environment.get("FASTGATE_URL") or "http://127.0.0.1:4000").rstrip("/")
        key = key or environment.get("FASTGATE_MASTER_KEY")
        self.key = key or environment.get("LITELLM_MASTER_KEY") or ""


def run(asking: Asking, command: Command, given: dict[str, Any], *, as_json: bool) -> int:
    """Ask, and print the answer; return the exit status."""
    if not asking.url.startswith(("http://", "https://")):
        return _fail(f"expected an http:// or https:// URL, got {asking.url!r}")
    try:
        answer = _ask(command, asking.url, asking.key, given)
    except urllib.error.HTTPError as error:
        return _fail(_words(error))
    except (OSError, ValueError) as error:
        return _fail(f"{asking.url}: no answer: {getattr(error, 'reason', error)}")
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        _print(command, answer)
    return 0


def _ask(command: Command, url: str, key: str, given: dict[str, Any]) -> Any:
    target, body = url + command.path, None
    if command.method == "GET":
        joint = "&" if "?" in command.path else "?"
        target += joint + urllib.parse.urlencode(given) if given else ""
    else:
        body = json.dumps(given).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(target, body, headers, method=command.method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  see run
        return json.load(answer)


def _words(error: urllib.error.HTTPError) -> str:
    try:
        answer = json.load(error)
    except ValueError:
        return f"HTTP {error.code}"
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        return str(answer["error"].get("message"))
    if isinstance(answer, dict) and isinstance(answer.get("detail"), list):
        return "; ".join(
            f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in answer["detail"]
        )
    return f"HTTP {error.code}"


def _fail(message: str) -> int:
    print(f"fastgate: {message}", file=sys.stderr)
    return 1


def _print(command: Command, answer: Any) -> None:
    shown = answer[command.rows] if command.rows else answer
    if command.columns:
        lines = [[_cell(row.get(name)) for name in command.columns] for row in shown]
        _print_columns([[name.upper() for name in command.columns], *lines])
    else:
        fields = [[name, _cell(value)] for name, value in shown.items() if value not in (None, [])]
        _print_columns([[name, value] for name, value in fields if value != "{}"])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        # Nano-dollars are nine places.
        return f"{value:.9f}".rstrip("0").rstrip(".")
    if isinstance(value, dict | list):
        return json.dumps(value)
    return str(value)


def _print_columns(lines: list[list[str]]) -> None:
    """Print in columns: each as wide as its widest cell, the last as it is."""
    if not lines:
        return
    widths = [min(max(map(len, column)), _CELL_CHARS) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)]
        print("  ".join([*cells, line[-1]]))
