"""TLS, Unix sockets and IPv6 on both sides of the running gateway.

The certificates are made by openssl when the tests start. The upstreams are http.server with ssl:
they share no code with the gateway.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.processes import Engine, Gateway
from tests.served import KEY, Stand, chat, config, deployment, free_port

CONNECT_TIMEOUT_S = 1.0


class Certificates:
    """A CA and what it signed, as PEM files that hold certificate and key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = self._make_ca("ca")
        self.good = self._signed("good", "DNS:localhost,IP:127.0.0.1,IP:::1")
        self.wrong_name = self._signed("wrong-name", "DNS:elsewhere.test")
        self.expired = self._signed(
            "expired", "DNS:localhost", "20200101000000Z", "20210101000000Z"
        )
        self.self_signed = self._make_ca("self-signed", "DNS:localhost")

    def _make_ca(self, name: str, names: str = "") -> str:
        extra = ["-addext", f"subjectAltName={names}"] if names else []
        self._run(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *(
                "-subj",
                f"/CN={name}",
                "-days",
                "30",
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.crt",
            ),
            *extra,
        )
        return self._joined(name)

    def _signed(
        self, name: str, names: str, start: str = "20200101000000Z", end: str = "20400101000000Z"
    ) -> str:
        self._run(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        (self.folder / "index").write_text("")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=it\n[it]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\n"
            "default_md=sha256\npolicy=any\nx509_extensions=ext\n[any]\ncommonName=supplied\n"
            f"[ext]\nsubjectAltName={names}\nauthorityKeyIdentifier=keyid\n"
        )
        self._run(
            *("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key"),
            *("-in", f"{name}.csr", "-out", f"{name}.crt", "-notext"),
            *("-startdate", start, "-enddate", end),
        )
        return self._joined(name)

    def _joined(self, name: str) -> str:
        parts = [(self.folder / f"{name}{end}").read_text() for end in (".crt", ".key")]
        path = self.folder / f"{name}.pem"
        path.write_text("".join(parts))
        return str(path)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


class Peer(ThreadingHTTPServer):
    """An upstream that answers every POST, and remembers the names that it was asked for."""

    daemon_threads = True

    def __init__(self, certificate: str = "", address: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), Handler)
        self.names: list[str | None] = []
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            context.set_alpn_protocols(["http/1.1", "h2"])
            context.sni_callback = lambda _plug, name, _context: self.names.append(name)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        alpn = getattr(self.connection, "selected_alpn_protocol", lambda: None)()
        answer = json.dumps({"model": json.loads(body)["model"], "alpn": alpn}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


class TlsGateway(Gateway):
    """A gateway that is asked over TLS whether it is ready."""

    ca = ""
    host = "localhost"

    def ready(self) -> bool:
        connection = https(self.port, self.ca, self.host)
        try:
            connection.request("GET", "/health/readiness")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def https(port: int, ca: str, host: str = "localhost") -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=ca)
    return http.client.HTTPSConnection(host, port, timeout=10, context=context)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def peers(certificates: Certificates) -> Iterator[dict[str, Peer]]:
    made = {
        "good": Peer(certificates.good),
        "wrong-name": Peer(certificates.wrong_name),
        "expired": Peer(certificates.expired),
        "self-signed": Peer(certificates.self_signed),
        "plain": Peer(),
        "ipv6": Peer(address="::1"),
        "ipv6-tls": Peer(certificates.good, "::1"),
    }
    yield made
    for peer in made.values():
        peer.stop()


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, peers: dict[str, Peer]
) -> Iterator[Stand]:
    """A gateway on TLS, on a Unix socket and on IPv6 at once, in front of all peers."""
    folder = tmp_path_factory.mktemp("tls")
    ca = certificates.ca

    def base(name: str, host: str = "localhost", scheme: str = "https") -> str:
        return f"{scheme}://{host}:{peers[name].server_port}/v1"

    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        engine = UnixEngine(folder / "engine.log", "--unix", str(folder / "e.sock"))
        stack.callback(engine.stop)
        engine.start()
        models = [
            deployment("good", base("good"), ssl_verify=ca),
            deployment("by-address", base("good", "127.0.0.1"), ssl_verify=ca),
            deployment("wrong-name", base("wrong-name"), ssl_verify=ca),
            deployment("expired", base("expired"), ssl_verify=ca),
            deployment("self-signed", base("self-signed"), ssl_verify=ca),
            deployment("unknown-ca", base("good")),
            deployment("unverified", base("self-signed"), ssl_verify=False),
            deployment("plain", base("plain"), ssl_verify=ca),
            deployment("tls-asked-plainly", base("good", scheme="http")),
            deployment("ipv6", base("ipv6", "[::1]", "http")),
            deployment("ipv6-tls", base("ipv6-tls", "[::1]"), ssl_verify=ca),
            deployment("unix", f"unix:{folder / 'e.sock'}:/v1"),
            deployment("no-unix", f"unix:{folder / 'nobody.sock'}:/v1"),
            deployment("silent", f"https://127.0.0.1:{silent.getsockname()[1]}/v1", ssl_verify=ca),
        ]
        gateway = TlsGateway(
            folder / "gateway",
            config(
                models,
                router={"num_retries": 0, "disable_cooldowns": True},
                server={"tls_cert_file": certificates.good},
                upstream={"connect_timeout_s": CONNECT_TIMEOUT_S},
            ),
            free_port(),
            ["--unix", str(folder / "g.sock"), "--host", "localhost"],
            {},
        )
        gateway.ca = ca
        stack.callback(gateway.assert_clean)
        stack.callback(gateway.stop)
        gateway.start()
        yield Stand([engine], gateway)


