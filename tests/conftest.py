"""Shared fixtures: real processes on loopback, event loops, and what the report's head says.

`start_engine(*args)` and `gateway(config, *args)` are factories: a test may start several of each.
Whatever they start is stopped when the test ends, and a gateway's log must then be clean.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import uvloop
from blockbuster import blockbuster_ctx

from tests.postgres import Postgres
from tests.processes import Engine, Gateway

CORE = sorted(path.stem for path in Path("fastgate/_core").glob("*.pyx"))


def _debug_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "debug": _debug_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run async tests on the loops named in FASTGATE_TEST_LOOPS; default: the one we serve on."""
    return {
        name: LOOPS[name] for name in os.environ.get("FASTGATE_TEST_LOOPS", "uvloop").split(",")
    }


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is being tested: which Python, and where each compiled module was loaded from."""
    lines = [f"fastgate: {platform.python_implementation()} {platform.python_version()}"]
    for name in CORE:
        try:
            module = importlib.import_module(f"fastgate._core.{name}")
        except ImportError as error:
            lines.append(f"fastgate._core.{name}: {error}")
        else:
            lines.append(f"fastgate._core.{name}: {module.__file__}")
    return lines


# How long an example takes says something of the machine, not of the code.
hypothesis.settings.register_profile("fastgate", deadline=None)
hypothesis.settings.load_profile("fastgate")


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail a test when code of ours makes a blocking call while an event loop runs."""
    with blockbuster_ctx("fastgate") as guard:
        # Before it connects, asyncpg looks for ~/.pgpass and certificates. Only control connects.
        for function in guard.functions.values():
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
        yield


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that gives a TCP port of 127.0.0.1 which nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


@pytest.fixture
def start_engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Return a factory of simulated engines: `start_engine("--ttft-ms", "50")`."""
    started: list[Engine] = []

    def start(*options: str) -> Engine:
        engine = Engine(tmp_path / f"engine-{len(started)}.log", *options)
        started.append(engine)
        engine.start()
        return engine

    yield start
    for engine in started:
        engine.stop()


@pytest.fixture
def engine(start_engine: Callable[..., Engine]) -> Engine:
    """Return a simulated engine that answers at once."""
    return start_engine()


@pytest.fixture
def gateway(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Gateway]]:
    """Return a factory of running gateways: `gateway(config, "--workers", "2", env={...})`."""
    started: list[Gateway] = []

    def start(
        config: Mapping[str, Any], *options: str, env: Mapping[str, str] | None = None
    ) -> Gateway:
        home = tmp_path / f"gateway-{len(started)}"
        gateway = Gateway(home, config, free_port(), options, env or {})
        started.append(gateway)
        gateway.start()
        return gateway

    yield start
    # Each is stopped before any is judged, so that one dirty log leaves nothing running.
    for running in started:
        running.stop()
    for stopped in started:
        stopped.assert_clean()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a running PostgreSQL server."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return a function that gives the URL of an empty database: `new_database("sqlite")`."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/store.db"
        url: str = request.getfixturevalue("postgres").database()
        return url

    return make
