"""Requests: what is taken, and what is refused at which byte."""

from __future__ import annotations

import pytest

from fastgate._core.http1 import RequestReader
from tests.http1_wire import Message, bytewise, read_requests, splits

LINE = b"POST /v1/x HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
CHUNKED = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

# Each ends with the first byte that is wrong. A field's meaning is judged at its line's end.
REFUSED = {
    # RFC 9112 3, 3.1
    "a TLS hello": (b"\x16", 400),
    "no method": (b" ", 400),
    "a bare LF before the request": (b"\n", 400),
    "a bare CR before the request": (b"\rG", 400),
    "a second empty line": (b"\r\n\r", 400),
    "NUL in the method": (b"GE\0", 400),
    "a delimiter in the method": (b"GE(", 400),
    "a tab behind the method": (b"GET\t", 400),
    "CONNECT": (b"CONNECT ", 501),
    # RFC 9112 3.2
    "two spaces": (b"GET  ", 400),
    "a target that begins with a digit": (b"GET 1", 400),
    "a target in authority-form": (b"GET a:80 ", 400),
    "a fragment": (b"GET /a#", 400),
    "a control character in the target": (b"GET /\x01", 400),
    "DEL in the target": (b"GET /\x7f", 400),
    "a byte above ASCII in the target": (b"GET /\x80", 400),
    "an asterisk for GET": (b"GET * ", 400),
    "an asterisk for seven other letters": (b"OPTIONZ * ", 400),
    "an asterisk with more": (b"OPTIONS *a ", 400),
    "one slash behind the scheme": (b"GET http:/a ", 400),
    "no authority": (b"GET http:// ", 400),
    "no authority but a path": (b"GET http:///a ", 400),
    "user information": (b"GET http://u@h/ ", 400),
    # RFC 9112 2.3
    "HTTP/0.9": (b"GET /\r", 400),
    "a version in lower case": (b"GET / h", 400),
    "HTTP/2.0": (b"GET / HTTP/2", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2", 505),
    "HTTP/1.x": (b"GET / HTTP/1.x", 400),
    "HTTP/1.10": (b"GET / HTTP/1.10", 400),
    "a space behind the version": (b"GET / HTTP/1.1 ", 400),
    "a bare LF behind the version": (b"GET / HTTP/1.1\n", 400),
    "a bare CR behind the version": (b"GET / HTTP/1.1\rH", 400),
    # RFC 9112 5
    "a space before the first field": (LINE + b" ", 400),
    "a folded line": (LINE + HOST + b"\t", 400),
    "no field name": (LINE + b":", 400),
    "a space before the colon": (LINE + b"A ", 400),
    "no colon": (LINE + b"A\r", 400),
    "NUL in a name": (LINE + b"A\0", 400),
    "a byte above ASCII in a name": (LINE + b"A\x80", 400),
    "NUL in a value": (LINE + b"A: b\0", 400),
    "DEL in a value": (LINE + b"A: b\x7f", 400),
    "a bare LF behind a value": (LINE + b"A: b\n", 400),
    "a bare CR in a value": (LINE + b"A: b\rc", 400),
    "a bare CR as the empty line": (LINE + HOST + b"\rX", 400),
    "a bare LF as the empty line": (LINE + HOST + b"\n", 400),
    # RFC 9112 3.2, RFC 9110 7.2
    "no Host": (LINE + b"\r\n", 400),
    "two Hosts": (LINE + HOST + b"host: a\r\n", 400),
    "an empty Host": (LINE + b"Host:\r\n", 400),
    "a Host with a path": (LINE + b"Host: a/b\r\n", 400),
    "a Host with user information": (LINE + b"Host: u@a\r\n", 400),
    "a Host with a port of letters": (LINE + b"Host: a:b\r\n", 400),
    "a Host with a port of six digits": (LINE + b"Host: a:123456\r\n", 400),
    "a Host list": (LINE + b"Host: a, b\r\n", 400),
    "an IPv6 Host that does not end": (LINE + b"Host: [::1\r\n", 400),
    "an IPv6 Host with nothing in it": (LINE + b"Host: []\r\n", 400),
    "an IPv6 Host with letters": (LINE + b"Host: [g::1]\r\n", 400),
    "an IPv6 Host with an empty zone": (LINE + b"Host: [fe80::1%25]\r\n", 400),
    "bytes behind an IPv6 Host": (LINE + b"Host: [::1]a\r\n", 400),
    # RFC 9112 6.2, 6.3
    "an empty Content-Length": (LINE + b"Content-Length:\r\n", 400),
    "a signed Content-Length": (LINE + b"Content-Length: +5\r\n", 400),
    "a negative Content-Length": (LINE + b"Content-Length: -5\r\n", 400),
    "a hexadecimal Content-Length": (LINE + b"Content-Length: 0x5\r\n", 400),
    "a Content-Length list": (LINE + b"Content-Length: 5, 5\r\n", 400),
    "a Content-Length with a space": (LINE + b"Content-Length: 5 5\r\n", 400),
    "a Content-Length of 19 digits": (LINE + b"Content-Length: 1" + b"0" * 18 + b"\r\n", 413),
    "two Content-Lengths": (LINE + b"Content-Length: 5\r\ncontent-length: 5\r\n", 400),
    "a length and a coding": (LINE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    "a coding and a length": (LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    "two codings": (LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    "a coding in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    "no coding": (LINE + b"Transfer-Encoding:\r\n", 501),
    "the coding gzip": (LINE + b"Transfer-Encoding: gzip, chunked\r\n", 501),
    "the coding identity": (LINE + b"Transfer-Encoding: identity\r\n", 501),
    "chunked twice": (LINE + b"Transfer-Encoding: chunked, chunked\r\n", 501),
    "chunked with a comma": (LINE + b"Transfer-Encoding: chunked,\r\n", 501),
    "chunked with a parameter": (LINE + b"Transfer-Encoding: chunked;a=b\r\n", 501),
    "a coding that resembles": (LINE + b"Transfer-Encoding: xchunked\r\n", 501),
    # RFC 9112 7.1
    "no chunk size": (CHUNKED + b"\r", 400),
    "a prefixed chunk size": (CHUNKED + b"0x", 400),
    "a signed chunk size": (CHUNKED + b"+", 400),
    "a chunk size with an underscore": (CHUNKED + b"5_", 400),
    "a bare LF behind a chunk size": (CHUNKED + b"5\n", 400),
    "a bare CR behind a chunk size": (CHUNKED + b"5\rh", 400),
    "a blank before the line's end": (CHUNKED + b"5 \r", 400),
    "a chunk of 1 TiB": (CHUNKED + b"10000000000", 413),
    "a chunk size of 17 digits": (CHUNKED + b"0" * 17, 413),
    "a chunk that is too long": (CHUNKED + b"5\r\nhelloX", 400),
    "a bare LF behind a chunk": (CHUNKED + b"5\r\nhello\n", 400),
    "a bare CR behind a chunk": (CHUNKED + b"5\r\nhello\rX", 400),
    # RFC 9112 7.1.1
    "an extension without a name": (CHUNKED + b"5;\r", 400),
    "an extension that begins with '='": (CHUNKED + b"5;=", 400),
    "a bare LF in an extension": (CHUNKED + b"5;a\n", 400),
    "a control character in an extension": (CHUNKED + b"5;a\0", 400),
    "a value that is none": (CHUNKED + b"5;a=\r", 400),
    "a word behind a name": (CHUNKED + b"5;a b", 400),
    "a word behind a value": (CHUNKED + b"5;a=b c", 400),
    "a word behind a quoted string": (CHUNKED + b'5;a="b"c', 400),
    "a blank behind a quoted string": (CHUNKED + b'5;a="b" \r', 400),
    "a line end in a quoted string": (CHUNKED + b'5;a="b\r', 400),
    "a control character escaped": (CHUNKED + b'5;a="b\\\n', 400),
    # RFC 9112 7.1.2, RFC 9110 6.5.1
    "a bare LF behind the last chunk": (CHUNKED + b"0\r\n\n", 400),
    "a bare CR behind the last chunk": (CHUNKED + b"0\r\n\rX", 400),
    "a folded trailer": (CHUNKED + b"0\r\nA: b\r\n ", 400),
    "a trailer without a colon": (CHUNKED + b"0\r\nA\r", 400),
    "NUL in a trailer": (CHUNKED + b"0\r\nA: \0", 400),
    "a bare LF behind a trailer": (CHUNKED + b"0\r\nA: b\n", 400),
    "a bare CR behind a trailer": (CHUNKED + b"0\r\nA: b\rc", 400),
    "a length in the trailers": (CHUNKED + b"0\r\ncontent-Length:", 400),
    "a coding in the trailers": (CHUNKED + b"0\r\nTransfer-Encoding:", 400),
    "a Host in the trailers": (CHUNKED + b"0\r\nA: b\r\nHost:", 400),
    "a key in the trailers": (CHUNKED + b"0\r\nAuthorization:", 400),
    "an encoding in the trailers": (CHUNKED + b"0\r\nContent-Encoding:", 400),
    "Expect in the trailers": (CHUNKED + b"0\r\nExpect:", 400),
    "TE in the trailers": (CHUNKED + b"0\r\nTE:", 400),
    "Connection in the trailers": (CHUNKED + b"0\r\nConnection:", 400),
    "Trailer in the trailers": (CHUNKED + b"0\r\nTrailer:", 400),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_byte_is_refused_when_it_comes_and_not_before(case: str) -> None:
    raw, status = REFUSED[case]
    assert read_requests([raw[:-1]]).outcome != "reject"
    for segments in ([raw], [raw[:-1], raw[-1:]], bytewise(raw), [raw + b"\r\n\r\n"]):
        result = read_requests(segments)
        assert (result.outcome, result.status, result.messages) == ("reject", status, [])


def request(start: tuple[object, ...], *fields: tuple[bytes, bytes], **more: object) -> Message:
    """Return the message that is expected: HTTP/1.1, kept alive, without a body, unless told."""
    start += (b"", False)[len(start) - 2 :]
    message = Message(start, list(fields), 1, True, -1, False)
    for name, value in more.items():
        setattr(message, name, value)
    return message


AN_A = (b"Host", b"a")
CODED = (AN_A, (b"Transfer-Encoding", b"chunked"))
BODY = b"hello, world"
ACCEPTED = {
    "the least": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", request((b"GET", b"/"), AN_A)),
    "an empty line before": (
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        request((b"GET", b"/"), AN_A),
    ),
    "a query": (
        b"GET /a%20b?c=d?&e=/ HTTP/1.1\r\nHost: a\r\n\r\n",
        request((b"GET", b"/a%20b", b"c=d?&e=/", False), AN_A),
    ),
    "an empty query": (b"GET /? HTTP/1.1\r\nHost: a\r\n\r\n", request((b"GET", b"/"), AN_A)),
    "asterisk-form": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", request((b"OPTIONS", b"*"), AN_A)),
    "absolute-form": (
        b"GET http://h:80/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
        request((b"GET", b"/p", b"q", False), AN_A),
    ),
    "absolute-form without a path": (
        b"GET HTTPS://h HTTP/1.1\r\nHost: a\r\n\r\n",
        request((b"GET", b"/"), AN_A),
    ),
    "absolute-form with a query alone": (
        b"GET http://h?q HTTP/1.1\r\nHost: a\r\n\r\n",
        request((b"GET", b"/", b"q", False), AN_A),
    ),
    "any token as method": (b"x-Y~ / HTTP/1.1\r\nHost: a\r\n\r\n", request((b"x-Y~", b"/"), AN_A)),
    "white space round values": (
        b"GET / HTTP/1.1\r\nHost:a\t \r\nA: \t b \t c\t\r\nB:\r\nC: \t\r\n\r\n",
        request((b"GET", b"/"), AN_A, (b"A", b"b \t c"), (b"B", b""), (b"C", b"")),
    ),
    "all bytes that a value may have": (
        b"GET / HTTP/1.1\r\nHost: a\r\nA: !\t~\x80\xff\r\n\r\n",
        request((b"GET", b"/"), AN_A, (b"A", b"!\t~\x80\xff")),
    ),
    "all delimiters that a name may have": (
        b"GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~0aZ: b\r\n\r\n",
        request((b"GET", b"/"), AN_A, (b"!#$%&'*+-.^_`|~0aZ", b"b")),
    ),
    "HTTP/1.0 without Host": (
        b"GET / HTTP/1.0\r\n\r\n",
        request((b"GET", b"/"), minor_version=0, keep_alive=False),
    ),
    "HTTP/1.0 that stays": (
        b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        request((b"GET", b"/"), (b"Connection", b"Keep-Alive"), minor_version=0),
    ),
    "close among other options": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, ,Close ,\r\n\r\n",
        request((b"GET", b"/"), AN_A, (b"Connection", b"x, ,Close ,"), keep_alive=False),
    ),
    "close in a second field wins": (
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
        request(
            (b"GET", b"/"),
            (b"Connection", b"keep-alive"),
            (b"Connection", b"close"),
            minor_version=0,
            keep_alive=False,
        ),
    ),
    "an option that only resembles close": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed, xclose\r\n\r\n",
        request((b"GET", b"/"), AN_A, (b"Connection", b"closed, xclose")),
    ),
    "Expect": (
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
        request(
            (b"POST", b"/", b"", True),
            AN_A,
            (b"Expect", b"100-Continue"),
            (b"Content-Length", b"1"),
            content_length=1,
            body=b"x",
        ),
    ),
    "Expect in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        request(
            (b"POST", b"/"),
            (b"Expect", b"100-continue"),
            (b"Content-Length", b"1"),
            minor_version=0,
            keep_alive=False,
            content_length=1,
            body=b"x",
        ),
    ),
    "a length of 0": (
        LINE + HOST + b"Content-Length: 0\r\n\r\n",
        request((b"POST", b"/v1/x"), AN_A, (b"Content-Length", b"0"), content_length=0),
    ),
    "a length with zeros": (
        LINE + HOST + b"Content-Length: 000000000000000012\r\n\r\n" + BODY,
        request(
            (b"POST", b"/v1/x"),
            AN_A,
            (b"Content-Length", b"000000000000000012"),
            content_length=12,
            body=BODY,
        ),
    ),
    "chunks": (
        CHUNKED + b"7\r\nhello, \r\n00005\r\nworld\r\n0\r\n\r\n",
        request((b"POST", b"/v1/x"), *CODED, chunked=True, body=BODY),
    ),
    "sizes in both cases": (
        CHUNKED + b"a\r\n0123456789\r\nB\r\n01234567890\r\n000\r\n\r\n",
        request((b"POST", b"/v1/x"), *CODED, chunked=True, body=b"0123456789" * 2 + b"0"),
    ),
    "chunk extensions": (
        CHUNKED + b'7 ; a;b\t=\tc;d="\\"\x80" ;e\r\nhello, \r\n5;f="";g=h\r\nworld\r\n0;z\r\n\r\n',
        request((b"POST", b"/v1/x"), *CODED, chunked=True, body=BODY),
    ),
    "trailers": (
        CHUNKED
        + b"c\r\nhello, world\r\n0\r\nX-Sum: 1\r\nHostage:\r\n"
        + b"y" * 30
        + b": z\r\n\r\n",
        request((b"POST", b"/v1/x"), *CODED, chunked=True, body=BODY),
    ),
}
HOSTS = [b"a.b", b"a:", b"a:80", b"a:65535", b":80", b"a_b~%41!$&'()*+,;=", b"127.0.0.1:4000"]
HOSTS += [b"[::1]", b"[::ffff:1.2.3.4]:80", b"[fe80::1%25eth0.1]:4000"]


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_good_request_is_read_alike_in_any_pieces(case: str) -> None:
    raw, expected = ACCEPTED[case]
    for segments in splits(raw):
        result = read_requests(segments)
        assert result.error == ""
        assert result.messages == [expected]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_may_be(host: bytes) -> None:
    result = read_requests([b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"])
    assert result.messages[0].fields == [(b"Host", host)]


def test_pipelined_requests_are_read_in_order() -> None:
    raw = b"".join(
        b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i
        + CHUNKED
        + b"1\r\n%d\r\n0\r\n\r\n" % i
        + LINE
        + HOST
        + b"Content-Length: 1\r\n\r\n%d" % i
        for i in range(3)
    )
    for segments in splits(raw):
        messages = read_requests(segments).messages
        assert [(m.start[1], m.body) for m in messages] == [
            pair
            for i in range(3)
            for pair in [(b"/%d" % i, b""), (b"/v1/x", b"%d" % i), (b"/v1/x", b"%d" % i)]
        ]


def test_an_unfinished_request_says_so() -> None:
    raw = CHUNKED + b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n"
    for i in range(1, len(raw)):
        assert read_requests([raw[:i]]).outcome == "incomplete"


def test_an_empty_line_alone_starts_nothing() -> None:
    reader = RequestReader()
    assert reader.feed_head(b"\r\n", 0) == -1
    assert not reader.started()
    assert reader.feed_head(b"G", 0) == -1
    assert reader.started()
    reader.reset()
    assert not reader.started()
