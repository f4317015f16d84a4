"""Stage `endpoint`: method and path -> what is asked for.

The common paths are one dict look-up. Only `/engines/{model}/x` and
`/openai/deployments/{model}/x`, whose model name stands in the path, are taken apart; every
spelling of a path that is not listed here is 404, so that authorisation can't be walked round by
another spelling (`//v1`, `/%761/`).
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

__all__ = ["CONTROL", "FORM", "JSON", "LOCAL", "MANAGEMENT", "Endpoint", "Match", "match"]

JSON = 0
"""A JSON body is peeked at and forwarded."""
FORM = 1
"""A multipart body is streamed; the model is one of its fields."""
LOCAL = 2
"""Answered by the worker itself."""
CONTROL = 3
"""Relayed to the control process."""


class Endpoint:
    """One thing that can be asked for, whatever path led to it."""

    def __init__(
        self,
        name: str,
        suffix: str = "",
        *,
        method: bytes = b"POST",
        kind: int = JSON,
        protocol: str = "openai",
        public: bool = False,
        injects_usage: bool = False,
        call_type: str = "",
        makes_images: bool = False,
        metered: bool = False,
        generates: bool = False,
    ) -> None:
        self.name = name
        self.suffix = suffix
        """Appended to a deployment's base path."""
        self.method = method
        """Empty: any."""
        self.kind = kind
        self.protocol = protocol
        """The wire format a deployment must speak to be asked for this."""
        self.public = public
        """Needs no key."""
        self.injects_usage = injects_usage
        """Knows `stream_options.include_usage`."""
        self.call_type = call_type
        """LiteLLM's name for it, in rows of the spend log."""
        self.makes_images = makes_images
        """`n` of them, which may have a price by piece."""
        self.metered = metered or generates
        """Tokens are what it costs: where an answer does not say how many, they are estimated."""
        self.generates = generates
        """There are tokens in its answers, too."""

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"


class Match:
    """What a path led to."""

    def __init__(self, endpoint: Endpoint, model: str | None = None) -> None:
        self.endpoint = endpoint
        self.model = model
        """The model named in the path."""


_FORWARDED = (
    Endpoint(
        "chat/completions",
        "/chat/completions",
        injects_usage=True,
        call_type="acompletion",
        generates=True,
    ),
    Endpoint(
        "completions",
        "/completions",
        injects_usage=True,
        call_type="atext_completion",
        generates=True,
    ),
    Endpoint("embeddings", "/embeddings", call_type="aembedding", metered=True),
    Endpoint("responses", "/responses", call_type="aresponses", generates=True),
    Endpoint(
        "messages",
        "/messages",
        protocol="anthropic",
        call_type="anthropic_messages",
        generates=True,
    ),
    Endpoint("moderations", "/moderations", call_type="amoderation"),
    Endpoint("rerank", "/rerank", call_type="arerank"),
    Endpoint(
        "images/generations",
        "/images/generations",
        call_type="aimage_generation",
        makes_images=True,
    ),
    Endpoint("audio/speech", "/audio/speech", call_type="aspeech"),
    Endpoint(
        "audio/transcriptions", "/audio/transcriptions", kind=FORM, call_type="atranscription"
    ),
)
_BY_NAME = {endpoint.name.encode(): endpoint for endpoint in _FORWARDED}

_MODELS = Endpoint("models", method=b"GET", kind=LOCAL)
_MODEL = Endpoint("model", method=b"GET", kind=LOCAL)
_INDEX = Endpoint("index", method=b"GET", kind=LOCAL, public=True)
_LIVE = Endpoint("live", method=b"GET", kind=LOCAL, public=True)
_READY = Endpoint("ready", method=b"GET", kind=LOCAL, public=True)
_HEALTH = Endpoint("health", method=b"GET", kind=CONTROL)
_STATUS = Endpoint("status", method=b"GET", kind=CONTROL)
_METRICS = Endpoint("metrics", method=b"GET", kind=CONTROL, public=True)
_OPENAPI = Endpoint("openapi", method=b"GET", kind=CONTROL, public=True)
MANAGEMENT = Endpoint("management", method=b"", kind=CONTROL)
"""Control knows its routes, their methods and who may ask them."""

_BY_PATH: dict[bytes, Match] = {
    b"/": Match(_INDEX),
    b"/v1/models": Match(_MODELS),
    b"/models": Match(_MODELS),
    b"/health/liveliness": Match(_LIVE),
    b"/health/liveness": Match(_LIVE),
    b"/health/readiness": Match(_READY),
    b"/health": Match(_HEALTH),
    b"/fastgate/status": Match(_STATUS),
    b"/metrics": Match(_METRICS),
    b"/openapi.json": Match(_OPENAPI),
}
for _name, _endpoint in _BY_NAME.items():
    _BY_PATH[b"/v1/" + _name] = Match(_endpoint)
    _BY_PATH[b"/" + _name] = Match(_endpoint)

_MODEL_PREFIXES = (b"/v1/models/", b"/models/")
_DEPLOYMENT_PREFIXES = (b"/engines/", b"/openai/deployments/")
# No dots and no escapes: what control reads is what was looked at here.
_MANAGED = re.compile(
    rb"(?:/v[12])?/(?:budget|customer|end_user|global|key|model|model_group|organization|spend|tag|"
    rb"team|user|utils)(?:/[A-Za-z0-9_-]{1,256}){1,4}\Z"
)


def match(path: bytes) -> Match | None:
    """Return what `path` (no query) asks for; None: nothing that we know."""
    found: Match | None = _BY_PATH.get(path)
    if found is not None:
        return found
    for prefix in _MODEL_PREFIXES:
        if path.startswith(prefix):
            return _named(_MODEL, path[len(prefix) :])
    for prefix in _DEPLOYMENT_PREFIXES:
        if path.startswith(prefix):
            return _deployment(path[len(prefix) :])
    return Match(MANAGEMENT) if _MANAGED.match(path) else None


def _deployment(rest: bytes) -> Match | None:
    # A model name may hold slashes (`meta/llama-3`), raw or escaped: the endpoint's name is the end
    # of the path.
    for name, endpoint in _BY_NAME.items():
        if rest.endswith(b"/" + name):
            # `/chat/completions` also ends in `/completions`: the longest name decides, and stands
            # first.
            return _named(endpoint, rest[: -len(name) - 1])
    return None


def _named(endpoint: Endpoint, raw: bytes) -> Match | None:
    try:
        model = unquote_to_bytes(raw).decode("ascii")
    except UnicodeDecodeError:
        return None
    return Match(endpoint, model) if model else None
