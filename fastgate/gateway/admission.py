"""May this principal ask for this model, now? What is not known of it is asked of control first.

Models, limits and budgets of the key and all above it, and of the customer and the tags that the
request names.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastgate.config.principal import Principal
from fastgate.errors import BadRequest, GatewayError, ModelDenied, Unavailable
from fastgate.gateway.clock import monotonic_ns
from fastgate.gateway.endings import Endings
from fastgate.gateway.limit import is_stale, reserve
from fastgate.gateway.notes import FIELDS, note

if TYPE_CHECKING:
    from fastgate.gateway.context import Context

__all__ = ["Admission"]


class Admission(Endings):
    """The part of the pipeline that lets requests in."""

    def __init__(self, worker: Any, limits: Any, budgets: Any, recorder: Any) -> None:
        super().__init__(worker, limits, budgets, recorder)
        self.keys: Any = None
        """Of the store; None: there is none."""
        self.named: Any = None
        """Customers and tags, likewise."""

    def admit(self, context: Context, now_ns: int) -> bool:
        """May this principal ask for this model, now? Raises ModelDenied, BadRequest,
        LimitExceeded, BudgetExceeded. False: control is asked first, and it goes on from there.
        """
        principal = context.principal
        model = context.model
        if principal.aliases:
            model = context.model = principal.aliases.get(model, model)
        plan = context.catalog.plan(model)
        if not (
            principal.all_models
            or model in principal.names
            or context.snapshot.allows(principal, model)
        ):
            raise ModelDenied(
                "key not allowed to access model. This key can only access "
                f"models={principal.models}. Tried to access {model}",
                param="model",
            )
        if plan is None:
            raise BadRequest(
                f"/{context.endpoint.name}: Invalid model name passed in model={model}. "
                "Call `/v1/models` to view available models for your key.",
                type="None",
            )
        context.plan = plan
        scoped = principal.scoped_for(plan.group)
        if (
            context.noted
            or context.client_request_id
            or principal.tags
            or context.reader.has_any(FIELDS)
        ):
            note(context)
            if context.names and self.named is not None:
                if not self.named.knows(context.names):
                    self.named.ask(context.names, partial(self._on_known, context))
                    return False
                scoped = self.named.joined(scoped, context.names, plan.group)
        if scoped is not None:
            if is_stale(scoped, self.budgets, now_ns):
                self._ask_again(context)
                return False
            reserve(context, scoped, self.limits, self.budgets, now_ns)
        return True

    def start(self, context: Context) -> None:
        """Go on with a request that was let in."""
        raise TypeError("an Admission is made as a Pipeline")

    def _ask_again(self, context: Context) -> None:
        """Ask control what was spent: it is too long ago that it said so."""
        for kind, name in context.names or ():
            self.named.forget(kind, [name])
        if context.principal.stored is None:
            self.named.ask(context.names, partial(self._on_known, context))
            return
        digest = context.principal.key_hash
        self.keys.forget("key", [digest.hex()])
        self.keys.ask(digest, partial(self._on_known, context))

    def _on_known(self, context: Context, error: GatewayError | None) -> None:
        """Control has answered: admit it, or ask on."""
        if context.finished:
            return
        try:
            if error is not None:
                raise error
            if context.principal.stored is not None:
                principal = self.keys.find(context.principal.key_hash)
                if not isinstance(principal, Principal):
                    raise Unavailable("the key changed while it was looked up")
                context.principal = principal
            if self.admit(context, monotonic_ns()):
                self.start(context)
        except GatewayError as refusal:
            self.fail(context, refusal)
