"""A real PostgreSQL for tests: its own data folder, a free loopback port, gone afterwards.

The server refuses to run as root, so root's tests start it as `nobody`.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

__all__ = ["Postgres"]

# Nothing of it outlives the test: durability would only cost time.
_SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=16MB")


class Postgres:
    """One server; `database()` makes an empty database for one test."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fastgate-postgres-"))
        self._server: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._run(
            _binary("initdb"),
            *("-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust"),
            *("--no-sync", "--encoding=UTF8", "--locale=C"),
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start_server()

    def start_server(self) -> None:
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *(_binary("postgres"), "-D", str(self._folder / "data")),
                    *("-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder)),
                    *settings,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_unprivileged(),
            )
        self._run(
            *(_binary("pg_isready"), "-q", "-t", "1", "-h", "127.0.0.1", "-p", str(self.port)),
            tries=100,
        )

    def stop_server(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGINT)  # fast: does not wait for its clients
        self._server.wait(10)

    def stop(self) -> None:
        if self._server is not None:
            self.stop_server()
        shutil.rmtree(self._folder)

    def database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex}"
        self._run(
            *(_binary("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        )
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _run(self, *command: str, tries: int = 1) -> None:
        for attempt in range(1, tries + 1):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                cwd=self._folder,
                **_unprivileged(),
            )
            if done.returncode == 0:
                return
            assert attempt < tries, (command, done.stderr)
            assert self._server is None or self._server.poll() is None, "it ended: see its log"
            try:
                # It says when it is ready to nobody: look again a little later.
                self._server.wait(0.05) if self._server else None
            except subprocess.TimeoutExpired:
                pass


def _unprivileged() -> dict[str, str | int]:
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.geteuid() == 0 else {}


def _binary(name: str) -> str:
    # Debian keeps the server's programs out of PATH.
    found = shutil.which(name) or next(
        iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None
    )
    assert found, f"{name} is missing: apt-get install postgresql"
    return found
