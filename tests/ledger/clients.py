"""Clients that ask, and remember what they saw: the third side of the comparison."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.ledger.wishes import STAYS, Wish
from tests.raw_peers import WAIT_S, Answer, Client, parse_head, request

__all__ = ["COMPLETE", "Load", "Seen"]

COMPLETE, CUT, LEFT, NOTHING = "complete", "cut", "left", "nothing"

PAUSE_S = 0.25
"""After an answer that says to come again later: else most requests of a run would get it."""

_TOLD = re.compile(rb'"(?:completion|output)_tokens":(\d+)')
_CONTENT = re.compile(rb'"(?:content|text|delta)":"[^"]|"type":"text_delta","text":"[^"]')


@dataclass
class Seen:
    """What one client saw of its request."""

    wish: Wish
    ending: str = NOTHING
    """Complete: its framing said so, whatever the status; cut: it broke off; left: the client did;
    nothing: not even a head.
    """
    status: int = 0
    request_id: str = ""
    usage: tuple[int, int, int] | None = None
    """Prompt, cached and completion tokens, of a whole answer that says so."""
    tokens: int = 0
    """Of the answer, at least, that had come when it ended."""
    failed: bool = False
    """There was an error event in the stream."""


class Load:
    """Asks for `wishes`, `at_once` at a time, over connections that are kept."""

    def __init__(self, port: int, keys: list[str], wishes: Callable[[int], Wish]) -> None:
        self._port = port
        self._keys = keys
        self._wishes = wishes
        self._begun = 0
        self._moved = asyncio.Condition()
        self.most = 0
        self.seen: list[Seen] = []

    async def run(self, most: int, at_once: int) -> None:
        """Return when `most` requests have ended."""
        self.most = most
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._ask_on())

    def stop(self) -> None:
        """Begin no more."""
        self.most = self._begun

    async def reach(self, n: int) -> None:
        """Return once `n` requests have ended, or there will be no more."""
        async with self._moved:
            await self._moved.wait_for(lambda: len(self.seen) >= min(n, self.most))

    async def _ask_on(self) -> None:
        client: Client | None = None
        while self._begun < self.most:
            wish = self._wishes(self._begun)
            self._begun += 1
            seen = Seen(wish)
            if client is None:
                client = await Client.connect(self._port)
            fields = f"X-Request-Id: {wish.name}\r\n"
            client.send(
                request(wish.body, path=f"/v1/{wish.path}", key=self._keys[wish.key], fields=fields)
            )
            if wish.leaves_after == STAYS:
                reusable = await _read_answer(client, seen)
            else:
                await _read_some(client, seen)
                reusable = False
            if not reusable:
                alive = not client.writer.transport.is_closing()
                client.reset() if wish.resets and alive else client.close()
                client = None
            async with self._moved:
                self.seen.append(seen)
                self._moved.notify_all()
            if seen.status == 503 or seen.ending == NOTHING:
                await asyncio.sleep(PAUSE_S)
        if client is not None:
            client.close()


async def _read_answer(client: Client, seen: Seen) -> bool:
    """Read to the end; return whether the connection can be used again."""
    try:
        answer = await client.answer()
    except AssertionError as error:
        if not str(error).startswith("closed before"):
            raise
        return False
    seen.status = answer.status
    seen.request_id = answer.fields.get("x-fastgate-request-id", "")
    seen.ending = COMPLETE if answer.complete else CUT
    _take_in(seen, answer.body)
    if answer.complete and answer.status == 200:
        seen.usage = _usage(seen.wish, answer)
    return answer.complete and answer.fields.get("connection") != "close"


async def _read_some(client: Client, seen: Seen) -> None:
    """Read so many events, or for so long, and leave."""
    seen.ending = LEFT
    wish, data = seen.wish, b""
    try:
        async with asyncio.timeout(WAIT_S if wish.stream else wish.leaves_after / 1000):
            while wish.leaves_after and not _has_left(wish, data):
                more = await client.read()
                data += more
                if not more:
                    break
    except TimeoutError:
        assert not wish.stream, f"nothing came for {WAIT_S} s: {wish}"
    head, mark, body = data.partition(b"\r\n\r\n")
    if mark:
        seen.status, fields = parse_head(head + mark)
        seen.request_id = fields.get("x-fastgate-request-id", "")
        _take_in(seen, body)


def _has_left(wish: Wish, data: bytes) -> bool:
    refused = len(data) >= 12 and data[9:12] != b"200"
    return refused or data.count(b"\n\n") >= wish.leaves_after or data.endswith(b"0\r\n\r\n")


def _take_in(seen: Seen, body: bytes) -> None:
    if seen.status != 200:
        return
    whole = body[: body.rfind(b"\n\n") + 2] if seen.wish.stream else body
    told = [int(count) for count in _TOLD.findall(whole)]
    seen.tokens = max([*told, len(_CONTENT.findall(whole)) if seen.wish.stream else 0])
    seen.failed = seen.wish.stream and b'"error":{' in body.partition(b"[DONE]")[0]


def _usage(wish: Wish, answer: Answer) -> tuple[int, int, int] | None:
    """Return the tokens that an answer says it cost."""
    if wish.stream:
        events = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: {")]
        # Anthropic tells one part at the beginning and the other at the end.
        told: dict[str, Any] = {}
        for event in map(json.loads, events):
            for holder in (event, event.get("message"), event.get("response")):
                told |= (holder or {}).get("usage") or {}
    else:
        told = answer.json().get("usage") or {}
    if "input_tokens" not in told and "prompt_tokens" not in told:
        return None
    cached = told.get("cache_read_input_tokens", 0)
    prompt = told.get("prompt_tokens", told.get("input_tokens", 0) + cached)
    for details in ("prompt_tokens_details", "input_tokens_details"):
        cached = (told.get(details) or {}).get("cached_tokens", cached)
    return prompt, cached, told.get("completion_tokens", told.get("output_tokens", 0))
