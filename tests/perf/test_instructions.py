import os
import shutil
from pathlib import Path

import pytest

from tests.perf import runner

# FASTGATE_PERF=required, as CI sets it, makes what would be skipped fail.
REQUIRED = os.environ.get("FASTGATE_PERF") == "required"


def unavailable(reason: str) -> None:
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    if shutil.which("valgrind") is None:
        unavailable("valgrind is not installed")
    return runner.measure(runner.operation_modules())


# Everything is 50 times slower under callgrind: half a minute for all on an idle machine.
@pytest.mark.timeout(300)
def test_every_operation_stays_within_its_budget(counts: dict[str, int]) -> None:
    toolchain = runner.toolchain()
    budget = runner.budget_of(toolchain)
    if not budget:
        unavailable(
            f"no budget for {toolchain}: `python -m tests.perf.runner --update` records one"
        )
    wrong = runner.verdicts(counts, budget)
    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(300)
def test_three_percent_more_work_is_seen_and_the_same_work_is_not(counts: dict[str, int]) -> None:
    less, more = counts["gauge: work_of_1000"], counts["gauge: work_of_1030"]
    assert more / less == pytest.approx(1.03, abs=0.001)
    assert runner.verdicts({"work": more}, {"work": less}) == [
        f"work: {more} instructions, budget {less} (+3.0%)"
    ]
    assert runner.verdicts({"work": less}, {"work": less}) == []
    assert runner.verdicts({"work": less}, {"work": more}) == []


def test_the_verdict_falls_above_two_percent() -> None:
    assert runner.verdicts({"a": 10_200}, {"a": 10_000}) == []
    assert len(runner.verdicts({"a": 10_201}, {"a": 10_000})) == 1


def test_an_operation_without_a_budget_fails_and_so_does_a_budget_without_an_operation() -> None:
    assert runner.verdicts({"new": 5, "kept": 7}, {"old": 6, "kept": 7}) == [
        "new: 5 instructions and no budget",
        "old: a budget of 6 and no such operation",
    ]


def test_updating_one_toolchain_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    assert runner.budget_of("a", path) == {}
    runner.write({'x: 1, "quoted"': 5}, "a", path)
    runner.write({"x": 6}, "b", path)
    runner.write({"y": 7, "x": 6}, "b", path)
    assert runner.budget_of("a", path) == {'x: 1, "quoted"': 5}
    assert runner.budget_of("b", path) == {"x": 6, "y": 7}
    assert runner.budget_of("c", path) == {}


def test_what_fails_under_valgrind_is_an_error_not_a_count() -> None:
    if shutil.which("valgrind") is None:
        unavailable("valgrind is not installed")
    with pytest.raises(RuntimeError, match="ops_of_nobody"):
        runner.measure(["tests.perf.ops_of_nobody"])
