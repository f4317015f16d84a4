"""`python -m bench report FILE.json`: what `compare --json` wrote, as HTML, Markdown or PNG."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.report.html import page
from bench.report.markdown import markdown

__all__ = ["BROWSERS", "main", "read_report", "screenshot"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench report", description=__doc__)
    parser.add_argument("file", metavar="FILE.json")
    parser.add_argument("--html", default="", metavar="FILE")
    parser.add_argument("--markdown", default="", metavar="FILE", help="- for standard output")
    parser.add_argument("--png", default="", metavar="FILE", help="needs a Chromium")
    options = parser.parse_args(argv)
    try:
        report = read_report(options.file)
        if options.html:
            Path(options.html).write_text(page(report))
        if options.markdown == "-" or not (options.html or options.markdown or options.png):
            print(markdown(report), end="")
        elif options.markdown:
            Path(options.markdown).write_text(markdown(report))
        if options.png:
            with tempfile.TemporaryDirectory() as folder:
                html = Path(folder) / "report.html"
                html.write_text(page(report))
                screenshot(html, Path(options.png))
    except (OSError, ValueError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    return 0


def read_report(path: str) -> dict[str, Any]:
    """Read a report of `compare`. Raises OSError, ValueError."""
    try:
        report: dict[str, Any] = json.loads(Path(path).read_text())
        schema = report["schema"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"expected a report of `python -m bench compare --json`: {path}") from None
    if schema != "fastgate-compare/1":
        raise ValueError(f"expected schema fastgate-compare/1, got {schema!r}: {path}")
    return report


def screenshot(html: Path, png: Path, width: int = 1200, height: int = 2600, *options: str) -> None:
    """Draw a page with a Chromium that is installed. Raises OSError when none is, or it fails."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"a browser is needed (one of {', '.join(BROWSERS)})")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser,
                *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--screenshot={png}",
                *options,
                html.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if done.returncode or not png.exists():
        raise OSError(f"{browser} failed: {done.stderr[-500:]}")
