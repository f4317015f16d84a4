"""Messages between the supervisor and a child, over the socket pair that the child was born with.

A message is a kind, a few fields and a blob (an encoded Snapshot, which is large and opaque, so
that it is neither copied nor looked at on the way). A frame is two 32-bit lengths, a JSON part and
the blob. JSON and not msgpack, since the supervisor speaks it too and msgspec would cost it 5 MB of
RSS for a few messages an hour.

    to a worker     snapshot {version} +blob, drain {grace_s, accept}, hasten {grace_s}, stop,
                    principals_changed {kind, ids}
    from a worker   ready, snapshot_applied {version}, drained
    to control      snapshot {version} +blob, workers {workers, started_s}, reload, stop
    from control    ready, snapshot_applied {version}, snapshot {the fields of Settings} +blob,
                    principals_changed {kind, ids}: sent on to every worker

A worker that is told to stop accepts no more, finishes what it has and ends. It keeps its channel
open until it ends.

Neither side ever blocks in here: what the socket doesn't take is kept and sent later. A channel
that is closed means that the other process is dead; a child whose supervisor is dead drains and
exits by itself.
"""

from __future__ import annotations

import json
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

__all__ = ["Channel", "Decoder", "LoopChannel", "Message", "MessageError", "encode"]

_LENGTHS = struct.Struct("!II")

# 100,000 static keys encode to 15 MB. A length above this is garbage, not a configuration.
MAX_FRAME_BYTES = 256 * 1024 * 1024

# What one look at a channel reads: the default size of a socket buffer, so that no peer can hold up
# the others.
_READ_BYTES = 256 * 1024


class MessageError(Exception):
    """The other side does not speak this protocol."""


class Message(NamedTuple):
    """What was sent."""

    kind: str
    fields: dict[str, Any]
    blob: bytes


def encode(kind: str, fields: Mapping[str, Any], blob: bytes) -> bytes:
    """Return the frame of a message up to its blob, which follows as it is."""
    head = json.dumps([kind, fields]).encode()
    return _LENGTHS.pack(len(head), len(blob)) + head


class Decoder:
    """Frames out of bytes, however they were cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes. Raises MessageError: there is no way on."""
        buffer = self._buffer
        buffer += data
        messages = []
        while len(buffer) >= _LENGTHS.size:
            head_bytes, blob_bytes = _LENGTHS.unpack_from(buffer)
            if head_bytes + blob_bytes > MAX_FRAME_BYTES:
                raise MessageError(f"a frame of {head_bytes} + {blob_bytes} bytes")
            head_end = _LENGTHS.size + head_bytes
            end = head_end + blob_bytes
            if len(buffer) < end:
                break
            blob = bytes(memoryview(buffer)[head_end:end])
            messages.append(_message(bytes(buffer[_LENGTHS.size : head_end]), blob))
            del buffer[:end]
        return messages


def _message(head: bytes, blob: bytes) -> Message:
    try:
        kind, fields = json.loads(head)
    except ValueError:
        raise MessageError(f"expected [kind, fields], got {head[:80]!r}") from None
    if not isinstance(kind, str) or not isinstance(fields, dict):
        raise MessageError(f"expected [kind, fields], got {head[:80]!r}")
    return Message(kind, fields, blob)


class Channel:
    """One end, without a loop: for a caller that selects on `fileno()`."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._decoder = Decoder()
        self._unsent: deque[memoryview] = deque()
        self.closed = False
        """The other end is gone."""

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Something waits for the socket to take it: call `flush` when it is writable."""
        return bool(self._unsent)

    def send(self, kind: str, fields: Mapping[str, Any] | None = None, blob: bytes = b"") -> None:
        """Send a message, now or with a later `flush`. To a closed channel: nothing happens."""
        if self.closed:
            return
        self._unsent.append(memoryview(encode(kind, fields or {}, blob)))
        if blob:
            self._unsent.append(memoryview(blob))
        self.flush()

    def flush(self) -> None:
        """Write as much of what waits as the socket takes."""
        unsent = self._unsent
        try:
            while unsent:
                sent = self._socket.send(unsent[0])
                if sent == len(unsent[0]):
                    unsent.popleft()
                else:
                    unsent[0] = unsent[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            # What the peer sent before it died is still to be read; reading finds the end.
            unsent.clear()

    def receive(self) -> list[Message]:
        """Return what has arrived; sets `closed` at the end. Raises MessageError."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.closed = True
            self._unsent.clear()
            return []
        return self._decoder.feed(data)

    def close(self) -> None:
        self.closed = True
        self._unsent.clear()
        self._socket.close()


class LoopChannel:
    """A child's end, on its event loop.

    `on_message` gets each message in order; `on_closed` is called once when the supervisor is dead
    (or talks nonsense, which can't be told from a bug of ours and is as final). Neither is called
    after `close`.
    """

    def __init__(
        self,
        fd: int,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Message], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._channel = Channel(socket.socket(fileno=fd))
        self._loop = loop
        self._on_message = on_message
        self._on_closed = on_closed
        loop.add_reader(self._channel.fileno(), self._read)

    def send(self, kind: str, fields: Mapping[str, Any] | None = None, blob: bytes = b"") -> None:
        """Send a message. Called on the loop; never blocks."""
        self._channel.send(kind, fields, blob)
        if self._channel.wants_write:
            self._loop.add_writer(self._channel.fileno(), self._write)

    def close(self) -> None:
        """Close this end. May be called twice."""
        if self._channel.fileno() >= 0:
            self._loop.remove_reader(self._channel.fileno())
            self._loop.remove_writer(self._channel.fileno())
            self._channel.close()

    def _write(self) -> None:
        self._channel.flush()
        if not self._channel.wants_write:
            self._loop.remove_writer(self._channel.fileno())

    def _read(self) -> None:
        try:
            messages = self._channel.receive()
        except MessageError:
            self._channel.closed, messages = True, []
        for message in messages:
            if self._channel.fileno() < 0:
                return
            self._on_message(message)
        if self._channel.closed:
            self.close()
            self._on_closed()
