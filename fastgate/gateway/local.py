"""Answers that a worker gives by itself, and the way to the control process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastgate import __version__
from fastgate.errors import AuthenticationError, NotFound
from fastgate.gateway.endpoint import MANAGEMENT
from fastgate.gateway.respond import json_body

if TYPE_CHECKING:
    from fastgate.gateway.context import Context
    from fastgate.upstream.connection import Connection

__all__ = ["answer", "control_target", "send_to_control", "shown_path"]

# LiteLLM's constant, so that clients that compare model lists see no change.
MODEL_CREATED_UNIX_S = 1677610602
_SHOWN_BYTES = 80


def answer(pipeline: Any, context: Context) -> None:
    """Answer GET /, /v1/models, /v1/models/{id}, /health/liveliness and /health/readiness."""
    name = context.endpoint.name
    draining = pipeline.worker.draining
    if name == "live":
        pipeline.answer(context, 200, b'"I\'m alive!"')
    elif name == "ready":
        ready = {"status": "draining" if draining else "healthy", "fastgate_version": __version__}
        pipeline.answer(context, 503 if draining else 200, json_body(ready))
    elif name == "index":
        about = {"name": "fastgate", "version": __version__, "endpoints": ["/v1/models", "/health"]}
        pipeline.answer(context, 200, json_body(about))
    elif name == "models":
        models = context.snapshot.visible_models(context.principal)
        listed = [_model(model) for model in models]
        pipeline.answer(context, 200, json_body({"data": listed, "object": "list"}))
    else:
        model = context.model
        if model is None or not (
            context.snapshot.allows(context.principal, model)
            and context.catalog.plan(model) is not None
        ):
            raise NotFound(f"The model `{model}` does not exist", param="model")
        pipeline.answer(context, 200, json_body(_model(model)))


def control_target(pipeline: Any, context: Context) -> Any:
    """Return the control process as a target. Raises AuthenticationError for those who may not ask
    it.
    """
    endpoint = context.endpoint
    if not (endpoint.public or endpoint is MANAGEMENT or context.principal.is_admin):
        raise AuthenticationError(
            "Authentication Error, Only proxy admin can be used to see this. "
            f"Route={shown_path(context.reader.path())}. Your role=internal_user",
            status=403,
        )
    return pipeline.worker.control


def send_to_control(context: Context, connection: Connection) -> None:
    """Write the request to the control process: its path is one of ours, its query and its body are
    the client's; who asks is for us to say.
    """
    reader = context.reader
    query = reader.query()
    target = reader.path() + (b"?" + query if query else b"")
    method = reader.method()
    connection.reader.head_request = method == b"HEAD"
    principal = context.principal
    who = b"x-fastgate-role: none\r\n"
    if principal is not None and principal.is_admin:
        who = b"x-fastgate-role: admin\r\n"
    elif principal is not None:
        who += b"x-fastgate-key-hash: %b\r\n" % principal.key_hash.hex().encode()
    body = context.body[context.body_start : context.body_end]
    connection.write(
        b"%b %b HTTP/1.1\r\nhost: control\r\nx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b"
        % (method, target, context.request_id, who, len(body), body)
    )


def shown_path(path: bytes) -> str:
    """Return a path as it may be shown: cut, and without bytes that could forge a line."""
    return path[:_SHOWN_BYTES].decode("ascii", "replace")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": MODEL_CREATED_UNIX_S, "owned_by": "openai"}
