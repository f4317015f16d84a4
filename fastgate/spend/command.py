"""`fastgate spend verify`: the command line of verify.py. A database driver and all else that it
needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgate.home import home as default_home

if TYPE_CHECKING:
    from fastgate.spend.verify import Report

__all__ = ["add_verify"]

_VERIFY = """\
Check that the books agree: the rows of spend_logs with the roll-up by day, the roll-up with the
balance of each key, team, user, customer, organization and tag, and the journals with the rows.
Changes nothing. Exit status 0: all agree, 1: they do not, 2: they could not be read.

Of a running gateway, what was settled within the last second may not be a row yet; --wait is how
long to wait for that.
"""


def add_verify(commands: Any) -> None:
    """Add the command to the sub-commands of `fastgate spend`."""
    parser = commands.add_parser(
        "verify",
        help="check that rows, balances and journals agree",
        description=_VERIFY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--database", metavar="URL", help="(default: DATABASE_URL, else SQLite in the home folder)"
    )
    parser.add_argument(
        "--home", metavar="DIR", help="where the journals are (default: FASTGATE_HOME or .fastgate)"
    )
    parser.add_argument("--wait", type=float, default=5.0, metavar="S", help="(default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415  as all in here
    import json  # noqa: PLC0415

    from fastgate.store import StoreError  # noqa: PLC0415

    home = Path(arguments.home) if arguments.home else default_home()
    url = arguments.database or os.environ.get("DATABASE_URL")
    if not url:
        file = (home / "fastgate.db").resolve()
        if not file.exists():
            print(f"fastgate spend verify: no database: {file} is not there; --database names one")
            return 2
        url = f"sqlite:///{file}"
    try:
        report = asyncio.run(_verify(url, home / "journal", arguments.wait))
    except (StoreError, OSError) as error:
        print(f"fastgate spend verify: {error}")
        return 2
    if arguments.json:
        print(json.dumps({**report._asdict(), "findings": [f._asdict() for f in report.findings]}))
    else:
        _print(report)
    return 1 if report.findings or report.waiting else 0


async def _verify(url: str, journals: Path, wait_s: float) -> Report:
    import asyncio  # noqa: PLC0415  as all in here

    from fastgate.spend.verify import verify  # noqa: PLC0415
    from fastgate.store import open_store  # noqa: PLC0415

    store = await open_store(url)
    try:
        until = time.monotonic() + wait_s
        report = await verify(store, journals)
        while report.waiting and time.monotonic() < until:
            await asyncio.sleep(0.2)
            report = await verify(store, journals)
        return report
    finally:
        await store.close()


def _print(report: Report) -> None:
    for what, expected, found in report.findings:
        print(f"{what}: expected {expected}, found {found}" if expected != found else what)
    if report.waiting:
        print(f"{report.waiting} requests are over and not posted: is a gateway running?")
    verdict = "differ" if report.findings or report.waiting else "agree"
    print(
        f"the books {verdict}: {report.requests} requests, {report.spend_nano_usd / 1e9:.9f} USD,"
        f" {report.balances} balances, {report.open} requests under way"
    )
