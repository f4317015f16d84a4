"""What clients ask for: a mix of kinds, keys and lengths, and some that leave before the end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Wish", "wish"]

_CHAT, _TEXT = "chat/completions", "completions"
_KINDS = {
    # path, streams, shows its usage as it goes
    (_CHAT, True, True): 38,
    (_CHAT, True, False): 14,
    (_CHAT, False, False): 18,
    (_TEXT, True, False): 5,
    ("responses", True, False): 5,
    ("messages", True, False): 7,
    ("messages", False, False): 3,
    ("embeddings", False, False): 10,
}
# Long enough for the engine's prefix cache, of which a block is 512 bytes.
_PREFIXES = [" ".join(f"{topic}{n}" for n in range(150)) for topic in ("tea", "sea", "pea")]
_MOST_TOKENS = 16
_LEAVE_SHARE = 0.06
STAYS = -1


@dataclass(frozen=True)
class Wish:
    """A request as a client means to make it."""

    number: int
    path: str
    body: dict[str, Any] = field(repr=False)
    key: int
    """Which of the keys."""
    leaves_after: int
    """Events of the stream; of a plain answer, milliseconds; -1: it stays to the end."""
    resets: bool

    @property
    def name(self) -> str:
        """The x-request-id that the client gives it, to find its row by."""
        return f"client-{self.number}"

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))


def wish(number: int, seed: int, keys: int, *, leaving: bool = True) -> Wish:
    """Return the nth request of a run."""
    dice = random.Random(seed * 1_000_003 + number)
    (path, stream, continuous) = dice.choices(list(_KINDS), list(_KINDS.values()))[0]
    words = f"w{number} " * dice.randrange(1, 60)
    prompt = f"{dice.choice(_PREFIXES)} {words}" if dice.random() < 0.4 else words
    body: dict[str, Any] = {"model": _MODELS.get(path, "chat")}
    if path == "embeddings":
        body["input"] = prompt
    else:
        body |= {"max_tokens": dice.randrange(1, _MOST_TOKENS + 1), "stream": stream}
        body |= _prompt(path, prompt)
    if continuous:
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    if path == _CHAT and dice.random() < 0.3:
        body["metadata"] = {"tags": dice.sample(["red", "green", "blue"], 2)}
    if path != "messages" and dice.random() < 0.3:
        body["user"] = f"customer-{dice.randrange(5)}"
    leaves_after = STAYS
    if leaving and dice.random() < _LEAVE_SHARE:
        leaves_after = dice.randrange(0, 12)
    return Wish(number, path, body, dice.randrange(keys), leaves_after, dice.random() < 0.5)


_MODELS = {"embeddings": "embed", "messages": "claude"}


def _prompt(path: str, text: str) -> dict[str, Any]:
    if path == _TEXT:
        return {"prompt": text}
    if path == "responses":
        return {"input": text}
    return {"messages": [{"role": "user", "content": text}]}
