"""The configuration as one frozen tree: every option once, units parsed, secrets as bytes.

`load.py` builds it from LiteLLM's config.yaml; `snapshot.py` compiles it into what a worker looks
things up in. The tree travels between processes as msgpack, so it holds plain values only. Names
end in their unit: `_s` seconds, `_bytes` bytes. 0 means "no limit" only where said. The strings
under the fields are the text of docs/configuration.md.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

__all__ = [
    "Alias",
    "Budget",
    "Config",
    "Deployment",
    "Limits",
    "Log",
    "PriceEntry",
    "Router",
    "Server",
    "Spend",
    "Upstream",
    "VirtualKey",
]

# What values an option may have stands in its type; `0` is in range only where it means something.
Count = Annotated[int, msgspec.Meta(ge=0)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Size = Annotated[int, msgspec.Meta(gt=0)]
Time = Annotated[float, msgspec.Meta(gt=0)]
Grace = Annotated[float, msgspec.Meta(ge=0)]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and who may manage."""

    host: str = "127.0.0.1"
    """An IPv4 or IPv6 address, or a name for one."""
    port: Port = 4000
    """0: any free one."""
    unix_socket: str = ""
    """Listen here as well; empty: no."""
    workers: Count = 0
    """0: one per core."""
    tls_cert_file: str = ""
    """PEM; empty: plain HTTP."""
    tls_key_file: str = ""
    """PEM; empty: the key stands in the certificate's file."""
    master_key_hash: str = ""
    """SHA-256 hex of the master key. Empty: none, which only a loopback address may have; where
    there are no virtual keys either, every caller is admin."""
    key_header: str = ""
    """A field that is looked at for a key before all others; lower case."""

    def __repr__(self) -> str:
        # The hash of a weak master key can be guessed from.
        return f"Server(host={self.host!r}, port={self.port})"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may take. The numbers and their origin: docs/threat-model.md."""

    head_timeout_s: Time = 10.0
    """For the whole request head, not between reads."""
    body_idle_timeout_s: Time = 30.0
    """Between two reads of a request body."""
    body_timeout_s: Time = 300.0
    """For the whole request body."""
    keepalive_timeout_s: Time = 75.0
    """Between two requests of a connection."""
    send_timeout_s: Time = 60.0
    """A client that takes no byte for so long is cut off."""
    max_head_bytes: Size = 32 * 1024
    """Request line and fields; above: 431."""
    max_target_bytes: Size = 16 * 1024
    """Path and query; above: 414."""
    max_body_bytes: Size = 32 * 1024 * 1024
    """JSON bodies, held in memory; above: 413."""
    max_upload_bytes: Size = 100 * 1024 * 1024
    """Multipart bodies: streamed, so this bounds traffic, not memory."""
    max_form_bytes: Size = 1024 * 1024
    """Of a multipart body, what may be buffered until the model field is found."""
    max_connections: Count = 0
    """A worker's downstream connections; 0: 60 % of RLIMIT_NOFILE."""
    high_water_bytes: Size = 64 * 1024
    """With more than this unsent, nothing more is read from the other side."""
    low_water_bytes: Size = 16 * 1024
    """With less than this unsent, reading goes on."""
    drain_grace_s: Grace = 600.0
    """What running requests get after SIGTERM."""
    hasten_grace_s: Grace = 5.0
    """After a second SIGTERM."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """Pools and timeouts towards engines; a deployment's own values win."""

    connect_timeout_s: Time = 5.0
    """TLS included."""
    idle_timeout_s: Time = 4.0
    """Below the 5 s after which vLLM and SGLang close idle connections."""
    max_age_s: Time = 600.0
    """After so long a connection is not used for another request."""
    max_connections: Size = 1024
    """Per origin and worker."""
    max_waiting: Count = 1024
    """Requests that may wait for a connection, per origin and worker."""
    max_wait_s: Time = 10.0
    """How long they may wait."""
    dns_ttl_s: Time = 30.0
    """How long an address is used before the name is looked up again."""
    timeout_s: Time = 600.0
    """To the first byte of an answer that is not streamed."""
    stream_timeout_s: Time = 120.0
    """To the first event of a stream."""
    stall_timeout_s: Time = 120.0
    """Between bytes of an answer."""
    ping_timeout_s: Time = 600.0
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
    access_groups: list[str] = []
    """`model_info.access_groups`: names that stand for this group in a key's `models`."""
    base_model: str = ""
    """`base_model`: whose published price holds, where `model` is a name of one's own."""
    prices: dict[str, Decimal] = {}
    """Price fields of `litellm_params` and `model_info`, by their names there."""
    stored: bool = False
    """It comes from the database, not from the file."""
    rates: bytes = b""
    """What its `model` costs by the configuration, compiled (`_core.cost.Rates`); empty: that does
    not say."""

    def __repr__(self) -> str:
        # `auth_value` and `headers` hold secrets, and a repr ends up in logs.
        return f"Deployment(id={self.id!r}, group={self.group!r}, api_base={self.api_base!r})"


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """`model_group_alias`: another name of a group."""

    group: str
    hidden: bool = False
    """Not listed under /v1/models."""


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """Choice among deployments, retries, fallbacks, cooldown: LiteLLM's names and defaults."""

    routing_strategy: Literal["simple-shuffle", "least-busy"] = "simple-shuffle"
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


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent in one window of one scope."""

    kind: str
    """key | team | team_member | user | customer | organization | tag | key_model | provider |
    global"""
    id: str
    """Of a member `TEAM/USER`, of a key's model `HASH/MODEL`; empty: global."""
    duration: str = ""
    """Empty: the window whose balance stands in the scope's own row."""
    cap_nano_usd: int = -1
    """-1: none, only a soft one."""
    soft_nano_usd: int = -1
    spent_nano_usd: int = 0
    """In the present window, as far as it is in the store."""
    resets_unix_s: float = 0.0
    """0: never."""
    model: str = ""
    """The model group that it is for; empty: all."""


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is written where. Never keys, never prompts."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe event that is written."""
    access_log: str = "stdout"
    """`stdout`, `off`, or the path of a file."""


class PriceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs from a moment on; wins over a deployment's own fields."""

    model: str
    """The model's name upstream, or a pattern with one `*`."""
    provider: str = ""
    """Empty: any."""
    deployment: str = ""
    """Id of the only one that it holds for; empty: any."""
    since_us: int = -1
    """Unix time; -1: ever."""
    fields: dict[str, Decimal]


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """How requests are put on record (docs/spend.md)."""

    journal_full: Literal["refuse", "allow"] = "refuse"
    """When the disk has no room for the journal: refuse requests, or let them go unrecorded."""
    segment_bytes: Annotated[int, msgspec.Meta(ge=1 << 16, le=1 << 31)] = 16 * 1024 * 1024
    """Of a file of the journal; a worker has two. Counts from the next start of a worker."""
    keep_days: Count = 0
    """Rows of older requests are deleted, by whole days; the daily sums stay. 0: never."""
    database_url: str = ""
    """Where $DATABASE_URL does not say; empty: an SQLite file in $FASTGATE_HOME."""

    def __repr__(self) -> str:
        # The address may hold a password.
        return f"Spend(journal_full={self.journal_full!r}, keep_days={self.keep_days})"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it."""

    server: Server = Server()
    limits: Limits = Limits()
    upstream: Upstream = Upstream()
    router: Router = Router()
    log: Log = Log()
    deployments: list[Deployment] = []
    keys: list[VirtualKey] = []
    spend: Spend = Spend()
    budgets: list[Budget] = []
    """Of all of the gateway, and of providers."""
    prices: list[PriceEntry] = []
    allowed_ips: list[str] = []
    """Networks that keys are accepted from; empty: any."""
    drop_params: bool = False
