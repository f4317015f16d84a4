"""Brings requests to the management API, and its answers back.

The worker that relays a request says who asks: `x-fastgate-role: admin` for the master key, else
`x-fastgate-key-hash`, the SHA-256 of the caller's key in hex. Nobody else reaches the socket.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import orjson
from aiohttp import web

from fastgate.config.stored import encode
from fastgate.control.principals import stored_key
from fastgate.errors import AuthenticationError, BadRequest, GatewayError, Unavailable
from fastgate.management.call import Call, Caller, Invalid, identify
from fastgate.management.openapi import document
from fastgate.management.routes import ROUTES, Route
from fastgate.store import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler

    from fastgate.management.call import Service
    from fastgate.spend.pricing import Pricing

__all__ = ["MAX_BODY_BYTES", "add_routes"]

_log = logging.getLogger("fastgate.control")

# A list of 1,000 ids with room to spare; no body of the API is near.
MAX_BODY_BYTES = 1 << 20


def add_routes(
    app: web.Application, service: Callable[[], Service | None], pricing: Pricing
) -> None:
    """Add the table's routes, the OpenAPI document and what workers look up: keys and prices.

    `service` returns None while there is no store.
    """
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _answering(route, service))
    app.router.add_get("/openapi.json", _openapi)
    app.router.add_get("/internal/keys/{digest}", _looking_up(service))
    app.router.add_get("/internal/rates/{deployment}", _pricing(pricing))


def _answering(route: Route, service: Callable[[], Service | None]) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        try:
            found = await _call(route, _connected(service), request)
        except Invalid as error:
            return _json({"detail": error.detail}, 422)
        except GatewayError as error:
            return _json(_shape(error), error.status)
        except StoreUnavailable as error:
            _log.warning("the database is not available", {"error": str(error)})
            return _json(_shape(_no_database()), 503)
        except StoreError as error:
            _log.error("the database refused a statement of ours", {"error": str(error)})
            raise
        return _json(found)

    return answer


async def _call(route: Route, service: Service, request: web.Request) -> Any:
    headers = request.headers
    caller = await identify(
        service.store,
        headers.get("x-fastgate-role", ""),
        headers.get("x-fastgate-key-hash", ""),
    )
    _gate(route, caller)
    query = _query(route, request)
    body = await _body(route, request)
    path = dict(request.match_info)
    _refuse_nul([*path.values(), *request.query.values()])
    call = Call(service, caller, body, query, path)
    answer = await route.handler(call)
    for kind, ids in call.changes:
        service.changed(kind, ids)
    return answer


def _gate(route: Route, caller: Caller) -> None:
    allowed = not caller.routes or any(_covers(name, route) for name in caller.routes)
    if caller.standing not in route.rule or not allowed:
        raise AuthenticationError(
            "Authentication Error, Only proxy admin can be used to generate, delete, update info "
            f"for new keys/users/teams. Route={route.path}. Your role={caller.role}",
            status=403,
        )


def _covers(name: str, route: Route) -> bool:
    """Return whether an entry of a key's `allowed_routes` lets it ask for `route`."""
    if name == "management_routes":
        return True
    if name == "info_routes":
        return route.method == "GET"
    return name == route.path or (name.endswith("/*") and route.path.startswith(name[:-1]))


def _query(route: Route, request: web.Request) -> Any:
    try:
        return msgspec.convert(dict(request.query), route.query, strict=False)
    except msgspec.ValidationError as error:
        _invalid(error, "query")


async def _body(route: Route, request: web.Request) -> Any:
    if route.body is None:
        return None
    data = await request.read()
    try:
        value = orjson.loads(data or b"{}")
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"expected a JSON object: {error}") from None
    # PostgreSQL has no such character.
    if b"\\u0000" in data:
        raise Invalid("NUL characters can't be stored")
    try:
        return msgspec.convert(value, route.body)
    except msgspec.ValidationError as error:
        _invalid(error, "body")


def _invalid(error: msgspec.ValidationError, where: str) -> NoReturn:
    # "Expected `int`, got `str` - at `$.tpm_limit`"
    message, _, at = str(error).partition(" - at `$")
    raise Invalid(message, where, *[name for name in at.strip("`").split(".") if name]) from None


def _refuse_nul(values: list[str]) -> None:
    for value in values:
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise Invalid("expected UTF-8 without NUL characters", "query")


def _connected(service: Callable[[], Service | None]) -> Service:
    found = service()
    if found is None:
        raise _no_database()
    return found


def _no_database() -> Unavailable:
    return Unavailable("DB not connected: see the log of fastgate", type="no_db_connection")


def _shape(error: GatewayError) -> dict[str, Any]:
    return {
        "error": {
            "message": error.public,
            "type": error.type,
            "param": error.param,
            "code": str(error.status),
        }
    }


async def _openapi(request: web.Request) -> web.Response:
    return _json(await asyncio.to_thread(document))


def _looking_up(service: Callable[[], Service | None]) -> Handler:
    async def look_up(request: web.Request) -> web.Response:
        # What is relayed for a client has this field; a worker that asks for itself has not.
        if "x-fastgate-role" in request.headers:
            raise web.HTTPNotFound
        try:
            found = await stored_key(_connected(service).store, request.match_info["digest"])
        except (StoreUnavailable, Unavailable):
            raise web.HTTPServiceUnavailable from None
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=encode(found), content_type="application/msgpack")

    return look_up


def _pricing(pricing: Pricing) -> Handler:
    async def price(request: web.Request) -> web.Response:
        if "x-fastgate-role" in request.headers:
            raise web.HTTPNotFound
        cards = await asyncio.to_thread(
            pricing.cards, request.match_info["deployment"], request.query.get("model", "")
        )
        if not cards:
            raise web.HTTPNotFound
        return web.Response(body=cards, content_type="application/octet-stream")

    return price


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
