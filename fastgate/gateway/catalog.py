"""What a worker makes of a Snapshot: for each deployment its pool, ready-made bytes and counters.

A `Catalog` belongs to one Snapshot and is dropped with it; pools, shared-memory entries and
counters are found again by origin, id and labels, so that a reload closes no connection and forgets
no cooldown.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from fastgate._core.cost import Rates
from fastgate._core.http1 import NameSet
from fastgate.gateway.estimate import Estimate
from fastgate.upstream.origin import Origin

if TYPE_CHECKING:
    from fastgate.config.schema import Deployment
    from fastgate.config.snapshot import Snapshot

__all__ = ["Catalog", "Choice", "Plan", "Target"]

# Plans are made when a model is first asked for, and names that lead nowhere leave nothing behind.
# Wildcards make their number unbounded, hence a cap; past it they are made anew each time.
_MAX_PLANS = 4096


# What of a client's head is passed on. Everything else stays here: keys, cookies, addresses, and
# whatever an engine might obey.
END_TO_END = (
    b"accept",
    b"anthropic-beta",
    b"anthropic-version",
    b"openai-beta",
    b"traceparent",
    b"tracestate",
    b"user-agent",
)


class Target:
    """One deployment, ready to be called."""

    def __init__(self, deployment: Deployment, pool: Any) -> None:
        self.deployment = deployment
        self.id = deployment.id
        self.protocol = deployment.protocol
        self.order = deployment.order
        self.pool = pool
        self.fields = (
            f"x-fastgate-deployment: {deployment.id}\r\n"
            f"x-litellm-model-id: {deployment.id}\r\n"
            f"x-litellm-model-api-base: {deployment.api_base}\r\n"
        ).encode()
        """Response header lines."""
        ours = {name.lower().encode() for name in deployment.headers}
        passed = [name for name in END_TO_END if name not in ours]
        self.allowed = NameSet(passed)
        """Of the client's fields, those passed on; what the configuration sets wins."""
        self.allowed_form = NameSet([*passed, b"content-type"])
        self.entry = -1
        """In the shared DeploymentTable."""
        self.limited = deployment.rpm >= 0 or deployment.tpm >= 0 or deployment.max_parallel >= 0
        self.limit_key = key_of("deployment", deployment.id)
        self.limit_entry = -1
        self.weight = 1.0
        self.timeout_ns = 0
        self.stream_timeout_ns = 0
        self.cooldown_ns = 0
        self.retries = 0
        self.prefixes: dict[str, bytes] = {}
        """Request line and our own fields, by endpoint suffix."""
        self.counters: dict[Any, Any] = {}
        self.ttft: Any = None
        self.upstream_time: Any = None
        self.active: Any = None
        """Gauges of its pool's connections; deployments with one origin show the same ones."""
        self.idle: Any = None

    def prefix(self, suffix: str) -> bytes:
        """Return the request line and the fields that are the same for every request to
        `suffix`.
        """
        found = self.prefixes.get(suffix)
        if found is None:
            found = self.prefixes[suffix] = _prefix(self.deployment, suffix)
        return found


class Choice:
    """A target, and the model name to send it."""

    def __init__(self, target: Target, model: str) -> None:
        self.target = target
        self.model = model
        data = target.deployment.rates if target.deployment.model == model else b""
        self.rates = Rates(data) if data else None
        """What the model costs there; None: unknown."""


class Plan:
    """Where requests for one model name can go."""

    def __init__(self, model: str, group: str, choices: list[Choice]) -> None:
        self.model = model
        self.group = group
        self.label = group
        """For metrics: the configured name, so that what clients send makes no new series."""
        self.choices = choices
        self.fallbacks: list[str] = []
        self.estimate = Estimate()
        self.input_tokens: Any = None
        self.output_tokens: Any = None
        self.durations: dict[str, Any] = {}

    def most_nano(self, wall_us: int, prompt: int, completion: int, n: int) -> int:
        """Return the most that a request can cost at its dearest deployment; -1: nobody knows."""
        most = -1
        for choice in self.choices:
            rates = choice.rates
            if rates is not None:
                most = max(most, rates.most_nano(wall_us, prompt, completion, n))
        return most


