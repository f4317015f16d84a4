"""Limits and budgets of several scopes: all or nothing, exact, whoever asks and whoever dies."""

from __future__ import annotations

import mmap
import multiprocessing
import struct
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastgate._core.bucket import LimitTable
from fastgate._core.budget import BudgetTable
from fastgate._core.scopes import Held, Scopes, cancel, charge, reserve, settle
from fastgate._core.table import Region

ADMITTED, REQUESTS, TOKENS, PARALLEL, TOKENS_DAY, BUDGET, LEASE, FULL = range(8)
SECOND = 1_000_000_000
NOW = 1_000 * SECOND
DAY = 20_000
NONE = -1


class Machine:
    """Shared memory, and the tables as each of some processes sees them."""

    def __init__(self, workers: int = 2, entries: int = 64) -> None:
        limits, budgets = LimitTable.bytes_for(entries), BudgetTable.bytes_for(entries)
        self.memory = mmap.mmap(-1, limits + budgets)
        self.tables = [
            (
                LimitTable(Region(self.memory, 0, limits), worker),
                BudgetTable(Region(self.memory, limits, budgets), worker),
            )
            for worker in range(workers)
        ]
        self.limits, self.budgets = self.tables[0]

    def reserve(
        self,
        scopes: Scopes,
        *,
        worker: int = 0,
        now: int = NOW,
        day: int = DAY,
        tokens: int = 0,
        nano: int = 0,
    ) -> tuple[int, Held]:
        held = Held()
        refusal = reserve(*self.tables[worker], scopes, held, now, day, tokens, nano)
        return refusal, held

    def settle(
        self,
        held: Held,
        *,
        worker: int = 0,
        now: int = NOW,
        day: int = DAY,
        tokens: int = -1,
        nano: int = -1,
    ) -> None:
        settle(*self.tables[worker], held, now, day, tokens, nano)

    def used(self, key: int, now: int = NOW) -> tuple[int, int, int]:
        """Requests, tokens, places in flight."""
        entry = self.limits.find(key)
        return (
            self.limits.requests_used(entry, now),
            self.limits.tokens_used(entry, now),
            self.limits.in_flight(entry),
        )

    def money(self, key: int) -> tuple[int, int]:
        """Spent, reserved."""
        entry = self.budgets.find(key)
        return self.budgets.spent_nano(entry), self.budgets.reserved_nano(entry)


@pytest.fixture
def machine() -> Machine:
    return Machine()


WIDE = (10, 1_000_000, 1_000_000, 1_000_000_000, 1_000)


