"""From a client's request to its row: a whole gateway, priced, over the simulated engine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest

from tests.processes import Engine, Gateway

KEY = "sk-a-key-of-these-tests"
MASTER = "sk-the-master-key-of-these-tests"
WAIT_S = 20.0


def config(engine: Engine) -> dict[str, Any]:
    def model(name: str, upstream: str, **fields: Any) -> dict[str, Any]:
        given = {"model": upstream, "api_base": engine.url, "api_key": "sk-upstream", **fields}
        return {
            "model_name": name,
            "litellm_params": given,
            "model_info": {"id": name.replace("*", "any")},
        }

    return {
        "model_list": [
            model(
                "priced",
                "openai/sim",
                input_cost_per_token=0.0000000375,
                output_cost_per_token=0.0000001,
            ),
            model("published", "openai/gpt-4o-mini"),
            model("any/*", "openai/*"),
            model("unpriced", "openai/a-model-of-ours"),
        ],
        "general_settings": {"master_key": MASTER},
    }


class Client:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def ask(self, path: str, body: Any, key: str = MASTER) -> tuple[dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        try:
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data
            return {name.lower(): value for name, value in answer.getheaders()}, data
        finally:
            connection.close()

    def chat(self, model: str, **more: Any) -> tuple[dict[str, str], bytes]:
        messages = [{"role": "user", "content": "hello there"}]
        return self.ask("/v1/chat/completions", {"model": model, "messages": messages, **more})

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Return the rows of the spend log, once there are so many."""
        deadline = time.monotonic() + WAIT_S
        while len(found := self._rows()) < count:
            assert time.monotonic() < deadline, f"{len(found)} rows of {count}"
            time.sleep(0.05)
        assert len(found) == count
        return found

    def _rows(self) -> list[dict[str, Any]]:
        path = self.gateway.config_path.parent / "fastgate.db"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                connection.row_factory = sqlite3.Row
                found = connection.execute("SELECT * FROM spend_logs ORDER BY request_id")
                return [dict(row) for row in found]
        except sqlite3.OperationalError:
            return []  # control is about to make it

    def control_pid(self) -> int:
        deadline = time.monotonic() + WAIT_S
        while True:
            for record in self.gateway.records():
                if record.get("event") == "ready" and record["name"] == "control":
                    pid: int = record["pid"]
                    return pid
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def client(gateway: Callable[..., Gateway], start_engine: Callable[..., Engine]) -> Client:
    engine = start_engine("--models", "*")
    started = gateway(config(engine))
    return Client(started)


def cost(row: dict[str, Any], input_usd: str, output_usd: str) -> int:
    exact = row["prompt_tokens"] * Decimal(input_usd) + row["completion_tokens"] * Decimal(
        output_usd
    )
    return int((exact * 10**9).quantize(Decimal(1), rounding="ROUND_HALF_UP"))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_row_to_the_nano_dollar(client: Client, stream: bool) -> None:
    fields, _ = client.chat("priced", stream=stream, max_tokens=7, user="customer-1")
    (row,) = client.rows(1)
    assert row["request_id"] == fields["x-fastgate-request-id"]
    assert row["completion_tokens"] == 7
    assert row["spend_nano_usd"] == cost(row, "0.0000000375", "0.0000001")
    assert (row["status"], row["usage_source"], row["stream"]) == ("success", "provider", stream)
    assert (row["model_group"], row["deployment_id"], row["model"]) == ("priced", "priced", "sim")
    assert row["customer_id"] == "customer-1"
    if not stream:
        told = Decimal(fields["x-litellm-response-cost"])
        assert told == Decimal(row["spend_nano_usd"]).scaleb(-9)


def test_published_prices_are_known_from_the_first_request(client: Client) -> None:
    client.chat("published", max_tokens=9)
    client.chat("any/gpt-4o-mini", max_tokens=9)
    client.chat("unpriced", max_tokens=9)
    rows = {row["model_group"]: row for row in client.rows(3)}
    for name in ("published", "any/*"):
        assert rows[name]["spend_nano_usd"] == cost(rows[name], "0.00000015", "0.0000006")
        assert rows[name]["price_version"]
    assert rows["unpriced"]["spend_nano_usd"] is None
    assert rows["unpriced"]["completion_tokens"] == 9


def test_rows_of_a_killed_control_come_late_and_whole(client: Client) -> None:
    control = client.control_pid()
    for _ in range(20):
        client.chat("priced", max_tokens=3)
    os.kill(control, signal.SIGKILL)
    for _ in range(20):
        client.chat("priced", max_tokens=3)
    rows = client.rows(40)
    assert {row["status"] for row in rows} == {"success"}


def test_journals_of_a_gateway_that_ended_are_posted_and_gone(client: Client) -> None:
    for _ in range(5):
        client.chat("priced", max_tokens=3)
    client.rows(5)
    client.gateway.stop()
    client.gateway.start()
    deadline = time.monotonic() + WAIT_S
    journal = client.gateway.config_path.parent / "journal"
    while len([folder for folder in journal.iterdir() if folder.is_dir()]) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.rows(5)
