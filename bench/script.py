"""From an answer and its faults to bytes: what goes over the wire, and how it ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from bench.answers import Answer, build_error
from bench.faults import NO_FAULTS, STALL_BEFORE_HEAD, Faults
from bench.wire import CHUNKED, UNFRAMED, build_head, chunk

__all__ = ["Ending", "Script", "build_script"]

LAST_CHUNK = b"0\r\n\r\n"
SURPLUS = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsurplus"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"


class Ending(enum.Enum):
    KEEP = "keep the connection"
    CLOSE = "close it"
    RESET = "reset it"
    STALL = "say nothing more"


@dataclass(slots=True)
class Script:
    """A response as bytes. `pieces` holds one framed event each; `ends` as in Answer."""

    head: bytes
    pieces: list[bytes]
    ends: list[int]
    ending: Ending = Ending.KEEP
    stream: bool = False
    status: int = 200
    failing: bool = False
    """It breaks off with an error event."""
    meter: list[tuple[int, bool]] = field(default_factory=list)
    """For the ledger, see there; by the number of events sent."""
    prompt_tokens: int = 0
    tokens: int = 0
    writes: tuple[bytes, ...] = ()
    """The whole response in the groups that a stream without delays is written in."""

    def group(self, events_per_write: int) -> None:
        """Fill `writes`; the head goes out with the first events. 0: one write for everything."""
        size = events_per_write or max(1, len(self.pieces))
        starts = range(0, len(self.pieces), size)
        groups = [b"".join(self.pieces[at : at + size]) for at in starts] or [b""]
        self.writes = (self.head + groups[0], *groups[1:])


def clip(ends: list[int], count: int) -> list[int]:
    """The moments of the first `count` events."""
    kept = [end for end in ends if end < count]
    return [*kept, count] if count else []


def build_script(answer: Answer, kind: str, faults: Faults = NO_FAULTS) -> Script:
    events, ends = answer.events, answer.ends
    if faults.error_event is not None and answer.stream:
        count = min(faults.error_event, len(events))
        error = b"data: %b\n\n" % build_error(kind, 500, "the simulated engine failed mid-stream")
        events = [*events[:count], error, b"data: [DONE]\n\n"]
        ends = [*clip(ends, count), len(events)]
    script = frame(answer, events, ends, faults)
    script.failing = events is not answer.events
    if faults.interim:
        script.head = EARLY_HINTS * faults.interim + script.head
    if faults.malformed:
        spoil(script, faults.malformed)
    shorten(script, faults)
    return script


def frame(answer: Answer, events: list[bytes], ends: list[int], faults: Faults) -> Script:
    """Put head and framing around the events."""
    closing = faults.close or faults.hangup
    chunked = answer.stream or faults.malformed == "chunk"
    length = CHUNKED if chunked else len(events[0])
    if faults.framing == "eof":
        chunked, closing, length = False, True, UNFRAMED
    extra = f"retry-after: {faults.retry_after}\r\n" if faults.retry_after else ""
    extra += "connection: close\r\n" if faults.close and length != UNFRAMED else ""
    pieces = [chunk(event) for event in events] if chunked else list(events)
    if chunked:
        pieces[-1] += LAST_CHUNK
    return Script(
        head=build_head(answer.status, answer.content_type, length, extra),
        pieces=pieces,
        ends=list(ends),
        ending=Ending.CLOSE if closing else Ending.KEEP,
        stream=answer.stream,
        status=answer.status,
    )


def spoil(script: Script, how: str) -> None:
    """Break the framing in one way (see faults.py)."""
    if how == "chunk":
        at = min(1, len(script.pieces) - 1)  # behind the first event, where there is one
        script.pieces[at] = b"zz" + script.pieces[at]
    elif how == "head":
        script.head = script.head.replace(b"server:", b"server", 1)
    elif how == "surplus":
        script.pieces[-1] += SURPLUS
    elif how == "length":
        script.head = script.head.replace(b"server:", b"content-length: 5\r\nserver:", 1)


def shorten(script: Script, faults: Faults) -> None:
    """Stop where a cut or a stall says so."""
    cut = Ending.RESET if faults.reset else Ending.CLOSE
    if faults.stall == STALL_BEFORE_HEAD:
        script.head, script.pieces, script.ends = b"", [], []
        script.ending = Ending.STALL
        return
    for count, ending in ((faults.stall, Ending.STALL), (faults.cut_events, cut)):
        if count is not None and count <= len(script.pieces):
            script.pieces = script.pieces[:count]
            script.ends = clip(script.ends, count)
            script.ending = ending
    if faults.cut_bytes is None:
        return
    left = faults.cut_bytes - len(script.head)
    script.head = script.head[: faults.cut_bytes]
    kept: list[bytes] = []
    for piece in script.pieces:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    script.pieces = kept
    script.ends = clip(script.ends, len(kept))
    script.ending = cut
