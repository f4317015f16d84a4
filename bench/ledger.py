"""The simulated engine's own books: a line of JSON for each attempt, once it is over.

What the engine bills is what it handed to the socket: whole events of a stream; all of a plain
answer from its head on, since it was computed by then; nothing of what was refused. A gateway's
books are checked against these, so they are kept apart from it and know nothing of it: kill it, and
the line is here all the same.

    id          the request's x-request-id; n: in which order attempts arrived
    model, kind, stream, status
    prompt, cached, completion      tokens; 0 where nothing is billed
    told        an event or a body with the usage so far was handed over
    events      handed over
    end         complete | cut | error | stalled | gone (the client left) | refused
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from bench.script import Ending

if TYPE_CHECKING:
    from bench.answers import Request
    from bench.generation import Generation
    from bench.script import Script

__all__ = ["Ledger", "meter"]

# Events before the first token of a stream.
_LEADING = {"completions": 0, "responses": 1, "messages": 2}


def meter(asked: Request, events: int, error_after: int | None = None) -> list[tuple[int, bool]]:
    """Return what has been handed over after 0, 1, ... of an answer's `events`: completion tokens,
    and whether the usage so far was told. `error_after`: so many, an error event and [DONE] follow.
    """
    total = asked.tokens * asked.choices if asked.kind in ("chat", "completions") else asked.tokens
    if not asked.stream:
        # The engine's work is done when the head goes out.
        total = total if asked.kind in ("chat", *_LEADING) else 0
        return [(total, False), (total, asked.usage)]
    leading = _LEADING.get(asked.kind, asked.choices)
    each = asked.choices if asked.kind == "completions" else 1
    told_from = events - 1 if asked.include_usage else events + 1
    if asked.kind == "messages" or asked.continuous_usage:
        told_from = 1
    elif asked.kind == "responses":
        told_from = events
    # Anthropic's message_start tells of a first token.
    least = 1 if asked.kind == "messages" else 0
    found = [
        (
            max(least if sent else 0, min(total, each * max(0, sent - leading))),
            asked.usage and sent >= told_from,
        )
        for sent in range(events + 1)
    ]
    if error_after is None:
        return found
    said = found[: error_after + 1]
    return said + [said[-1]] * 2


class Ledger:
    """An append-only file; every line is one write, so a killed engine leaves whole lines."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, generation: Generation, gone: bool) -> None:
        """Book an attempt that is over; `gone`: its client left."""
        asked, script = generation.asked, generation.script
        assert asked is not None
        completion, told, head = 0, False, False
        if script is not None and script.status < 400:
            completion, told = script.meter[min(generation.sent, len(script.meter) - 1)]
            head = generation.step >= 0 and script.head != b""
        billed = told or (completion > 0 if asked.stream else head)
        line = {
            "id": asked.request_id,
            "n": generation.number,
            "model": asked.model,
            "kind": asked.kind,
            "stream": asked.stream,
            "status": script.status if script is not None else 0,
            "prompt": asked.prompt_tokens if billed else 0,
            # Its answer doesn't tell of them.
            "cached": asked.cached_tokens if billed and asked.kind != "embeddings" else 0,
            "completion": completion if billed else 0,
            "told": told,
            "events": generation.sent,
            "end": _end_of(script, generation.sent, gone),
        }
        os.write(self._fd, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _end_of(script: Script | None, sent: int, gone: bool) -> str:
    if script is None:
        return "gone"
    if script.status >= 400:
        return "refused"
    if sent < len(script.pieces):
        return "gone"
    if script.ending is Ending.STALL:
        return "stalled"
    if gone:
        return "gone"
    if script.failing:
        return "error"
    return "complete" if sent == len(script.meter) - 1 else "cut"
