"""Budgets that hold, whoever asks at the same time: a whole gateway with two workers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.front import unused_port
from tests.processes import Engine, Gateway

MASTER = "sk-the-master-key-of-these-tests"
WAIT_S = 20.0
TOKENS = 10
PRICE_USD = 0.001
"""Of a token of an answer; prompts are free."""
COST_USD = TOKENS * PRICE_USD


def config(engine: Engine) -> dict[str, Any]:
    def model(name: str) -> dict[str, Any]:
        given = {
            "model": "openai/sim",
            "api_base": engine.url,
            "api_key": "sk-upstream",
            "input_cost_per_token": 0,
            "output_cost_per_token": PRICE_USD,
        }
        return {"model_name": name, "litellm_params": given, "model_info": {"id": name}}

    return {
        "model_list": [model("m"), model("other")],
        "general_settings": {"master_key": MASTER},
    }


class Api:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def call(self, method: str, path: str, body: Any = None, key: str = MASTER) -> Any:
        status, answer = self.ask(method, path, body, key)
        assert status == 200, (status, answer)
        return answer

    def ask(self, method: str, path: str, body: Any, key: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)
        try:
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def chat(self, key: str, model: str = "m", **more: Any) -> tuple[int, Any]:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": TOKENS,
            **more,
        }
        return self.ask("POST", "/v1/chat/completions", body, key)

    def key(self, **fields: Any) -> str:
        made: str = self.call("POST", "/key/generate", fields)["key"]
        return made

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    def spend(self, key: str) -> float:
        found: float = self.call("GET", f"/key/info?key={key}")["info"]["spend"]
        return found


@pytest.fixture
def limited(gateway: Callable[..., Gateway], start_engine: Callable[..., Engine]) -> Api:
    """A gateway with a budget of its own, for all keys together."""
    settings = config(start_engine("--models", "*"))
    settings["litellm_settings"] = {"max_budget": 3 * COST_USD, "budget_duration": "30d"}
    return Api(gateway(settings))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("budgets")
    engine = Engine(folder / "engine.log", "--models", "*")
    engine.start()
    gateway = Gateway(folder / "home", config(engine), unused_port(), ["--workers", "2"], {})
    try:
        gateway.start()
        api = Api(gateway)
        api.until(lambda: api.ask("GET", "/key/list", None, MASTER)[0] == 200, "control")
        yield api
        gateway.stop()
        gateway.assert_clean()
    finally:
        gateway.kill()
        engine.kill()


def test_a_budget_is_used_to_its_end_and_no_further(served: Api) -> None:
    key = served.key(max_budget=3.5 * COST_USD)
    found = [served.chat(key)[0] for _ in range(6)]
    assert found == [200] * 3 + [400] * 3
    served.until(lambda: served.spend(key) == 3 * COST_USD, "the spend of three requests")
    status, answer = served.chat(key)
    assert status == 400
    assert answer["error"]["type"] == "budget_exceeded"
    assert answer["error"]["message"].startswith("Budget has been exceeded! Current cost: 0.03, ")
    # What costs less than what is left may go on.
    assert served.chat(key, max_tokens=5)[0] == 200
    assert served.chat(key, max_tokens=1)[0] == 400


def test_requests_at_the_same_time_can_not_overspend_it(served: Api) -> None:
    key = served.key(max_budget=20 * COST_USD)
    served.chat(key)
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda _: served.chat(key)[0], range(200)))
    assert found.count(200) == 19
    assert set(found) == {200, 400}
    served.until(lambda: served.spend(key) == pytest.approx(20 * COST_USD), "all of it spent")


def test_a_team_s_budget_is_that_of_all_its_keys(served: Api) -> None:
    team = served.call("POST", "/team/new", {"max_budget": 4 * COST_USD})["team_id"]
    keys = [served.key(team_id=team, max_budget=100) for _ in range(3)]
    found = [served.chat(keys[i % 3])[0] for i in range(6)]
    assert found == [200] * 4 + [400] * 2


def test_a_model_s_budget_leaves_the_others_alone(served: Api) -> None:
    key = served.key(model_max_budget={"m": {"budget_limit": 2 * COST_USD, "time_period": "1d"}})
    assert [served.chat(key)[0] for _ in range(4)] == [200, 200, 400, 400]
    assert [served.chat(key, "other")[0] for _ in range(3)] == [200] * 3
    assert served.chat(key)[0] == 400


def test_a_larger_budget_counts_at_once(served: Api) -> None:
    key = served.key(max_budget=COST_USD)
    assert [served.chat(key)[0] for _ in range(2)] == [200, 400]
    served.call("POST", "/key/update", {"key": key, "max_budget": 2 * COST_USD})
    served.until(lambda: served.chat(key)[0] == 200, "the larger budget")
    assert served.chat(key)[0] == 400


def test_a_budget_begins_anew(served: Api) -> None:
    key = served.key(max_budget=COST_USD, budget_duration="5s")
    assert served.chat(key)[0] == 200
    assert served.chat(key)[0] == 400
    served.until(lambda: served.chat(key)[0] == 200, "the next window")


def test_a_spend_set_by_hand_holds(served: Api) -> None:
    key = served.key(max_budget=COST_USD)
    assert [served.chat(key)[0] for _ in range(2)] == [200, 400]
    served.until(lambda: served.spend(key) == COST_USD, "the spend in the store")
    served.call("POST", "/key/update", {"key": key, "spend": 0})
    served.until(lambda: served.chat(key)[0] == 200, "the spend of nothing")


def test_the_gateway_s_own_budget_outlives_it(limited: Api) -> None:
    limited.until(lambda: limited.ask("GET", "/key/list", None, MASTER)[0] == 200, "control")
    key = limited.key()
    found = [limited.chat(each)[0] for each in (key, MASTER, key, key, MASTER)]
    assert found == [200] * 3 + [400] * 2
    limited.until(
        lambda: limited.call("GET", "/global/spend")["spend"] == pytest.approx(3 * COST_USD),
        "the rows",
    )
    limited.gateway.stop()
    limited.gateway.start()
    limited.until(lambda: limited.ask("GET", "/key/list", None, MASTER)[0] == 200, "control")
    limited.until(lambda: limited.chat(key)[0] == 400, "what was spent before")
