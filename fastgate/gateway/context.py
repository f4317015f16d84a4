"""The one object per request. Each field: its unit, and the stage that writes it.

Times are CLOCK_MONOTONIC in nanoseconds; 0 means that it has not happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgate._core.http1 import RequestReader

__all__ = [
    "PHASE_BODY",
    "PHASE_CONNECT",
    "PHASE_ERROR_BODY",
    "PHASE_HEAD",
    "PHASE_LOCAL",
    "PHASE_WAIT",
    "Context",
    "Sender",
]

PHASE_LOCAL = 0
"""Nothing has gone upstream."""
PHASE_CONNECT = 1
"""Waits for a connection."""
PHASE_HEAD = 2
"""The request is out; no whole answer head yet."""
PHASE_BODY = 3
"""The answer's body passes."""
PHASE_ERROR_BODY = 4
"""An error answer is collected before it is decided what to do with it."""
PHASE_WAIT = 5
"""Waits before a retry."""


class Sender:
    """What the stages ask of a client's connection; Downstream is it."""

    peer: str
    """The client's address."""
    # Of the request recorded last, so that the next like it needs no look-up: what it was counted
    # under, and where.
    last_plan: Any
    last_target: Any
    last_endpoint: Any
    last_status: int
    last_requests: Any
    last_durations: Any
    last_overheads: Any
    last_principal: Any
    last_strings: bytes | None
    """Its members of the access log's line; None: they don't fit another request."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        raise TypeError("a Sender is made as a Downstream")

    def write_all(self, parts: list[bytes]) -> None:
        """Send pieces of the answer in one system call."""
        raise TypeError("a Sender is made as a Downstream")

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete."""
        raise TypeError("a Sender is made as a Downstream")

    def on_asked(self) -> None:
        """It is known who asks: read on."""
        raise TypeError("a Sender is made as a Downstream")


class Context:
    """State of one request on its way through the stages."""

    # downstream
    downstream: Any
    reader: RequestReader
    request_id: bytes
    client_request_id: bytes | None
    """The client's own x-request-id: echoed and logged, never used as a key."""
    start_ns: int
    """First byte of the head."""
    read_ns: int
    """Last byte of the body; TTFT counts from here."""
    body: bytes
    body_start: int
    body_end: int
    upload: Any
    """A body that is streamed, not held (multipart)."""
    upload_read: bool
    """Nothing of the request's body is still to come."""
    keep_alive: bool
    # endpoint
    endpoint: Any
    """The Endpoint; None only of a request that was refused before it had one."""
    # peek
    model: str | None
    stream: bool
    strip_usage: bool
    """We ask for the usage event, the client did not: it is taken out again."""
    wants_strip: bool
    """strip_usage as it was before an answer turned out to be no event stream."""
    max_tokens: int
    n: int
    """Answers asked for."""
    noted: bool
    """The body names a user or metadata; where in it, -1: not there."""
    user_start: int
    user_end: int
    metadata_start: int
    metadata_end: int
    note: bytes
    """Columns of its row that few requests have, as JSON; empty: none."""
    names: Any
    """The customer and tags that it names: (kind, id)."""
    # authenticate
    snapshot: Any
    """The Snapshot that this request started with, and keeps; and what the worker made of
    it.
    """
    catalog: Any
    refusal: Any
    """An error that was clear from the head: told when the (small) body has been read."""
    principal: Any
    asking: bool
    """Control is being asked who has this key."""
    authenticated_ns: int
    # limit
    scoped: Any
    """The Scoped that it fits; None: nothing limits it."""
    held_scopes: Any
    """What it holds of its scopes; None: nothing, any more."""
    # route
    plan: Any
    choice: Any
    """The Choice whose target it is; None: not a deployment."""
    target: Any
    upstream_model: Any
    """The model name that the target is sent."""
    target_limit_entry: int
    attempts: int
    counted: bool
    """The attempt is counted as in flight at its target."""
    retried_fresh: bool
    fallback_groups: list[str] | None
    """Groups not yet turned to; None: not looked up."""
    retries_left: int
    fallbacks: int
    tried: list[Any] | None
    """Targets that failed, of the group being tried."""
    trail: list[tuple[str, str]] | None
    """What failed before: (deployment id, reason)."""
    routed_ns: int
    # book
    booking: Any
    """The Booking that its row is one of."""
    booked: bool
    """Reserved in the spend journal, and not settled."""
    prompt_estimate: int
    """In tokens."""
    progress_booked_ns: int
    spend_nano: int
    """What it cost, once settled; -1: unknown."""
    # forward
    connection: Any
    pool: Any
    """The pool that it waits in."""
    fresh: bool
    """The next connection must be a new one."""
    connected_ns: int
    sent_ns: int
    deadline_ns: int
    """When the present phase has taken too long; 0: never."""
    timer: Any
    # relay
    phase: int
    status: int
    first_byte_ns: int
    relay_ns: int
    """From the arrival of the segment that the answer's head went out with, to its going out (a
    duration).
    """
    first_content_ns: int
    progress_ns: int
    """Last time that an event (not a comment) passed."""
    scanner: Any
    """Of the answer's body; None: it is not looked at."""
    held: list[bytes] | None
    """What came before the first content, while another deployment could still be asked."""
    held_bytes: int
    held_since_ns: int
    events: int
    """Events seen when progress_ns was set."""
    error_content: bytearray | None
    """An error answer's body, while it is collected."""
    tail: bytes
    """An unfinished event, when usage is to be taken out."""
    boundary: int
    """In tail + the last payload: behind its last complete event; and the event to take out, if
    any.
    """
    cut_start: int
    cut_end: int
    head_sent: bool
    chunked_out: bool
    bytes_out: int
    # settle, record
    finished: bool
    error_kind: str
    failure: Any
    """What to tell the client if no further attempt is made."""

    def __init__(self, downstream: Any, reader: RequestReader, start_ns: int) -> None:
        # A new one is all zeros and None: this is the rest.
        self.downstream = downstream
        self.reader = reader
        self.request_id = b""
        self.start_ns = start_ns
        self.body = b""
        self.upload_read = True
        self.keep_alive = True
        self.max_tokens = -1
        self.n = 1
        self.note = b""
        self.user_start = -1
        self.metadata_start = -1
        self.spend_nano = -1
        self.target_limit_entry = -1
        self.retries_left = -1
        self.tail = b""
        self.cut_start = -1
        self.cut_end = -1
        self.error_kind = ""
