"""Single values: text to numbers with units, URLs, header fields.

Every function raises ValueError with what was expected. No message shows the value itself: what
stands in the wrong place may be a secret.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

__all__ = [
    "Address",
    "address",
    "boolean",
    "duration_s",
    "field_name",
    "field_value",
    "is_identifier",
    "model_name",
    "number",
    "size_bytes",
    "text",
    "whole",
]

MAX_NUMBER = 1e9
"""As seconds 31 years; in nanoseconds it still fits 64 bits."""
MAX_WHOLE = 2**53
"""Every whole number up to here is a float as well, whatever reads it."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNITS_BYTES = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")

# RFC 9110 5.1: a field name is a token.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110 5.5, without obs-text: bytes above 0x7F mean something else to every peer.
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]*")
_IDENTIFIER = re.compile(r"[A-Za-z0-9._:/@+~-]{1,128}")

# RFC 1123 2.1, and `_` for the service names of container networks.
_HOST = re.compile(r"(?=.{1,253}\Z)([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
# RFC 3986 3.3.
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")

# Some give the whole URL of an endpoint where the base of all of them is meant.
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/messages", "/responses")


class Address(NamedTuple):
    """Where an `api_base` leads."""

    scheme: str
    host: str
    port: int
    unix_socket: str
    base_path: str

    def __str__(self) -> str:
        if self.unix_socket:
            return f"unix:{self.unix_socket}" + (f":{self.base_path}" if self.base_path else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        port = "" if self.port == default else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.base_path}"


def text(value: object) -> str:
    """Return a string that is not empty; numbers are taken for what they look like."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected text, got {_kind(value)}")
    found = str(value).strip()
    if not found:
        raise ValueError("expected text, got an empty string")
    return found


def boolean(value: object) -> bool:
    """Return true or false; text is parsed, for values out of the environment."""
    known = {"true": True, "1": True, "false": False, "0": False}
    found = known.get(str(value).strip().lower())
    if found is None or not isinstance(value, bool | str | int):
        raise ValueError("expected true or false")
    return found


def number(value: object) -> float:
    """Return a number; text is parsed, for values out of the environment."""
    found = _finite(value)
    if abs(found) > MAX_NUMBER:
        raise ValueError(f"expected at most {MAX_NUMBER:g}")
    return found


def whole(value: object) -> int:
    """Return a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        parsed = _finite(value)
        if not parsed.is_integer():
            raise ValueError("expected a whole number")
        found = int(parsed)
    if abs(found) > MAX_WHOLE:
        raise ValueError(f"expected at most {MAX_WHOLE}")
    return found


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a number, got {_kind(value)}")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise ValueError("expected a number, got other text") from None
    if not math.isfinite(found):
        raise ValueError("expected a finite number")
    return found


def duration_s(value: object) -> float:
    """Return seconds from `10`, `10s`, `500ms`, `5m`, `1.5h`, `2d`."""
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        unit = match[2] or "s"
        if unit in _UNITS_S:
            return number(float(match[1]) * _UNITS_S[unit])
    elif not isinstance(value, str):
        return number(value)
    raise ValueError(f"expected a duration: a number and one of {', '.join(_UNITS_S)}")


def size_bytes(value: object) -> int:
    """Return bytes from `1024`, `32MiB`, `10MB`."""
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        unit = match[2] or "B"
        if unit in _UNITS_BYTES:
            return whole(float(match[1]) * _UNITS_BYTES[unit])
    elif not isinstance(value, str):
        return whole(value)
    raise ValueError(f"expected a size: a number and one of {', '.join(_UNITS_BYTES)}")


def field_name(value: object) -> str:
    """Return the name of a header field, in lower case."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError("expected a header field name: letters, digits and hyphens")
    return value.lower()


def field_value(value: object) -> str:
    """Return what may stand behind the colon of a header field."""
    found = text(value)
    if not _FIELD_VALUE.fullmatch(str(value)):
        raise ValueError("expected visible ASCII: no line break, no control character")
    return found


def model_name(value: object) -> str:
    """Return the name of a model group or alias: printable, and the same inside JSON quotes."""
    found = text(value)
    if not found.isprintable() or len(found) > 256 or '"' in found or "\\" in found:
        raise ValueError("expected up to 256 printable characters without quotes and backslashes")
    return found


def is_identifier(value: str) -> bool:
    """Return whether `value` may stand in headers, logs and metrics as it is."""
    return _IDENTIFIER.fullmatch(value) is not None


def address(value: object, append_v1: bool = False) -> Address:
    """Return where an api_base leads; `append_v1`: one without a path gets /v1."""
    url = text(value)
    # urlsplit drops line breaks and tabs without a word.
    if not url.isprintable():
        raise ValueError("expected a URL without line breaks and control characters")
    is_unix = url.startswith(("unix:", "http+unix:"))
    found = _unix_address(url) if is_unix else _tcp_address(url)
    path = found.base_path.rstrip("/")
    for endpoint in _ENDPOINTS:
        path = path.removesuffix(endpoint)
    if not _PATH.fullmatch(path) or ".." in path.split("/"):
        raise ValueError("expected a path of visible ASCII without `..` in the URL")
    return found._replace(base_path=path or ("/v1" if append_v1 else ""))


def _tcp_address(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected a URL with a host and a port from 1 to 65535") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("expected http://HOST[:PORT][/PATH], https://… or unix:/PATH")
    if "@" in parts.netloc:
        raise ValueError("expected no user info in the URL: give the key as `api_key`")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("expected no query and no fragment in the URL")
    host = parts.hostname or ""
    is_ipv6 = parts.netloc.startswith("[")
    if port == 0 or not (is_ipv6 or _HOST.fullmatch(host)):
        raise ValueError("expected a host of ASCII letters, digits, dots and hyphens in the URL")
    return Address(
        parts.scheme, host, port or (443 if parts.scheme == "https" else 80), "", parts.path
    )


def _unix_address(url: str) -> Address:
    if url.startswith("unix:"):
        path, _, base_path = url.removeprefix("unix:").partition(":")
        path = "/" + path.lstrip("/") if path.startswith("///") else path
    else:
        socket, _, base_path = url.removeprefix("http+unix:").removeprefix("//").partition("/")
        path = unquote(socket)
        base_path = f"/{base_path}" if base_path else ""
    if not path.startswith("/") or "\0" in path or (base_path and not base_path.startswith("/")):
        raise ValueError("expected unix:/PATH/TO/SOCKET[:/BASE/PATH]")
    return Address("http", "localhost", 80, path, base_path)


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "something else")
