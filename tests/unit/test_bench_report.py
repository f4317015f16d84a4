"""Reports of comparisons: the page in a browser, the tables, the difference of two, scenarios."""

from __future__ import annotations

import copy
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from bench.compare import compare
from bench.diff import changes
from bench.diff import main as diff
from bench.figures import FIGURES, Measured
from bench.peers.peer import peer_names
from bench.procfs import Disturbance
from bench.report.command import main as report_command
from bench.report.command import read_report, screenshot
from bench.report.html import page
from bench.report.markdown import markdown, readme_table
from bench.scenario import load_scenario, scenario_names, write_between_markers
from bench.stand import ROOT, Failed
from bench.summary import summary

CALM = Disturbance(0.0, 0.0)


def measured(**values: float) -> Measured:
    return Measured(values, CALM, "a <command>")


def a_report(ours: float = 12.0) -> dict[str, Any]:
    rounds = {
        ("plain_c64", "nginx"): [measured(cpu_us=10.0, per_s=50_000.0) for _ in range(3)],
        ("plain_c64", "fastgate"): [measured(cpu_us=ours, per_s=45_000.0) for _ in range(3)],
        ("ttft_50rps", "direct"): [measured(p50_ms=0.4, rate=50.0)],
        ("ttft_50rps", "nginx"): [measured(p50_ms=0.5, rate=50.0)],
        ("ttft_50rps", "fastgate"): [measured(p50_ms=0.55, rate=20.0)],
    }
    places = [(2.0, 0.5), (100.0, 0.9)]
    return {
        "schema": "fastgate-compare/1",
        "machine": {
            "cpu": "A & B <cpu>",
            "cores": 2,
            "kernel": "6.1",
            "python": "3.11",
            "commit": "0123456789abcdef",
            "uncommitted": False,
            "when": "2026-11-23T00:00:00+00:00",
        },
        "rounds": 3,
        "peers": {
            name: {"about": f"about {name}", "version": "v1" if name == "nginx" else ""}
            for name in ("direct", "nginx", "fastgate")
        },
        "skipped": {"litellm": "try: python -m bench install litellm"},
        "failures": {"plain_c64 envoy": "does not answer"},
        "figures": summary(rounds),
        "commands": {"plain_c64 nginx": "a <command>"},
        "details": {
            f"ttft_50rps {name}": {"percentiles": places, "timeline": [(0.0, 0.5), (1.0, 0.6)]}
            for name in ("nginx", "fastgate")
        },
        "command": "python -m bench compare --only x",
    }


def test_the_page_says_everything_and_needs_nothing_from_elsewhere() -> None:
    text = page(a_report())
    assert "A &amp; B &lt;cpu&gt;" in text
    assert "a &lt;command&gt;" in text
    for said in ("0123456789ab", "about nginx", "litellm is not installed", "envoy failed"):
        assert said in text
    assert "fastgate was asked for 20/s only" in text
    assert text.count("<svg") == 5
    assert not re.search(r"(src|href)=|<script|url\(|@import", text)


