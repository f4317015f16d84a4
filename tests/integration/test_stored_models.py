"""Models of the database: served by every worker within a second, their secrets sealed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastgate.store.sealing import Sealer, Unsealable
from tests.processes import Engine, Gateway
from tests.served import MASTER_KEY, Reply, Stand, config, deployment, free_port

WITHIN_S = 1.0
SECRET = "canary-of-a-stored-model"
WORKERS = 2


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Stand]:
    engine = Engine(tmp_path / "engine.log")
    engine.start()
    settings = config([deployment("sim", engine.url, id="in-file")])
    env = {"LITELLM_SALT_KEY": "salt-of-the-tests", "SHARED": "sk-by-name"}
    options = ("--workers", str(WORKERS))
    gateway = Gateway(tmp_path / "gateway", settings, free_port(), options, env)
    try:
        gateway.start()
        yield Stand([engine], gateway)
    finally:
        gateway.stop()
        engine.stop()
    gateway.assert_clean()


def ask(served: Stand, path: str, body: Any = None, method: str = "") -> Reply:
    return served.ask(method or ("GET" if body is None else "POST"), path, body, key=MASTER_KEY)


def done(served: Stand, path: str, body: Any = None, method: str = "") -> Any:
    reply = ask(served, path, body, method)
    assert reply.status == 200, reply.body
    return reply.json()


def entry(served: Stand, name: str = "added", **params: Any) -> dict[str, Any]:
    base = {"model": "openai/sim", "api_base": served.engine.url, "api_key": SECRET}
    return {"model_name": name, "litellm_params": {**base, **params}}


def sent(served: Stand) -> dict[str, str]:
    """Return the header of the last request that the engine got; it shows keys by their SHA-256."""
    return dict(served.received()[-1]["headers"])


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def models(served: Stand) -> set[str]:
    return {each["id"] for each in done(served, "/v1/models")["data"]}


def settle(served: Stand, check: Callable[[], bool]) -> None:
    """Return when the workers agree, which connections find at random; late: fail."""
    deadline, in_a_row = time.monotonic() + WITHIN_S, 0
    while in_a_row < 12:
        in_a_row = in_a_row + 1 if check() else 0
        # Of a loaded machine the last look may be late; what counts is what it sees.
        assert in_a_row or time.monotonic() < deadline, served.gateway.log()[-2000:]


def test_an_added_model_is_served_changed_and_removed(served: Stand) -> None:
    made = done(served, "/model/new", entry(served, extra_headers={"x-auth": SECRET}))
    model_id = made["model_info"]["id"]
    settle(served, lambda: models(served) == {"sim", "added"})
    assert served.chat("added", key=MASTER_KEY).status == 200
    assert sent(served)["authorization"] == digest(f"Bearer {SECRET}")
    assert sent(served)["x-auth"] == SECRET
    shown = {each["model_info"]["id"]: each for each in done(served, "/model/info")["data"]}
    assert shown[model_id]["model_info"]["db_model"] is True
    assert shown["in-file"]["model_info"]["db_model"] is False
    groups = done(served, "/model_group/info")["data"]
    assert [each["model_group"] for each in groups] == ["sim", "added"]
    for page in (shown, groups, made):
        assert SECRET not in json.dumps(page)

    change = {"model_info": {"id": model_id}, "litellm_params": {"api_key": "os.environ/SHARED"}}
    done(served, "/model/update", change)
    done(served, f"/model/{model_id}/update", {"model_name": "renamed"}, "PATCH")
    settle(served, lambda: models(served) == {"sim", "renamed"})
    assert served.chat("renamed", key=MASTER_KEY).status == 200
    assert sent(served)["authorization"] == digest("Bearer sk-by-name")
    assert served.chat("added", key=MASTER_KEY).status == 400

    done(served, "/model/delete", {"id": model_id})
    settle(served, lambda: models(served) == {"sim"})
    assert served.chat("renamed", key=MASTER_KEY).status == 400


def test_added_models_outlive_reload_control_and_restart(served: Stand) -> None:
    done(served, "/model/new", entry(served))
    settle(served, lambda: "added" in models(served))
    gateway = served.gateway
    gateway.write_config(
        config([deployment("sim", served.engine.url), deployment("more", served.engine.url)])
    )
    os.kill(gateway.pid, signal.SIGHUP)
    gateway.wait_for('"configuration loaded", "version": 3')
    settle(served, lambda: models(served) == {"sim", "more", "added"})
    gateway.stop()
    gateway.start()
    until = time.monotonic() + 10
    while "added" not in models(served):
        assert time.monotonic() < until
    assert served.chat("added", key=MASTER_KEY).status == 200
    for file in gateway.config_path.parent.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_under_another_salt_a_sealed_model_is_left_out_and_the_rest_served(served: Stand) -> None:
    done(served, "/model/new", entry(served))
    done(served, "/model/new", entry(served, "by-name", api_key="os.environ/SHARED"))
    gateway = served.gateway
    gateway.stop()
    gateway.env["LITELLM_SALT_KEY"] = "another-salt"
    gateway.start()
    gateway.wait_for("a model of the database is left out")
    until = time.monotonic() + 10
    while models(served) != {"sim", "by-name"}:
        assert time.monotonic() < until
    assert "LITELLM_SALT_KEY" in gateway.log()


def test_what_cannot_be_served_is_refused_when_it_is_added(served: Stand) -> None:
    for body, words in (
        (entry(served, model="openai/sim", api_base="nonsense"), "api_base"),
        (entry(served, api_base="unix:/tmp/control.sock"), "configuration file only"),
        (entry(served, api_key="os.environ/LITELLM_SALT_KEY"), "fastgate's own"),
        (entry(served, extra_headers={"x": "os.environ/DATABASE_URL"}), "fastgate's own"),
        (entry(served, api_key="os.environ/NO_SUCH_VARIABLE"), "not set"),
        (entry(served, api_key="sealed:v1:abc"), "the secret itself"),
        (entry(served, model="bedrock/x"), "not supported"),
        ({**entry(served), "model_info": {"id": "in-file"}}, "configuration file has"),
        ({"model_name": "a"}, "litellm_params"),
    ):
        reply = ask(served, "/model/new", body)
        assert reply.status == 400, (words, reply.body)
        assert words in reply.error["message"]
        assert SECRET not in reply.error["message"]
    assert len(done(served, "/model/info")["data"]) == 1


def test_a_sealed_value_opens_in_its_place_and_under_its_secret_only() -> None:
    sealed = Sealer("a").seal("text", "row/api_key")
    assert "text" not in sealed
    assert Sealer("a").open(sealed, "row/api_key") == "text"
    assert Sealer("a").seal("text", "row/api_key") != sealed
    for sealer, where, value in (
        (Sealer("b"), "row/api_key", sealed),
        (Sealer("a"), "other/api_key", sealed),
        (Sealer("a"), "row/api_key", sealed[:-6] + "AAAAAA"),
        (Sealer("a"), "row/api_key", "sealed:v1:not base64"),
    ):
        with pytest.raises(Unsealable):
            sealer.open(value, where)
