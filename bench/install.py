"""`python -m bench peers` and `python -m bench install NAME...`: what can be compared with.

Packages of the system are installed by apt (as root); everything else goes into a folder of its own
under `.bench`, so that no peer's dependencies meet another's or ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from bench.peers.peer import INSTALLED, Peer, load_peer, peer_names

__all__ = ["install", "install_commands", "main", "main_peers", "version_of"]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench install", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(peer_names()))
    failed = 0
    for name in parser.parse_args(argv).names:
        try:
            peer = load_peer(name)
        except KeyError:
            parser.error(f"no peer {name!r}: there are {', '.join(peer_names())}")
        error = install(peer)
        failed += bool(error)
        print(f"{name}: {error or 'installed'}")
    return 1 if failed else 0


def install(peer: Peer) -> str:
    """Install a peer that is not there; return what went wrong, "" when nothing did."""
    if not peer.missing():
        return ""
    commands = install_commands(peer)
    if not commands:
        return f"can't be installed from here: {peer.missing()}"
    for command in commands:
        print("+", *command, file=sys.stderr)
        if subprocess.run(command, check=False).returncode:
            return f"failed: {' '.join(command)}"
    return f"still not found: {peer.missing()}" if peer.missing() else ""


def install_commands(peer: Peer) -> list[list[str]]:
    """Prepare a peer's folder; return what to run in order to fill it, nothing when we can't."""
    folder = INSTALLED / peer.name
    if "apt" in peer.install:
        if os.geteuid() != 0:
            return []
        return [["apt-get", "install", "-y", "-q", *peer.install["apt"]]]
    if "pip" in peer.install:
        pip = [str(folder / "bin/pip"), "install", "-q", "--disable-pip-version-check"]
        return [[sys.executable, "-m", "venv", str(folder)], [*pip, *peer.install["pip"]]]
    if "npm" in peer.install:
        # npm reads versions for what lies below a package from the file of the project above it.
        folder.mkdir(parents=True, exist_ok=True)
        project = {"private": True, "overrides": peer.install.get("npm_overrides", {})}
        (folder / "package.json").write_text(json.dumps(project))
        return [["npm", "install", "--silent", "--prefix", str(folder), *peer.install["npm"]]]
    return []


def version_of(peer: Peer) -> str:
    """The line in which a peer's command tells its version; "" when it doesn't."""
    command = peer.version_command()
    if not command:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("Version:")] or lines
    return told[0] if told and done.returncode == 0 else ""


def main_peers(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench peers", description=__doc__)
    parser.parse_args(argv)
    for name in peer_names():
        peer = load_peer(name)
        missing = peer.missing()
        state = f"not installed: {missing}" if missing else version_of(peer) or "there"
        print(f"{name:<15}{peer.about}\n{'':15}{state}")
        if not peer.verified:
            print(f"{'':15}not verified: {peer.why}")
    return 0
