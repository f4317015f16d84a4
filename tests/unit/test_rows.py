"""Rows of spend_logs name what a request failed of."""

from __future__ import annotations

import re
from pathlib import Path

import fastgate
from fastgate.errors import GatewayError
from fastgate.spend.rows import error_kind_code

OTHER = error_kind_code("nothing of this name")


def test_every_kind_of_failure_has_a_code() -> None:
    attempts = (Path(fastgate.__file__).parent / "gateway" / "attempts.py").read_text()
    broken = set(re.findall(r'self\._break\(context, error, "(\w+)"\)', attempts))
    kinds = broken | {"client_gone", "stream_error"}
    kinds |= {error.kind for error in GatewayError.__subclasses__()}
    assert len(broken) == 2
    assert [kind for kind in sorted(kinds) if error_kind_code(kind) == OTHER] == []
