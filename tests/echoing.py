"""An upstream that fails in every way there is, and tells all it was told while it does.

What to do stands in the model's name: `status-429-json`, `cut-stream`, ... It shares no code with
the gateway.
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BROKEN", "STATUSES", "echoing"]

STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429, 451)
STATUSES += (500, 501, 502, 503, 504, 520, 529, 599)
BROKEN = (
    *("no-answer", "garbage", "bad-field", "bad-length", "bad-chunk", "cut-head", "cut-body"),
    *("cut-stream", "error-event", "late-error-event", "surplus", "two-lengths"),
)

_PASSED_ON = ("cut-body", "cut-stream", "error-event", "late-error-event", "surplus", "bad-chunk")


class _Handler(socketserver.StreamRequestHandler):
    completion = ""

    def handle(self) -> None:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            body = self.rfile.read(int(length[1])) if length else b""
            model = re.search(rb'"model": *"([^"]*)"', body)
            said = f"{head.decode('latin-1')} {body.decode()} {self.completion}"
            how = model[1].decode() if model else ""
            if how in _PASSED_ON:
                # What is no error of the upstream's is passed on as it is.
                said = f"{body.decode()} {self.completion}"
            if not self._answer(how, said):
                return

    def _answer(self, how: str, said: str) -> bool:
        """Answer; False: that was the connection's last answer."""
        if how.startswith("status-"):
            _, status, kind = how.split("-")
            if kind == "json":
                error = {"message": said, "type": "x", "param": None, "code": "y"}
                content, media = json.dumps({"error": error}), "application/json"
            else:
                content, media = said, "text/html"
            self._send(f"HTTP/1.1 {status} Failed\r\ncontent-type: {media}\r\n", content)
            return True
        event = "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": said}}]})
        error = "data: " + json.dumps({"error": {"message": said, "code": 500}})
        stream = (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
            f"x-echo: {self.completion}\r\n\r\n"
        )
        plain = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-echo: {self.completion}"
        one_line = said.replace("\r\n", " ")
        raw = {
            "no-answer": "",
            "garbage": f"{one_line}\r\n\r\n",
            "bad-field": f"HTTP/1.1 200 OK\r\nbad field {one_line}: 1\r\n\r\n",
            "bad-length": f"{plain}\r\ncontent-length: {one_line}\r\n\r\n{said}",
            "two-lengths": f"{plain}\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{said}",
            "bad-chunk": f"{stream}{one_line}\r\n",
            "cut-head": f"HTTP/1.1 200 OK\r\nx: {one_line}",
            "cut-body": f"{plain}\r\ncontent-length: 999999\r\n\r\n{json.dumps(said)}",
            "cut-stream": stream + _chunk(event),
            "error-event": stream + _chunk(error) + "0\r\n\r\n",
            "late-error-event": stream + _chunk(event) + _chunk(error) + "0\r\n\r\n",
            "surplus": f"{plain}\r\ncontent-length: 2\r\n\r\n{{}}{said}",
        }
        self.wfile.write(raw[how].encode("latin-1"))
        return False

    def _send(self, head: str, content: str) -> None:
        data = content.encode()
        self.wfile.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)


def _chunk(event: str) -> str:
    data = f"{event}\n\n"
    return f"{len(data.encode()):x}\r\n{data}\r\n"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway that breaks off a broken answer is right."""


@contextmanager
def echoing(completion: str) -> Iterator[int]:
    """Serve on a port of 127.0.0.1, whose number is returned."""
    handler = type("Handler", (_Handler,), {"completion": completion})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
