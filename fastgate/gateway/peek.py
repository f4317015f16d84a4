"""Stage `peek`: body -> model, stream, max_tokens; by offset, in one pass, building no objects.

The scan refuses what two parsers could read differently, so that what is authorised here is what
the engine reads. The offsets stay in `scan` until the next request is looked at; `forward` splices
by them in the same call chain, or scans again when it comes later (a retry, a wait for a
connection).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgate._core.jscan import BodyScan, ScanError
from fastgate.errors import BadRequest

if TYPE_CHECKING:
    from fastgate.gateway.context import Context

__all__ = ["Peek"]


class Peek:
    """Owns the one scan object of a worker."""

    def __init__(self) -> None:
        self.scan = BodyScan()
        self.owner: Context | None = None
        """The request whose body `scan` holds the offsets of."""

    def look(self, context: Context) -> None:
        """Read the fields that the gateway needs. Raises BadRequest."""
        scan = self.scan
        self.owner = None
        try:
            scan.scan(context.body, context.body_start, context.body_end)
        except ScanError as error:
            raise BadRequest(f"the request body can't be read: {error}") from None
        self.owner = context
        if scan.model is not None:
            # A model in the path wins only when the body names none; when both are there they must
            # agree on what is authorised, and what is sent is spliced in either way.
            if context.model is None:
                context.model = scan.model
        elif context.model is None:
            raise BadRequest("expected a `model` in the request body", param="model")
        context.stream = scan.stream == 1
        context.max_tokens = max(scan.max_tokens, scan.max_completion_tokens)
        context.n = max(1, scan.n)
        user = scan.user_at  # type: ignore[attr-defined]  # a C field
        metadata = scan.metadata_at  # type: ignore[attr-defined]
        context.user_start, context.user_end = user.start, user.end
        context.metadata_start, context.metadata_end = metadata.start, metadata.end
        context.noted = context.user_start >= 0 or context.metadata_start >= 0
        context.strip_usage = context.wants_strip = (
            context.stream and context.endpoint.injects_usage and scan.include_usage != 1
        )
