"""The comparison: the engine's books, the gateway's, and what clients saw, id for id.

    engine      one line for each attempt (bench/ledger.py)
    gateway     spend_logs, spend_attempts, daily_spend, balances
    clients     what came, of each request (clients.py)

Exact means: the same model and the same tokens, and a cost that is those tokens at the model's
price, to the nano-dollar. Three things only a gateway can't know, and each has its own bounds:

    estimated   the engine's usage never went out: a stream's tokens are its events then, few of
                which are without one
    left        the client left: between what it saw and what the engine had handed over
    orphaned    the worker was killed: no client saw the end, and no more than could be

Whatever is outside of these is a finding.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.ledger.clients import COMPLETE, LEFT, Seen
from tests.ledger.prices import cost_nano

__all__ = ["Checked", "Line", "check", "read_lines"]

MOST_ESTIMATED = 4
"""An estimated prompt is off by less than this factor: the words of all prompts are alike."""

ENVELOPE_TOKENS = 100
"""Or by so many: a body's other members are estimated with it."""

_TOKENLESS = {"messages": 3}
"""Events behind the last token that are counted as if they had one; of most kinds, one."""


class Line(NamedTuple):
    """An attempt in the engine's ledger."""

    id: str
    n: int
    model: str
    kind: str
    stream: bool
    status: int
    prompt: int
    cached: int
    completion: int
    told: bool
    events: int
    end: str

    @property
    def tokens(self) -> tuple[str, int, int, int]:
        return self.model, self.prompt, self.cached, self.completion


class Charge(NamedTuple):
    """A row, or an attempt's row."""

    model: str
    prompt: int
    cached: int
    completion: int
    nano: int | None
    source: str
    final: bool

    @property
    def tokens(self) -> tuple[str, int, int, int]:
        return self.model, self.prompt, self.cached, self.completion


@dataclass
class Checked:
    """What the comparison found; `findings` empty: the books are right."""

    findings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """How much there was of what: rows, exact charges, estimated ones, ..."""

    def assert_exact(self) -> None:
        """Fail on any finding; say how much there was."""
        print("\n" + "\n".join(f"{what:40} {n}" for what, n in sorted(self.counts.items())))
        shown = "\n".join(self.findings[:20])
        assert not self.findings, f"{len(self.findings)} findings:\n{shown}"

    def find(self, what: str, *where: Any) -> None:
        self.findings.append(" | ".join([what, *map(str, where)]))


def read_lines(path: Path) -> dict[str, list[Line]]:
    """Return the engine's attempts by request id, in their order."""
    found: dict[str, list[Line]] = defaultdict(list)
    with path.open("rb") as file:
        for line in file:
            made = Line(**json.loads(line))
            found[made.id].append(made)
    for lines in found.values():
        lines.sort(key=lambda line: line.n)
    return found


def check(
    lines: dict[str, list[Line]],
    rows: Iterable[dict[str, Any]],
    attempts: Iterable[dict[str, Any]],
    seen: Iterable[Seen],
) -> Checked:
    """Compare the three."""
    checked = Checked()
    by_id: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["request_id"] in by_id:
            checked.find("two rows", row["request_id"])
        by_id[row["request_id"]] = row
    failed: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for attempt in attempts:
        failed[attempt["request_id"]].append(attempt)
    clients = {each.wish.name: each for each in seen}
    for id in lines.keys() - by_id.keys():
        checked.find("went upstream, and is no row", id, lines[id])
    for id in failed.keys() - by_id.keys():
        checked.find("an attempt without its request", id)
    for id, row in by_id.items():
        client = clients.get(row["client_request_id"] or "")
        _Request(checked, row, failed[id], lines.get(id, []), client).check()
    _check_clients(checked, by_id, clients.values())
    checked.counts["requests"] = len(clients)
    checked.counts["rows"] = len(by_id)
    checked.counts["attempts of the engine"] = sum(map(len, lines.values()))
    checked.counts["billed attempts"] = sum(map(len, failed.values()))
    return checked


