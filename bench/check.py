"""`python -m bench check NAME...`: whether a peer passes on what a comparison sends through it.

Each peer is started before the simulated engine, as for a measurement, and asked for a plain answer
and a stream. What it gives must say what the engine itself says, or its figures would be those of
other work: a gateway that refuses streams, or gathers them and answers in one piece, is found here.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from typing import Any

from bench.peers.peer import Peer, load_peer, peer_names
from bench.stand import (
    ENGINE_OPTIONS,
    Failed,
    Running,
    Stand,
    end_on_sigterm,
    request,
    start_engine,
)

__all__ = ["check", "main"]

ASKED_TOKENS = 8
"""Enough for a stream to have a middle."""

STREAM_ITL_MS = 20
"""So far apart that events which come in one piece were held back."""


def check(stand: Stand, peer: Peer) -> float:
    """Return how long the peer took to its first answer, in seconds. Raises Failed."""
    direct = load_peer("direct")
    with stand.running(direct) as engine, stand.running(peer) as running:
        plain, pieces = _plain(running), _stream(stand, running)
        if plain != _plain(engine):
            raise Failed(f"its plain answer is not the engine's: {plain[:80]!r}")
        if "".join(pieces) != "".join(_stream(stand, engine)):
            raise Failed(f"its stream is not the engine's: {''.join(pieces)[:80]!r}")
        if len(pieces) < ASKED_TOKENS // 2:
            raise Failed(f"{ASKED_TOKENS} events came in {len(pieces)} pieces: it gathers streams")
        return running.start_s


def _asked(running: Running, *, stream: bool) -> tuple[dict[str, Any], dict[str, str]]:
    messages = [{"role": "user", "content": "Hello!"}]
    body = {"model": running.peer.model, "messages": messages, "max_tokens": ASKED_TOKENS}
    headers = dict(line.split(": ", 1) for line in running.headers)
    return body | ({"stream": True} if stream else {}), headers


def _plain(running: Running) -> str:
    body, headers = _asked(running, stream=False)
    status, answer = request(
        running.port, "POST", running.peer.path, body, running.peer.key, headers
    )
    if status != 200:
        raise Failed(f"a plain request was answered {status}: {answer[:200]!r}")
    return str(json.loads(answer)["choices"][0]["message"]["content"])


def _stream(stand: Stand, running: Running) -> list[str]:
    """The text of a stream, a piece for each read that brought some."""
    body, headers = _asked(running, stream=True)
    headers |= {"content-type": "application/json"}
    if running.peer.key:
        headers["authorization"] = f"Bearer {running.peer.key}"
    stand.pace(STREAM_ITL_MS)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    try:
        connection.request("POST", running.peer.path, json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise Failed(f"a stream was answered {response.status}: {response.read(200)!r}")
        found = []
        left = b""
        while data := response.read1():
            *lines, left = (left + data).split(b"\n")
            found.append("".join(map(_text, lines)))
        return [piece for piece in found if piece]
    finally:
        connection.close()
        stand.pace(0)


def _text(line: bytes) -> str:
    if not line.startswith(b"data: {"):
        return ""
    choices = json.loads(line[6:])["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(peer_names())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {known}; all when left out")
    names = parser.parse_args(argv).names or peer_names()
    if unknown := set(names) - set(peer_names()):
        parser.error(f"no peer {', '.join(sorted(unknown))}: there are {known}")
    failed = 0
    end_on_sigterm()
    with start_engine(*ENGINE_OPTIONS) as (pid, port):
        stand = Stand(pid, port)
        for peer in map(load_peer, names):
            if hint := peer.missing():
                print(f"{peer.name:<15}not installed: {hint}")
                continue
            try:
                said = f"passes plain answers and streams on; starts in {check(stand, peer):.2f} s"
            except (Failed, OSError, http.client.HTTPException, ValueError, LookupError) as error:
                failed += 1
                said = f"FAILED: {error}"
            print(f"{peer.name:<15}{said}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