@pytest.mark.parametrize(
    ("limit", "refusal"),
    [
        ((11, 0, NONE, NONE, NONE), REQUESTS),
        ((11, NONE, 4, NONE, NONE), TOKENS),
        ((11, NONE, NONE, 4, NONE), TOKENS_DAY),
        ((11, NONE, NONE, NONE, 0), PARALLEL),
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_refused_request_takes_nothing_anywhere(
    machine: Machine, limit: tuple[int, int, int, int, int], refusal: int, position: int
) -> None:
    others = [WIDE, (12, 1_000_000, 1_000_000, 1_000_000, 1_000)]
    scopes = Scopes([*others[:position], limit, *others[position:]], [(1, 1_000, 0)])
    found, held = machine.reserve(scopes, tokens=5, nano=100)
    assert (found, held.refused, held.scopes) == (refusal, position, None)
    assert machine.used(10) == machine.used(11) == machine.used(12) == (0, 0, 0)
    assert machine.money(1) == (0, 0)


@pytest.mark.parametrize("position", [0, 1])
def test_a_budget_that_refuses_takes_nothing_anywhere(machine: Machine, position: int) -> None:
    budgets = [(2, 1_000_000, 0)]
    budgets.insert(position, (1, 99, 0))
    found, held = machine.reserve(Scopes([WIDE], budgets), tokens=5, nano=100)
    assert (found, held.refused) == (BUDGET, position)
    assert machine.used(10) == (0, 0, 0)
    assert machine.money(1) == machine.money(2) == (0, 0)


def test_a_budget_may_be_used_to_its_last_nano_dollar(machine: Machine) -> None:
    scopes = Scopes([], [(1, 100, 40)])
    _, held = machine.reserve(scopes, nano=60)
    assert machine.money(1) == (40, 60)
    assert machine.reserve(scopes, nano=1)[0] == BUDGET
    machine.settle(held, nano=59)
    assert machine.money(1) == (99, 0)
    assert machine.reserve(scopes, nano=2)[0] == BUDGET
    found, held = machine.reserve(scopes, nano=1)
    assert found == ADMITTED
    machine.settle(held, nano=1)
    # What costs nothing, or nobody knows what, is refused only now.
    assert machine.reserve(scopes, nano=0)[0] == BUDGET
    assert machine.reserve(scopes, nano=-1)[0] == BUDGET


def test_sums_do_not_overflow(machine: Machine) -> None:
    scopes = Scopes([], [(1, 2**63 - 1, 0)])
    assert machine.reserve(scopes, nano=2**62)[0] == ADMITTED
    assert machine.reserve(scopes, nano=2**62)[0] == BUDGET
    assert machine.reserve(scopes, nano=2**63 - 1)[0] == BUDGET


def test_settling_again_changes_nothing(machine: Machine) -> None:
    scopes = Scopes([WIDE], [(1, 1_000, 0)])
    _, held = machine.reserve(scopes, tokens=5, nano=100)
    for _ in range(2):
        machine.settle(held, tokens=7, nano=30)
        assert machine.used(10) == (1, 7, 0)
        assert machine.money(1) == (30, 0)


def test_a_request_that_never_went_out_gives_all_back(machine: Machine) -> None:
    scopes = Scopes([WIDE], [(1, 1_000, 0)])
    _, held = machine.reserve(scopes, tokens=5, nano=100)
    cancel(*machine.tables[0], held, NOW, DAY)
    assert machine.used(10) == (0, 0, 0)
    assert machine.money(1) == (0, 0)
    assert machine.limits.tokens_of_day(machine.limits.find(10), DAY) == 0


def test_a_billed_attempt_is_charged_and_the_reservation_stays(machine: Machine) -> None:
    _, held = machine.reserve(Scopes([], [(1, 1_000, 0)]), nano=100)
    charge(machine.budgets, held, 30)
    assert machine.money(1) == (30, 100)


def test_tokens_of_a_day_begin_anew_the_next(machine: Machine) -> None:
    scopes = Scopes([(10, NONE, NONE, 10, NONE)], [])
    _, held = machine.reserve(scopes, tokens=8)
    assert machine.reserve(scopes, tokens=3)[0] == TOKENS_DAY
    found, _ = machine.reserve(scopes, tokens=10, day=DAY + 1)
    assert found == ADMITTED
    # What was reserved yesterday and comes to more counts today; less gives today nothing back.
    machine.settle(held, tokens=2, day=DAY + 1)
    assert machine.limits.tokens_of_day(machine.limits.find(10), DAY + 1) == 10


def test_what_is_posted_is_counted_once(machine: Machine) -> None:
    scopes = Scopes([], [(1, 1_000, 500)])
    _, held = machine.reserve(scopes, nano=100)
    machine.settle(held, nano=70)
    entry = machine.budgets.find(1)
    assert (machine.money(1)[0], machine.budgets.unposted_nano(entry)) == (570, 70)
    # The database now has these 70, and 30 of another machine's.
    machine.budgets.post(entry, 70, 600)
    assert (machine.money(1)[0], machine.budgets.unposted_nano(entry)) == (600, 0)
    machine.budgets.post(entry, 0, 0)
    assert machine.money(1) == (0, 0)
    # A key that says what was spent, hours ago, no longer counts.
    assert machine.reserve(Scopes([], [(1, 1_000, 999)]), nano=900)[0] == ADMITTED


def test_what_is_not_posted_is_not_forgotten() -> None:
    machine = Machine(entries=2)
    _, held = machine.reserve(Scopes([], [(1, 1_000, 0)]), nano=10)
    machine.settle(held, nano=10)
    later = NOW + 1_000 * SECOND
    machine.reserve(Scopes([], [(2, 1_000, 0)]), now=later)
    assert machine.reserve(Scopes([], [(3, 1_000, 0)]), now=later)[0] == FULL
    machine.budgets.post(machine.budgets.find(1), 10, 10)
    assert machine.reserve(Scopes([], [(3, 1_000, 0)]), now=later + 2 * SECOND)[0] == ADMITTED
    assert machine.budgets.find(1) == -1


def test_without_an_entry_nothing_is_read_or_written(machine: Machine) -> None:
    budgets = machine.budgets
    budgets.post(-1, 5, 5)
    budgets.seed(-1, 5)
    budgets.charge(-1, 5)
    budgets.end_leases(-1)
    found = [budgets.spent_nano(-1), budgets.reserved_nano(-1), budgets.unposted_nano(-1)]
    found += [budgets.grant(-1, 5), budgets.take_wanted(-1)]
    assert found == [0] * 5
    assert budgets.lease_nano(-1) == -1


def test_a_dead_worker_holds_nothing(machine: Machine) -> None:
    scopes = Scopes([WIDE], [(1, 100, 0)])
    machine.reserve(scopes, worker=1, nano=100)
    assert machine.reserve(scopes, nano=1)[0] == BUDGET
    for table in machine.tables[0]:
        table.release_worker(1)
    assert machine.money(1) == (0, 0)
    assert machine.used(10)[2] == 0


def test_who_was_taken_for_dead_gives_back_no_more_than_is_held(machine: Machine) -> None:
    scopes = Scopes([], [(1, 100, 0)])
    _, held = machine.reserve(scopes, worker=1, nano=100)
    machine.budgets.release_worker(1)
    machine.settle(held, worker=1, nano=0)
    assert machine.money(1) == (0, 0)
    assert machine.reserve(scopes, nano=101)[0] == BUDGET


def test_tokens_of_a_day_outlive_an_idle_hour() -> None:
    machine = Machine(entries=1)
    scopes = Scopes([(10, NONE, NONE, 100, NONE)], [])
    _, held = machine.reserve(scopes, tokens=100)
    machine.settle(held, tokens=100)
    hour = NOW + 3600 * SECOND
    assert machine.reserve(Scopes([(11, 5, NONE, NONE, NONE)], []), now=hour)[0] == FULL
    assert machine.reserve(scopes, now=hour, tokens=1)[0] == TOKENS_DAY
    tomorrow = NOW + 90_000 * SECOND
    assert machine.reserve(Scopes([(11, 5, NONE, NONE, NONE)], []), now=tomorrow)[0] == ADMITTED


def test_two_dead_processes_hold_nobody_up() -> None:
    machine = Machine(3)
    # The table's lock and an entry's, each left by another process that was killed.
    struct.pack_into("<I", machine.memory, 0, 2)
    machine.limits.release_worker(2)
    machine.limits.release_worker(1)
    assert machine.reserve(Scopes([WIDE], []))[0] == ADMITTED


def test_a_share_used_up_does_not_hide_a_budget_that_is(machine: Machine) -> None:
    machine.limits.shares = 4
    scopes = Scopes([(10, 4, NONE, NONE, NONE)], [(1, 100, 100)])
    machine.reserve(Scopes([(10, 4, NONE, NONE, NONE)], []))
    found, held = machine.reserve(scopes)
    assert (found, held.refused) == (BUDGET, 0)


def test_a_lease_is_all_that_is_ours(machine: Machine) -> None:
    scopes = Scopes([], [(1, 1_000, 0)])
    _, held = machine.reserve(scopes, nano=100)
    entry = machine.budgets.find(1)
    assert machine.budgets.lease_nano(entry) == -1
    assert machine.budgets.grant(entry, 50) == 50
    assert machine.reserve(scopes, nano=51)[0] == LEASE
    assert machine.reserve(scopes, nano=60)[0] == LEASE
    assert machine.budgets.take_wanted(entry) == 60
    assert machine.budgets.take_wanted(entry) == 0
    machine.settle(held, nano=40)
    # 100 were held, 40 of them spent, 50 granted: 110 are left.
    assert machine.budgets.lease_nano(entry) == 110
    assert machine.budgets.grant(entry, -1_000) == -110
    assert machine.reserve(scopes, nano=1)[0] == LEASE
    machine.budgets.end_leases(entry)
    assert machine.reserve(scopes, nano=960)[0] == ADMITTED


def test_machines_that_share_begin_with_their_part(machine: Machine) -> None:
    machine.limits.shares = machine.budgets.shares = 4
    scopes = Scopes([(10, 8, NONE, NONE, NONE)], [(1, 1_000, 200)])
    assert machine.reserve(scopes, nano=201)[0] == LEASE
    found = [machine.reserve(scopes, nano=100)[0] for _ in range(3)]
    assert found == [ADMITTED, ADMITTED, LEASE]


def test_scopes_are_bounded_and_distinct() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        Scopes([(n, 1, 1, 1, 1) for n in range(17)], [])
    with pytest.raises(ValueError, match="twice"):
        Scopes([], [(1, 1, 1), (1, 2, 2)])
    with pytest.raises(ValueError, match="twice"):
        Scopes([(0, 1, 1, 1, 1), (2**64 - 1, 1, 1, 1, 1)], [])
    with pytest.raises(ValueError, match="holds nothing"):
        machine = Machine()
        _, held = machine.reserve(Scopes([], []))
        reserve(*machine.tables[0], Scopes([], []), held, NOW, DAY, 0, 0)


class Model(RuleBasedStateMachine):
    """Against sums over a list of what is held and what was spent, by three workers."""

    LIMITS = ((10, 30, 300, 2_000, 4), (11, NONE, 200, NONE, NONE), (12, 20, NONE, NONE, 6))
    BUDGETS = ((1, 5_000, 100), (2, 3_000, 0))

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(3)
        self.open: list[tuple[int, Held, list[Any], list[Any], int, int]] = []
        self.requests = dict.fromkeys((10, 11, 12), 0)
        self.tokens = dict.fromkeys((10, 11, 12), 0)
        self.spent = {1: 100, 2: 0}
        self.seen: set[int] = set()

    @rule(
        limits=st.lists(st.sampled_from(LIMITS), unique=True),
        budgets=st.lists(st.sampled_from(BUDGETS), unique=True),
        worker=st.integers(0, 2),
        tokens=st.integers(0, 80),
        nano=st.integers(0, 900),
    )
    def ask(
        self, limits: list[Any], budgets: list[Any], worker: int, tokens: int, nano: int
    ) -> None:
        found, held = self.machine.reserve(
            Scopes(limits, budgets), worker=worker, tokens=tokens, nano=nano
        )
        self.seen |= {key for key, *_ in budgets}
        assert (found, held.refused if found else 0) == self.expected(limits, budgets, tokens, nano)
        if found == ADMITTED:
            self.open.append((worker, held, limits, budgets, tokens, nano))
            for key, *_ in limits:
                self.requests[key] += 1
                self.tokens[key] += tokens

    def expected(
        self, limits: list[Any], budgets: list[Any], tokens: int, nano: int
    ) -> tuple[int, int]:
        least = max(1, tokens)
        for i, (key, rpm, tpm, tpd, parallel) in enumerate(limits):
            in_flight = sum(key in [name for name, *_ in held[2]] for held in self.open)
            if 0 <= rpm < self.requests[key] + 1:
                return REQUESTS, i
            if 0 <= tpm < self.tokens[key] + least:
                return TOKENS, i
            if 0 <= parallel <= in_flight:
                return PARALLEL, i
            if 0 <= tpd < self.tokens[key] + least:
                return TOKENS_DAY, i
        for i, (key, cap, _) in enumerate(budgets):
            spent = self.spent[key]
            if spent >= cap or spent + self.reserved(key) + nano > cap:
                return BUDGET, i
        return ADMITTED, 0

    def reserved(self, key: int) -> int:
        return sum(held[5] for held in self.open if key in [name for name, *_ in held[3]])

    @precondition(lambda self: self.open)
    @rule(data=st.data(), used=st.integers(-1, 100), cost=st.integers(-1, 900))
    def end(self, data: st.DataObject, used: int, cost: int) -> None:
        i = data.draw(st.integers(0, len(self.open) - 1))
        worker, held, limits, budgets, tokens, _ = self.open.pop(i)
        self.machine.settle(held, worker=worker, tokens=used, nano=cost)
        for key, *_ in limits:
            self.tokens[key] += used - tokens if used >= 0 else 0
        for key, *_ in budgets:
            self.spent[key] += max(0, cost)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        i = data.draw(st.integers(0, len(self.open) - 1))
        worker, held, limits, _, tokens, _ = self.open.pop(i)
        cancel(*self.machine.tables[worker], held, NOW, DAY)
        for key, *_ in limits:
            self.requests[key] -= 1
            self.tokens[key] -= tokens

    @rule(worker=st.integers(0, 2))
    def die(self, worker: int) -> None:
        for table in self.machine.tables[(worker + 1) % 3]:
            table.release_worker(worker)
        self.open = [held for held in self.open if held[0] != worker]

    @rule(key=st.sampled_from((1, 2)), elsewhere=st.integers(0, 50))
    def post(self, key: int, elsewhere: int) -> None:
        if key in self.seen:
            entry = self.machine.budgets.find(key)
            unposted = self.machine.budgets.unposted_nano(entry)
            self.spent[key] += elsewhere
            self.machine.budgets.post(entry, unposted, self.spent[key])

    @invariant()
    def agrees(self) -> None:
        for key, *_ in self.LIMITS:
            if self.machine.limits.find(key) >= 0:
                in_flight = sum(key in [name for name, *_ in held[2]] for held in self.open)
                assert self.machine.used(key) == (self.requests[key], self.tokens[key], in_flight)
        for key in (1, 2):
            if key in self.seen and self.machine.budgets.find(key) >= 0:
                spent, reserved = self.machine.money(key)
                assert reserved == self.reserved(key)
                assert spent in (self.spent[key], 0)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def _hammer(memory: mmap.mmap, sizes: tuple[int, int], worker: int, admitted: Any) -> None:
    limits = LimitTable(Region(memory, 0, sizes[0]), worker)
    budgets = BudgetTable(Region(memory, sizes[0], sizes[1]), worker)
    # Each process names the same scopes in another order.
    names = [(10, NONE, NONE, NONE, 1_000), (11, 150, NONE, NONE, NONE)]
    money = [(1, 100 * 7, 0), (2, 10**9, 0)]
    if worker % 2:
        names.reverse()
        money.reverse()
    scopes = Scopes(names, money)
    count = 0
    for _ in range(1_000):
        held = Held()
        if reserve(limits, budgets, scopes, held, NOW, DAY, 1, 7) == ADMITTED:
            count += 1
            settle(limits, budgets, held, NOW, DAY, 1, 7)
    admitted.put(count)


def test_processes_can_not_overspend_together() -> None:
    sizes = (LimitTable.bytes_for(64), BudgetTable.bytes_for(64))
    memory = mmap.mmap(-1, sum(sizes))
    context = multiprocessing.get_context("fork")
    admitted = context.Queue()
    processes = [
        context.Process(target=_hammer, args=(memory, sizes, worker, admitted))
        for worker in range(4)
    ]
    for process in processes:
        process.start()
    total = sum(admitted.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    budgets = BudgetTable(Region(memory, *sizes), 5)
    limits = LimitTable(Region(memory, 0, sizes[0]), 5)
    assert total == 100
    assert budgets.spent_nano(budgets.find(1)) == 700
    assert limits.requests_used(limits.find(11), NOW) == 100
    assert limits.in_flight(limits.find(10)) == 0
