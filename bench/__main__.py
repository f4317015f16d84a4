"""`python -m bench engine|load|compare|tokens|demo`: each command is a module with `main(argv)`."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "engine": "a simulated OpenAI-compatible engine",
    "load": "a load client: closed loop or open loop, plain or streaming",
    "compare": "fastgate beside nginx and a direct connection, on the same core",
    "tokens": "token counting beside tiktoken and bpe-openai, per kind of text",
    "demo": "the gateway before a real engine, driven by the openai client",
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        lines = (f"  {name:<9}{what}" for name, what in COMMANDS.items())
        print("usage: python -m bench COMMAND [options]", *lines, sep="\n")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    # Imported by name, so that no command pays for another's dependencies.
    return int(importlib.import_module(f"bench.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
