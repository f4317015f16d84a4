"""A file and an environment to a Config: what each section means, and all that is wrong at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastgate.config.load import Loaded, load, refuse_open
from fastgate.config.schema import Config, Server
from fastgate.errors import ConfigError

Load = Callable[..., Loaded]
Faults = Callable[..., dict[str, str]]

ENGINE = {
    "model_name": "llama",
    "litellm_params": {"model": "hosted_vllm/llama", "api_base": "http://10.0.0.1:8000/v1"},
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file with one deployment and the given sections."""

    def file(**sections: Any) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({"model_list": [ENGINE], **sections}))
        return path

    return file


@pytest.fixture
def loaded(write: Callable[..., Path]) -> Load:
    def run(environ: Mapping[str, str] | None = None, **sections: Any) -> Loaded:
        return load(write(**sections), environ or {})

    return run


@pytest.fixture
def faults(write: Callable[..., Path]) -> Faults:
    def run(environ: Mapping[str, str] | None = None, **sections: Any) -> dict[str, str]:
        with pytest.raises(ConfigError) as caught:
            load(write(**sections), environ or {})
        return {fault.path: fault.message for fault in caught.value.faults}

    return run


def warnings(found: Loaded) -> dict[str, str]:
    return {fault.path: fault.message for fault in found.report.warnings}


def statuses(found: Loaded) -> dict[str, str]:
    return {entry.path: entry.status for entry in found.report.entries}


# litellm_settings, router_settings


def test_all_of_the_router_is_read(loaded: Load) -> None:
    router = loaded(
        router_settings={
            "routing_strategy": "least-busy",
            "num_retries": 4,
            "retry_after": 1,
            "timeout": 30,
            "stream_timeout": 5,
            "fallbacks": [{"llama": ["alias"]}],
            "default_fallbacks": ["llama"],
            "max_fallbacks": 2,
            "cooldown_time": 7,
            "allowed_fails": 3,
            "disable_cooldowns": True,
            "model_group_alias": {"alias": "llama", "quiet": {"model": "llama", "hidden": True}},
        }
    ).config
    assert router.router.routing_strategy == "least-busy"
    assert router.router.num_retries == 4
    assert router.router.retry_after_s == 1
    assert router.router.fallbacks == {"llama": ["alias"]}
    assert router.router.default_fallbacks == ["llama"]
    assert router.router.max_fallbacks == 2
    assert router.router.cooldown_time_s == 7
    assert router.router.allowed_fails == 3
    assert router.router.disable_cooldowns is True
    assert {name: alias.hidden for name, alias in router.router.aliases.items()} == {
        "alias": False,
        "quiet": True,
    }
    assert (router.upstream.timeout_s, router.upstream.stream_timeout_s) == (30, 5)


def test_router_settings_win_over_litellm_settings(loaded: Load) -> None:
    config = loaded(
        litellm_settings={"num_retries": 1, "request_timeout": 10, "fallbacks": []},
        router_settings={"num_retries": 5, "timeout": 20, "fallbacks": [{"llama": ["llama"]}]},
    ).config
    assert config.router.num_retries == 5
    assert config.upstream.timeout_s == 20
    assert config.router.fallbacks == {"llama": ["llama"]}


def test_litellm_settings_alone_count(loaded: Load) -> None:
    config = loaded(
        litellm_settings={"num_retries": 0, "request_timeout": 10, "drop_params": True}
    ).config
    assert config.router.num_retries == 0
    assert (config.upstream.timeout_s, config.upstream.stream_timeout_s) == (10, 10)
    assert config.drop_params is True


def test_our_own_timeouts_win_over_all(loaded: Load) -> None:
    config = loaded(
        router_settings={"timeout": 20}, fastgate_settings={"upstream": {"timeout_s": "2m"}}
    ).config
    assert (config.upstream.timeout_s, config.upstream.stream_timeout_s) == (120, 20)


def test_a_strategy_we_lack_is_replaced_with_a_warning(loaded: Load) -> None:
    found = loaded(router_settings={"routing_strategy": "latency-based-routing"})
    assert found.config.router.routing_strategy == "simple-shuffle"
    assert "simple-shuffle is used" in warnings(found)["router_settings.routing_strategy"]


def test_names_that_lead_nowhere_are_faults(faults: Faults) -> None:
    assert set(
        faults(
            router_settings={
                "fallbacks": [{"llama": ["llama", "nobody"]}, {"nothing": ["llama"]}],
                "default_fallbacks": ["nobody"],
                "model_group_alias": {"a": "nobody", "b": "a"},
            }
        )
    ) == {
        "router_settings.fallbacks[0].llama[1]",
        "router_settings.fallbacks[1].nothing",
        "router_settings.default_fallbacks[0]",
        "router_settings.model_group_alias.a",
        "router_settings.model_group_alias.b",
    }


def test_a_fault_stands_where_it_was_written(faults: Faults) -> None:
    assert set(faults(litellm_settings={"fallbacks": [{"llama": ["nobody"]}]})) == {
        "litellm_settings.fallbacks[0].llama[0]"
    }


