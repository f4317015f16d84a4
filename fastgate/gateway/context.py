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

    log_strings: bytes
    """Members of the access log's last line, and what they were made from (the fields log_*)."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        raise TypeError("a Sender is made as a Downstream")

    def write_all(self, parts: list[bytes]) -> None:
        """Send pieces of the answer in one system call."""
        raise TypeError("a Sender is made as a Downstream")

    def finish(self, keep_alive: bool) -> None:
        """The answer is complete."""
        raise TypeError("a Sender is made as a Downstream")


class Context:
    """State of one request on its way through the stages."""

    def __init__(  # noqa: PLR0915  one line a field
        self, downstream: Any, reader: RequestReader, start_ns: int
    ) -> None:
        # downstream
        self.downstream = downstream
        self.reader = reader
        self.request_id = b""
        self.client_request_id: bytes | None = None
        """The client's own x-request-id: echoed and logged, never used as a key."""
        self.start_ns = start_ns
        """First byte of the head."""
        self.read_ns = 0
        """Last byte of the body; TTFT counts from here."""
        self.body = b""
        self.body_start = 0
        self.body_end = 0
        self.upload: Any = None
        """A body that is streamed, not held (multipart)."""
        self.upload_read = True
        """Nothing of the request's body is still to come."""
        self.keep_alive = True
        # endpoint
        self.endpoint: Any = None
        """The Endpoint; None only of a request that was refused before it had one."""
        # peek
        self.model: str | None = None
        self.stream = False
        self.strip_usage = False
        """We ask for the usage event, the client did not: it is taken out again."""
        self.wants_strip = False
        """strip_usage as it was before an answer turned out to be no event stream."""
        self.max_tokens = -1
        # authenticate
        self.snapshot: Any = None
        """The Snapshot that this request started with, and keeps; and what the worker made of
        it.
        """
        self.catalog: Any = None
        self.refusal: Any = None
        """An error that was clear from the head: told when the (small) body has been read."""
        self.principal: Any = None
        self.authenticated_ns = 0
        # limit
        self.limit_entry = -1
        self.reserved_ns = 0
        self.reserved_tokens = 0
        # route
        self.plan: Any = None
        self.target: Any = None
        self.upstream_model: Any = None
        """The model name that the target is sent."""
        self.target_limit_entry = -1
        self.attempts = 0
        self.counted = False
        """The attempt is counted as in flight at its target."""
        self.retried_fresh = False
        self.fallback_groups: list[str] | None = None
        """Groups not yet turned to; None: not looked up."""
        self.retries_left = -1
        self.fallbacks = 0
        self.tried: list[Any] | None = None
        """Targets that failed, of the group being tried."""
        self.trail: list[tuple[str, str]] | None = None
        """What failed before: (deployment id, reason)."""
        self.routed_ns = 0
        # forward
        self.connection: Any = None
        self.pool: Any = None
        """The pool that it waits in."""
        self.fresh = False
        """The next connection must be a new one."""
        self.connected_ns = 0
        self.sent_ns = 0
        self.deadline_ns = 0
        """When the present phase has taken too long; 0: never."""
        self.timer: Any = None
        # relay
        self.phase = PHASE_LOCAL
        self.status = 0
        self.first_byte_ns = 0
        self.relay_ns = 0
        """From the arrival of the segment that the answer's head went out with, to its going out (a
        duration).
        """
        self.first_content_ns = 0
        self.progress_ns = 0
        """Last time that an event (not a comment) passed."""
        self.scanner: Any = None
        """Of the answer's body; None: it is not looked at."""
        self.held: list[bytes] | None = None
        """What came before the first content, while another deployment could still be asked."""
        self.held_bytes = 0
        self.held_since_ns = 0
        self.events = 0
        """Events seen when progress_ns was set."""
        self.error_content: bytearray | None = None
        """An error answer's body, while it is collected."""
        self.tail = b""
        """An unfinished event, when usage is to be taken out."""
        self.boundary = 0
        """In tail + the last payload: behind its last complete event; and the event to take out, if
        any.
        """
        self.cut_start = -1
        self.cut_end = -1
        self.head_sent = False
        self.chunked_out = False
        self.bytes_out = 0
        # settle, record
        self.finished = False
        self.error_kind = ""
        self.failure: Any = None
        """What to tell the client if no further attempt is made."""
