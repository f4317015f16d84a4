"""The command line. What a command needs is imported when it runs: `--help` waits for nothing."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from fastgate import __version__, administration
from fastgate.spend import command

if TYPE_CHECKING:
    from fastgate.config.load import Examined
    from fastgate.errors import Fault

__all__ = ["main"]

_ABOUT = """\
fastgate: an LLM gateway. One OpenAI-compatible endpoint in front of your engines and providers,
configured by the config.yaml of the LiteLLM proxy.
"""

_EXAMPLES = """\
examples:
  fastgate check config.yaml
  fastgate serve --config config.yaml
  LITELLM_MASTER_KEY=sk-... fastgate serve --config config.yaml --host 0.0.0.0

signals to the serving process:
  SIGHUP            read the configuration again; an invalid one changes nothing
  SIGTERM, SIGINT   finish running requests, then stop; a second one hastens it
  SIGUSR2           replace the workers one after another

environment:
  LITELLM_MASTER_KEY, FASTGATE_MASTER_KEY   the admin's key
  whatever the file names as os.environ/NAME
"""

_SERVE = """\
Serve until told to stop. Without a master key only loopback addresses are accepted.
An option given here wins over the file.
"""

_CHECK = """\
Say whether a configuration can be used, and what becomes of each of its keys: honoured, ignored
(and why), or unknown. All faults are listed at once. Exit status 0: valid, 1: not.
"""

_HASH_KEY = """\
Read a key from standard input and print its SHA-256, as `key_hash` of a virtual key and
`master_key_hash` take it. So no key need stand in a file in clear.
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's own); return the exit status."""
    arguments = _parser().parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="fastgate", description=_ABOUT, epilog=_EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"fastgate {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve", help="run the gateway", description=_SERVE, formatter_class=raw
    )
    serve.add_argument("--config", required=True, metavar="FILE", help="config.yaml")
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument(
        "--port", type=_port, metavar="N", help="port to listen on; 0: any free one (default: 4000)"
    )
    serve.add_argument(
        "--workers", type=_count, metavar="N", help="worker processes; 0: one per core (default)"
    )
    serve.add_argument("--unix", metavar="PATH", help="Unix socket to listen on as well")
    serve.add_argument(
        "--log-level", choices=["debug", "info", "warning", "error"], help="(default: info)"
    )
    serve.set_defaults(run=_serve)

    check = commands.add_parser(
        "check", help="examine a configuration", description=_CHECK, formatter_class=raw
    )
    check.add_argument("file", metavar="FILE", help="config.yaml")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)

    hash_key = commands.add_parser(
        "hash-key", help="print the SHA-256 of a key", description=_HASH_KEY, formatter_class=raw
    )
    hash_key.set_defaults(run=_hash_key)

    nouns = administration.add_commands(commands)
    command.add_verify(nouns["spend"])
    return parser


def _port(text: str) -> int:
    port = _count(text)
    if port > 65535:
        raise argparse.ArgumentTypeError("expected a port from 0 to 65535")
    return port


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError("expected a whole number, 0 or more")
    return int(text)


def _serve(arguments: argparse.Namespace) -> int:
    from fastgate import supervisor  # noqa: PLC0415  only to serve

    overrides = {
        "host": arguments.host,
        "port": arguments.port,
        "workers": arguments.workers,
        "unix_socket": arguments.unix,
        "log_level": arguments.log_level,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    return supervisor.run(arguments.config, given)


def _check(arguments: argparse.Namespace) -> int:
    from fastgate.config.load import Examined, examine, refuse_open  # noqa: PLC0415  YAML: 60 ms
    from fastgate.config.report import Report  # noqa: PLC0415  with it
    from fastgate.errors import ConfigError  # noqa: PLC0415  with it

    try:
        examined = examine(arguments.file, os.environ)
    except ConfigError as error:
        examined = Examined(None, Report(), error.faults)
    if examined.config is not None:
        try:
            refuse_open(examined.config)
        except ConfigError as error:
            examined = examined._replace(config=None, faults=error.faults)
    if arguments.json:
        _print_json(arguments.file, examined)
    else:
        _print_text(arguments.file, examined)
    return 0 if examined.config is not None else 1


def _print_json(file: str, examined: Examined) -> None:
    import json  # noqa: PLC0415  for --json alone

    answer: dict[str, Any] = {
        "file": file,
        "valid": examined.config is not None,
        "faults": [{"path": fault.path, "message": fault.message} for fault in examined.faults],
        "keys": [entry._asdict() for entry in examined.report.entries],
    }
    print(json.dumps(answer, indent=2))


def _print_text(file: str, examined: Examined) -> None:
    for entry, n in examined.report.folded():
        times = f" ({n} times)" if n > 1 else ""
        why = f": {entry.why}" if entry.why else ""
        print(f"{entry.status:<10}{entry.path}{times}{why}")
    if examined.report.entries:
        print()
    config = examined.config
    if config is None:
        _print_faults(file, examined.faults)
        return
    groups = {deployment.group for deployment in config.deployments}
    print(
        f"{file}: valid: {_counted(len(config.deployments), 'deployment')} in "
        f"{_counted(len(groups), 'model group')}, {_counted(len(config.keys), 'virtual key')}"
    )


def _print_faults(file: str, faults: list[Fault]) -> None:
    print(f"{file}: invalid: {_counted(len(faults), 'fault')}")
    for fault in faults:
        print(f"  {fault.path}: {fault.message}")


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _hash_key(arguments: argparse.Namespace) -> int:
    import hashlib  # noqa: PLC0415  for this command alone

    if sys.stdin.isatty():
        import getpass  # noqa: PLC0415  at a terminal alone

        key = getpass.getpass("key: ")
    else:
        key = sys.stdin.readline()
    key = key.strip()
    if not key:
        print("fastgate hash-key: expected a key on standard input", file=sys.stderr)
        return 1
    print(hashlib.sha256(key.encode()).hexdigest())
    return 0


if __name__ == "__main__":
    sys.exit(main())
