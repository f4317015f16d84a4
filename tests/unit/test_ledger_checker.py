"""The comparison of the three books finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.checker import Line, check
from tests.ledger.clients import COMPLETE, CUT, LEFT, Seen
from tests.ledger.prices import cost_nano
from tests.ledger.wishes import STAYS, Wish

LINE = Line("id", 1, "sim-a", "chat", True, 200, 100, 40, 7, True, 9, "complete")
REFUSED = Line("id", 0, "sim-b", "chat", True, 429, 0, 0, 0, False, 1, "refused")


def charge(tokens: tuple[str, int, int, int], **more: Any) -> dict[str, Any]:
    model, prompt, cached, completion = tokens
    return {
        "request_id": "id",
        "model": model,
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "completion_tokens": completion,
        "spend_nano_usd": cost_nano(*tokens),
        "usage_source": "provider",
        **more,
    }


def row(tokens: tuple[str, int, int, int] = LINE.tokens, **more: Any) -> dict[str, Any]:
    made = {
        "status": "success",
        "client_request_id": "client-1",
        "error_kind": None,
        "call_type": "acompletion",
        "stream": True,
        "attempts": 1,
    }
    return charge(tokens, **{**made, **more})


def seen(ending: str = COMPLETE, **more: Any) -> Seen:
    wish = Wish(1, "chat/completions", {"stream": True}, 0, STAYS, False)
    made: dict[str, Any] = {"status": 200, "request_id": "id", "tokens": 7}
    if ending == COMPLETE:
        made["usage"] = (100, 40, 7)
    return Seen(wish, ending, **{**made, **more})


def findings(
    lines: list[Line], rows: list[Any], clients: list[Seen], attempts: list[Any] | None = None
) -> list[str]:
    by_id: dict[str, list[Line]] = {}
    for line in lines:
        by_id.setdefault(line.id, []).append(line)
    checked = check(by_id, rows, attempts or [], clients)
    return [finding.partition(" | ")[0] for finding in checked.findings]


def test_books_that_agree() -> None:
    assert findings([LINE], [row()], [seen()]) == []
    assert findings([REFUSED, LINE], [row()], [seen()]) == []
    failed = LINE._replace(n=0, model="sim-b", completion=2, end="cut")
    assert findings([failed, LINE], [row()], [seen()], [charge(failed.tokens)]) == []


@pytest.mark.parametrize(
    "tokens",
    [
        ("sim-a", 101, 40, 7),
        ("sim-a", 100, 41, 7),
        ("sim-a", 100, 40, 6),
        ("sim-b", 100, 40, 7),
        ("sim-a", 0, 0, 0),
    ],
)
def test_other_tokens_than_the_engines(tokens: tuple[str, int, int, int]) -> None:
    assert "billed by the engine, not by us" in findings([LINE], [row(tokens)], [seen()])


def test_one_nano_dollar() -> None:
    wrong = row(spend_nano_usd=cost_nano(*LINE.tokens) + 1)
    (found,) = findings([LINE], [wrong], [seen()])
    assert found.startswith("costs ")


def test_rows_too_few_and_too_many() -> None:
    assert findings([LINE], [], []) == ["went upstream, and is no row"]
    assert "answered, and no row" in findings([LINE], [], [seen()])
    assert "billed, and never went upstream" in findings([], [row()], [seen()])
    assert "two rows" in findings([LINE], [row(), row()], [seen()])
    assert "a row of no client" in findings([LINE], [row()], [])


def test_attempts_too_few_and_too_many() -> None:
    failed = LINE._replace(n=0, model="sim-b", completion=2, end="cut")
    missing = findings([failed, LINE], [row()], [seen()])
    assert missing == ["billed by the engine, not by us"]
    twice = [charge(failed.tokens)] * 2
    assert findings([failed, LINE], [row()], [seen()], twice) == [
        "billed otherwise than by the engine"
    ]


def test_what_a_client_saw_holds() -> None:
    told = seen(usage=(100, 40, 8))
    assert findings([LINE], [row()], [told])[0].startswith("a client was told")
    orphan = row(status="orphaned", usage_source="estimated")
    assert "a client saw success, its row says orphaned" in findings([LINE], [orphan], [seen()])


def test_a_client_that_left_is_billed_between_what_it_saw_and_what_was_handed_over() -> None:
    def of(completion: int) -> list[str]:
        billed = row(("sim-a", 100, 40, completion), status="aborted")
        return findings([LINE], [billed], [seen(LEFT, tokens=3)])

    assert of(3) == of(5) == of(7) == []
    assert of(2) and of(8)
    unseen = row(("sim-a", 0, 0, 0), status="aborted", usage_source="none")
    assert findings([LINE], [unseen], [seen(LEFT, tokens=0)]) == []
    assert findings([LINE], [unseen], [seen(LEFT, tokens=1)])


def test_estimates_are_for_what_was_not_told() -> None:
    untold = LINE._replace(told=False, end="cut")
    guess = row(("sim-a", 120, 0, 7), status="failure", usage_source="estimated")
    assert findings([untold], [guess], [seen(CUT)]) == []
    assert findings([LINE], [guess], [seen(CUT)])
    assert findings([untold], [guess | {"usage_source": "provider"}], [seen(CUT)])
    for tokens in (("sim-a", 900, 0, 7), ("sim-a", 120, 0, 6), ("sim-a", 120, 0, 9)):
        far = row(tokens, status="failure", usage_source="estimated")
        assert findings([untold], [far], [seen(CUT)])


def test_orphans_have_no_more_than_was_handed_over() -> None:
    line = LINE._replace(end="gone")

    def of(completion: int, nano: int) -> list[str]:
        tokens = ("sim-a", 90, 0, completion)
        orphan = row(tokens, status="orphaned", usage_source="estimated", spend_nano_usd=nano)
        return findings([line], [orphan], [seen(CUT)])

    assert of(5, 2_000) == of(0, 0) == []
    assert of(8, 2_000)
    assert of(5, 10**9)
    assert of(5, -1)
