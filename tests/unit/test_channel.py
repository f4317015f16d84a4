"""Messages arrive whole and in order however the bytes were cut, and nobody blocks."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fastgate.channel import (
    MAX_FRAME_BYTES,
    Channel,
    Decoder,
    LoopChannel,
    Message,
    MessageError,
    encode,
)

MESSAGES = [
    Message("ready", {}, b""),
    Message("drain", {"grace_s": 600.0, "accept": True}, b""),
    Message("snapshot", {"version": 7}, bytes(range(256)) * 3),
    Message("é", {"faults": [["a[3].b", 'not "this"\n']]}, b"\x00"),
]
WIRE = b"".join(encode(m.kind, m.fields, m.blob) + m.blob for m in MESSAGES)
# More than any socket buffer takes at once.
LARGE = bytes(range(256)) * 16_384


def test_messages_come_out_as_they_went_in() -> None:
    assert Decoder().feed(WIRE) == MESSAGES


def test_messages_come_out_of_single_bytes() -> None:
    decoder = Decoder()
    found = [message for byte in WIRE for message in decoder.feed(bytes([byte]))]
    assert found == MESSAGES


def test_messages_come_out_of_any_split() -> None:
    for at in range(len(WIRE) + 1):
        decoder = Decoder()
        assert decoder.feed(WIRE[:at]) + decoder.feed(WIRE[at:]) == MESSAGES, at


@pytest.mark.parametrize(
    "frame",
    [
        MAX_FRAME_BYTES.to_bytes(4, "big") + (1).to_bytes(4, "big"),
        b"GET / HTTP/1.1\r\n\r\n",
        (4).to_bytes(4, "big") + bytes(4) + b"oops",
        (2).to_bytes(4, "big") + bytes(4) + b"{}",
        (7).to_bytes(4, "big") + bytes(4) + b"[1, {}]",
        (9).to_bytes(4, "big") + bytes(4) + b'["a", []]',
        (2).to_bytes(4, "big") + bytes(4) + b"\xff\xff",
    ],
)
def test_nonsense_is_an_error(frame: bytes) -> None:
    with pytest.raises(MessageError):
        Decoder().feed(frame)


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def test_a_large_message_waits_for_the_reader(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = Channel(ends[0]), Channel(ends[1])
    left.send("snapshot", {"version": 1}, LARGE)
    left.send("reload")
    assert left.wants_write
    found: list[Message] = []
    while len(found) < 2:
        found += right.receive()
        left.flush()
    assert found == [Message("snapshot", {"version": 1}, LARGE), Message("reload", {}, b"")]
    assert not left.wants_write
    left.close()
    right.close()


def test_an_empty_channel_gives_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = Channel(ends[0]), Channel(ends[1])
    assert left.receive() == []
    assert not left.closed
    left.close()
    right.close()


def test_last_words_are_read_before_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = Channel(ends[0]), Channel(ends[1])
    left.send("drained")
    left.close()
    # Writing to the dead loses the message and nothing else.
    right.send("stop")
    assert right.receive() == [Message("drained", {}, b"")]
    assert not right.closed
    assert right.receive() == []
    assert right.closed
    right.send("stop")
    assert not right.wants_write
    right.close()


async def test_a_child_talks_on_its_loop(ends: tuple[socket.socket, socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    queues: list[asyncio.Queue[Message]] = [asyncio.Queue(), asyncio.Queue()]
    closed = asyncio.Event()
    left = LoopChannel(ends[0].detach(), loop, queues[0].put_nowait, closed.set)
    right = LoopChannel(ends[1].detach(), loop, queues[1].put_nowait, lambda: None)
    left.send("snapshot", {"version": 2}, LARGE)
    right.send("snapshot", {"version": 3}, LARGE)
    assert await queues[1].get() == Message("snapshot", {"version": 2}, LARGE)
    assert await queues[0].get() == Message("snapshot", {"version": 3}, LARGE)
    right.close()
    right.close()
    await closed.wait()
    left.close()


async def test_nothing_is_told_after_close(ends: tuple[socket.socket, socket.socket]) -> None:
    seen: list[str] = []
    handled = asyncio.Event()

    def on_message(message: Message) -> None:
        seen.append(message.kind)
        child.close()
        handled.set()

    loop = asyncio.get_running_loop()
    child = LoopChannel(ends[0].detach(), loop, on_message, lambda: seen.append("closed"))
    ends[1].sendall(encode("stop", {}, b"") + encode("reload", {}, b""))
    await handled.wait()
    ends[1].close()
    await asyncio.sleep(0)
    assert seen == ["stop"]


async def test_nonsense_from_the_supervisor_is_its_end(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    closed = asyncio.Event()
    seen: list[Message] = []
    LoopChannel(ends[0].detach(), asyncio.get_running_loop(), seen.append, closed.set)
    ends[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    await closed.wait()
    assert seen == []
    ends[1].close()
