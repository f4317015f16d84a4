"""Deployments that the management API added: an entry each, as in `model_list`.

What an administrator of the API may name is less than what the file may: no socket of this machine,
and none of the variables that hold fastgate's own secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from fastgate.config.deployments import read_model_list
from fastgate.config.litellm import MASTER_KEY_VARIABLES
from fastgate.config.reader import ENVIRONMENT, Reader
from fastgate.config.schema import Deployment
from fastgate.config.source import read
from fastgate.errors import ConfigError, Fault

__all__ = ["SALT_VARIABLES", "read_added", "storage_secret"]

SALT_VARIABLES = ("FASTGATE_SALT_KEY", "LITELLM_SALT_KEY")

_OWN = frozenset(
    [
        *(*MASTER_KEY_VARIABLES, *SALT_VARIABLES, "DATABASE_URL", "DIRECT_URL"),
        *("DATABASE_URL_READ_REPLICA", "REDIS_URL", "REDIS_PASSWORD"),
    ]
)


def read_added(entry: Mapping[str, Any], environ: Mapping[str, str]) -> Deployment:
    """Return the deployment that an entry describes. Raises ConfigError with all its faults."""
    reader = Reader(environ)
    for name, value in (entry.get("litellm_params") or {}).items():
        here = reader.root.at("litellm_params").at(name)
        if _names_own_secret(value):
            here.fault("expected another variable: this one is fastgate's own")
        if name in ("api_base", "base_url") and str(value).startswith("unix:"):
            here.fault("sockets can be named in the configuration file only")
    models = read_model_list([dict(entry)], [reader.root], (True, ""))
    if models.left_out:
        reader.root.at("litellm_params.model").fault("its provider is not supported yet")
    if reader.faults:
        raise ConfigError(reader.faults)
    if not models.deployments:
        raise ConfigError([Fault("litellm_params", "expected a deployment")])
    return structs.replace(models.deployments[0], stored=True)


def _names_own_secret(value: Any) -> bool:
    if isinstance(value, str):
        return value.removeprefix(ENVIRONMENT) in _OWN and value.startswith(ENVIRONMENT)
    if isinstance(value, dict):
        return any(map(_names_own_secret, value.values()))
    return isinstance(value, list) and any(map(_names_own_secret, value))


def storage_secret(path: str, environ: Mapping[str, str]) -> str:
    """Return what secrets in the database are sealed with: the salt key, else the master key as
    the file at `path` or the environment has it; "": there is none. Reads files.
    """
    reader = Reader(environ)
    salt, _ = reader.first(SALT_VARIABLES)
    if salt:
        return salt
    try:
        values = read(Path(path)).values
    except ConfigError:
        # A file that was valid when the gateway started; the environment may still tell.
        values = {}
    defaults = values.get("environment_variables")
    for name, value in (defaults if isinstance(defaults, dict) else {}).items():
        reader.environ.setdefault(str(name), str(value))
    general = values.get("general_settings")
    written = general.get("master_key") if isinstance(general, dict) else None
    return reader.peek(written).strip() or reader.first(MASTER_KEY_VARIABLES)[0]
