"""Peers: what requests can be sent through, each described by a TOML file in this folder.

    about      one line for people       verified   false: not run yet by us, `why` says why
    [install]  apt, pip or npm: what to install (npm_overrides: with which versions below it);
               finds: the command or "import MODULE" it gives; hint: how, where we don't install it
    [version]  command
    [files]    name = text, written into the peer's own folder
    [start]    command, environment; none: there is no process (a direct connection); port_file:
               where in its folder it writes the port, when it can't be told one
    [request]  key, headers, model, path (of chat completions, when it is another than OpenAI's),
               max_rate: the most requests/s that it is asked for in open loops

In texts and commands stand ${port}, ${upstream_port}, ${spare_port}, ${folder}, ${key}, ${python}
(this one), ${bin} (where an installed peer's commands are) and ${peers} (this folder).
"""

from __future__ import annotations

import importlib.util
import shutil
import string
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "INSTALLED", "Peer", "Place", "load_peer", "peer_names"]

FOLDER = Path(__file__).resolve().parent
INSTALLED = FOLDER.parent.parent / ".bench"
"""Where `python -m bench install` puts what is not the system's: a folder for each peer."""

_PARTS = {"about", "verified", "why", "install", "version", "files", "start", "request"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: its port, its upstream's port on 127.0.0.1, a folder of its own."""

    port: int
    upstream_port: int
    folder: Path
    spare_port: int = 0
    """For what else it listens on."""


@dataclass(frozen=True)
class Peer:
    """One thing that requests can be sent through."""

    name: str
    about: str = ""
    verified: bool = True
    why: str = ""
    install: dict[str, Any] = field(default_factory=dict)
    version: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The bearer token that its clients send."""
        return str(self.request.get("key", ""))

    def headers(self, place: Place) -> list[str]:
        """Header lines that its clients send besides the key."""
        return [self._filled(line, place) for line in self.request.get("headers", [])]

    @property
    def model(self) -> str:
        return str(self.request.get("model", "sim"))

    @property
    def path(self) -> str:
        return str(self.request.get("path", "/v1/chat/completions"))

    @property
    def max_rate(self) -> float:
        return float(self.request.get("max_rate", 1e9))

    @property
    def owns_folder(self) -> bool:
        """It is installed into its own folder under `.bench`."""
        return "pip" in self.install or "npm" in self.install

    @property
    def bin(self) -> Path:
        if "npm" in self.install:
            return INSTALLED / self.name / "node_modules" / ".bin"
        return INSTALLED / self.name / "bin"

    def missing(self) -> str:
        """Return how to install it, or "" when it can run."""
        finds = self.install.get("finds", "")
        if self.owns_folder:
            # Not from the PATH: the same command of another package may be there.
            found = (self.bin / finds).exists()
        elif finds.startswith("import "):
            found = importlib.util.find_spec(finds[7:]) is not None
        else:
            found = not finds or shutil.which(finds) is not None
        return "" if found else self.install.get("hint", f"python -m bench install {self.name}")

    def command(self, place: Place) -> list[str]:
        """Write what the peer needs into its folder; return how to start it in the foreground.

        Empty: there is no process to start.
        """
        for name, text in self.files.items():
            (place.folder / name).write_text(self._filled(text, place))
        return [self._filled(part, place) for part in self.start.get("command", [])]

    def environment(self, place: Place) -> dict[str, str]:
        """What to add to the environment."""
        given = self.start.get("environment", {})
        return {name: self._filled(value, place) for name, value in given.items()}

    def port_file(self, place: Place) -> Path | None:
        """Where it writes the port that it chose; None: it was told one."""
        name = self.start.get("port_file")
        return place.folder / name if name else None

    def installed_bytes(self) -> int | None:
        """What `python -m bench install` put into its folder; None when it is elsewhere."""
        if not self.owns_folder:
            return None
        files = (INSTALLED / self.name).rglob("*")
        return sum(file.lstat().st_size for file in files if file.is_file())

    def version_command(self) -> list[str]:
        place = Place(0, 0, Path())
        return [self._filled(part, place) for part in self.version.get("command", [])]

    def _filled(self, text: str, place: Place) -> str:
        return string.Template(text).safe_substitute(
            port=place.port,
            upstream_port=place.upstream_port,
            folder=place.folder,
            spare_port=place.spare_port,
            key=self.key,
            python=sys.executable,
            bin=self.bin,
            peers=FOLDER,
        )


def peer_names() -> list[str]:
    """Return the peers there are, the yardsticks first."""
    first = ["direct", "nginx", "haproxy", "fastgate"]
    names = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return [name for name in first if name in names] + [n for n in names if n not in first]


def load_peer(name: str) -> Peer:
    """Read a peer's file. Raises KeyError when there is none, ValueError when it is not right."""
    path = FOLDER / f"{name}.toml"
    if not path.exists():
        raise KeyError(name)
    given = tomllib.loads(path.read_text())
    if unknown := given.keys() - _PARTS:
        raise ValueError(f"{path.name}: expected {', '.join(sorted(_PARTS))}, got {unknown}")
    return Peer(name, **given)
