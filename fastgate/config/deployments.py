"""`model_list`: one entry, one Deployment."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, NamedTuple

from msgspec import structs

from fastgate.config import ignored, prices, values
from fastgate.config.reader import Option, Reader, Spot, at_least, plain
from fastgate.config.schema import Deployment
from fastgate.config.values import Address
from fastgate.providers.registry import Provider, Untranslated, registry

__all__ = ["ENTRY", "MODEL_INFO", "PARAMETERS", "ModelList", "read_model_list", "ssl_verify"]

ID_CHARS = 16
"""64 bits of the hash: among 10,000 deployments two are alike with a chance of 3e-12."""

# What forwarding writes itself, and hop-by-hop fields (RFC 9110 7.6.1).
_OWN_FIELDS = frozenset(
    [
        *("accept-encoding", "connection", "content-length", "content-type", "expect", "host"),
        *("keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "x-request-id"),
    ]
)


def extra_headers(value: Any, spot: Spot) -> dict[str, str]:
    """Return header fields by their names in lower case."""
    found: dict[str, str] = {}
    for name, content in spot.reader.mapping(value, spot).items():
        here = spot.at(name)
        try:
            field = values.field_name(name)
            if field in _OWN_FIELDS:
                here.ignore("this field is always written by fastgate itself")
            elif field in found:
                here.fault("the field is given twice")
            else:
                found[field] = values.field_value(content)
        except ValueError as error:
            here.fault(str(error))
    return found


def ssl_verify(value: Any, spot: Spot) -> tuple[bool, str]:
    """Return whether to verify, and the CA file to do it with (empty: the system's)."""
    try:
        return values.boolean(value), ""
    except ValueError:
        path = values.text(value)
    if not os.path.isfile(path):
        raise ValueError("expected true, false or the path of a CA file that exists") from None
    return True, path


def _key(value: Any, spot: Spot) -> str:
    # Secrets mounted from files end in a line break; an empty variable means there is no key.
    if isinstance(value, str) and not value.strip():
        return ""
    return values.field_value(values.text(value))


def _names(value: Any, spot: Spot) -> list[str]:
    return [values.text(each) for each in spot.reader.sequence(value, spot)]


def _id(value: Any, spot: Spot) -> str:
    found = values.text(value)
    if not values.is_identifier(found):
        raise ValueError("expected up to 128 of letters, digits and . _ : / @ + ~ -")
    return found


def _group(value: Any, spot: Spot) -> str:
    found = values.model_name(value)
    if found.count("*") > 1:
        raise ValueError("expected at most one * in a model name")
    return found


def _model(value: Any, spot: Spot) -> str:
    found = values.field_value(value)
    if found.count("*") > 1:
        raise ValueError("expected at most one *, which stands for what model_name's * matched")
    return found


_COUNT = at_least(0, values.whole)
_SECONDS = at_least(0, values.number)

_PRICE = {
    "base_model": Option(
        plain(values.model_name), "Whose published price holds, if `model` is a name of your own."
    ),
    **prices.PRICE,
}

PARAMETERS = {
    "model": Option(_model, "`provider/model`, or the bare name beside an `api_base`."),
    "api_base": Option(
        plain(values.text),
        "`http(s)://HOST[:PORT][/PATH]` or `unix:/SOCKET[:/PATH]`; default: the provider's own.",
    ),
    "base_url": Option(plain(values.text), "Another word for `api_base`."),
    "api_key": Option(_key, "Sent upstream; default: the provider's environment variable."),
    "custom_llm_provider": Option(plain(values.text), "The provider, when `model` has no prefix."),
    "weight": Option(_SECONDS, "Share of the group's requests, relative to the others'."),
    "rpm": Option(_COUNT, "Most requests in any 60 s; also the weight when none is given."),
    "tpm": Option(_COUNT, "Most tokens in any 60 s; also the weight when there is no rpm."),
    "max_parallel_requests": Option(_COUNT, "Most requests in flight."),
    "order": Option(plain(values.whole), "Deployments with the lowest order are used first."),
    "timeout": Option(_SECONDS, "Seconds to the first byte of an answer."),
    "stream_timeout": Option(_SECONDS, "Seconds to the first event of a stream."),
    "max_retries": Option(_COUNT, "As `num_retries`, for failures of this deployment."),
    "num_retries": Option(_COUNT, "Another word for `max_retries`."),
    "cooldown_time": Option(_SECONDS, "Seconds that the deployment is left alone after failing."),
    "extra_headers": Option(extra_headers, "Header fields to send upstream."),
    "organization": Option(
        plain(values.field_value), "Sent upstream as the field `openai-organization`."
    ),
    "ssl_verify": Option(ssl_verify, "`false`, or the path of a CA file."),
    **_PRICE,
}

MODEL_INFO = {
    "id": Option(_id, "Id of the deployment; default: a hash of its parameters."),
    "mode": Option(plain(values.text), "What it is for: chat, embedding, …"),
    "access_groups": Option(_names, "Names that stand for the group in a key's `models`."),
    **_PRICE,
}


def _parameters(value: Any, spot: Spot) -> dict[str, Any]:
    return spot.reader.read(value, spot, prices.Tiered(PARAMETERS), ignored.parameter)


def _model_info(value: Any, spot: Spot) -> dict[str, Any]:
    return spot.reader.read(value, spot, prices.Tiered(MODEL_INFO), ignored.model_info)


ENTRY = {
    "model_name": Option(_group, "Name of the model group. With one `*`: a pattern."),
    "litellm_params": Option(_parameters, "How the deployment is called.", is_section=True),
    "model_info": Option(_model_info, "What else is known of it.", is_section=True),
}


class ModelList(NamedTuple):
    """What `model_list` says."""

    deployments: list[Deployment]
    left_out: set[str]
    """Groups that have only deployments of providers that are not supported yet."""
    broken: set[str]
    """Groups with a deployment that has a fault: nothing is known of their names."""


def read_model_list(entries: list[Any], spots: list[Spot], verify: tuple[bool, str]) -> ModelList:
    """Read the entries; `verify` is what holds for one without `ssl_verify`."""
    deployments: dict[str, Deployment] = {}
    spot_of: dict[str, Spot] = {}
    left_out: set[str] = set()
    broken: set[str] = set()
    for entry, spot in zip(entries, spots, strict=True):
        if not isinstance(entry, dict):
            spot.fault("expected a mapping")
            continue
        unsupported = _unsupported(entry, spot.reader)
        if unsupported:
            spot.ignore(f"provider {unsupported} is not supported yet, the deployment is left out")
            left_out.add(str(entry.get("model_name")))
            continue
        deployment = _deployment(entry, spot, verify)
        if deployment is None:
            broken.add(str(entry.get("model_name")))
            continue
        first = spot_of.get(deployment.id)
        if first is not None:
            if _given_id(entry):
                spot.at("model_info.id").fault(f"expected another id than that of {first.path}")
                continue
            spot.note(f"the same as {first.path}: it counts twice")
            deployment = structs.replace(deployment, id=_free(deployment.id, spot_of))
        spot_of[deployment.id] = spot
        deployments[deployment.id] = deployment
    served = {deployment.group for deployment in deployments.values()}
    return ModelList(list(deployments.values()), left_out - served, broken)


def _unsupported(entry: dict[str, Any], reader: Reader) -> str:
    """Return the entry's provider if no adapter speaks its wire format, else "".

    This comes before anything else is read: what such an entry lacks is no fault.
    """
    parameters = entry.get("litellm_params")
    if not isinstance(parameters, dict):
        return ""
    model, provider = (reader.peek(parameters.get(key)) for key in ("model", "custom_llm_provider"))
    try:
        registry().identify(model, provider, True)
    except Untranslated as error:
        return str(error)
    except LookupError:
        pass
    return ""


def _deployment(entry: dict[str, Any], spot: Spot, verify: tuple[bool, str]) -> Deployment | None:
    """Return what an entry says; None when something in it is wrong."""
    reader = spot.reader
    faults_before = len(reader.faults)
    read = reader.read(entry, spot, ENTRY, ignored.model_info)
    for key in ("model_name", "litellm_params"):
        if entry.get(key) is None:
            spot.at(key).fault("missing")
    where = spot.at("litellm_params")
    parameters = read.get("litellm_params", {})
    raw = entry.get("litellm_params")
    if isinstance(raw, dict) and raw.get("model") is None:
        where.at("model").fault("missing")
    if len(reader.faults) > faults_before:
        return None
    info = read.get("model_info", {})
    # LiteLLM: where both sections name a price, that of litellm_params counts.
    price = {**prices.given(info), **prices.given(parameters)}
    place = where if prices.given(parameters) else spot.at("model_info")
    prices.checked(price, place, info.get("mode", ""))
    if len(reader.faults) > faults_before:
        return None
    group = read["model_name"]
    if "*" in parameters["model"] and "*" not in group:
        where.at("model").fault("expected no *, since model_name has none for it to stand for")
        return None
    called = _called(parameters, where, verify)
    if called is None:
        return None
    return Deployment(
        id=info.get("id") or _hash(group, entry["litellm_params"]),
        group=group,
        mode=info.get("mode", ""),
        access_groups=info.get("access_groups", []),
        base_model=parameters.get("base_model", info.get("base_model", "")),
        prices=price,
        weight=parameters.get("weight", 0.0),
        rpm=parameters.get("rpm", -1),
        tpm=parameters.get("tpm", -1),
        max_parallel=parameters.get("max_parallel_requests", -1),
        order=parameters.get("order", 0),
        timeout_s=parameters.get("timeout", 0.0),
        stream_timeout_s=parameters.get("stream_timeout", 0.0),
        max_retries=parameters.get("max_retries", parameters.get("num_retries", -1)),
        cooldown_time_s=parameters.get("cooldown_time", -1.0),
        **called,
    )


def _called(
    parameters: dict[str, Any], spot: Spot, verify: tuple[bool, str]
) -> dict[str, Any] | None:
    """Return the fields that say where and how the deployment is called; None after a fault."""
    base_key = "base_url" if "base_url" in parameters else "api_base"
    given = parameters.get("api_base") or parameters.get("base_url") or ""
    try:
        provider, model = registry().identify(
            parameters["model"], parameters.get("custom_llm_provider", ""), bool(given)
        )
    except LookupError as error:
        spot.at("model").fault(str(error.args[0]))
        return None
    configured, base_env = spot.reader.first(provider.base_env)
    base = given or configured or provider.api_base
    if not base:
        wanted = f", or set {' or '.join(provider.base_env)}" if provider.base_env else ""
        spot.at("api_base").fault(
            f"missing: provider {provider.name} has no base of its own{wanted}"
        )
        return None
    try:
        where = values.address(base, provider.append_v1)
    except ValueError as error:
        place = spot.at(base_key) if given else spot.at("api_base")
        place.fault(str(error) if given else f"{error} (in the variable {base_env})")
        return None
    headers = {**provider.headers, **parameters.get("extra_headers", {})}
    if "organization" in parameters:
        headers.setdefault("openai-organization", parameters["organization"])
    key = parameters.get("api_key") or _provider_key(provider, where, bool(given), spot)
    if provider.auth_header in headers:
        # Said outright: two fields of the same name would be an attack, or look like one.
        key = ""
    tls_verify, ca_file = parameters.get("ssl_verify", verify)
    if where.scheme == "https" and not tls_verify:
        spot.note("the certificate of this deployment is not verified")
    return {
        "provider": provider.name,
        "protocol": provider.protocol,
        "model": model,
        **where._asdict(),
        "api_base": str(where),
        "auth_header": provider.auth_header,
        "auth_value": f"{provider.auth_prefix}{key}".encode("ascii") if key else b"",
        "headers": headers,
        "ca_file": ca_file,
        "tls_verify": tls_verify,
    }


def _provider_key(provider: Provider, where: Address, is_given: bool, spot: Spot) -> str:
    """Return the key that the environment has for `provider`, if it may be sent to `where`.

    A vendor's key goes to that vendor: an engine of one's own, called by the vendor's prefix for
    its wire format, must not be sent it unasked.
    """
    key, name = spot.reader.first(provider.key_env)
    if not key:
        return ""
    own = values.address(provider.api_base) if provider.api_base else where
    if is_given and (where.scheme, where.host) != (own.scheme, own.host):
        spot.note(
            f"{name} is not sent to {where.unix_socket or where.host}: if it should be, say "
            f"api_key: os.environ/{name}"
        )
        return ""
    try:
        return str(values.field_value(key))
    except ValueError as error:
        spot.at("api_key").fault(f"{error} (in the variable {name})")
        return ""


def _given_id(entry: dict[str, Any]) -> bool:
    return (entry.get("model_info") or {}).get("id") is not None


def _free(base_id: str, taken: dict[str, Spot]) -> str:
    n = 2
    while f"{base_id}-{n}" in taken:
        n += 1
    return f"{base_id}-{n}"


def _hash(group: str, parameters: dict[str, Any]) -> str:
    # Of what the file says, not of what os.environ/X stands for: the id outlives a new key.
    text = json.dumps([group, parameters], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_CHARS]
