"""Messages for the differential tests: well-formed ones, and the same with a few bytes spoilt."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["requests", "responses", "spoilt"]

TOKEN = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=12).map(str.encode)
METHOD = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH"])
TARGET = st.one_of(
    st.text("/abAZ09-._~%!$&'()*+,;=:@?", max_size=20).map(lambda s: b"/" + s.encode()),
    st.sampled_from([b"*", b"http://h", b"http://h/p?q", b"https://h:80?q"]),
)
VALUE = st.binary(max_size=20).map(
    lambda raw: bytes(b for b in raw if b == 9 or (b > 31 and b != 127)).strip(b" \t")
)
BLANK = st.sampled_from([b"", b" ", b"\t", b"  \t"])
FIELD = st.tuples(TOKEN, BLANK, VALUE, BLANK).map(
    lambda part: part[0] + b":" + part[1] + part[2] + part[3]
)
NAMED = st.sampled_from(
    [
        *(b"Connection: close", b"connection: keep-alive", b"Connection: x, keep-alive"),
        *(b"Expect: 100-continue", b"Accept: */*", b"Cookie: a=b", b"Content-Type: a/b"),
    ]
)
FIELDS = st.lists(FIELD | NAMED, max_size=5)
EXTENSION = st.one_of(
    st.just(b""),
    st.just(b""),
    st.sampled_from([b";a", b";a=b", b';a="b c"', b";a;b=c", b"; a = b"]),
)
TRAILERS = st.lists(st.sampled_from([b"X-Sum: 1", b"Etag: x", b"A:"]), max_size=2)


def chunked(parts: list[tuple[bytes, bytes]], last: bytes, trailers: list[bytes]) -> bytes:
    body = b"".join(
        b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in parts if data
    )
    return body + b"0" + last + b"\r\n" + b"".join(t + b"\r\n" for t in trailers) + b"\r\n"


CODED = st.tuples(
    st.just([b"Transfer-Encoding: chunked"]),
    st.builds(chunked, st.lists(st.tuples(st.binary(max_size=40), EXTENSION)), EXTENSION, TRAILERS),
)
COUNTED = st.binary(max_size=60).map(lambda body: ([b"Content-Length: %d" % len(body)], body))
UNTIL_END: st.SearchStrategy[tuple[list[bytes], bytes]] = st.binary(max_size=40).map(
    lambda body: ([], body)
)
NO_BODY: st.SearchStrategy[tuple[list[bytes], bytes]] = st.just(([], b""))


def head(start: bytes, fields: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in [start, *fields]) + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw one complete request."""
    minor = draw(st.sampled_from([b"1", b"1", b"0"]))
    framing, body = draw((CODED | COUNTED | NO_BODY) if minor == b"1" else (COUNTED | NO_BODY))
    method, target = draw(METHOD), draw(TARGET)
    if target == b"*":
        method = b"OPTIONS"
    fields = draw(st.permutations([b"Host: a", *draw(FIELDS), *framing]))
    return head(method + b" " + target + b" HTTP/1." + minor, fields) + body


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Draw one complete answer; one without a length ends with the connection."""
    minor = draw(st.sampled_from([b"1", b"1", b"0"]))
    framing, body = draw((CODED | COUNTED | UNTIL_END) if minor == b"1" else (COUNTED | UNTIL_END))
    status = draw(st.sampled_from([b"200", b"200", b"404", b"429", b"503", b"204", b"304"]))
    if status in (b"204", b"304"):
        framing, body = [], b""
    reason = draw(st.sampled_from([b"", b" ", b" OK", b" Too Many"]))
    interim = draw(st.sampled_from([b"", b"", head(b"HTTP/1.1 100 Continue", [])]))
    fields = draw(st.permutations([*draw(FIELDS), *framing]))
    return interim + head(b"HTTP/1." + minor + b" " + status + reason, fields) + body


SPOILERS = [bytes([b]) for b in b"\r\n\t :;,=/#?\0\x7f\x80a0A9fx+-"]
SPOILERS += [b"\r\n", b"\r\n\r\n", b"\r\nHost: a", b"\r\nContent-Length: 1", b"HTTP/1.1", b"0\r\n"]
SPOILERS += [b"\r\nTransfer-Encoding: chunked", b"\r\n ", b" HTTP/1.1\r\n"]


@st.composite
def spoilt(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """Draw a message and replace, insert or take out up to three pieces of it."""
    raw = draw(messages)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        cut = draw(st.integers(0, 3))
        raw = raw[:at] + draw(st.sampled_from([b"", *SPOILERS])) + raw[at + cut :]
    return raw
