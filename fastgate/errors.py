"""Every way in which a request can fail, with what each carries.

`public` is what a client may read; `detail` goes to the log only and never holds keys, prompts or
bodies. Whether to try again is not said here: `gateway/decide.py` decides it from the facts of the
attempt. The error object is LiteLLM's (its 1.83 texts): `{"error": {"message", "type", "param",
"code"}}`, where `code` is the HTTP status as a string.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "BadRequest",
    "BudgetExceeded",
    "ConfigError",
    "Fault",
    "GatewayError",
    "Internal",
    "LimitExceeded",
    "ModelDenied",
    "NotFound",
    "RequestTimeout",
    "TooLarge",
    "Unavailable",
    "UpstreamBroken",
    "UpstreamTimeout",
]


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

    status = 500
    type = "internal_server_error"
    kind = "internal"
    """For metrics and the log."""
    source = "internal"
    """downstream | upstream | internal"""

    def __init__(
        self,
        public: str,
        *,
        status: int = 0,
        type: str = "",
        param: str | None = "None",
        detail: str = "",
        fields: bytes = b"",
    ) -> None:
        super().__init__(public)
        self.public = public
        if status:
            self.status = status
        if type:
            self.type = type
        self.param = param
        self.detail = detail
        self.fields = fields
        """Header lines to send along, each ending in CRLF."""


class BadRequest(GatewayError):
    status, type, kind, source = 400, "invalid_request_error", "bad_request", "downstream"


class TooLarge(GatewayError):
    status, type, kind, source = 413, "invalid_request_error", "too_large", "downstream"


class RequestTimeout(GatewayError):
    status, type, kind, source = 408, "invalid_request_error", "request_timeout", "downstream"


class NotFound(GatewayError):
    status, type, kind, source = 404, "not_found_error", "not_found", "downstream"


class AuthenticationError(GatewayError):
    status, type, kind, source = 401, "auth_error", "auth", "downstream"


class ModelDenied(GatewayError):
    status, type, kind, source = 401, "key_model_access_denied", "model_denied", "downstream"


class LimitExceeded(GatewayError):
    status, type, kind, source = 429, "throttling_error", "limited", "downstream"


class BudgetExceeded(GatewayError):
    status, type, kind, source = 400, "budget_exceeded", "budget", "downstream"


class Unavailable(GatewayError):
    """No deployment can take the request now."""

    status, type, kind, source = 503, "service_unavailable_error", "unavailable", "upstream"


class UpstreamBroken(GatewayError):
    """What came from upstream is no answer, or only a part of one."""

    status, type, kind, source = 502, "api_connection_error", "upstream_broken", "upstream"


class UpstreamTimeout(GatewayError):
    status, type, kind, source = 504, "timeout_error", "upstream_timeout", "upstream"


class Internal(GatewayError):
    """Our own fault."""