class UnixEngine(Engine):
    """The simulated engine on a Unix socket."""

    def start(self) -> None:
        self.spawn()
        self.wait_for("listening on unix:")


def ask(
    served: Stand, ca: str, model: str, host: str = "localhost", **options: Any
) -> tuple[int, Any]:
    connection = https(served.port, ca, host)
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(chat(model, **options)),
            {"Authorization": f"Bearer {KEY}"},
        )
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, content if options.get("stream") else json.loads(content)
    finally:
        connection.close()


# upstream


def test_a_verified_upstream(
    served: Stand, certificates: Certificates, peers: dict[str, Peer]
) -> None:
    peers["good"].names.clear()
    for _ in range(3):
        assert ask(served, certificates.ca, "good") == (200, {"model": "sim", "alpn": "http/1.1"})
    # One handshake for three requests, and it names the server.
    assert peers["good"].names == ["localhost"]


def test_an_address_is_verified_and_not_named(
    served: Stand, certificates: Certificates, peers: dict[str, Peer]
) -> None:
    peers["good"].names.clear()
    assert ask(served, certificates.ca, "by-address")[0] == 200
    # RFC 6066 3: literal addresses are not permitted as names.
    assert peers["good"].names == [None]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("wrong-name", "Hostname mismatch"),
        ("expired", "certificate has expired"),
        ("self-signed", "self-signed certificate"),
        ("unknown-ca", "unable to get local issuer certificate"),
        ("plain", "WRONG_VERSION_NUMBER"),
    ],
)
def test_an_upstream_that_can_t_be_verified(
    served: Stand, certificates: Certificates, model: str, words: str
) -> None:
    status, answer = ask(served, certificates.ca, model)
    assert status == 502
    message = answer["error"]["message"]
    assert message.startswith("no TLS connection to the model's server: ")
    assert words.lower() in message.lower().replace("self signed", "self-signed")


def test_verification_can_be_switched_off(served: Stand, certificates: Certificates) -> None:
    assert ask(served, certificates.ca, "unverified")[0] == 200


def test_plain_http_to_a_tls_upstream(served: Stand, certificates: Certificates) -> None:
    assert ask(served, certificates.ca, "tls-asked-plainly")[0] == 502


def test_a_handshake_that_never_ends(served: Stand, certificates: Certificates) -> None:
    status, answer = ask(served, certificates.ca, "silent")
    assert status == 504
    assert "did not accept a connection in time" in answer["error"]["message"]


@pytest.mark.parametrize("model", ["ipv6", "ipv6-tls"])
def test_an_ipv6_upstream(served: Stand, certificates: Certificates, model: str) -> None:
    assert ask(served, certificates.ca, model)[0] == 200


def test_an_upstream_on_a_unix_socket(served: Stand, certificates: Certificates) -> None:
    assert ask(served, certificates.ca, "unix")[1]["object"] == "chat.completion"
    status, answer = ask(served, certificates.ca, "no-unix")
    assert status == 503
    assert "no connection" in answer["error"]["message"]


# downstream


def test_a_stream_over_tls(served: Stand, certificates: Certificates) -> None:
    status, body = ask(served, certificates.ca, "unix", stream=True)
    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")


def test_large_bodies_over_tls(served: Stand, certificates: Certificates) -> None:
    status, answer = ask(served, certificates.ca, "unix", metadata={"a": "b" * 2_000_000})
    assert status == 200
    assert answer["choices"]


def test_http2_is_not_offered(served: Stand, certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("localhost", served.port), 10) as plug,
        context.wrap_socket(plug, server_hostname="localhost") as secured,
    ):
        assert secured.selected_alpn_protocol() == "http/1.1"
        assert secured.version() == "TLSv1.3"


def test_a_refused_body_s_answer_arrives_over_tls(
    served: Stand, certificates: Certificates
) -> None:
    connection = https(served.port, certificates.ca)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Authorization", "Bearer sk-unknown")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders()
    connection.send(b"x" * 100_000)
    answer = connection.getresponse()
    assert answer.status == 401
    assert json.loads(answer.read())["error"]["code"] == "401"
    connection.close()


def test_a_client_without_tls_is_let_go(served: Stand, certificates: Certificates) -> None:
    with socket.create_connection(("localhost", served.port), 10) as plug:
        plug.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while data := plug.recv(4096):
            received += data
    assert b"HTTP" not in received
    assert ask(served, certificates.ca, "good")[0] == 200


def test_a_gateway_on_ipv6(
    tmp_path: Path, certificates: Certificates, peers: dict[str, Peer]
) -> None:
    gateway = TlsGateway(
        tmp_path / "gateway",
        config(
            [deployment("ipv6", f"http://[::1]:{peers['ipv6'].server_port}/v1")],
            server={"tls_cert_file": certificates.good},
        ),
        free_port(),
        ["--host", "::1"],
        {},
    )
    gateway.ca = certificates.ca
    gateway.host = "::1"
    try:
        gateway.start()
        assert ask(Stand([], gateway), certificates.ca, "ipv6", host="::1")[0] == 200
    finally:
        gateway.stop()
    gateway.assert_clean()


def test_the_unix_socket_speaks_plainly(served: Stand) -> None:
    path = next(part for part in served.gateway.command if part.endswith("g.sock"))
    content = json.dumps(chat("unix")).encode()
    with socket.socket(socket.AF_UNIX) as plug:
        plug.settimeout(10)
        plug.connect(path)
        plug.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: unix\r\nConnection: close\r\n"
            b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
            % (KEY.encode(), len(content), content)
        )
        received = b""
        while data := plug.recv(65536):
            received += data
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"chat.completion" in received
