"""Named comparisons: `python -m bench scenario NAME`.

Each file in `bench/scenarios` is the run behind figures that we publish: which peers, which
figures, how many rounds. Its result goes to `bench/results/<date>-<machine>[-NAME].json`; the one
that says `readme = true` also writes the table between the markers of the README.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from bench.compare import compare
from bench.report.html import page
from bench.report.markdown import readme_table
from bench.stand import ROOT, Failed, end_on_sigterm
from bench.summary import table

__all__ = ["load_scenario", "main", "write_between_markers"]

FOLDER = Path(__file__).resolve().parent / "scenarios"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def load_scenario(name: str) -> dict[str, Any]:
    """Read a scenario's file. Raises KeyError when there is none."""
    path = FOLDER / f"{name}.toml"
    if not path.exists():
        raise KeyError(name)
    return tomllib.loads(path.read_text())


def scenario_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def write_between_markers(text: str, new: str) -> str:
    """Put `new` between the markers. Raises ValueError when they are not there."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"expected {BEGIN} and {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{new}{END}{rest.partition(END)[2]}"


def machine_name(machine: dict[str, Any]) -> str:
    cpu = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    return f"{cpu.removeprefix('amd-').removeprefix('intel-r-')}-{machine['cores']}core"


def main(argv: list[str]) -> int:
    names = scenario_names()
    about = "\n".join(f"  {name:<12}{load_scenario(name)['about']}" for name in names)
    parser = argparse.ArgumentParser(
        prog="python -m bench scenario",
        description=f"{__doc__}\nscenarios:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=names)
    parser.add_argument("--rounds", type=int, default=0, help="instead of the scenario's own")
    parser.add_argument("--html", default="", metavar="FILE")
    options = parser.parse_args(argv)
    end_on_sigterm()
    scenario = load_scenario(options.name)
    rounds = options.rounds or scenario["rounds"]
    try:
        report = compare(scenario["peers"], scenario["figures"], rounds, 1.0)
    except (Failed, OSError) as error:
        print(f"scenario: {error}", file=sys.stderr)
        return 1
    report["command"] = f"python -m bench scenario {options.name}"
    print(table(report["figures"], report["peers"]))
    suffix = "" if scenario.get("readme") else f"-{options.name}"
    stem = f"{report['machine']['when'][:10]}-{machine_name(report['machine'])}{suffix}"
    result = ROOT / "bench/results" / f"{stem}.json"
    result.parent.mkdir(exist_ok=True)
    result.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {result.relative_to(ROOT)}")
    if options.html:
        Path(options.html).write_text(page(report))
    if scenario.get("readme"):
        readme = ROOT / "README.md"
        readme.write_text(write_between_markers(readme.read_text(), readme_table(report)))
        print("written: the table in README.md")
    return 0
