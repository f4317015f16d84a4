"""What a key's requests must fit, compiled: the limits and budgets of everything above it.

A scope is anything that limits or a budget can be set on: a key, its team, a member of the team, a
user, a customer, an organization, a model of a key, a tag. Each has an entry in shared memory under
a 64-bit key of its kind and id, the same in every process and after every restart.
"""

from __future__ import annotations

import hashlib
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple

from fastgate._core.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastgate.config.schema import Budget, VirtualKey
    from fastgate.config.stored import StoredKey

__all__ = ["LimitName", "Scoped", "budget_key", "budget_key_of", "key_of", "of_key", "of_stored"]

# LiteLLM's words for what a limit is set on.
_SHOWN = {"key": "api_key", "customer": "end_user"}


class LimitName(NamedTuple):
    """What a refusal says of a limit."""

    kind: str
    value: str
    rpm: int = -1
    tpm: int = -1
    tpd: int = -1
    max_parallel: int = -1


class Scoped:
    """The scopes of one key's requests for one model group, and what to call them."""

    def __init__(self, limits: list[tuple[int, LimitName]], budgets: list[Budget]) -> None:
        self._limits = limits
        self.limits = [name for _, name in limits]
        """In the order of `scopes`, as the next."""
        self.limit_keys = [entry for entry, _ in limits]
        first = self.limits[0] if limits else LimitName("", "")
        self.rpm, self.tpm = first.rpm, first.tpm
        """What answers tell the client of: the key's own, where it has any."""
        self.budgets = budgets
        self.budget_keys = [budget_key(budget) for budget in budgets]
        self.made_ns = monotonic_ns()
        """When control said what was spent."""
        self.scopes = Scopes(
            [(entry, name.rpm, name.tpm, name.tpd, name.max_parallel) for entry, name in limits],
            [
                (entry, budget.cap_nano_usd, budget.spent_nano_usd)
                for entry, budget in zip(self.budget_keys, budgets, strict=True)
            ],
        )

    def joined(self, other: Scoped) -> Scoped:
        """Return both together: a key's, and those of whom or what a request names besides."""
        made = Scoped(self._limits + other._limits, self.budgets + other.budgets)
        made.made_ns = min(self.made_ns, other.made_ns)
        return made


def key_of(kind: str, name: str) -> int:
    """Return the 64-bit key of an entry in shared memory."""
    digest = hashlib.blake2b(f"{kind}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def budget_key(budget: Budget) -> int:
    """Return the key of a budget's entry."""
    return budget_key_of(budget.kind, budget.id, budget.duration)


def budget_key_of(kind: str, scope_id: str, duration: str) -> int:
    """Return the key of the entry of the budget with this name."""
    return key_of(f"budget:{kind}", f"{scope_id}|{duration}")


def of_key(key: VirtualKey, shown: str, everywhere: list[Budget]) -> Scoped | None:
    """Return the scopes of a key of the configuration; None: it has none. `everywhere`: budgets
    that hold for every key.
    """
    name = LimitName("api_key", shown, key.rpm, key.tpm, -1, key.max_parallel)
    limits = [(key_of("key", key.key_hash), name)] if max(name[2:]) >= 0 else []
    return Scoped(limits, everywhere) if limits or everywhere else None


def of_stored(
    key: StoredKey, shown: str, group: str, everywhere: Iterable[Budget] = ()
) -> Scoped | None:
    """Return the scopes of a stored key's requests for the model group `group`; None: none.

    `everywhere`: budgets that hold for every key.
    """
    limits = []
    for scope in key.scopes:
        value = shown if scope.kind == "key" else scope.id
        kind = _SHOWN.get(scope.kind, scope.kind)
        whole = LimitName(kind, value, scope.rpm, scope.tpm, scope.tpd, scope.max_parallel)
        of_model = LimitName(
            f"model_per_{scope.kind}",
            f"{value}:{group}",
            scope.model_rpm.get(group, -1),
            scope.model_tpm.get(group, -1),
        )
        if max(whole[2:]) >= 0:
            limits.append((key_of(scope.kind, scope.id), whole))
        if max(of_model[2:]) >= 0:
            limits.append((key_of(f"{scope.kind}_model", f"{scope.id}/{group}"), of_model))
    budgets = [
        budget
        for budget in (*key.budgets, *everywhere)
        if budget.cap_nano_usd >= 0 and budget.model in ("", group)
    ]
    return Scoped(limits, budgets) if limits or budgets else None
