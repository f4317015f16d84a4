"""Processes that tests start: the simulated engine and the gateway; output goes to a file each."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["FASTGATE", "ROOT", "Engine", "Gateway", "Process"]

ROOT = Path(__file__).parents[1]

# Both start in well under a second; a loaded machine may take several times that.
START_S = 20.0
STOP_S = 15.0
# How often a file or a port is looked at while waiting for it.
POLL_S = 0.01

# The console script, but of this interpreter and this tree.
FASTGATE = [sys.executable, "-c", "import sys; from fastgate.cli import main; sys.exit(main())"]

# What no log of a healthy gateway holds.
TROUBLE = ("Traceback", "Exception", "Task was destroyed", "never retrieved", "never awaited")


class Process:
    """A child whose stdout and stderr go to one file."""

    def __init__(self, log_path: Path, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.log_path = log_path
        self.command = list(command)
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **env}
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def log(self) -> str:
        """Return what it has written so far."""
        return self.log_path.read_text(errors="replace")

    def spawn(self) -> None:
        """Start it, with an empty log."""
        with self.log_path.open("wb") as output:
            self.child = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, env=self.env
            )

    def wait_for(self, text: str) -> None:
        """Return once its output holds `text`."""
        deadline = time.monotonic() + START_S
        while text not in self.log():
            self.check_alive(deadline, repr(text))

    def check_alive(self, deadline: float, waiting_for: str) -> None:
        """Sleep one poll; fail when the child is dead or the time is up."""
        assert self.child is not None
        status = self.child.poll()
        if status is not None:
            raise AssertionError(f"{self.command} exited with {status}:\n{self.log()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"no {waiting_for} within {START_S} s:\n{self.log()}")
        time.sleep(POLL_S)

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    def stop(self) -> int:
        """End it with SIGTERM and return its exit status; a child that doesn't end is killed."""
        if self.child is None:
            return 0
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"still running {STOP_S} s after SIGTERM:\n{self.log()}") from None


class Engine(Process):
    """`python -m bench engine` on a free port."""

    def __init__(self, log_path: Path, *options: str) -> None:
        super().__init__(
            log_path, [sys.executable, "-m", "bench", "engine", "--port", "0", *options], {}
        )
        self.port = 0

    @property
    def url(self) -> str:
        """The base URL that a deployment's `api_base` takes."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Return once it listens."""
        self.spawn()
        self.wait_for("\n")
        line = self.log().partition("\n")[0]
        assert line.startswith("listening on "), line
        self.port = int(line.rpartition(":")[2])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON answer of one of its own routes, such as GET /sim/log."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer) if answer else None


class Gateway(Process):
    """`fastgate serve` with a configuration of its own, in a folder of its own."""

    def __init__(
        self,
        home: Path,
        config: Mapping[str, Any],
        port: int,
        options: Sequence[str],
        env: Mapping[str, str],
    ) -> None:
        home.mkdir()
        self.config_path = home / "config.yaml"
        self.port = port
        self.write_config(config)
        serve = ["serve", "--config", str(self.config_path), "--port", str(port)]
        if "--workers" not in options:
            serve += ["--workers", "1"]
        super().__init__(
            home / "gateway.log",
            [*FASTGATE, *serve, *options],
            {"FASTGATE_HOME": str(home), **env},
        )

    @property
    def url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace the configuration file, as one rename; SIGHUP makes it count."""
        scratch = self.config_path.with_suffix(".new")
        scratch.write_text(yaml.safe_dump(dict(config)))
        scratch.rename(self.config_path)

    def start(self) -> None:
        """Return once it is ready to serve."""
        self.spawn()
        deadline = time.monotonic() + START_S
        while not self.ready():
            self.check_alive(deadline, "readiness")

    def ready(self) -> bool:
        """Return whether /health/readiness answers 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health/readiness")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of its log that are JSON: the access log and its own events."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def assert_clean(self) -> None:
        """Fail when the log holds a traceback or a forgotten task."""
        log = self.log()
        found = [word for word in TROUBLE if word in log]
        assert not found, f"{found} in the log of the gateway:\n{log}"
