"""A multipart/form-data body looked at as it passes (RFC 7578): where its `model` stands.

Sans-IO and bounded: it keeps at most one boundary's length and one part's head of what it is fed.
Strict where parsers differ: one `model` field, a quoted or plain name, no `name*`, no file as the
model.
"""

from __future__ import annotations

import re

from fastgate.errors import BadRequest

__all__ = ["FormScan", "boundary_of"]

# RFC 2046 5.1.1: at most 70 characters.
_BOUNDARY = re.compile(
    rb'multipart/form-data\s*;(?:[^;"]*;)*?\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))\s*(?:;|\Z)',
    re.I,
)
_DISPOSITION = re.compile(rb"content-disposition[ \t]*:[ \t]*form-data[ \t]*;(.*)\Z", re.I)
_NAME = re.compile(rb'(?:\A|[;\s])(name|filename)(\*?)=(?:"([^"\r\n]*)"|([^\s";]+))', re.I)

MAX_PART_HEAD_BYTES = 4096
MAX_MODEL_BYTES = 256

_PREAMBLE, _HEAD, _CONTENT, _END = range(4)


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary that a Content-Type names. Raises BadRequest."""
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise BadRequest(
            "expected content-type multipart/form-data with a boundary of 1 to 70 characters"
        )
    return found[1] or found[2]


class FormScan:
    """Feed it the body from the start; `model` is set when the field has been seen whole."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first boundary has no line break before it: pretend that it had.
        self._kept = b"\r\n"
        self._kept_at = -2
        """Offset in the body of the first byte kept."""
        self._state = _PREAMBLE
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
                next_at = -1
                at = len(kept)
            else:
                next_at = self._to_delimiter(kept, at)
            if next_at < 0:
                break
            at = next_at
        # What can't be a part of a delimiter (or of a head) any more is not needed.
        if self._state == _CONTENT and self._is_model:
            keep_from = at
            if len(kept) - at > MAX_MODEL_BYTES + len(self._delimiter):
                raise BadRequest(f"the form's model field is longer than {MAX_MODEL_BYTES} bytes")
        elif self._state in (_PREAMBLE, _CONTENT):
            keep_from = max(at, len(kept) - len(self._delimiter) - 1)
        else:
            keep_from = at
        self._kept_at += keep_from
        self._kept = kept[keep_from:]

    def _to_delimiter(self, kept: bytes, at: int) -> int:
        found = kept.find(self._delimiter, at)
        if found < 0:
            return -1
        behind = found + len(self._delimiter)
        if len(kept) < behind + 2:
            return -1
        if self._is_model:
            self.model = kept[at:found]
            self.model_start = self._kept_at + at
            self._is_model = False
        mark = kept[behind : behind + 2]
        if mark == b"--":
            self._state = _END
            self.ended = True
            return behind + 2
        if mark != b"\r\n":
            if kept[behind : behind + 1] in b" \t":
                raise BadRequest("white space behind a form's boundary is not taken")
            # A longer string that only starts like the boundary.
            return behind
        self._state = _HEAD
        return behind + 2

    def _head(self, kept: bytes, at: int) -> int:
        found = kept.find(b"\r\n\r\n", at)
        if found < 0:
            if len(kept) - at > MAX_PART_HEAD_BYTES:
                raise BadRequest(f"a form part's head is longer than {MAX_PART_HEAD_BYTES} bytes")
            return -1
        self._is_model = self._names_model(kept[at:found])
        self._state = _CONTENT
        return found + 4

    def _names_model(self, head: bytes) -> bool:
        for line in head.split(b"\r\n"):
            disposition = _DISPOSITION.match(line)
            if disposition is None:
                continue
            names = _NAME.findall(disposition[1])
            is_model = any(
                name.lower() == b"name" and (quoted or plain).lower() == b"model"
                for name, _, quoted, plain in names
            )
            if any(star for _, star, _, _ in names if star and _.lower() == b"name"):
                raise BadRequest("a form part's name must not be in the extended notation (name*)")
            if not is_model:
                return False
            if len(names) != 1:
                raise BadRequest("the form's model must be a plain field", param="model")
            if self.model is not None:
                raise BadRequest("the form has two model fields", param="model")
            return True
        return False
