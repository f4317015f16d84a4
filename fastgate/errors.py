"""Every way in which a request can fail, with what each carries.

`retry` is what forwarding decides on: `never`, `if_reused` (the peer closed a kept-alive connection before
any response byte: once more on a fresh one) or `next_deployment`. `public` is what a client may read; `detail`
goes to the log only and never holds keys, prompts or bodies. `code`, `type` and `param` are those of LiteLLM's
error object: `{"error": {"message", "type", "param", "code"}}`, where `code` is the HTTP status as a string.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["ConfigError", "Fault", "GatewayError"]


class Fault:
    """One thing wrong with a configuration: where, and what was expected."""

    __slots__ = ("message", "path")

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        self.message = message

    def __repr__(self) -> str:
        return f"{self.path}: {self.message}"


class ConfigError(Exception):
    """The configuration can't be used; `faults` lists everything that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(repr, faults)))
        self.faults = faults


class GatewayError(Exception):
    """A request can't be served. Subclasses give the kind; instances the words."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_server_error"
    source: ClassVar[str] = "internal"
    retry: ClassVar[str] = "never"

    def __init__(self, public: str, *, param: str | None = None, detail: str = "") -> None:
        super().__init__(public)
        self.public = public
        self.param = param
        self.detail = detail
