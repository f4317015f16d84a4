"""Whom a key stands for: which field counts, what a connection remembers, and what is refused."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from fastgate._core.http1 import RequestReader
from fastgate.config.schema import Config, Server, VirtualKey
from fastgate.config.snapshot import Snapshot
from fastgate.errors import AuthenticationError
from fastgate.gateway.authenticate import authenticate, key_in
from fastgate.gateway.catalog import Catalog
from fastgate.gateway.context import Context, Sender

MASTER = "sk-the-master-key"
ONE = "sk-the-first-key"
TWO = "fg-the-second-key"
ODD = "a key with blanks, issued elsewhere"


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def snapshot_of(*keys: str, master: str = MASTER, key_header: str = "") -> Snapshot:
    return Snapshot(
        Config(
            server=Server(master_key_hash=digest(master) if master else "", key_header=key_header),
            keys=[VirtualKey(key_hash=digest(key), alias=key) for key in keys],
        )
    )


class Connected:
    """A client's connection, request by request."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.sender = Sender()
        self.sender.key_field = self.sender.key_principal = self.sender.key_snapshot = None
        self.snapshot = snapshot

    def ask(self, *fields: str) -> Any:
        """Return the principal of a request with these fields."""
        reader = RequestReader()
        head = "".join(f"{field}\r\n" for field in ("GET / HTTP/1.1", "host: a", *fields, ""))
        assert reader.feed_head(head.encode("latin-1"), 0) == len(head)
        context = Context(self.sender, reader, 0)
        context.snapshot = self.snapshot
        context.catalog = Catalog(self.snapshot, None)
        assert authenticate(context, self.sender, None) is None
        return context.principal


@pytest.fixture
def snapshot() -> Snapshot:
    return snapshot_of(ONE, TWO, ODD)


def test_key_in() -> None:
    assert key_in(b"Bearer sk-a") == key_in(b"bearer  sk-a ") == key_in(b"sk-a") == b"sk-a"
    assert key_in(b"Bearer ") == b""
    assert key_in(b"Bearersk-a") == b"Bearersk-a"


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "api-key", "x-api-key", "x-goog-api-key"),
        *("ocp-apim-subscription-key", "x-litellm-api-key"),
    ],
)
@pytest.mark.parametrize("key", [ONE, TWO, ODD])
def test_every_field(snapshot: Snapshot, name: str, key: str) -> None:
    assert Connected(snapshot).ask(f"{name}: Bearer {key}").alias == key
    assert Connected(snapshot).ask(f"{name.upper()}: {key}").alias == key


def test_order_of_the_fields(snapshot: Snapshot) -> None:
    connected = Connected(snapshot)
    assert connected.ask(f"x-api-key: {TWO}", f"authorization: Bearer {ONE}").alias == ONE
    assert connected.ask(f"x-api-key: {TWO}", f"api-key: {ONE}").alias == ONE
    with pytest.raises(AuthenticationError):
        connected.ask(f"x-api-key: {TWO}", "authorization: Bearer sk-unknown")


def test_the_configured_field_comes_first_and_is_no_must() -> None:
    connected = Connected(snapshot_of(ONE, TWO, key_header="X-Ours"))
    assert connected.ask(f"x-ours: {TWO}", f"authorization: Bearer {ONE}").alias == TWO
    assert connected.ask(f"x-ours: Bearer {TWO}").alias == TWO
    assert connected.ask(f"authorization: Bearer {ONE}").alias == ONE


def test_the_master_key_is_admin(snapshot: Snapshot) -> None:
    principal = Connected(snapshot).ask(f"authorization: Bearer {MASTER}")
    assert principal is snapshot.master
    assert principal.is_admin
    assert not Connected(snapshot).ask(f"api-key: {ONE}").is_admin


@pytest.mark.parametrize(
    ("fields", "type_", "message"),
    [
        ([], "auth_error", "No api key passed in."),
        (["authorization:"], "auth_error", "No api key passed in."),
        (["authorization: sk-nobody"], "auth_error", "Malformed API Key passed in. Ensure Key"),
        (["authorization: Basic c2s="], "auth_error", "Malformed API Key passed in. Ensure Key"),
        (
            ["authorization: Bearer abc"],
            "auth_error",
            "LiteLLM Virtual Key expected. Received=ab**",
        ),
        (["api-key: abc"], "auth_error", "LiteLLM Virtual Key expected. Received=ab**"),
        (["api-key: \xff\x80c"], "auth_error", "LiteLLM Virtual Key expected. Received=??**"),
        (["api-key: sk-1234567"], "token_not_found_in_db", "Received API Key = sk-...4567, Key"),
        (["api-key: fg-1234567"], "token_not_found_in_db", "Received API Key = sk-...4567, Key"),
    ],
)
def test_refusals(snapshot: Snapshot, fields: list[str], type_: str, message: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        Connected(snapshot).ask(*fields)
    error = caught.value
    assert (error.status, error.type) == (401, type_)
    assert error.public.startswith("Authentication Error, ")
    assert message in error.public


def test_a_refusal_shows_little_of_the_key(snapshot: Snapshot) -> None:
    with pytest.raises(AuthenticationError) as caught:
        Connected(snapshot).ask("authorization: Bearer sk-secret-of-somebody")
    assert "secret" not in caught.value.public
    assert "secret" not in caught.value.detail


def test_what_a_connection_remembers(snapshot: Snapshot) -> None:
    connected = Connected(snapshot)
    first = connected.ask(f"api-key: {ONE}")
    assert connected.ask(f"api-key: {ONE}") is first
    assert connected.ask(f"api-key: {TWO}").alias == TWO
    # One that failed is not remembered as good, nor the good one forgotten.
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            connected.ask("api-key: sk-unknown")
    with pytest.raises(AuthenticationError):
        connected.ask()
    assert connected.ask(f"api-key: {TWO}").alias == TWO


def test_a_new_snapshot_is_asked_anew(snapshot: Snapshot) -> None:
    connected = Connected(snapshot)
    assert connected.ask(f"api-key: {ONE}").alias == ONE
    connected.snapshot = snapshot_of(TWO)
    with pytest.raises(AuthenticationError):
        connected.ask(f"api-key: {ONE}")
    connected.snapshot = snapshot
    assert connected.ask(f"api-key: {ONE}").alias == ONE


def test_a_remembered_key_counts_in_whatever_field_but_by_its_own_rule(snapshot: Snapshot) -> None:
    connected = Connected(snapshot)
    assert connected.ask(f"api-key: {ONE}").alias == ONE
    assert connected.ask(f"x-api-key: {ONE}").alias == ONE


def test_an_open_gateway_asks_for_nothing() -> None:
    open_snapshot = snapshot_of(master="")
    for fields in ([], ["authorization: Bearer whatever"]):
        principal = Connected(open_snapshot).ask(*fields)
        assert principal is open_snapshot.anyone
        assert principal.is_admin
