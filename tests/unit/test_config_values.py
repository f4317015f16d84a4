"""Single values: units, URLs, header fields. A message never shows the value."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fastgate.config import values


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(10, 10), (0.5, 0.5), ("10", 10), ("10s", 10), ("500ms", 0.5), ("5m", 300), ("1.5h", 5400)],
)
def test_a_duration_is_a_number_or_has_a_unit(given: object, seconds: float) -> None:
    assert values.duration_s(given) == seconds


@pytest.mark.parametrize(
    ("given", "size"),
    [(1024, 1024), ("1024", 1024), ("32MiB", 32 << 20), ("1.5 KiB", 1536), ("10GiB", 10 << 30)],
)
def test_a_size_is_a_number_or_has_a_unit(given: object, size: int) -> None:
    assert values.size_bytes(given) == size


@pytest.mark.parametrize(
    ("parse", "given"),
    [
        *(
            (values.duration_s, bad)
            for bad in ("", "10 parsecs", "-1s", "s", True, [], None, "1e9d")
        ),
        *((values.size_bytes, bad) for bad in ("1.5B", "10Mb", "MiB", 1.5, False, {})),
        *((values.number, bad) for bad in ("x", "nan", "inf", float("nan"), 2e9, True, [])),
        *((values.whole, bad) for bad in (1.5, "1.5", "x", True, 10**400, "1e300", None)),
        *((values.boolean, bad) for bad in ("yes", 2, 1.0, [], None)),
        *((values.text, bad) for bad in ("", "  ", [], {}, True, None)),
        *((values.field_name, bad) for bad in ("", "a b", "a:", "a\r\n", "ä", 1)),
        *((values.field_value, bad) for bad in ("a\r\nx: y", "a\n", "a\0", "ä", "\x7f", "")),
        *((values.model_name, bad) for bad in ('a"b', "a\\b", "a\nb", "a" * 257, "")),
    ],
)
def test_what_is_no_such_value_is_refused(parse: Callable[[object], object], given: object) -> None:
    with pytest.raises(ValueError, match=r"^expected "):
        parse(given)


def test_numbers_out_of_the_environment_are_text() -> None:
    assert values.whole("100") == 100
    assert values.number("0.5") == 0.5
    assert values.boolean("True") is True
    assert values.boolean("false") is False


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h", "http://h"),
        ("http://h:80/", "http://h"),
        ("https://h:443/v1/", "https://h/v1"),
        ("https://h:8443/a/b", "https://h:8443/a/b"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://vllm_0.ns.svc.cluster.local.:8000", "http://vllm_0.ns.svc.cluster.local.:8000"),
        ("http://127.0.0.1:1/v1/chat/completions", "http://127.0.0.1:1/v1"),
        ("http://h/v1/messages", "http://h/v1"),
        ("unix:/run/engine.sock", "unix:/run/engine.sock"),
        ("unix:/run/engine.sock:/v1/", "unix:/run/engine.sock:/v1"),
        ("unix:///run/engine.sock:/v1", "unix:/run/engine.sock:/v1"),
        ("http+unix://%2Frun%2Fengine.sock/v1", "unix:/run/engine.sock:/v1"),
    ],
)
def test_an_address_is_brought_into_one_form(url: str, shown: str) -> None:
    assert str(values.address(url)) == shown
    assert values.address(shown) == values.address(url)


def test_an_address_has_all_that_connecting_needs() -> None:
    assert values.address("https://Engine.Example/base") == values.Address(
        "https", "engine.example", 443, "", "/base"
    )
    assert values.address("unix:/s:/v1") == values.Address("http", "localhost", 80, "/s", "/v1")


def test_v1_is_appended_only_to_a_base_without_a_path() -> None:
    assert values.address("http://h", append_v1=True).base_path == "/v1"
    assert values.address("http://h/", append_v1=True).base_path == "/v1"
    assert values.address("http://h/x", append_v1=True).base_path == "/x"
    assert values.address("http://h").base_path == ""


@pytest.mark.parametrize(
    "url",
    [
        *("h:8000", "ftp://h", "http://", "http://h:0", "http://h:65536", "http://h:x"),
        *("http://canary@h", "http://u:canary@h", "http://h/?key=canary", "http://h/#canary"),
        *("http://h/a b", "http://h/a/../b", "http://h/\r\nx", "http://h\r\n.x", "http://a b"),
        *("http://h/%zz", "http://ä", "http://-\u0130", "http://h?", "http://[::1", "http://[x]"),
        *("unix:", "unix:relative.sock", "unix:/s:v1", "http+unix://relative/v1", "unix:/s\0"),
        *("http://" + "a" * 64, "http://" + "a." * 130, "http://h..x", "", 4000, None),
    ],
)
def test_what_is_no_address_is_refused(url: object) -> None:
    with pytest.raises(ValueError, match="expected ") as caught:
        values.address(url)
    assert "canary" not in str(caught.value)


def test_a_long_host_is_refused_at_once() -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match="host"):
        values.address("http://" + "a" * 100_000 + "!")
    assert time.perf_counter() - start < 1
