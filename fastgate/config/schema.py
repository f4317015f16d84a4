"""The configuration as one frozen tree: every option once, units parsed, secrets as bytes.

`load.py` builds it from LiteLLM's config.yaml; `snapshot.py` compiles it into what a worker looks
things up in. The tree travels between processes as msgpack (msgspec), so it holds plain values only.
Names end in their unit: `_s` seconds, `_bytes` bytes. 0 means "no limit" only where said.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "Alias",
    "Config",
    "Deployment",
    "Limits",
    "Log",
    "Router",
    "Server",
    "Upstream",
    "VirtualKey",
]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and who may manage."""

    host: str = "127.0.0.1"
    port: int = 4000
    unix_socket: str = ""
    """Listen here as well; empty: no."""
    workers: int = 0
    """0: one per core."""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    master_key_hash: str = ""
    """SHA-256 hex of the master key; empty: none (loopback only, and then every caller is admin)."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may take. The numbers and their origin: docs/threat-model.md."""

    head_timeout_s: float = 10.0
    """For the whole request head, not between reads."""
    body_idle_timeout_s: float = 30.0
    body_timeout_s: float = 300.0
    keepalive_timeout_s: float = 75.0
    send_timeout_s: float = 60.0
    """A client that takes no byte for so long is cut off."""
    max_head_bytes: int = 32 * 1024
    max_target_bytes: int = 16 * 1024
    max_body_bytes: int = 32 * 1024 * 1024
    max_upload_bytes: int = 100 * 1024 * 1024
    """Multipart bodies: streamed, so this bounds traffic, not memory."""
    max_form_bytes: int = 1024 * 1024
    """Of a multipart body, what may be buffered until the model field is found."""
    max_connections: int = 0
    """A worker's downstream connections; 0: 60 % of RLIMIT_NOFILE."""
    high_water_bytes: int = 64 * 1024
    low_water_bytes: int = 16 * 1024
    drain_grace_s: float = 600.0
    hasten_grace_s: float = 5.0
    """After a second SIGTERM."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Pools and timeouts towards engines; a deployment's own values win."""

    connect_timeout_s: float = 5.0
    """TLS included."""
    idle_timeout_s: float = 4.0
    """Below the 5 s after which vLLM and SGLang close idle connections."""
    max_age_s: float = 600.0
    max_connections: int = 1024
    """Per origin and worker."""
    max_waiting: int = 1024
    """Requests that may wait for a connection, per origin and worker."""
    max_wait_s: float = 10.0
    dns_ttl_s: float = 30.0
    timeout_s: float = 600.0
    """To the first byte of an answer that is not streamed."""
    stream_timeout_s: float = 120.0
    """To the first event of a stream."""
    stall_timeout_s: float = 120.0
    """Between bytes of an answer."""
    ping_timeout_s: float = 600.0
    """A stream of nothing but comments is cut after so long."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One callable (provider, model id, key, region)."""

    id: str
    """`model_info.id`, else a hash of the parameters."""
    group: str
    """`model_name`; may be a pattern with one `*`."""
    provider: str
    protocol: str = "openai"
    """The wire format spoken upstream: openai | anthropic."""
    model: str
    """The model name sent upstream; `*` is replaced by what the group's `*` matched."""
    scheme: str = "http"
    host: str
    port: int
    unix_socket: str = ""
    base_path: str = ""
    """No slash at the end; the endpoint's suffix is appended."""
    api_base: str
    """As shown to clients: no user info, no query."""
    auth_header: str = "authorization"
    auth_value: bytes = b""
    """The whole field value (`Bearer ...`); empty: no such field."""
    headers: dict[str, str] = {}
    """`extra_headers`, checked for CR, LF and NUL."""
    ca_file: str = ""
    tls_verify: bool = True
    server_name: str = ""
    """SNI and certificate name, when not the host."""
    weight: float = 0.0
    rpm: int = -1
    tpm: int = -1
    max_parallel: int = -1
    order: int = 0
    timeout_s: float = 0.0
    """This and the next: 0 means as under `Upstream`."""
    stream_timeout_s: float = 0.0
    max_retries: int = -1
    """-1: as the router says."""
    cooldown_time_s: float = -1.0
    """-1: as the router says."""
    mode: str = ""
    """`model_info.mode`, for /v1/models and /health."""


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """`model_group_alias`: another name of a group."""

    group: str
    hidden: bool = False
    """Not listed under /v1/models."""


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """Choice among deployments, retries, fallbacks, cooldown: LiteLLM's names and defaults."""

    routing_strategy: str = "simple-shuffle"
    """simple-shuffle | least-busy"""
    num_retries: int = 2
    retry_after_s: float = 0.0
    """Least wait before a retry on the same deployment."""
    fallbacks: dict[str, list[str]] = {}
    default_fallbacks: list[str] = []
    max_fallbacks: int = 5
    cooldown_time_s: float = 5.0
    allowed_fails: int = -1
    """-1: LiteLLM's default rule (share of failures); else failures a minute before a cooldown."""
    disable_cooldowns: bool = False
    aliases: dict[str, Alias] = {}


class VirtualKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that we issue, known by its SHA-256."""

    key_hash: str
    """Hex."""
    alias: str = ""
    team: str = ""
    models: list[str] = []
    """Groups, or patterns with `*`; empty or `all-proxy-models`: all."""
    rpm: int = -1
    tpm: int = -1
    max_parallel: int = -1


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is written where. Never keys, never prompts."""

    level: str = "info"
    access_log: str = "stdout"
    """stdout | off | a path"""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it."""

    server: Server = Server()
    limits: Limits = Limits()
    upstream: Upstream = Upstream()
    router: Router = Router()
    log: Log = Log()
    deployments: list[Deployment] = []
    keys: list[VirtualKey] = []
    drop_params: bool = False