def test_fallbacks_may_name_aliases_and_what_wildcards_match(loaded: Load) -> None:
    wildcard = {
        "model_name": "vendor/*",
        "litellm_params": {"model": "openai/*", "api_key": "sk-x"},
    }
    config = loaded(
        model_list=[ENGINE, wildcard],
        router_settings={
            "fallbacks": [{"vendor/*": ["llama"]}, {"*": ["vendor/big"]}, {"vendor/a": ["alias"]}],
            "model_group_alias": {"alias": "llama", "other": "vendor/b"},
        },
    ).config
    assert set(config.router.fallbacks) == {"vendor/*", "*", "vendor/a"}
    assert set(config.router.aliases) == {"alias", "other"}


def test_an_alias_may_not_be_or_mean_a_pattern(faults: Faults) -> None:
    wildcard = {"model_name": "v/*", "litellm_params": {"model": "openai/*", "api_key": "sk-x"}}
    assert set(
        faults(
            model_list=[wildcard], router_settings={"model_group_alias": {"a": "v/*", "b*": "v/x"}}
        )
    ) == {"router_settings.model_group_alias.a", "router_settings.model_group_alias.b*"}


def test_an_alias_that_hides_a_group_is_worth_a_warning(loaded: Load) -> None:
    other = {**ENGINE, "model_name": "other"}
    found = loaded(
        model_list=[ENGINE, other], router_settings={"model_group_alias": {"other": "llama"}}
    )
    assert "hides" in warnings(found)["router_settings.model_group_alias.other"]


# general_settings


@pytest.mark.parametrize("variable", ["LITELLM_MASTER_KEY", "FASTGATE_MASTER_KEY"])
def test_the_master_key_may_stand_in_the_environment(loaded: Load, variable: str) -> None:
    key = "sk-master-0123456789"
    config = loaded({variable: key + "\n"}).config
    assert config.server.master_key_hash == hashlib.sha256(key.encode()).hexdigest()


def test_the_master_key_of_the_file_wins(loaded: Load) -> None:
    config = loaded(
        {"LITELLM_MASTER_KEY": "sk-environment-0123"},
        general_settings={"master_key": "sk-file-0123456789"},
    ).config
    assert config.server.master_key_hash == hashlib.sha256(b"sk-file-0123456789").hexdigest()


def test_a_master_key_may_be_given_by_its_hash(loaded: Load) -> None:
    digest = hashlib.sha256(b"sk-x").hexdigest()
    config = loaded(fastgate_settings={"server": {"master_key_hash": digest.upper()}}).config
    assert config.server.master_key_hash == digest


@pytest.mark.parametrize("where", ["general_settings.master_key", "LITELLM_MASTER_KEY"])
def test_a_weak_master_key_is_worth_a_warning(loaded: Load, where: str) -> None:
    if where.startswith("general"):
        found = loaded(general_settings={"master_key": "sk-1234"})
    else:
        found = loaded({where: "sk-1234"})
    assert "can be guessed" in warnings(found)[where]
    assert "sk-1234" not in warnings(found)[where]


@pytest.mark.parametrize("key", [1234, True, ["sk-x"], "", "sk-a\r\nb", "sk-ä"])
def test_what_is_no_key_is_a_fault(faults: Faults, key: object) -> None:
    assert set(faults(general_settings={"master_key": key})) == {"general_settings.master_key"}


def test_other_general_settings(loaded: Load) -> None:
    config = loaded(
        general_settings={"litellm_key_header_name": "X-My-Key", "max_request_size_mb": 2}
    ).config
    assert config.server.key_header == "x-my-key"
    assert config.limits.max_body_bytes == 2 * 1024 * 1024


def test_our_own_body_limit_wins(loaded: Load) -> None:
    config = loaded(
        general_settings={"max_request_size_mb": 2},
        fastgate_settings={"limits": {"max_body_bytes": "1MiB"}},
    ).config
    assert config.limits.max_body_bytes == 1024 * 1024


# the report


def test_every_key_is_classified(loaded: Load) -> None:
    found = loaded(
        litellm_settings={"cache": True, "drop_parms": True, "drop_params": True},
        router_settings={"redis_host": "os.environ/ABSENT", "num_retry": 3},
        general_settings={"database_url": "postgresql://u:canary@h/db", "nonsense": {}},
        guardrails=[{"guardrail_name": "x"}],
        router_setings={"num_retries": 1},
        fastgate_settings={"limits": {"head_timeout": 5}},
    )
    assert statuses(found) == {
        "model_list[0].model_name": "honoured",
        "model_list[0].litellm_params.model": "honoured",
        "model_list[0].litellm_params.api_base": "honoured",
        "litellm_settings.cache": "ignored",
        "litellm_settings.drop_parms": "unknown",
        "litellm_settings.drop_params": "honoured",
        "router_settings.redis_host": "ignored",
        "router_settings.num_retry": "unknown",
        "general_settings.database_url": "honoured",
        "general_settings.nonsense": "unknown",
        "guardrails": "ignored",
        "router_setings": "unknown",
        "fastgate_settings.limits.head_timeout": "unknown",
    }
    told = warnings(found)
    assert "did you mean drop_params?" in told["litellm_settings.drop_parms"]
    assert "did you mean num_retries?" in told["router_settings.num_retry"]
    assert "did you mean router_settings?" in told["router_setings"]
    assert "did you mean head_timeout_s?" in told["fastgate_settings.limits.head_timeout"]
    assert told["general_settings.nonsense"] == "unknown"
    assert "response cache" in told["litellm_settings.cache"]


