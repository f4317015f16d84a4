"""What control says of prices: for workers that ask, and for rows that were booked without one."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastgate._core.cost import Rates
from fastgate.config.patterns import star
from fastgate.spend.prices import compile_schedule, configured
from fastgate.spend.rows import CONSTANT_AT, OUTCOME_AT

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastgate.config.schema import Config, Deployment
    from fastgate.spend.rows import Constant, Entry, Outcome

__all__ = ["Pricing"]

KEPT_S = 3600.0
"""A compiled schedule reaches two days ahead."""
MAX_KEPT = 4096

_DEPLOYMENT, _MODEL = CONSTANT_AT["deployment_id"], CONSTANT_AT["model"]
_VERSION = CONSTANT_AT["price_version"]
_SPEND, _START = OUTCOME_AT["spend_nano"], OUTCOME_AT["start_us"]
_PROMPT = OUTCOME_AT["prompt_tokens"]


class Pricing:
    """By the configuration in force, which `config` returns. May take 0.3 s at first: the catalogue
    of published prices is loaded when it is first needed.
    """

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._kept: dict[tuple[str, str], tuple[float, Config, Rates | None, bytes]] = {}

    def cards(self, deployment_id: str, model: str) -> bytes:
        """Return what `model` costs at a deployment, as `Rates` takes it; empty: nobody knows."""
        return self._find(deployment_id, model)[1]

    def priced(self, entry: Entry) -> Entry:
        """Return `entry` with the costs that were unknown when it was booked and are known now."""
        attempts = [self._priced(*attempt) for attempt in entry.attempts]
        constant, outcome = self._priced(entry.constant, entry.outcome)
        return entry._replace(constant=constant, outcome=outcome, attempts=attempts)

    def _priced(self, constant: Constant, outcome: Outcome) -> tuple[Constant, Outcome]:
        deployment_id, model = constant[_DEPLOYMENT], constant[_MODEL]
        if outcome[_SPEND] >= 0 or not deployment_id or not model:
            return constant, outcome
        rates = self._find(deployment_id, model)[0]
        if rates is None:
            return constant, outcome
        prompt, cached, written, completion, reasoning = (
            max(0, tokens) for tokens in outcome[_PROMPT : _PROMPT + 5]
        )
        at_us = outcome[_START]
        cost = rates.cost_nano(at_us, prompt, cached, written, completion, reasoning)
        if cost is None:
            return constant, outcome
        version = f"{rates.version(at_us):016x}"
        return (
            (*constant[:_VERSION], version, *constant[_VERSION + 1 :]),
            (*outcome[:_SPEND], cost, *outcome[_SPEND + 1 :]),
        )

    def _find(self, deployment_id: str, model: str) -> tuple[Rates | None, bytes]:
        config = self._config()
        now_s = time.monotonic()
        known = self._kept.get((deployment_id, model))
        if known is not None and known[0] > now_s and known[1] is config:
            return known[2:]
        cards = b""
        for deployment in config.deployments:
            if deployment.id == deployment_id and _takes(deployment, model):
                cards = configured(deployment, config.prices) or compile_schedule(
                    deployment, model, datetime.now(UTC), config.prices
                )
        rates = Rates(cards) if cards else None
        if rates is not None and rates.cost_nano(time.time_ns() // 1000, 1) is None:
            # The card that says so is no news to anybody.
            rates, cards = None, b""
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[deployment_id, model] = (now_s + KEPT_S, config, rates, cards)
        return rates, cards


def _takes(deployment: Deployment, model: str) -> bool:
    return deployment.model == model or (
        "*" in deployment.model and star(deployment.model, model) is not None
    )
