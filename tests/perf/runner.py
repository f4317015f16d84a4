"""Instruction budgets: how many instructions each operation of the compiled core takes, exactly.

Wall clock says little on a shared machine; instructions repeat. Every `ops_*.py` beside this file
has `OPERATIONS: dict[str, Callable[[], Callable[[], object]]]`: a name, and a function that makes
what the operation needs and returns it, ready to be called without arguments any number of
times. All run in one process under `valgrind --tool=callgrind` (driver.py), which is told to write
its counts down between an operation's runs. An operation is run n times and then 2n times; the
difference, divided by n, is free of whatever comes once. What is left in it of the loop and of
calling an empty function is "gauge: nothing".

`budget.toml` keeps what each operation may take, by toolchain. Going over by more than TOLERANCE
fails; so does an operation without a budget, and a budget without an operation.

    python -m tests.perf.runner             # measure and compare
    python -m tests.perf.runner --update    # measure and write down
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["BUDGET", "budget_of", "measure", "operation_modules", "toolchain", "verdicts", "write"]

ROOT = Path(__file__).parents[2]
BUDGET = Path(__file__).with_name("budget.toml")

TOLERANCE = 0.02
"""Repeated runs differ by less than 0.1 %; a different patch release of Python by about 1 %."""
_COUNT = 100
"""Runs of each operation: enough that what comes every so often (a resized list) evens out."""

_HEAD = """\
# Instructions that an operation may take; written by `python -m tests.perf.runner --update`.
"""
_CC = os.environ.get("CC", "cc")
_TRIGGER = re.compile(r"^desc: Trigger: Client Request: (ready|once|twice) (.+)$", re.MULTILINE)
_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def toolchain() -> str:
    """Return what instruction counts depend on: Python, the compiler of the core, the processor."""
    major, minor, _ = platform.python_version_tuple()
    compiler = _run([_CC, "-dumpversion"]).strip().partition(".")[0]
    return f"cpython-{major}.{minor}-cc{compiler}-{platform.machine()}"


def operation_modules() -> list[str]:
    return [f"tests.perf.{path.stem}" for path in sorted(Path(__file__).parent.glob("ops_*.py"))]


def measure(modules: list[str]) -> dict[str, int]:
    """Return the instructions of each operation. Raises RuntimeError when they can't be counted."""
    with TemporaryDirectory() as folder:
        library = f"{folder}/dump.so"
        _run([_CC, "-shared", "-fPIC", "-o", library, str(Path(__file__).with_name("dump.c"))])
        _run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={folder}/out",
                sys.executable,
                "-m",
                "tests.perf.driver",
                library,
                str(_COUNT),
                *modules,
            ]
        )
        dumps = {}
        for path in Path(folder).glob("out.*"):
            text = path.read_text()
            if found := _TRIGGER.search(text):
                dumps[found[1], found[2]] = int(_TOTALS.findall(text)[0])
    return {
        name: round((dumps["twice", name] - dumps["once", name]) / _COUNT)
        for part, name in sorted(dumps)
        if part == "ready"
    }


def verdicts(counts: dict[str, int], budget: dict[str, int]) -> list[str]:
    """Return what is wrong, an operation a line."""
    wrong = []
    for name in sorted(counts.keys() | budget.keys()):
        if name not in budget:
            wrong.append(f"{name}: {counts[name]} instructions and no budget")
        elif name not in counts:
            wrong.append(f"{name}: a budget of {budget[name]} and no such operation")
        elif counts[name] > budget[name] * (1 + TOLERANCE):
            more = counts[name] / budget[name] - 1
            wrong.append(
                f"{name}: {counts[name]} instructions, budget {budget[name]} ({more:+.1%})"
            )
    return wrong


def budget_of(toolchain: str, path: Path = BUDGET) -> dict[str, int]:
    """Return the budget recorded for `toolchain`; empty: none is."""
    if not path.exists():
        return {}
    budget: dict[str, int] = tomllib.loads(path.read_text()).get(toolchain, {})
    return budget


def write(counts: dict[str, int], toolchain: str, path: Path = BUDGET) -> None:
    """Write `counts` down as the budget of `toolchain`, and leave those of others as they are."""
    budgets = tomllib.loads(path.read_text()) if path.exists() else {}
    budgets[toolchain] = counts
    sections = [
        f'["{name}"]\n'
        + "".join(f"{json.dumps(key)} = {n}\n" for key, n in sorted(budgets[name].items()))
        for name in sorted(budgets)
    ]
    path.write_text("\n".join([_HEAD, *sections]))


def _run(command: list[str]) -> str:
    """Return what a command says. Raises RuntimeError when it is not there or fails."""
    # Set and dict order, and where the allocator puts what, are to be the same in every run.
    env = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.perf.runner", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the counts down")
    update: bool = parser.parse_args().update
    counts = measure(operation_modules())
    budget = budget_of(toolchain())
    for name, count in counts.items():
        change = f"{count / budget[name] - 1:+8.1%}" if name in budget else "     new"
        print(f"{count:10} {change}  {name}")
    if update:
        write(counts, toolchain())
        return 0
    wrong = verdicts(counts, budget)
    print("\n".join(wrong) or "all within their budgets")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
