"""Stage `route`: model group -> deployment.

Filters first (cooling down, already tried, wire format, `order`), then the strategy: simple-shuffle
(weighted random) or least-busy (fewest in flight, counted over all workers before dispatch). A
deployment's own limits (rpm, tpm, max_parallel) are reserved with the choice; one that is full is
passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgate._core.bucket import DeploymentTable, LimitTable
from fastgate.errors import BadRequest, LimitExceeded
from fastgate.gateway.catalog import Choice, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastgate.gateway.context import Context

__all__ = ["Router"]


class Router:
    """One per worker; `random` returns floats in [0, 1) and is given, so that choices can be
    repeated in tests.
    """

    def __init__(
        self,
        deployments: DeploymentTable,
        limits: LimitTable,
        least_busy: bool,
        random: Callable[[], float],
    ) -> None:
        self.deployments = deployments
        self.limits = limits
        self.least_busy = least_busy
        self.random = random

    def choose(self, context: Context, now_ns: int) -> Choice:
        """Return the deployment to try next, counted as in flight. Raises LimitExceeded when there
        is none.
        """
        plan = context.plan
        n = len(plan.choices)
        if n == 1 and context.tried is None:
            # The usual case of a single engine, without lists.
            choice: Choice = plan.choices[0]
            if self._usable(choice, context, now_ns) and self._admit(
                choice.target, context, now_ns
            ):
                return choice
            raise self._none(context, now_ns)
        usable = [c for c in plan.choices if self._usable(c, context, now_ns)]
        if usable:
            order = min([c.target.order for c in usable])
            usable = [c for c in usable if c.target.order == order]
        while usable:
            if len(usable) == 1:
                choice = usable[0]
            elif self.least_busy:
                choice = self._least_busy(usable)
            else:
                choice = self._shuffle(usable)
            if self._admit(choice.target, context, now_ns):
                return choice
            usable.remove(choice)
        raise self._none(context, now_ns)

    def others(self, context: Context, now_ns: int) -> bool:
        """Is there a deployment of the group that has not been tried and is not cooling down?"""
        return any(self._usable(choice, context, now_ns) for choice in context.plan.choices)

    def leave(self, context: Context, target: Target, now_ns: int, tokens: int) -> None:
        """The attempt at `target` is over; `tokens` is what it used, -1 when unknown, -2 when it
        never went out.
        """
        self.deployments.end(target.entry)
        entry = context.target_limit_entry
        if entry >= 0:
            context.target_limit_entry = -1
            if tokens == -2:
                self.limits.cancel(entry, now_ns, context.routed_ns, 0)
            else:
                self.limits.settle(entry, now_ns, context.routed_ns, max(0, tokens))

    def _usable(self, choice: Choice, context: Context, now_ns: int) -> bool:
        target = choice.target
        until_ns = self.deployments.cooling_until_ns(target.entry)
        if until_ns > now_ns:
            return False
        if target.protocol != context.endpoint.protocol:
            return False
        return context.tried is None or target not in context.tried

    def _shuffle(self, usable: list[Choice]) -> Choice:
        total = 0.0
        for choice in usable:
            total += choice.target.weight
        if total <= 0:
            return usable[int(self.random() * len(usable))]
        point = self.random() * total
        for choice in usable:
            point -= choice.target.weight
            if point < 0:
                return choice
        return usable[-1]

    def _least_busy(self, usable: list[Choice]) -> Choice:
        best = usable[0]
        fewest = -1
        # Start anywhere, so that equals share.
        start = int(self.random() * len(usable))
        for choice in usable[start:] + usable[:start]:
            busy = self.deployments.in_flight(choice.target.entry)
            if fewest < 0 or busy < fewest:
                best, fewest = choice, busy
        return best

    def _admit(self, target: Target, context: Context, now_ns: int) -> bool:
        if target.limited:
            deployment = target.deployment
            entry = self.limits.entry(target.limit_key, now_ns)
            if entry < 0 or self.limits.reserve(
                entry, now_ns, deployment.rpm, deployment.tpm, deployment.max_parallel, 0
            ):
                return False
            context.target_limit_entry = entry
        self.deployments.begin(target.entry)
        return True

    def _none(self, context: Context, now_ns: int) -> Exception:
        plan = context.plan
        protocol = context.endpoint.protocol
        if all(choice.target.protocol != protocol for choice in plan.choices):
            return BadRequest(
                f"no deployment of model {context.model} speaks the {protocol} protocol that "
                f"/{context.endpoint.name} needs",
                param="model",
            )
        cooling = [
            (choice.target.id, self.deployments.cooling_until_ns(choice.target.entry))
            for choice in plan.choices
        ]
        waits = [until_ns - now_ns for _, until_ns in cooling if until_ns > now_ns]
        wait_s = max(1, -(-min(waits) // 1_000_000_000)) if waits else 1
        listed = [name for name, until_ns in cooling if until_ns > now_ns]
        return LimitExceeded(
            f"No deployments available for selected model, Try again in {wait_s} seconds. "
            f"Passed model={context.model}. pre-call-checks=False, cooldown_list={listed}",
            detail="deployments",
            fields=f"retry-after: {wait_s}\r\n".encode(),
        )
