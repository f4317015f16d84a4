"""The look-ups of a worker: keys, model names, wildcards, aliases, fallbacks."""

from __future__ import annotations

import hashlib
import json
from time import process_time
from typing import Any

import pytest

from fastgate.config.schema import Alias, Config, Deployment, Router, Server, VirtualKey
from fastgate.config.scopes import LimitName
from fastgate.config.snapshot import Principal, Snapshot, decode, encode

MASTER = hashlib.sha256(b"sk-master").digest()


def deployment(group: str, model: str = "", **fields: Any) -> Deployment:
    fields = {"id": f"{group}:{model}", "provider": "p", "host": "h", "port": 80, **fields}
    return Deployment(group=group, model=model or group, api_base="http://h", **fields)


def digest_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def key(name: str, *models: str, **fields: Any) -> VirtualKey:
    return VirtualKey(key_hash=digest_of(name).hex(), alias=name, models=list(models), **fields)


def snapshot(
    *deployments: Deployment, keys: list[VirtualKey] | None = None, **router: Any
) -> Snapshot:
    return Snapshot(
        Config(
            server=Server(master_key_hash=MASTER.hex()),
            deployments=list(deployments),
            keys=keys or [],
            router=Router(**router),
        )
    )


def principal(found: Snapshot, name: str) -> Principal:
    principal = found.principal(digest_of(name))
    assert principal is not None
    return principal


def upstream_models(found: Snapshot, model: str) -> list[str] | None:
    route = found.resolve(model)
    return None if route is None else [name for _, name in route.deployments]


# models


def test_a_group_has_all_its_deployments_in_order() -> None:
    found = snapshot(deployment("a", "x"), deployment("b", "y"), deployment("a", "z"))
    route = found.resolve("a")
    assert route is not None
    assert route.group == "a"
    assert [(each.id, model) for each, model in route.deployments] == [("a:x", "x"), ("a:z", "z")]
    assert found.resolve("c") is None


def test_an_alias_leads_to_its_group_even_past_one_of_its_own_name() -> None:
    found = snapshot(
        deployment("a"), deployment("b"), aliases={"best": Alias(group="a"), "b": Alias(group="a")}
    )
    assert upstream_models(found, "best") == ["a"]
    assert upstream_models(found, "b") == ["a"]


def test_an_alias_may_lead_into_a_wildcard() -> None:
    found = snapshot(deployment("v/*", "*"), aliases={"best": Alias(group="v/big")})
    assert upstream_models(found, "best") == ["big"]


def test_the_most_specific_wildcard_wins() -> None:
    found = snapshot(
        deployment("*", "any/*"),
        deployment("v/*", "v-*"),
        deployment("v/gpt-*", "gpt:*"),
        deployment("v/gpt-4"),
    )
    assert upstream_models(found, "v/gpt-4") == ["v/gpt-4"]
    assert upstream_models(found, "v/gpt-5") == ["gpt:5"]
    assert upstream_models(found, "v/other") == ["v-other"]
    assert upstream_models(found, "w/other") == ["any/w/other"]
    assert upstream_models(found, "v/") == ["v-"]


def test_of_equally_specific_wildcards_the_first_wins() -> None:
    found = snapshot(deployment("*-x", "1"), deployment("a-*", "2"))
    assert upstream_models(found, "a-x") == ["1"]


def test_a_star_in_the_middle_needs_both_ends() -> None:
    found = snapshot(deployment("ab*ba", "<*>"))
    assert upstream_models(found, "ab1ba") == ["<1>"]
    assert upstream_models(found, "abba") == ["<>"]
    assert upstream_models(found, "aba") is None


@pytest.mark.parametrize("model", ["*", "v/*", 'a"b', "a\nb", "a b", "", "a" * 257, "v/../x", "ä"])
def test_a_wildcard_matches_plain_names_only(model: str) -> None:
    assert snapshot(deployment("*"), deployment("v/*")).resolve(model) is None


def test_a_configured_name_need_not_be_plain() -> None:
    assert upstream_models(snapshot(deployment("GPT 4 (EU)", "x")), "GPT 4 (EU)") == ["x"]


# fallbacks


def test_fallbacks_are_found_by_name_alias_group_and_star() -> None:
    found = snapshot(
        *(deployment(name) for name in ("a", "b", "c", "v/*", "w/*")),
        fallbacks={
            "a": ["1"],
            "alias": ["2"],
            "v/*": ["3"],
            "v/exact": ["4"],
            "*": ["5", "b"],
        },
        default_fallbacks=["6"],
        aliases={"alias": Alias(group="a"), "other": Alias(group="a")},
    )
    assert found.fallbacks_of("a") == ["1"]
    assert found.fallbacks_of("alias") == ["2"]
    assert found.fallbacks_of("other") == ["1"]
    assert found.fallbacks_of("v/x") == ["3"]
    assert found.fallbacks_of("v/exact") == ["4"]
    assert found.fallbacks_of("w/x") == ["5", "b"]
    assert found.fallbacks_of("b") == ["5"]


def test_the_default_is_for_groups_without_fallbacks() -> None:
    found = snapshot(
        deployment("a"), deployment("b"), fallbacks={"a": []}, default_fallbacks=["a", "b"]
    )
    assert found.fallbacks_of("a") == []
    assert found.fallbacks_of("b") == ["a"]


# keys


