"""The OpenAPI document: made from the table and its structs, so it can't say anything else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from fastgate import __version__
from fastgate.management.routes import ROUTES

if TYPE_CHECKING:
    from fastgate.management.routes import Route

__all__ = ["document"]

_REFERENCE = "#/components/schemas/{name}"
_PROBLEMS = {
    "400": "It can't be done: see the message",
    "401": "No key, or none that we know",
    "403": "The caller's role does not allow it",
    "404": "There is no such object",
    "422": "The body or the query does not fit",
    "503": "The database is not available",
}


def document() -> dict[str, Any]:
    """Return the document; some ms of work."""
    bodies = {route.body for route in ROUTES if route.body is not None}
    queries = {route.query for route in ROUTES}
    types = sorted(bodies | queries, key=lambda struct: struct.__name__)
    _, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, components)
    used = {name: schema for name, schema in components.items() if not name.endswith("Query")}
    return {
        "openapi": "3.1.0",
        "info": {"title": "fastgate management API", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": used,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(route: Route, components: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}"),
        "summary": (route.handler.__doc__ or "").partition("\n")[0],
        "tags": [route.path.split("/")[1]],
        "description": "Roles: " + ", ".join(f"{role} ({of})" for role, of in route.rule.items()),
        "parameters": _parameters(route, components),
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": {}}}},
            **{status: {"description": text} for status, text in _PROBLEMS.items()},
        },
    }
    if route.body is not None:
        reference = {"$ref": _REFERENCE.format(name=route.body.__name__)}
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    return found


def _parameters(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components[route.query.__name__]
    required = schema.get("required", [])
    in_query = [
        {"name": name, "in": "query", "required": name in required, "schema": of}
        for name, of in schema["properties"].items()
    ]
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    return in_path + in_query
