"""A TCP proxy on loopback that does to bytes what networks do: it splits, delays and cuts them."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ChaosProxy", "Weather"]


@dataclass(frozen=True)
class Weather:
    """What happens to one connection, each direction by itself."""

    piece_bytes: int = 0
    """Pass on pieces of 1 to so many bytes; 0: as they come."""
    stall_after_bytes: int = -1
    """Pass on nothing more after so many; -1: no stall."""
    cut_after_bytes: int = -1
    """End after so many; -1: no cut."""
    reset: bool = False
    """The cut is a RST, not a FIN."""
    hit_upward: bool = False
    """Stall and cut what the client says, not what it is answered."""


class ChaosProxy:
    """Forwards `port` to `target_port`; `weather()` is asked for each connection."""

    def __init__(self, target_port: int, weather: Callable[[], Weather], seed: int) -> None:
        self.target_port = target_port
        self.weather = weather
        self.port = 0
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and break all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        weather = self.weather()
        calm = Weather(weather.piece_bytes)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target_port)
            up, down = (weather, calm) if weather.hit_upward else (calm, weather)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far, up))
                group.create_task(self._pump(far_reader, writer, down))
        except* (OSError, _Over):
            if weather.reset:
                for each in (writer, far):
                    reset(each)
        finally:
            for each in (writer, far):
                if each is not None:
                    each.close()
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: Weather
    ) -> None:
        """Pass bytes on until one side ends; always ends with _Over, so that both directions do."""
        passed = 0
        while data := await reader.read(64 * 1024):
            at = 0
            while at < len(data):
                size = len(data) - at
                if weather.piece_bytes:
                    size = self._random.randint(1, min(size, weather.piece_bytes))
                if weather.cut_after_bytes >= 0:
                    size = min(size, weather.cut_after_bytes - passed)
                if 0 <= weather.stall_after_bytes <= passed:
                    await asyncio.Event().wait()
                writer.write(data[at : at + size])
                await writer.drain()
                # Let the piece leave by itself.
                await asyncio.sleep(0)
                at += size
                passed += size
                if passed == weather.cut_after_bytes:
                    raise _Over
        raise _Over


class _Over(Exception):
    """This direction has ended."""


def reset(writer: asyncio.StreamWriter | None) -> None:
    """Break a connection with a RST."""
    if writer is not None and not writer.transport.is_closing():
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
