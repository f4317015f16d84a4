"""Control's routes, probes and reloads, on a loop and with servers of the test's own."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from fastgate.config.schema import Config, Deployment
from fastgate.control import health as health_module
from fastgate.control import reload as reload_module
from fastgate.control.app import State, create_app
from fastgate.control.health import CACHE_S, Health, judge
from fastgate.control.models import StoredModels
from fastgate.control.reload import Reloader
from fastgate.observe import memory as shared_memory
from fastgate.observe.metrics import render

SECRET = "sk-canary-of-the-control-tests"
ADMIN = {"x-fastgate-role": "admin"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[TestServer]]


def deployment(name: str, port: int, **more: Any) -> Deployment:
    known = {"group": "group-" + name, "provider": "openai", "model": "real-" + name}
    known |= {"host": "127.0.0.1", "api_base": f"http://127.0.0.1:{port}/v1", "base_path": "/v1"}
    known |= {"auth_value": f"Bearer {SECRET}".encode(), "headers": {"x-org": "ours"}}
    return Deployment(id=name, port=port, **{**known, **more})


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(handler: Handler) -> TestServer:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def state() -> AsyncIterator[State]:
    fd = shared_memory.create(2)
    yield State(shared_memory.open(fd, shared_memory.CONTROL), Config())
    os.close(fd)


@pytest.fixture
async def client(state: State) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(create_app(state))) as made:
        yield made


async def test_an_unknown_route_is_refused_in_our_shape(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/key/nonsense", headers=ADMIN)
    assert answer.status == 404
    assert (await answer.json())["error"] == {
        "message": "GET /key/nonsense is not a route of this gateway",
        "type": "not_found_error",
        "param": "None",
        "code": "404",
    }
    assert answer.headers["server"] == "fastgate"


async def test_a_wrong_method_names_the_right_one(client: TestClient[Any, Any]) -> None:
    answer = await client.post("/health", headers=ADMIN)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET,HEAD"
    assert (await answer.json())["error"]["code"] == "405"


@pytest.mark.parametrize("path", ["/health", "/fastgate/status", "/health/readiness/details"])
@pytest.mark.parametrize("headers", [{}, {"x-fastgate-role": "none"}, {"x-fastgate-role": ""}])
async def test_only_admins_see_inside(
    client: TestClient[Any, Any], path: str, headers: dict[str, str]
) -> None:
    answer = await client.get(path, headers=headers)
    assert answer.status == 403
    assert path in (await answer.json())["error"]["message"]


async def test_a_broken_route_is_a_500_in_our_shape(
    client: TestClient[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(memory: object) -> bytes:
        raise RuntimeError(SECRET)

    monkeypatch.setattr("fastgate.control.app.metrics.render", broken)
    answer = await client.get("/metrics")
    assert answer.status == 500
    body = await answer.text()
    assert json.loads(body)["error"]["code"] == "500"
    assert SECRET not in body


async def test_metrics_are_those_of_all_processes(
    client: TestClient[Any, Any], state: State
) -> None:
    for worker in (0, 1):
        state.memory.metrics(worker).counter("fastgate_limited_total", kind="tokens").add(3)
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"
    assert 'fastgate_limited_total{kind="tokens"} 6\n' in await answer.text()


async def test_the_status_shows_the_workers(client: TestClient[Any, Any], state: State) -> None:
    now_s = time.monotonic()
    state.version, state.started_s = 4, now_s - 100
    state.workers = [{"slot": 0, "pid": 7, "state": "ready", "started_s": now_s - 50}]
    answer = await (await client.get("/fastgate/status", headers=ADMIN)).json()
    assert answer["snapshot_version"] == 4
    assert answer["uptime_s"] == pytest.approx(100, abs=5)
    worker = answer["workers"][0]
    assert worker.pop("uptime_s") == pytest.approx(50, abs=5)
    assert worker == {"slot": 0, "pid": 7, "state": "ready"}


@pytest.mark.parametrize(("worker_state", "status"), [("ready", 200), ("draining", 503)])
async def test_readiness_needs_a_ready_worker(
    client: TestClient[Any, Any], state: State, worker_state: str, status: int
) -> None:
    state.workers = [{"state": worker_state}]
    answer = await client.get("/health/readiness/details", headers=ADMIN)
    assert answer.status == status


async def test_health_tells_deployments_apart(
    client: TestClient[Any, Any], state: State, serve: Serve
) -> None:
    seen: list[tuple[str, str, str]] = []

    async def engine(request: web.Request) -> web.Response:
        headers = request.headers
        seen.append((request.path, headers["authorization"], headers["x-org"]))
        return web.json_response({"data": []})

    async def dead(request: web.Request) -> web.Response:
        raise web.HTTPServiceUnavailable

    up, down = await serve(engine), await serve(dead)
    state.config = Config(deployments=[deployment("up", up.port), deployment("down", down.port)])
    answer = await client.get("/health", headers=ADMIN)
    text = await answer.text()
    assert SECRET not in text
    assert seen == [("/v1/models", f"Bearer {SECRET}", "ours")]
    found = json.loads(text)
    assert (found["healthy_count"], found["unhealthy_count"]) == (1, 1)
    assert found["healthy_endpoints"] == [
        {
            "model": "openai/real-up",
            "model_name": "group-up",
            "model_id": "up",
            "api_base": f"http://127.0.0.1:{up.port}/v1",
        }
    ]
    assert found["unhealthy_endpoints"][0]["model_id"] == "down"
    assert found["unhealthy_endpoints"][0]["error"] == "HTTP 503"
    only = await (await client.get("/health?model=group-down", headers=ADMIN)).json()
    assert (only["healthy_count"], only["unhealthy_count"]) == (0, 1)
    only = await (await client.get("/health?model_id=up", headers=ADMIN)).json()
    assert (only["healthy_count"], only["unhealthy_count"]) == (1, 0)


async def error_of(made: Deployment) -> str:
    (result,) = await Health().check(Config(deployments=[made]))
    return result.error


@pytest.mark.parametrize("status", [200, 404, 405, 429])
def test_an_engine_that_answers_is_healthy(status: int) -> None:
    assert judge(status) == ""


@pytest.mark.parametrize("status", [301, 400, 401, 403, 500, 503, 529])
def test_an_engine_that_refuses_is_not(status: int) -> None:
    assert judge(status).startswith(f"HTTP {status}")


async def test_our_key_does_not_follow_a_redirect(serve: Serve) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    other = await serve(elsewhere)

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://127.0.0.1:{other.port}/steal")

    server = await serve(redirect)
    assert await error_of(deployment("a", server.port)) == "HTTP 302"
    assert asked == []


async def test_nobody_there_is_unhealthy(free_port: Callable[[], int]) -> None:
    error = await error_of(deployment("a", free_port()))
    assert error == f"connect: {os.strerror(errno.ECONNREFUSED)}"
    assert await error_of(deployment("a", 80, unix_socket="/does/not/exist")) == (
        "connect: No such file or directory"
    )


async def test_an_engine_that_hangs_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "PROBE_TIMEOUT_S", 0.05)
    forever = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        await forever.wait()
        return web.Response()

    server = await serve(hang)
    assert await error_of(deployment("a", server.port)) == "no answer within 0.05 s"
    forever.set()


async def test_a_missing_ca_file_is_that_deployments_error(serve: Serve) -> None:
    async def engine(request: web.Request) -> web.Response:
        return web.Response()

    server = await serve(engine)
    config = Config(
        deployments=[
            deployment("a", server.port, ca_file="/does/not/exist.pem"),
            deployment("b", server.port),
        ]
    )
    broken, fine = await Health().check(config)
    assert broken.error == "/does/not/exist.pem: No such file or directory"
    assert fine.error == ""


async def test_verification_can_be_switched_off_for_one_deployment() -> None:
    config = Config(deployments=[deployment("a", 1, tls_verify=False), deployment("b", 1)])
    contexts = health_module._tls_contexts(config)
    lax, strict = contexts["", False], contexts["", True]
    assert isinstance(lax, ssl.SSLContext)
    assert isinstance(strict, ssl.SSLContext)
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_an_engine_on_a_unix_socket_is_asked_there(tmp_path: Path) -> None:
    async def engine(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.path == "/v1/models" else 500)

    app = web.Application()
    app.router.add_get("/{path:.*}", engine)
    runner = web.AppRunner(app)
    await runner.setup()
    path = str(tmp_path / "engine.sock")
    await web.UnixSite(runner, path).start()
    assert await error_of(deployment("a", 80, unix_socket=path)) == ""
    await runner.cleanup()


async def test_probes_are_shared_and_kept_for_a_while(serve: Serve) -> None:
    asked = 0
    go = asyncio.Event()

    async def engine(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await go.wait()
        return web.Response()

    server = await serve(engine)
    now_s = 0.0
    health = Health(lambda: now_s)
    config = Config(deployments=[deployment("a", server.port)])
    first = asyncio.create_task(health.check(config))
    second = asyncio.create_task(health.check(config))
    await asyncio.sleep(0)
    # One that goes away leaves the other its answer.
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert [result.error for result in await second] == [""]
    now_s = CACHE_S - 0.1
    await health.check(config)
    assert asked == 1
    now_s = CACHE_S
    await health.check(config)
    assert asked == 2
    # Another configuration has other deployments.
    await health.check(Config(deployments=[deployment("b", server.port)]))
    assert asked == 3


class Reloads:
    """A Reloader, and what it sent."""

    def __init__(self, path: Path, state: State, exposed: bool = False) -> None:
        self.memory = state.memory
        self.sent: asyncio.Queue[tuple[str, Any, bytes]] = asyncio.Queue()
        self.reloader = Reloader(
            str(path),
            {"port": 4321},
            exposed,
            state.memory.metrics(shared_memory.CONTROL),
            StoredModels(lambda: None, lambda *message: self.sent.put_nowait(message)).publish,
        )

    def count(self, outcome: str) -> bool:
        return f'fastgate_reloads_total{{outcome="{outcome}"}} 1\n' in render(self.memory).decode()


GOOD = {
    "model_list": [
        {
            "model_name": "a",
            "litellm_params": {"model": "openai/a", "api_base": "http://h/v1", "api_key": SECRET},
        }
    ]
}


async def test_a_good_file_is_sent_with_what_the_supervisor_must_know(
    tmp_path: Path, state: State
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(GOOD))
    reloads = Reloads(path, state)
    reloads.reloader.request()
    kind, fields, blob = await reloads.sent.get()
    assert kind == "snapshot"
    # The command line still wins.
    assert fields["server"]["port"] == 4321
    assert "master_key_hash" not in fields["server"]
    assert b"openai" in blob
    assert reloads.count("ok")


async def test_a_request_during_a_reload_is_followed_by_another(
    tmp_path: Path, state: State
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(GOOD))
    reloads = Reloads(path, state)
    for _ in range(5):
        reloads.reloader.request()
    await reloads.sent.get()
    await reloads.sent.get()
    assert reloads.sent.empty()


async def test_an_error_of_ours_keeps_the_old_configuration_and_the_next_reload_works(
    tmp_path: Path,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(GOOD))
    reloads = Reloads(path, state)

    def broken(path: str, overrides: object) -> list[Any]:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(reload_module.configuration, "load", broken)
        reloads.reloader.request()
        while not reloads.count("failed"):
            await asyncio.sleep(0)
    reloads.reloader.request()
    await reloads.sent.get()
    assert "reload failed, the old configuration stays" in caplog.text
