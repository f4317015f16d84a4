from typing import final

def request_id(unix_ms: int, epoch: int, sequence: int) -> bytes:
    """Return 32 hex digits that sort by time: 48 bits of ms, 40 of `epoch`, 40 of `sequence`."""

def forward_fields(request_id: bytes, json: bool) -> bytes:
    """Return our own header lines of a request to an upstream; `json`: its body is JSON."""

def answer_fields(
    request_id: bytes,
    client_request_id: bytes | None,
    target_fields: bytes,
    attempts: int,
    authenticate_ns: int,
    route_ns: int,
    connect_ns: int,
    upstream_ns: int,
    gateway_ns: int,
    requests_limit: int,
    requests_left: int,
    tokens_limit: int,
    tokens_left: int,
    cost_nano: int,
) -> bytes:
    """Return our response header lines, `target_fields` among them, each ending in CRLF.

    x-ratelimit-* lines, and that of the cost, are there for values that are not below 0.
    """

@final
class Lines:
    """Access-log lines, gathered in one buffer of `capacity` bytes."""

    capacity: int
    used: int
    """Bytes that wait to be taken."""

    def __new__(cls, capacity: int) -> Lines:
        """Raise ValueError below 1, MemoryError when there is none."""

    def take(self) -> bytes:
        """Return the lines so far, and start anew."""

    def add(
        self,
        unix_ms: int,
        request_id: bytes,
        strings: bytes,
        status: int,
        attempts: int,
        bytes_in: int,
        bytes_out: int,
        input_tokens: int,
        output_tokens: int,
        total_ns: int,
        ttft_ns: int,
        upstream_ns: int,
        gateway_ns: int,
    ) -> bool:
        """Add one line of JSON; False: there is no room, and nothing was added.

        `strings` are encoded members, each with a comma behind.
        """
