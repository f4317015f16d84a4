"""The routes of the control process. Workers relay them here, having asked for the key.

`x-fastgate-role` is the worker's word on who asks; nobody else can reach the socket. Errors have
OpenAI's shape, as everywhere.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from fastgate import __version__
from fastgate.control import management
from fastgate.control.health import Health
from fastgate.observe import metrics
from fastgate.spend.pricing import Pricing

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from fastgate.config.schema import Config
    from fastgate.management.call import Service
    from fastgate.observe.memory import SharedMemory

__all__ = ["ROUTES", "State", "create_app"]

_log = logging.getLogger("fastgate.control")


class State:
    """What this process knows; the routes show it."""

    def __init__(self, memory: SharedMemory, config: Config) -> None:
        self.memory = memory
        self.config = config
        self.version = 0
        """Of the Snapshot."""
        self.workers: list[dict[str, Any]] = []
        """As the supervisor last told."""
        self.started_s = time.monotonic()
        """When the supervisor started, on the machine's monotonic clock."""
        self.health = Health()
        self.pricing = Pricing(lambda: self.config)
        self.service: Service | None = None
        """What the management API works with; None while there is no database."""


_STATE = web.AppKey("state", State)


def create_app(state: State) -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[_in_our_shape], client_max_size=management.MAX_BODY_BYTES)
    app[_STATE] = state
    for path, who, handler in ROUTES:
        app.router.add_get(path, handler if who == "everybody" else _for_admin(handler))
    management.add_routes(app, lambda: state.service, state.pricing)
    return app


async def _metrics(request: web.Request) -> web.Response:
    page = metrics.render(request.app[_STATE].memory)
    return web.Response(body=page, headers={"content-type": "text/plain; version=0.0.4"})


async def _health(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    model, model_id = request.query.get("model"), request.query.get("model_id")
    healthy: list[dict[str, str]] = []
    unhealthy: list[dict[str, str]] = []
    for deployment, error in await state.health.check(state.config):
        if model not in (None, deployment.group) or model_id not in (None, deployment.id):
            continue
        shown = {
            "model": f"{deployment.provider}/{deployment.model}",
            "model_name": deployment.group,
            "model_id": deployment.id,
            "api_base": deployment.api_base,
        }
        if error:
            unhealthy.append({**shown, "error": error})
        else:
            healthy.append(shown)
    return _json(
        {
            "healthy_endpoints": healthy,
            "unhealthy_endpoints": unhealthy,
            "healthy_count": len(healthy),
            "unhealthy_count": len(unhealthy),
        }
    )


async def _readiness(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    ready = sum(worker["state"] == "ready" for worker in state.workers)
    answer = {
        "status": "healthy" if ready else "unhealthy",
        # LiteLLM's words, which probes compare with.
        "db": "connected" if state.service else "Not connected",
        "cache": None,
        "fastgate_version": __version__,
        "workers_ready": ready,
        "workers": len(state.workers),
    }
    return _json(answer, 200 if ready else 503)


async def _status(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    now_s = time.monotonic()
    workers = []
    for worker in state.workers:
        shown = {name: value for name, value in worker.items() if name != "started_s"}
        workers.append({**shown, "uptime_s": round(now_s - worker["started_s"], 3)})
    return _json(
        {
            "fastgate_version": __version__,
            "uptime_s": round(now_s - state.started_s, 3),
            "snapshot_version": state.version,
            "workers": workers,
        }
    )


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("/metrics", "everybody", _metrics),
    ("/health", "admin", _health),
    ("/health/readiness", "admin", _readiness),
    ("/health/readiness/details", "admin", _readiness),
    ("/fastgate/status", "admin", _status),
)
"""GET routes that need no database, and who may ask them; the others' table is management's."""


def _for_admin(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("x-fastgate-role", "none") != "admin":
            raise web.HTTPForbidden(
                text="Authentication Error, Only proxy admin can be used to see this. "
                f"Route={request.path}. Your role=internal_user"
            )
        return await handler(request)

    return answer


@web.middleware
async def _in_our_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _error(request, error)
    except Exception:
        _log.exception("a route of control failed", {"path": request.path})
        response = _error(request, web.HTTPInternalServerError())
    # aiohttp would give its version and Python's.
    response.headers["server"] = "fastgate"
    return response


_ERROR_TYPES = {403: "auth_error", 404: "not_found_error", 405: "invalid_request_error"}


def _error(request: web.Request, error: web.HTTPException) -> web.Response:
    message = error.text
    if isinstance(error, web.HTTPNotFound):
        message = f"{request.method} {request.path} is not a route of this gateway"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method} is not allowed for {request.path}, but {allowed}"
    response = _json(
        {
            "error": {
                "message": message,
                "type": _ERROR_TYPES.get(error.status, "internal_server_error"),
                "param": "None",
                "code": str(error.status),
            }
        },
        error.status,
    )
    if "allow" in error.headers:
        response.headers["allow"] = error.headers["allow"]
    return response


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