class Catalog:
    """The targets and plans of one Snapshot."""

    def __init__(self, snapshot: Snapshot, worker: Any) -> None:
        self.snapshot = snapshot
        self.worker = worker
        self.targets: dict[str, Target] = {}
        self.key_header = snapshot.key_header
        self.plans: dict[str, Plan] = {}
        config = snapshot.config
        for deployment in config.deployments:
            self.targets[deployment.id] = self._target(deployment, config)

    def plan(self, model: str) -> Plan | None:
        """Return where `model` can go; None: nowhere."""
        known: Plan | None = self.plans.get(model)
        if known is not None:
            return known
        plan = self._make(model)
        if plan is not None and len(self.plans) < _MAX_PLANS:
            self.plans[model] = plan
        return plan

    def _make(self, model: str) -> Plan | None:
        route = self.snapshot.resolve(model)
        if route is None:
            return None
        choices = [
            Choice(self.targets[deployment.id], upstream_model)
            for deployment, upstream_model in route.deployments
        ]
        for choice in choices:
            if choice.rates is None:
                self.worker.rates.ask(choice)
        for choice, weight in zip(choices, _weights(choices), strict=True):
            choice.target.weight = weight
        plan = Plan(model, route.group, choices)
        plan.fallbacks = self.snapshot.fallbacks_of(model)
        metrics = self.worker.metrics
        plan.input_tokens = metrics.counter("fastgate_tokens_total", model=plan.label, kind="input")
        plan.output_tokens = metrics.counter(
            "fastgate_tokens_total", model=plan.label, kind="output"
        )
        return plan

    def _target(self, deployment: Deployment, config: Any) -> Target:
        worker = self.worker
        target = Target(deployment, worker.pool_of(origin_of(deployment)))
        now_ns = worker.now_ns()
        target.entry = worker.memory.deployments.entry(target.limit_key, now_ns)
        upstream, router = config.upstream, config.router
        target.timeout_ns = int((deployment.timeout_s or upstream.timeout_s) * 1e9)
        target.stream_timeout_ns = int(
            (deployment.stream_timeout_s or deployment.timeout_s or upstream.stream_timeout_s) * 1e9
        )
        cooldown_s = deployment.cooldown_time_s
        target.cooldown_ns = int((cooldown_s if cooldown_s >= 0 else router.cooldown_time_s) * 1e9)
        retries = deployment.max_retries
        target.retries = retries if retries >= 0 else router.num_retries
        metrics = worker.metrics
        target.ttft = metrics.histogram(
            "fastgate_ttft_seconds", model=deployment.group, deployment=deployment.id
        )
        target.upstream_time = metrics.histogram(
            "fastgate_upstream_seconds", deployment=deployment.id
        )
        connections = "fastgate_upstream_connections"
        target.active = metrics.gauge(connections, deployment=deployment.id, state="active")
        target.idle = metrics.gauge(connections, deployment=deployment.id, state="idle")
        return target


def key_of(kind: str, name: str) -> int:
    """Return the 64-bit key of something with limits, the same in every worker and after every
    restart.
    """
    digest = hashlib.blake2b(f"{kind}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def origin_of(deployment: Deployment) -> Origin:
    return Origin(
        deployment.scheme,
        deployment.host,
        deployment.port,
        deployment.unix_socket,
        deployment.ca_file,
        deployment.tls_verify,
        deployment.server_name,
    )


def _prefix(deployment: Deployment, suffix: str) -> bytes:
    default_port = 443 if deployment.scheme == "https" else 80
    host = f"[{deployment.host}]" if ":" in deployment.host else deployment.host
    if deployment.port != default_port and not deployment.unix_socket:
        host = f"{host}:{deployment.port}"
    lines = [
        f"POST {deployment.base_path}{suffix} HTTP/1.1\r\nhost: {host}\r\n".encode("ascii"),
        # Compressed events could not be looked at as they pass.
        b"accept-encoding: identity\r\n",
    ]
    if deployment.auth_value:
        lines.append(deployment.auth_header.encode() + b": " + deployment.auth_value + b"\r\n")
    for name, value in deployment.headers.items():
        lines.append(f"{name}: {value}\r\n".encode("latin-1"))
    return b"".join(lines)


def _weights(choices: list[Choice]) -> list[float]:
    """LiteLLM's simple-shuffle: by weight if any deployment has one, else rpm, else tpm, else all
    alike.
    """
    deployments = [choice.target.deployment for choice in choices]
    for name in ("weight", "rpm", "tpm"):
        values = [max(0.0, float(getattr(deployment, name))) for deployment in deployments]
        if any(values):
            return values
    return [1.0] * len(deployments)