class _Request:
    """One row, and all that is known of it."""

    def __init__(
        self,
        checked: Checked,
        row: dict[str, Any],
        attempts: list[dict[str, Any]],
        lines: list[Line],
        client: Seen | None,
    ) -> None:
        self.checked = checked
        self.row = row
        self.lines = lines
        self.client = client
        self.orphaned = row["status"] == "orphaned"
        self.left = client is not None and client.ending == LEFT
        self.charges = [_charge(attempt, False) for attempt in attempts]
        if row["prompt_tokens"] or row["completion_tokens"] or row["spend_nano_usd"] != 0:
            self.charges.append(_charge(row, True))
        checked.counts[f"rows {row['status']}"] += 1

    def check(self) -> None:
        if self.client is None and not self.orphaned:
            self._find("a row of no client")
        if not self.lines and self.charges and not self.orphaned:
            self._find("billed, and never went upstream")
        if self.row["error_kind"] == "other":
            self._find("failed of what rows have no word for")
        for charge in self.charges:
            self._check_cost(charge)
        billed = [line for line in self.lines if line.prompt or line.completion]
        rest = []
        for charge in self.charges:
            same = next((line for line in billed if line.tokens == charge.tokens), None)
            if same is None:
                rest.append(charge)
            else:
                billed.remove(same)
                self.checked.counts["exact charges"] += 1
        for charge in rest:
            self._check_inexact(charge, billed)
        for line in billed:
            self._check_unbilled(line)

    def _check_cost(self, charge: Charge) -> None:
        if charge.final and self.orphaned:
            return
        expected = cost_nano(charge.model, charge.prompt, charge.cached, charge.completion)
        if charge.nano != expected:
            self._find(f"costs {charge.nano} nano-dollars, its tokens {expected}", charge)

    def _check_inexact(self, charge: Charge, billed: list[Line]) -> None:
        """Take the engine's line of this charge out of `billed`, if there can be one."""
        # An orphan is booked for where it went first.
        orphan = charge.final and self.orphaned
        same = [line for line in billed if orphan or line.model == charge.model]
        for line in same:
            why = self._admitted(charge, line)
            if why:
                billed.remove(line)
                self.checked.counts[f"{why} charges"] += 1
                return
        if orphan:
            # Killed before the engine had handed anything over: billed at what was expected.
            self._check_orphan(charge, 0)
            self.checked.counts["orphaned charges"] += 1
            return
        self._find("billed otherwise than by the engine", charge, same)

    def _admitted(self, charge: Charge, line: Line) -> str:
        """Return why this charge may be what the gateway made of that line; "" if it may not."""
        if charge.final and self.orphaned:
            self._check_orphan(charge, line.completion)
            return "orphaned"
        estimated = charge.source == "estimated"
        if charge.final and self.left and self.client is not None:
            prompt = charge.prompt == line.prompt or _alike(charge.prompt, line.prompt)
            surplus = _TOKENLESS.get(line.kind, 1) if estimated else 0
            within = self.client.tokens <= charge.completion <= line.completion + surplus
            return "left" if prompt and (within or (estimated and not line.stream)) else ""
        if not estimated or not _alike(charge.prompt, line.prompt):
            return ""
        surplus = charge.completion - line.completion
        counted = 0 <= surplus <= _TOKENLESS.get(line.kind, 1)
        if not line.told:
            return "estimated" if counted or not line.stream else ""
        # Anthropic's streams tell of the output at the end; before, of the first token.
        return "estimated" if line.kind == "messages" and counted else ""

    def _check_orphan(self, charge: Charge, handed: int) -> None:
        row = self.row
        most = cost_nano(charge.model, 10 * 1024, 0, 64)
        if charge.nano is None or not 0 <= charge.nano <= most:
            self._find("an orphan costs more than it can", charge)
        if row["completion_tokens"] > handed:
            self._find(f"an orphan has more tokens than the engine's {handed}", charge)

    def _check_unbilled(self, line: Line) -> None:
        if self.orphaned:
            self.checked.counts["unbilled attempts of orphans"] += 1
        elif self.left and self.client is not None and self.client.tokens == 0:
            self.checked.counts["unbilled: client left before it saw any"] += 1
        else:
            self._find("billed by the engine, not by us", line)

    def _find(self, what: str, *more: Any) -> None:
        shown = {
            name: self.row[name]
            for name in (
                *("request_id", "status", "error_kind", "model", "call_type", "stream"),
                *("prompt_tokens", "cached_tokens", "completion_tokens", "spend_nano_usd"),
                *("usage_source", "attempts"),
            )
        }
        self.checked.find(what, *more, shown, self.lines, self.client)


def _charge(row: dict[str, Any], final: bool) -> Charge:
    return Charge(
        row["model"],
        row["prompt_tokens"],
        row["cached_tokens"],
        row["completion_tokens"],
        row["spend_nano_usd"],
        row["usage_source"],
        final,
    )


def _alike(estimated: int, tokens: int) -> bool:
    within = tokens / MOST_ESTIMATED <= estimated <= tokens * MOST_ESTIMATED
    return within or abs(estimated - tokens) <= ENVELOPE_TOKENS


def _check_clients(
    checked: Checked, rows: dict[str, dict[str, Any]], clients: Iterable[Seen]
) -> None:
    """Whoever saw the end of an answer has a row that says so, with the tokens that it saw."""
    for seen in clients:
        checked.counts[f"clients {seen.ending}" + (f" {seen.status}" if seen.status else "")] += 1
        if seen.ending != COMPLETE or seen.status != 200:
            continue
        row = rows.get(seen.request_id)
        if row is None:
            checked.find("answered, and no row", seen)
            continue
        wanted = "failure" if seen.failed else "success"
        if row["status"] != wanted:
            checked.find(f"a client saw {wanted}, its row says {row['status']}", seen)
        billed = row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]
        if seen.usage is not None and not seen.failed and seen.usage != billed:
            checked.find(f"a client was told {seen.usage}, billed are {billed}", seen)


def sums(rows: Iterable[dict[str, Any]], attempts: Iterable[dict[str, Any]]) -> Iterator[Any]:
    """Yield (kind, owner, nano-dollars) of all that rows and their attempts add up to."""
    totals: Counter[tuple[str, str]] = Counter()
    spent: Counter[str] = Counter()
    for attempt in attempts:
        spent[attempt["request_id"]] += attempt["spend_nano_usd"] or 0
    for row in rows:
        nano = (row["spend_nano_usd"] or 0) + spent[row["request_id"]]
        for kind in ("key_hash", "team_id", "user_id", "organization_id", "customer_id"):
            if row[kind]:
                totals[kind, row[kind]] += nano
        if row["team_id"] and row["user_id"]:
            totals["member", f"{row['team_id']}/{row['user_id']}"] += nano
        for tag in set(row["tags"] or ()):
            totals["tag", tag] += nano
    for (kind, owner), nano in sorted(totals.items()):
        yield kind, owner, nano
