"""The sockets that clients connect to: bound and kept by the supervisor, inherited by workers.

Each place of a worker has TCP sockets of its own on the same port (SO_REUSEPORT), so that the
kernel spreads connections and no two workers wake up for one. Since the supervisor holds them too,
a killed worker's queue of connections waits for its successor instead of being reset, and the
kernel's spreading never changes.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Any, NamedTuple

__all__ = [
    "Address",
    "BindError",
    "Listeners",
    "PrivateSocket",
    "bind",
    "bind_unix",
    "is_exposed",
    "resolve",
]

# The kernel cuts it to net.core.somaxconn, which is 4,096 since Linux 5.4.
BACKLOG = 4096

# sun_path has 108 bytes, with the zero at its end.
_MAX_UNIX_PATH = 107


class BindError(Exception):
    """A listener can't be opened; the text says which and why."""


class Address(NamedTuple):
    """Where to bind."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


class Listeners(NamedTuple):
    """Open sockets. `places`: each worker's own; `shared`: everyone's."""

    places: list[list[socket.socket]]
    shared: list[socket.socket]
    urls: list[str]
    unix_path: str
    exposed: bool
    """Other machines can connect."""

    def of(self, place: int) -> list[socket.socket]:
        """Return what the worker in `place` accepts on."""
        return self.places[place] + self.shared

    def close(self) -> None:
        for listener in [*(sock for place in self.places for sock in place), *self.shared]:
            listener.close()
        if self.unix_path:
            _unlink(self.unix_path)


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of `host`, each once. Raises BindError."""
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise BindError(f"host {host!r}: {error.strerror}") from None
    # A name may be listed twice in /etc/hosts.
    return list(dict.fromkeys(Address(family, at) for family, _, _, _, at in found))


def is_exposed(addresses: list[Address]) -> bool:
    """Return whether another machine could connect to any of `addresses`."""
    return any(
        not (host.startswith("127.") or host == "::1")
        for host in (a.sockaddr[0] for a in addresses)
    )


def bind(
    addresses: list[Address], unix_socket: str, places: int, scheme: str, exposed: bool
) -> Listeners:
    """Open the listeners for `places` workers. Raises BindError, and then leaves nothing open."""
    listeners = Listeners([[] for _ in range(places)], [], [], unix_socket, exposed)
    try:
        _bind_tcp(listeners, addresses, scheme)
        if unix_socket:
            listeners.shared.append(bind_unix(unix_socket))
            listeners.urls.append(f"unix:{unix_socket}")
    except BindError:
        listeners._replace(unix_path="").close()
        raise
    return listeners


def _bind_tcp(listeners: Listeners, addresses: list[Address], scheme: str) -> None:
    port = 0
    failed: OSError | None = None
    for family, sockaddr in addresses:
        # Port 0 is any port, but the same one for all places and addresses.
        at = (sockaddr[0], port or sockaddr[1], *sockaddr[2:])
        try:
            if at[1]:
                _open(family, at, alone=True).close()
            for place in listeners.places:
                place.append(_open(family, at, alone=False))
                at = (at[0], port := place[-1].getsockname()[1], *at[2:])
        except OSError as error:
            failed = error
            # "localhost" is two addresses, also where IPv6 is switched off.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            raise BindError(f"{_url(scheme, at)}: {error.strerror}") from None
        listeners.urls.append(_url(scheme, at))
    if not listeners.urls and failed is not None:
        raise BindError(f"{_url(scheme, addresses[0].sockaddr)}: {failed.strerror}")


def _open(family: int, at: tuple[Any, ...], *, alone: bool) -> socket.socket:
    """Return a listening socket; `alone`: one that fails when anybody listens there.

    With SO_REUSEPORT a second gateway of the same user would start without an error and get half of
    the connections.
    """
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not alone:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "::" means every address, as containers use it; the rest is exactly what it says.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(at[0] != "::"))
        listener.bind(at)
        if not alone:
            listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def bind_unix(path: str) -> socket.socket:
    """Return a listening Unix socket, in place of what a dead process left. Raises BindError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            _unlink(path)
        listener.bind(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise BindError(f"unix:{path}: {error.strerror or error}") from None
    return listener


class PrivateSocket:
    """A listening Unix socket in a folder that only this user can enter; both go with `close`."""

    def __init__(self, name: str) -> None:
        folder = f"fastgate-{os.getpid()}-{os.urandom(4).hex()}"
        self._folder = os.path.join(_runtime_root(os.path.join(folder, name)), folder)
        self.path = os.path.join(self._folder, name)
        try:
            # Fails when it is there: nobody can have prepared it.
            os.mkdir(self._folder, 0o700)
        except OSError as error:
            raise BindError(f"{self._folder}: {error.strerror}") from None
        self._socket = bind_unix(self.path)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()
        _unlink(self.path)
        os.rmdir(self._folder)


def _runtime_root(inside: str) -> str:
    """Return the first folder for such things that is there and leaves room for `inside`."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        root = os.environ.get(name, "")
        # Containers and cron jobs inherit the variable without the folder.
        if os.access(root, os.W_OK | os.X_OK) and len(os.path.join(root, inside)) <= _MAX_UNIX_PATH:
            return root
    return "/tmp"  # noqa: S108


def _is_left_over(path: str) -> bool:
    """Return whether `path` is a socket that nobody listens on."""
    # Connecting to a plain file is refused, too.
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _url(scheme: str, at: tuple[Any, ...]) -> str:
    host = f"[{at[0]}]" if ":" in str(at[0]) else at[0]
    return f"{scheme}://{host}:{at[1]}"