def test_equal_entries_are_folded(loaded: Load) -> None:
    found = loaded(model_list=[ENGINE, {**ENGINE, "model_name": "b"}])
    folded = {entry.path: n for entry, n in found.report.folded()}
    assert folded["model_list[*].model_name"] == 2
    found = loaded(model_list=[ENGINE, {**ENGINE, "model_name": "b", "blocked": True}])
    assert "model_list[1].blocked" in {entry.path for entry, _ in found.report.folded()}


# environment


def test_a_missing_variable_is_a_fault_with_its_name(faults: Faults) -> None:
    found = faults(
        general_settings={"master_key": "os.environ/ABSENT_ONE"},
        router_settings={"default_fallbacks": ["os.environ/ABSENT_TWO"]},
    )
    assert "ABSENT_ONE is not set" in found["general_settings.master_key"]
    assert "ABSENT_TWO is not set" in found["router_settings.default_fallbacks[0]"]


def test_environment_variables_are_defaults(loaded: Load) -> None:
    environ = {"SET": "5", "FROM": "7"}
    found = loaded(
        environ,
        environment_variables={"SET": "1", "UNSET": 3, "LEADS_ON": "os.environ/FROM"},
        router_settings={
            "num_retries": "os.environ/SET",
            "max_fallbacks": "os.environ/UNSET",
            "cooldown_time": "os.environ/LEADS_ON",
        },
    )
    router = found.config.router
    assert (router.num_retries, router.max_fallbacks, router.cooldown_time_s) == (5, 3, 7)
    assert environ == {"SET": "5", "FROM": "7"}


# faults


def test_all_faults_are_found_at_once(faults: Faults) -> None:
    found = faults(
        model_list=[
            ENGINE,
            {"model_name": "a", "litellm_params": {"model": "openai/x", "rpm": "many"}},
            {"litellm_params": {"api_base": "http://u:p@h"}},
            "nonsense",
        ],
        router_settings={"num_retries": -1, "timeout": "30s", "routing_strategy": "fastest"},
        litellm_settings=["nonsense"],
        general_settings={"master_key": 1234},
        fastgate_settings={
            "server": {"port": 70000},
            "limits": {"max_body_bytes": "many", "head_timeout_s": 0},
            "log": {"level": "loud"},
            "keys": [{"alias": "x"}],
        },
    )
    assert set(found) == {
        "model_list[1].litellm_params.rpm",
        "model_list[2].model_name",
        "model_list[2].litellm_params.model",
        "model_list[3]",
        "router_settings.num_retries",
        "router_settings.timeout",
        "router_settings.routing_strategy",
        "litellm_settings",
        "general_settings.master_key",
        "fastgate_settings.server.port",
        "fastgate_settings.limits.max_body_bytes",
        "fastgate_settings.limits.head_timeout_s",
        "fastgate_settings.log.level",
        "fastgate_settings.keys[0]",
    }
    assert all("expected" in message or message == "missing" for message in found.values())


def test_what_names_a_faulty_deployment_is_no_fault_of_its_own(faults: Faults) -> None:
    broken = {"model_name": "a", "litellm_params": {"model": "openai/x", "rpm": "many"}}
    assert set(
        faults(
            model_list=[broken, ENGINE],
            router_settings={
                "fallbacks": [{"llama": ["a", "nobody"]}],
                "model_group_alias": {"b": "a"},
            },
        )
    ) == {"model_list[0].litellm_params.rpm", "router_settings.fallbacks[0].llama[1]"}


def test_a_fault_in_an_included_file_names_the_file(write: Callable[..., Path]) -> None:
    path = write(include=["more.yaml"])
    (path.parent / "more.yaml").write_text("model_list: [{model_name: x}]\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert [fault.path for fault in caught.value.faults] == [
        "more.yaml: model_list[0].litellm_params"
    ]


@pytest.mark.parametrize("entries", [[], None])
def test_nothing_to_serve_is_a_fault(faults: Faults, entries: object) -> None:
    assert "at least one deployment" in faults(model_list=entries)["model_list"]


def test_null_means_not_given(loaded: Load) -> None:
    config = loaded(
        router_settings={"num_retries": None, "fallbacks": None}, litellm_settings=None
    ).config
    assert config.router.num_retries == 2


# addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_a_loopback_address_needs_no_key(host: str) -> None:
    refuse_open(Config(server=Server(host=host)))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.x"])
def test_other_addresses_need_a_master_key(host: str) -> None:
    with pytest.raises(ConfigError, match=r"listen on 127\.0\.0\.1"):
        refuse_open(Config(server=Server(host=host)))
    refuse_open(Config(server=Server(host=host, master_key_hash="00" * 32)))
