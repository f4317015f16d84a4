"""From answers and faults to bytes: judged by h11 where the bytes are meant to be valid."""

from __future__ import annotations

import h11
import pytest

from bench.answers import BUILDERS, Answer, read_request
from bench.faults import parse_faults
from bench.script import Ending, Script, build_script

EVENTS = [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n", b"data: [DONE]\n\n"]


def stream(faults: str = "") -> Script:
    answer = Answer("text/event-stream", list(EVENTS), [2, 4], stream=True)
    return build_script(answer, "chat", parse_faults(faults))


def plain(faults: str = "") -> Script:
    return build_script(Answer("application/json", [b'{"a":1}']), "chat", parse_faults(faults))


def whole(script: Script) -> bytes:
    return script.head + b"".join(script.pieces)


def read(data: bytes, eof: bool = False) -> tuple[bytes, bytes]:
    """Parse one response; return (body, what follows it)."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    if eof:
        peer.receive_data(b"")
    body = b""
    while True:
        event = peer.next_event()
        assert event is not h11.NEED_DATA, "incomplete"
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body, peer.trailing_data[0]


def test_a_plain_answer_and_a_stream_are_valid_http() -> None:
    assert read(whole(plain())) == (b'{"a":1}', b"")
    assert read(whole(stream())) == (b"".join(EVENTS), b"")
    assert stream().ending is Ending.KEEP


def test_each_event_is_one_chunk() -> None:
    assert stream().pieces[0] == b"9\r\ndata: 1\n\n\r\n"
    assert len(stream().pieces) == len(EVENTS)


def test_groups_hold_so_many_events_and_the_head_goes_first() -> None:
    script = stream()
    script.group(3)
    assert script.writes == (script.head + b"".join(script.pieces[:3]), script.pieces[3])
    script.group(0)
    assert script.writes == (whole(script),)


def test_a_cut_after_events_leaves_whole_chunks_and_no_end() -> None:
    script = stream("cut=3")
    assert (script.pieces, script.ends) == (stream().pieces[:3], [2, 3])
    assert script.ending is Ending.CLOSE
    assert stream("cut=1;reset").ending is Ending.RESET


@pytest.mark.parametrize("count", [0, 1, 17, 150, 160, 10_000])
def test_a_cut_after_bytes_leaves_exactly_so_many(count: int) -> None:
    script = stream(f"cut={count}b")
    assert whole(script) == whole(stream())[:count]
    assert script.ending is Ending.CLOSE


def test_a_plain_answer_counts_as_one_event() -> None:
    assert plain("cut=0").pieces == []
    assert plain("stall=0").ending is Ending.STALL
    assert plain("stall=head").head == b""


def test_an_error_event_ends_the_stream_cleanly() -> None:
    body, _ = read(whole(stream("error-event=1")))
    assert body.startswith(EVENTS[0] + b'data: {"error":')
    assert body.endswith(b"data: [DONE]\n\n")
    assert read(whole(stream("error-first")))[0].startswith(b'data: {"error":')


def test_surplus_bytes_follow_a_complete_answer() -> None:
    for script in (plain("malformed=surplus"), stream("malformed=surplus")):
        assert read(whole(script))[1].endswith(b"surplus")


@pytest.mark.parametrize("kind", ["chunk", "head", "length"])
@pytest.mark.parametrize("make", [plain, stream])
def test_malformed_framing_is_refused_by_a_strict_reader(make: object, kind: str) -> None:
    assert callable(make)
    if make is stream and kind == "length":
        # h11 lets Transfer-Encoding win (RFC 9112 6.3); that both are there is what matters.
        head = stream("malformed=length").head
        assert b"content-length: 5" in head
        assert b"transfer-encoding: chunked" in head
        return
    with pytest.raises(h11.RemoteProtocolError):
        read(whole(make(f"malformed={kind}")))


def test_a_body_can_end_with_the_connection() -> None:
    for script, body in ((plain("framing=eof"), b'{"a":1}'), (stream("framing=eof"), None)):
        assert script.head.startswith(b"HTTP/1.0 200")
        assert read(whole(script), eof=True)[0] == body or b"".join(EVENTS)
        assert script.ending is Ending.CLOSE


def test_interim_heads_come_before_the_answer() -> None:
    script = plain("interim=2")
    assert script.head.count(b"HTTP/1.1 103") == 2
    assert read(whole(plain()))[0] == b'{"a":1}'


def test_closing_is_announced_only_by_close() -> None:
    assert b"connection: close" in plain("close").head
    assert b"connection: close" not in plain("hangup").head
    assert plain("hangup").ending is plain("close").ending is Ending.CLOSE


@pytest.mark.parametrize("kind", ["chat", "completions", "responses", "messages"])
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_every_stream_has_one_moment_per_token(kind: str, tokens: int) -> None:
    raw = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"a b"}],"prompt":"a b"}'
    answer = BUILDERS[kind](read_request(kind, raw, tokens))
    assert len(answer.ends) == tokens
    assert answer.ends == sorted(set(answer.ends))
    assert answer.ends[-1] == len(answer.events)
    assert all(event.endswith(b"\n\n") for event in answer.events)
