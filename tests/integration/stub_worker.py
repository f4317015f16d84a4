"""A worker as the supervisor sees one, without a gateway in it.

A connection sends lines and gets each back as JSON with who answered. One that has said "begin" is
work in flight until it says "end". STUB_WORKER=broken in the environment: it never comes up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from typing import Any

from fastgate.channel import LoopChannel, Message
from fastgate.config.snapshot import decode
from fastgate.observe import memory as shared_memory


class StubWorker:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.loop = asyncio.get_running_loop()
        self.slot = arguments.slot
        self.listeners = [socket.socket(fileno=int(fd)) for fd in arguments.listen_fd.split(",")]
        self.memory = shared_memory.open(arguments.memory_fd, arguments.slot)
        self.connections = self.memory.metrics(arguments.slot).gauge("fastgate_connections")
        self.servers: list[asyncio.Server] = []
        self.active = 0
        self.version = 0
        self.settings: dict[str, Any] = {}
        self.changed: list[dict[str, Any]] = []
        self.draining = self.stopping = False
        self.ended = asyncio.Event()
        self.channel = LoopChannel(arguments.channel_fd, self.loop, self.on_message, self.on_closed)

    def on_message(self, message: Message) -> None:
        if message.kind == "snapshot":
            decode(message.blob)
            first, self.version = self.version == 0, message.fields["version"]
            self.channel.send("snapshot_applied", {"version": self.version})
            if first:
                self.starting = self.loop.create_task(self.listen())
        elif message.kind == "principals_changed":
            self.changed.append(message.fields)
        elif message.kind == "drain":
            self.draining = True
            if not message.fields["accept"]:
                self.stop_accepting()
            self.loop.call_later(message.fields["grace_s"], self.ended.set)
            self.tell_drained()
        elif message.kind == "hasten":
            self.loop.call_later(message.fields["grace_s"], self.ended.set)
        elif message.kind == "stop":
            self.stop()

    async def listen(self) -> None:
        for listener in self.listeners:
            start = asyncio.start_unix_server if listener.family == socket.AF_UNIX else None
            self.servers.append(await (start or asyncio.start_server)(self.serve, sock=listener))
        self.channel.send("ready")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy = False
        self.connections.add(1)
        try:
            while line := await reader.readline():
                word = line.decode().strip()
                self.active += (word == "begin") - (word == "end")
                busy = (busy or word == "begin") and word != "end"
                if word == "changed":
                    known = {"changed": self.changed}
                    writer.write(json.dumps(known).encode() + b"\n")
                    continue
                known = {"pid": os.getpid(), "slot": self.slot, "version": self.version}
                writer.write(json.dumps({**known, "line": word}).encode() + b"\n")
                self.tell_drained()
        except OSError:
            pass
        finally:
            self.connections.add(-1)
            self.active -= busy
            self.tell_drained()
            writer.close()

    def tell_drained(self) -> None:
        if self.active:
            return
        if self.stopping:
            self.ended.set()
        elif self.draining:
            self.channel.send("drained")

    def on_closed(self) -> None:
        self.draining = True
        self.stop()

    def stop(self) -> None:
        self.stopping = True
        self.stop_accepting()
        self.tell_drained()

    def stop_accepting(self) -> None:
        for server in self.servers:
            server.close()


async def run() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--slot", "--workers", "--channel-fd", "--memory-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--listen-fd", required=True)
    parser.add_argument("--control-socket", required=True)
    worker = StubWorker(parser.parse_args())
    await worker.ended.wait()


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.environ.get("STUB_WORKER") == "broken":
        sys.exit("the stub is broken")
    asyncio.run(run())
    # Connections that are still open end with the process.
    os._exit(0)
