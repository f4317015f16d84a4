"""A multipart/form-data body looked at as it passes (RFC 7578): where its `model` stands.

Sans-IO and bounded: it keeps at most one boundary's length and one part's head of what it is fed.
What parsers read differently is refused, so that the model that is authorised here is the one that
the engine reads: text before the first boundary or behind the last, a boundary that goes on, part
heads with anything but one plain Content-Disposition, a second `model`, another spelling of it, or
a file in its place.
"""

from __future__ import annotations

import re

from fastgate.errors import BadRequest

__all__ = ["FormScan", "boundary_of", "model_part"]

_PARAMETER = rb'[ \t]*;[ \t]*([!#$&+.^_`|~0-9A-Za-z-]+)(\*?)=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]+))'
_PARAMETERS = re.compile(_PARAMETER)
_CONTENT_TYPE = re.compile(rb"multipart/form-data((?:%b)*)[ \t]*" % _PARAMETER, re.I)
_DISPOSITION = re.compile(rb"form-data((?:%b)*)[ \t]*" % _PARAMETER, re.I)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")

# RFC 2046 5.1.1.
MAX_BOUNDARY_CHARS = 70
# A head has two or three lines; a file's name is the longest thing in it.
MAX_PART_HEAD_BYTES = 4096
# As the scanner of JSON bodies has it.
MAX_MODEL_BYTES = 256

_START, _HEAD, _CONTENT, _END = range(4)


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary that a Content-Type names. Raises BadRequest."""
    found = _CONTENT_TYPE.fullmatch(content_type)
    values = [] if found is None else _values(found[1], b"boundary")
    if len(values) != 1 or not 0 < len(values[0]) <= MAX_BOUNDARY_CHARS or b"\\" in values[0]:
        raise BadRequest(
            "expected content-type multipart/form-data with a boundary of 1 to 70 characters"
        )
    return values[0]


def model_part(boundary: bytes, model: bytes) -> bytes:
    """Return a whole part that names `model`, to stand before the other parts."""
    return b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % (boundary, model)


class FormScan:
    """Feed it the body from the start; `model` is set when the field has been seen whole."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first boundary has no line break before it: pretend that it had.
        self._kept = b"\r\n"
        self._kept_at = -2
        """Offset in the body of the first byte kept."""
        self._state = _START
        self._is_model = False
        self.model: bytes | None = None
        self.model_start = -1
        """Offset in the body of the value."""
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Look at more of the body. Raises BadRequest on what could be read in two ways."""
        kept = self._kept + data
        at = 0
        while True:
            if self._state == _HEAD:
                next_at = self._head(kept, at)
            elif self._state == _END:
                next_at = self._epilogue(kept, at)
            else:
                next_at = self._to_delimiter(kept, at)
            if next_at < 0:
                break
            at = next_at
        if self._state == _CONTENT and not self._is_model:
            # What can't be a part of a delimiter any more is not needed.
            at = max(at, len(kept) - len(self._delimiter) - 1)
        self._kept_at += at
        self._kept = kept[at:]

    def _to_delimiter(self, kept: bytes, at: int) -> int:
        delimiter = self._delimiter
        found = kept.find(delimiter, at)
        content = (len(kept) if found < 0 else found) - at
        if self._state == _START and not kept.startswith(delimiter[: len(kept)]):
            raise BadRequest("a form must begin with its boundary")
        if self._is_model and content > MAX_MODEL_BYTES + (len(delimiter) if found < 0 else 0):
            raise BadRequest(
                f"the form's model field is longer than {MAX_MODEL_BYTES} bytes", param="model"
            )
        behind = found + len(delimiter)
        if found < 0 or len(kept) < behind + 2:
            return -1
        if self._is_model:
            self.model = kept[at:found]
            self.model_start = self._kept_at + at
            self._is_model = False
        mark = kept[behind : behind + 2]
        if mark == b"--":
            self._state = _END
            self.ended = True
        elif mark == b"\r\n":
            self._state = _HEAD
        else:
            raise BadRequest("a form's boundary must stand alone on its line")
        return behind + 2

    def _epilogue(self, kept: bytes, at: int) -> int:
        if kept[at:].strip(b"\r\n"):
            raise BadRequest("nothing may follow a form's last boundary")
        return -1

    def _head(self, kept: bytes, at: int) -> int:
        found = kept.find(b"\r\n\r\n", at)
        if (len(kept) if found < 0 else found) - at > MAX_PART_HEAD_BYTES:
            raise BadRequest(f"a form part's head is longer than {MAX_PART_HEAD_BYTES} bytes")
        if found < 0:
            return -1
        self._is_model = self._names_model(kept[at:found])
        self._state = _CONTENT
        return found + 4

    def _names_model(self, head: bytes) -> bool:
        fields = [_FIELD.fullmatch(line) for line in head.split(b"\r\n")]
        dispositions = [
            field[2] if field is not None else b""
            for field in fields
            if field is None or field[1].lower() == b"content-disposition"
        ]
        found = _DISPOSITION.fullmatch(dispositions[0]) if len(dispositions) == 1 else None
        names = [] if found is None else _values(found[1], b"name")
        if found is None or len(names) != 1 or b"\\" in names[0]:
            raise BadRequest(
                "expected one content-disposition with one plain name in a part's head"
            )
        if names[0].strip().lower() != b"model":
            return False
        if names[0] != b"model" or _values(found[1], b"filename"):
            raise BadRequest("the form's model must be a plain field", param="model")
        if self.model is not None:
            raise BadRequest("the form has two model fields", param="model")
        return True


def _values(parameters: bytes, name: bytes) -> list[bytes]:
    """Return the values of the parameters called `name`; of the extended notation (`name*`), one
    that fits nowhere.
    """
    return [
        b"\\" if star else quoted or plain
        for found, star, quoted, plain in _PARAMETERS.findall(parameters)
        if found.lower() == name
    ]