def test_a_key_is_found_by_its_digest() -> None:
    found = snapshot(keys=[key("k", team="t", rpm=5, tpm=6, max_parallel=7)])
    who = principal(found, "k")
    assert (who.alias, who.team, who.is_admin) == ("k", "t", False)
    assert who.scoped is not None
    assert who.scoped.limits == [LimitName("api_key", "k", 5, 6, -1, 7)]
    assert who.key_hash == digest_of("k")
    assert found.principal(digest_of("k")) is who
    assert found.principal(digest_of("other")) is None


def test_without_limits_there_is_nothing_to_reserve() -> None:
    assert principal(snapshot(keys=[key("k")]), "k").scoped is None
    assert principal(snapshot(keys=[key("k", tpm=0)]), "k").scoped is not None


def test_the_master_key_is_admin() -> None:
    found = snapshot(deployment("a"))
    who = found.principal(MASTER)
    assert who is not None
    assert (who.is_admin, who.all_models) == (True, True)
    assert not found.is_open


def test_without_any_key_everybody_is_admin() -> None:
    found = Snapshot(Config(deployments=[deployment("a")]))
    assert found.is_open
    assert found.anyone.is_admin
    assert found.principal(b"\0" * 32) is None
    assert found.principal(b"") is None


def test_virtual_keys_alone_close_the_gateway() -> None:
    found = Snapshot(Config(keys=[key("k")]))
    assert not found.is_open
    assert not principal(found, "k").is_admin
    assert found.principal(b"") is None


def test_log_members_are_json_whatever_the_names() -> None:
    names = {"alias": 'a"\\', "team": "ü\u2028"}
    found = Principal(VirtualKey(key_hash="00" * 32, **names))
    assert json.loads(b"{" + found.log_members + b'"x":1}') == {
        "key": names["alias"],
        "team": names["team"],
        "x": 1,
    }
    assert found.log_members.isascii()


# who may ask for what


def test_a_key_without_models_may_ask_for_all() -> None:
    found = snapshot(
        deployment("a"), keys=[key("none"), key("all", "x", "all-proxy-models"), key("star", "*")]
    )
    for name in ("none", "all", "star"):
        assert principal(found, name).all_models
        assert found.allows(principal(found, name), "anything")


def test_models_are_names_patterns_and_access_groups() -> None:
    found = snapshot(
        deployment("a"),
        deployment("b", access_groups=["beta"]),
        deployment("w/*", access_groups=["beta"]),
        deployment("c"),
        keys=[key("k", "a", "beta", "v/*-mini")],
    )
    who = principal(found, "k")
    allowed = {name: found.allows(who, name) for name in ("a", "b", "c", "w/x", "v/x", "v/x-mini")}
    assert allowed == {
        "a": True,
        "b": True,
        "c": False,
        "w/x": True,
        "v/x": False,
        "v/x-mini": True,
    }


def test_who_may_ask_for_a_group_may_use_its_aliases() -> None:
    aliases = {"best": Alias(group="a"), "deep": Alias(group="v/big"), "c": Alias(group="b")}
    found = snapshot(
        deployment("a"),
        deployment("b"),
        deployment("v/*"),
        keys=[key("group", "a"), key("alias", "best"), key("pattern", "v/*")],
        aliases=aliases,
    )
    assert found.allows(principal(found, "group"), "best")
    assert found.allows(principal(found, "alias"), "best")
    assert not found.allows(principal(found, "alias"), "a")
    assert found.allows(principal(found, "pattern"), "deep")
    assert not found.allows(principal(found, "group"), "c")


def test_a_pattern_with_many_stars_is_matched_at_once() -> None:
    found = snapshot(keys=[key("k", "*a" * 60 + "*b")])
    assert not found.allows(principal(found, "k"), "a" * 256)
    assert found.allows(principal(found, "k"), "xa" * 60 + "b")


# the list of models


def test_groups_and_visible_aliases_are_listed() -> None:
    found = snapshot(
        deployment("a"),
        deployment("b"),
        deployment("a", "2"),
        deployment("v/*"),
        keys=[key("k", "b", "quiet", "v/x", "nobody"), key("p", "v/*")],
        aliases={"best": Alias(group="a"), "quiet": Alias(group="a", hidden=True)},
    )
    assert found.visible_models(found.master) == ["a", "b", "best"]
    assert found.visible_models(principal(found, "k")) == ["b", "v/x"]
    assert found.visible_models(principal(found, "p")) == []


# as a whole


def test_a_config_travels_as_bytes() -> None:
    config = Config(
        deployments=[deployment("a", headers={"x": "y"}, auth_value=b"Bearer k")],
        keys=[key("k")],
        router=Router(aliases={"x": Alias(group="a")}, fallbacks={"a": ["x"]}),
    )
    assert decode(encode(config)) == config


def test_a_large_configuration_is_compiled_at_once() -> None:
    # 0.2 s where this was written; the bound is what a reload may take.
    deployments = [deployment(f"g{n // 2}", str(n)) for n in range(1000)]
    keys = [VirtualKey(key_hash=f"{n:064x}", models=["g1"]) for n in range(100_000)]
    config = Config(deployments=deployments, keys=keys)
    encoded = encode(config)
    start = process_time()
    found = Snapshot(decode(encoded))
    assert process_time() - start < 1
    assert found.principal((7).to_bytes(32, "big")) is not None
