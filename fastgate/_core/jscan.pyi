from typing import final

class ScanError(Exception):
    """The body is refused; says what was expected, what came instead, and at which offset."""

@final
class BodyScan:
    """What a gateway reads of a request's JSON body. Reusable, by one thread."""

    model: str | None
    """As decoded; None: absent, which is no error here."""
    stream: int
    include_usage: int
    """Of stream_options. This and `stream`: 1, 0; -1: absent or null."""
    max_tokens: int
    max_completion_tokens: int
    """Or max_output_tokens, if larger. This and `max_tokens`: -1 when absent or null."""
    n: int
    """1 when absent."""
    members: int
    """Of the top-level object."""
    open_at: int
    """Offset of its opening brace."""

    def scan(self, data: bytes, start: int, end: int) -> int:
        """Validate the body data[start:end] and read its fields; return 0.

        Raises ScanError, after which the fields mean nothing. O(length); keeps nothing of `data`.
        """

    def splice(self, data: bytes, start: int, end: int, model: str | None, usage: bool) -> bytes:
        """Return the body that scan() saw last with other values, every other byte as it came.

        `model` replaces the model's name, or is put in where there is none; `usage` makes
        stream_options.include_usage true. Returns `data` itself when it is all of it, unchanged.
        """

    def place(self, name: str) -> tuple[int, int] | None:
        """Return where `model`, `stream_options`, `user`, `prompt` or `metadata` stands in `data`.

        Quotes and brackets are included; None: absent. For callers that are not compiled.
        """
