"""What the supervisor knows of the configuration: a few settings, and the Snapshot's bytes, unread.

The file is read in a forked process that ends at once. So the supervisor never holds YAML, msgspec
or the tree (8 MB and more, for as long as the gateway runs), and needs no second interpreter start
to avoid it, which would cost 60 ms. Control calls `load` itself, in a thread, when it is told to
reload.
"""

from __future__ import annotations

import os
import socket
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgate.channel import Decoder, Message, encode
from fastgate.errors import ConfigError, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastgate.config.schema import Config

__all__ = ["Settings", "cores", "load", "load_apart", "parse", "refuse_open", "settings_of"]

_CGROUP_CPU_MAX = "/sys/fs/cgroup/cpu.max"


class Settings(NamedTuple):
    """The part of a configuration that the supervisor acts on."""

    server: dict[str, Any]
    """`Server`, but for secrets: changing any of it needs a restart."""
    locked: bool
    """There is a master key."""
    drain_grace_s: float
    hasten_grace_s: float
    log_level: str


def load(path: str, overrides: Mapping[str, Any]) -> list[Message]:
    """Read the file: return a message for each warning and a `snapshot`, or one `faults`.

    `overrides` come from the command line and win over the file: fields of `Server`, and
    `log_level`. Takes as long as the file is large; not for the loop's thread.
    """
    # Here and not above: the supervisor imports this module, and never calls this.
    import msgspec  # noqa: PLC0415  see above

    from fastgate.config.load import load as load_file  # noqa: PLC0415  see above
    from fastgate.config.snapshot import encode as encode_snapshot  # noqa: PLC0415  see above
    from fastgate.spend.prices import configured  # noqa: PLC0415  see above

    try:
        loaded = load_file(path, os.environ)
    except ConfigError as error:
        faults = [[fault.path, fault.message] for fault in error.faults]
        return [Message("faults", {"faults": faults}, b"")]
    config = loaded.config
    given = {name: value for name, value in overrides.items() if value is not None}
    level = given.pop("log_level", config.log.level)
    config = msgspec.structs.replace(
        config,
        deployments=[
            msgspec.structs.replace(each, rates=configured(each, config.prices))
            for each in config.deployments
        ],
        server=msgspec.structs.replace(config.server, **given),
        log=msgspec.structs.replace(config.log, level=level),
    )
    settings = settings_of(config)
    warnings = [
        Message("warning", {"path": fault.path, "message": fault.message}, b"")
        for fault in loaded.report.warnings
    ]
    return [*warnings, Message("snapshot", settings._asdict(), encode_snapshot(config))]


def settings_of(config: Config) -> Settings:
    """Return what the supervisor needs to know of `config`."""
    import msgspec  # noqa: PLC0415  see load

    server = msgspec.to_builtins(config.server)
    return Settings(
        locked=bool(server.pop("master_key_hash")),
        server=server,
        drain_grace_s=config.limits.drain_grace_s,
        hasten_grace_s=config.limits.hasten_grace_s,
        log_level=config.log.level,
    )


def load_apart(path: str, overrides: Mapping[str, Any]) -> list[Message]:
    """Return what `load` returns, from a process forked for it. Only while there is one thread."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ours.close()
            for message in load(path, overrides):
                theirs.sendall(encode(message.kind, message.fields, message.blob))
                theirs.sendall(message.blob)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Not sys.exit: what the parent wants done at its own end must not be done here.
            os._exit(status)
    theirs.close()
    decoder = Decoder()
    messages: list[Message] = []
    with ours:
        while data := ours.recv(1 << 20):
            messages += decoder.feed(data)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise ConfigError([Fault(path, "it could not be read: see the error above")])
    return messages


def parse(messages: list[Message]) -> tuple[Settings, bytes, list[dict[str, Any]]]:
    """Take apart what `load` returned: settings, Snapshot, warnings. Raises ConfigError."""
    last = messages[-1]
    if last.kind == "faults":
        raise ConfigError([Fault(*fault) for fault in last.fields["faults"]])
    warnings = [message.fields for message in messages[:-1]]
    return Settings(**last.fields), last.blob, warnings


def refuse_open(settings: Settings, exposed: bool) -> None:
    """Raise ConfigError when other machines could reach us and would not be asked for a key."""
    if exposed and not settings.locked:
        raise ConfigError(
            [
                Fault(
                    "general_settings.master_key",
                    f"needed, since {settings.server['host']} is not a loopback address: set it "
                    "(or the environment variable FASTGATE_MASTER_KEY), or listen on 127.0.0.1",
                )
            ]
        )


def cores(cpu_max_path: str = _CGROUP_CPU_MAX) -> int:
    """Return how many cores this process may use: its affinity, cut to its container's quota."""
    affinity = len(os.sched_getaffinity(0))
    try:
        with open(cpu_max_path, encoding="ascii") as file:
            quota, period = file.read().split()
        return max(1, min(affinity, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        # No cgroup v2 here, or "max": no quota.
        return affinity
