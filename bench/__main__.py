"""`python -m bench COMMAND`: each command is a function of the arguments, in a module."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "engine": ("engine", "main", "a simulated OpenAI-compatible engine"),
    "load": ("load", "main", "a load client: closed or open loop, drawn or recorded traffic"),
    "compare": ("compare", "main", "gateways and proxies side by side, on the same core"),
    "scenario": ("scenario", "main", "a named comparison: the run behind a figure of the README"),
    "report": ("report.command", "main", "a comparison as HTML, Markdown or PNG"),
    "diff": ("diff", "main", "two comparisons side by side, a verdict for each figure"),
    "peers": ("install", "main_peers", "what can be compared with, and what of it is installed"),
    "check": ("check", "main", "whether peers pass on what a comparison sends through them"),
    "install": ("install", "main", "install a peer into a folder of its own"),
    "tokens": ("tokens", "main", "token counting beside tiktoken and bpe-openai"),
    "keys": ("keys", "main", "a store of a million keys: starting, looking up, memory"),
    "demo": ("demo", "main", "the gateway before a real engine, driven by the openai client"),
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        lines = (f"  {name:<10}{what}" for name, (_, _, what) in COMMANDS.items())
        print("usage: python -m bench COMMAND [options]", *lines, sep="\n")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    # Imported by name, so that no command pays for another's dependencies.
    module, function, _ = COMMANDS[argv[0]]
    return int(getattr(importlib.import_module(f"bench.{module}"), function)(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
