"""Faults on demand: what a request asks the simulated engine to do wrong.

Written `key=value;key;...` in the field `x-sim`, or `model+key=value+key` behind a model's name, or
as the `faults` of `POST /sim/faults`. A plain answer counts as one event.

    status=503          that status and an error body
    retry-after=7       the field Retry-After, as written
    delay-ms=50         wait before the head
    stall=3             silence after 3 events; stall=head: not even the head
    cut=3, cut=3b       close after 3 events, or after 3 bytes of the response
    reset               a cut is an RST, not a FIN
    error-event=3       an error event and [DONE] after 3 events; error-first: after none
    malformed=KIND      chunk: a bad chunk size; head: a field line without a colon; surplus: bytes
                        behind the answer; length: two framing fields that disagree
    framing=eof         HTTP/1.0, the body ends with the connection
    close, hangup       close after the answer, announced or not
    interim=2           103 heads before the answer
    no-usage            leave the usage out
    slow-accept=200     for POST /sim/faults alone: ms before a new connection is read from

and, no faults, this one request's `ttft-ms=`, `itl-ms=`, `tokens=`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["NO_FAULTS", "Faults", "parse_faults", "split_model"]

MALFORMED = ("chunk", "head", "surplus", "length")
STALL_BEFORE_HEAD = -1


@dataclass(frozen=True, slots=True)
class Faults:
    status: int = 0
    retry_after: str = ""
    delay_ms: float = 0.0
    stall: int | None = None
    """Events after which nothing more is sent; -1: not even the head."""
    cut_events: int | None = None
    cut_bytes: int | None = None
    """Bytes of the whole response, its head included; 0 closes without an answer."""
    reset: bool = False
    error_event: int | None = None
    malformed: str = ""
    framing: str = ""
    hangup: bool = False
    close: bool = False
    interim: int = 0
    no_usage: bool = False
    slow_accept_ms: float = 0.0
    ttft_ms: float | None = None
    itl_ms: float | None = None
    tokens: int | None = None


NO_FAULTS = Faults()

NUMBERS = {
    "delay-ms": float,
    "error-event": int,
    "interim": int,
    "itl-ms": float,
    "status": int,
    "tokens": int,
    "ttft-ms": float,
}
FLAGS = {"close", "hangup", "no-usage", "reset"}
WORDS = {"framing": ("eof",), "malformed": MALFORMED}


def parse_faults(text: str, separator: str = ";", base: Faults = NO_FAULTS) -> Faults:
    """Return `base` with the faults of `text` laid over it; raises ValueError, naming the item."""
    changes: dict[str, object] = {}
    for item in filter(None, (part.strip() for part in text.split(separator))):
        key, _, value = item.partition("=")
        changes.update(parse_item(key.strip(), value.strip()))
    return replace(base, **changes) if changes else base


def parse_item(key: str, value: str) -> dict[str, object]:
    field = key.replace("-", "_")
    try:
        if key in NUMBERS:
            return {field: NUMBERS[key](value)}
        if key in FLAGS and not value:
            return {field: True}
        if key in WORDS and value in WORDS[key]:
            return {field: value}
        match key:
            case "retry-after":
                return {"retry_after": value}
            case "stall":
                return {"stall": STALL_BEFORE_HEAD if value == "head" else int(value)}
            case "cut":
                in_bytes = value.endswith("b")
                return {"cut_bytes" if in_bytes else "cut_events": int(value.removesuffix("b"))}
            case "error-first":
                return {"error_event": 0}
            case "slow-accept":
                return {"slow_accept_ms": float(value)}
    except ValueError:
        pass
    raise ValueError(f"unknown fault or value: {key}={value}")


def split_model(model: str) -> tuple[str, str]:
    """Return the model's own name and the faults behind it (separated by '+')."""
    name, _, faults = model.partition("+")
    return name, faults