def top_row(png: Path) -> set[tuple[int, ...]]:
    """The colours of the first row of a PNG of 8 bits without interlacing."""
    data = png.read_bytes()
    width, _height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    raw, at = b"", 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        raw += data[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += length + 12
    coded = zlib.decompress(raw)[: width * size + 1]
    row = bytearray(coded[1:])
    # Filters of a first row: 1 and 4 add the pixel to the left, 3 half of it, 0 and 2 nothing.
    for i in range(size, len(row)):
        row[i] = (
            row[i] + {1: row[i - size], 4: row[i - size], 3: row[i - size] // 2}.get(coded[0], 0)
        ) & 255
    return {tuple(row[i : i + 3]) for i in range(0, len(row), size)}


@pytest.mark.parametrize(
    ("width", "dark", "paper"),
    [(1200, False, (255, 255, 255)), (390, False, (255, 255, 255)), (1200, True, (13, 17, 23))],
)
def test_a_browser_draws_it(
    tmp_path: Path, width: int, dark: bool, paper: tuple[int, int, int]
) -> None:
    html, png = tmp_path / "report.html", tmp_path / "report.png"
    html.write_text(page(a_report()))
    options = ["--blink-settings=preferredColorScheme=0"] if dark else []
    screenshot(html, png, width, 1500, *options)
    assert top_row(png) == {paper}
    assert png.stat().st_size > 10_000


def test_without_a_browser_it_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="a browser is needed"):
        screenshot(tmp_path / "a.html", tmp_path / "a.png")


def test_tables() -> None:
    report = a_report()
    assert "| plain_c64 cpu_us |  | 10.000 | 12.000 | **1.20** |" in markdown(report)
    readme = readme_table(report)
    assert "| CPU µs per request, 64 connections |  | 10.0 | 12.0 | **1.20** |" in readme
    assert "| added to it over a direct connection, ms |  | 0.10 | 0.15 |  |" in readme
    assert "2026-11-23, 2 cores" in readme
    assert "`python -m bench compare --only x`" in readme


def noisy(report: dict[str, Any], spread: float) -> dict[str, Any]:
    made = copy.deepcopy(report)
    for peers in made["figures"].values():
        for values in peers.values():
            for row in values.values():
                if isinstance(row, dict):
                    row["spread"] = spread
    return made


@pytest.mark.parametrize(
    ("after", "spread", "verdict"),
    [(12.1, 0.0, "same"), (14.0, 0.0, "worse"), (10.0, 0.0, "better"), (14.0, 0.3, "same")],
)
def test_a_change_counts_when_it_is_more_than_noise(
    after: float, spread: float, verdict: str
) -> None:
    found = {
        (change.peer, change.value): change
        for change in changes(noisy(a_report(), spread), noisy(a_report(after), spread))
    }
    assert found["fastgate", "cpu_us"].verdict == verdict
    assert found["fastgate", "cpu_us"].as_ratio
    assert found["nginx", "cpu_us"].verdict == "same"


def test_diff_and_report_as_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps(a_report()))
    two.write_text(json.dumps(a_report(15.0)))
    assert diff([str(one), str(one)]) == 0
    assert diff([str(one), str(two)]) == 1
    assert "worse  plain_c64 fastgate cpu_us: 1.2 -> 1.5 (+25.0%" in capsys.readouterr().out
    assert report_command([str(one)]) == 0
    assert "| plain_c64 cpu_us |" in capsys.readouterr().out
    two.write_text("{}")
    assert diff([str(one), str(two)]) == 2
    assert report_command([str(two)]) == 1
    assert "expected a report of" in capsys.readouterr().err


def test_a_report_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"schema": "fastgate-compare/0"}')
    with pytest.raises(ValueError, match="expected schema"):
        read_report(str(tmp_path / "a.json"))


@pytest.mark.parametrize("name", scenario_names())
def test_scenarios_name_what_there_is(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario["about"]
    assert set(scenario["figures"]) <= FIGURES.keys()
    assert set(scenario["peers"]) <= set(peer_names())
    assert scenario["rounds"] >= 2


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = "a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb\n"
    new = write_between_markers(text, "new\n")
    assert new == "a\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nb\n"
    with pytest.raises(ValueError, match="expected <!--"):
        write_between_markers("a", "b")
    readme = (ROOT / "README.md").read_text()
    assert write_between_markers(readme, "x\n") != readme


def test_every_number_of_the_readme_s_table_is_in_a_result() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("<!-- bench:begin -->")[2].partition("<!-- bench:end -->")[0]
    results = sorted((ROOT / "bench/results").glob("*.json"))
    assert any(table.strip() == readme_table(read_report(str(path))).strip() for path in results)


def test_a_comparison_needs_figures_that_exist() -> None:
    with pytest.raises(Failed, match="no figure nothing"):
        compare(["direct"], ["nothing"], 1, 1.0)
