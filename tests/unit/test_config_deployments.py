"""`model_list`: which provider an entry means, where it is called and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fastgate.config.load import Loaded, load
from fastgate.config.schema import Deployment
from fastgate.errors import ConfigError
from fastgate.providers.registry import registry


def read(tmp_path: Path, *entries: object, environ: dict[str, str] | None = None) -> Loaded:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": list(entries)}))
    return load(path, environ or {})


def entry(**parameters: object) -> dict[str, Any]:
    return {"model_name": "m", "litellm_params": parameters}


def one(tmp_path: Path, environ: dict[str, str] | None = None, **parameters: object) -> Deployment:
    (deployment,) = read(tmp_path, entry(**parameters), environ=environ).config.deployments
    return deployment


def faults(tmp_path: Path, *entries: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, *entries)
    return {fault.path: fault.message for fault in caught.value.faults}


def test_all_parameters_are_read(tmp_path: Path) -> None:
    (deployment,) = read(
        tmp_path,
        {
            "model_name": "gpt",
            "litellm_params": {
                "model": "openai/gpt-4o",
                "api_base": "https://eu.example/v1/",
                "api_key": "sk-x",
                "weight": 3,
                "rpm": "60",
                "tpm": 1000,
                "max_parallel_requests": 4,
                "order": 2,
                "timeout": 30,
                "stream_timeout": 5,
                "max_retries": 0,
                "cooldown_time": 9,
                "extra_headers": {"X-Team": "a", "X-Number": 5},
                "organization": "org-1",
            },
            "model_info": {"id": "eu-1", "mode": "chat", "access_groups": ["beta"]},
        },
    ).config.deployments
    assert deployment == Deployment(
        id="eu-1",
        group="gpt",
        provider="openai",
        model="gpt-4o",
        scheme="https",
        host="eu.example",
        port=443,
        base_path="/v1",
        api_base="https://eu.example/v1",
        auth_value=b"Bearer sk-x",
        headers={"x-team": "a", "x-number": "5", "openai-organization": "org-1"},
        weight=3,
        rpm=60,
        tpm=1000,
        max_parallel=4,
        order=2,
        timeout_s=30,
        stream_timeout_s=5,
        max_retries=0,
        cooldown_time_s=9,
        mode="chat",
        access_groups=["beta"],
    )


@pytest.mark.parametrize(
    ("parameters", "provider", "model", "api_base"),
    [
        ({"model": "openai/gpt-4o"}, "openai", "gpt-4o", "https://api.openai.com/v1"),
        ({"model": "gpt-4o"}, "openai", "gpt-4o", "https://api.openai.com/v1"),
        ({"model": "claude-x"}, "anthropic", "claude-x", "https://api.anthropic.com/v1"),
        (
            {"model": "openrouter/openai/gpt-4o"},
            "openrouter",
            "openai/gpt-4o",
            "https://openrouter.ai/api/v1",
        ),
        (
            {"model": "hosted_vllm/a/b", "api_base": "http://h:8000"},
            "hosted_vllm",
            "a/b",
            "http://h:8000/v1",
        ),
        (
            {"model": "openai/x", "base_url": "http://h:8000"},
            "openai",
            "x",
            "http://h:8000",
        ),
        ({"model": "ollama_chat/qwen"}, "ollama_chat", "qwen", "http://127.0.0.1:11434/v1"),
        (
            {"model": "text-completion-openai/x", "api_base": "http://h/v1"},
            "text-completion-openai",
            "x",
            "http://h/v1",
        ),
        (
            {"model": "meta-llama/Llama-3", "api_base": "http://h/v1"},
            "openai_like",
            "meta-llama/Llama-3",
            "http://h/v1",
        ),
        ({"model": "llama", "api_base": "unix:/s:/v1"}, "openai_like", "llama", "unix:/s:/v1"),
        (
            {"model": "gpt-4o", "api_base": "http://h/v1"},
            "openai_like",
            "gpt-4o",
            "http://h/v1",
        ),
        (
            {"model": "a/b", "custom_llm_provider": "custom_openai", "api_base": "http://h/v1"},
            "custom_openai",
            "a/b",
            "http://h/v1",
        ),
        (
            {"model": "groq/x", "custom_llm_provider": "groq"},
            "groq",
            "x",
            "https://api.groq.com/openai/v1",
        ),
    ],
)
def test_provider_model_and_base(
    tmp_path: Path, parameters: dict[str, str], provider: str, model: str, api_base: str
) -> None:
    deployment = one(tmp_path, **parameters)
    assert (deployment.provider, deployment.model, deployment.api_base) == (
        provider,
        model,
        api_base,
    )


def test_anthropic_speaks_its_own_protocol(tmp_path: Path) -> None:
    deployment = one(tmp_path, model="anthropic/claude-x", api_key="sk-ant")
    assert deployment.protocol == "anthropic"
    assert (deployment.auth_header, deployment.auth_value) == ("x-api-key", b"sk-ant")
    assert deployment.headers == {"anthropic-version": "2023-06-01"}


def test_an_extra_header_replaces_what_would_be_sent(tmp_path: Path) -> None:
    deployment = one(
        tmp_path,
        model="anthropic/claude-x",
        api_key="sk-ant",
        extra_headers={"Anthropic-Version": "2030-01-01", "X-API-Key": "other"},
    )
    assert deployment.headers == {"anthropic-version": "2030-01-01", "x-api-key": "other"}
    assert deployment.auth_value == b""


def test_a_key_from_the_environment_goes_to_its_provider(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "sk-env\n", "HOSTED_VLLM_API_KEY": "vk"}
    assert one(tmp_path, environ, model="openai/x").auth_value == b"Bearer sk-env"
    own = one(tmp_path, environ, model="openai/x", api_base="https://api.openai.com/v1")
    assert own.auth_value == b"Bearer sk-env"
    engine = one(tmp_path, environ, model="hosted_vllm/x", api_base="http://h")
    assert engine.auth_value == b"Bearer vk"


@pytest.mark.parametrize("base", ["http://engine:8000/v1", "http://api.openai.com/v1", "unix:/s"])
def test_a_key_from_the_environment_goes_nowhere_else(tmp_path: Path, base: str) -> None:
    found = read(
        tmp_path, entry(model="openai/x", api_base=base), environ={"OPENAI_API_KEY": "sk-canary"}
    )
    assert found.config.deployments[0].auth_value == b""
    (warning,) = found.report.warnings
    assert "OPENAI_API_KEY is not sent" in warning.message
    assert "sk-canary" not in warning.message


def test_a_key_that_is_named_goes_anywhere(tmp_path: Path) -> None:
    deployment = one(
        tmp_path,
        {"OPENAI_API_KEY": "sk-env"},
        model="openai/x",
        api_base="http://engine:8000/v1",
        api_key="os.environ/OPENAI_API_KEY",
    )
    assert deployment.auth_value == b"Bearer sk-env"


def test_an_empty_key_is_none(tmp_path: Path) -> None:
    assert one(tmp_path, {"K": ""}, model="groq/x", api_key="os.environ/K").auth_value == b""


def test_a_base_may_stand_in_the_environment(tmp_path: Path) -> None:
    environ = {"HOSTED_VLLM_API_BASE": "http://h:8000"}
    assert one(tmp_path, environ, model="hosted_vllm/x").api_base == "http://h:8000/v1"


def test_certificates_are_verified_unless_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    assert one(tmp_path, model="groq/x").tls_verify is True
    own = one(tmp_path, model="groq/x", ssl_verify=str(tmp_path / "ca.pem"))
    assert (own.tls_verify, own.ca_file) == (True, str(tmp_path / "ca.pem"))
    found = read(tmp_path, entry(model="groq/x", ssl_verify=False))
    assert found.config.deployments[0].tls_verify is False
    assert "not verified" in found.report.warnings[0].message


# ids


def test_an_id_is_stable_and_tells_deployments_apart(tmp_path: Path) -> None:
    first = one(tmp_path, {"K": "sk-1"}, model="groq/x", api_key="os.environ/K", rpm=1)
    again = one(tmp_path, {"K": "sk-2"}, rpm=1, api_key="os.environ/K", model="groq/x")
    other = one(tmp_path, {"K": "sk-1"}, model="groq/x", api_key="os.environ/K", rpm=2)
    assert first.id == again.id != other.id
    assert len(first.id) == 16


def test_equal_entries_get_ids_of_their_own(tmp_path: Path) -> None:
    found = read(tmp_path, *[entry(model="groq/x", api_key="k")] * 3)
    first, second, third = (deployment.id for deployment in found.config.deployments)
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert [fault.path for fault in found.report.warnings] == ["model_list[1]", "model_list[2]"]


def test_an_id_given_twice_is_a_fault(tmp_path: Path) -> None:
    twice = {**entry(model="groq/x"), "model_info": {"id": "a"}}
    assert set(faults(tmp_path, twice, twice)) == {"model_list[1].model_info.id"}


# wildcards


def test_a_wildcard_keeps_its_star(tmp_path: Path) -> None:
    wildcard = {"model_name": "v/*", "litellm_params": {"model": "openai/*", "api_key": "k"}}
    (deployment,) = read(tmp_path, wildcard).config.deployments
    assert (deployment.group, deployment.model) == ("v/*", "*")


@pytest.mark.parametrize(
    ("name", "model", "path"),
    [
        ("a", "openai/*", "litellm_params.model"),
        ("a*b*", "openai/*", "model_name"),
        ("a/*", "openai/*/*", "litellm_params.model"),
        ("*", "*", "litellm_params.model"),
    ],
)
def test_stars_that_mean_nothing_are_faults(
    tmp_path: Path, name: str, model: str, path: str
) -> None:
    wrong = {"model_name": name, "litellm_params": {"model": model}}
    assert list(faults(tmp_path, wrong)) == [f"model_list[0].{path}"]


# what can't be served


def test_an_unsupported_provider_is_left_out(tmp_path: Path) -> None:
    azure = {
        "model_name": "az",
        "litellm_params": {"model": "azure/x", "api_key": "os.environ/ABSENT", "api_version": 1},
    }
    path = tmp_path / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "model_list": [azure, entry(model="groq/x")],
                "router_settings": {"fallbacks": [{"m": ["az", "m"]}, {"az": ["m"]}]},
            }
        )
    )
    found = load(path, {})
    assert [deployment.group for deployment in found.config.deployments] == ["m"]
    assert found.config.router.fallbacks == {"m": ["m"]}
    assert [fault.path for fault in found.report.warnings] == [
        "model_list[0]",
        "router_settings.fallbacks[0].m[0]",
        "router_settings.fallbacks[1].az",
    ]


def test_nothing_but_unsupported_providers_is_a_fault(tmp_path: Path) -> None:
    found = faults(
        tmp_path, entry(model="bedrock/x"), entry(model="x", custom_llm_provider="azure")
    )
    assert "unsupported" in found["model_list"]


# faults


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({}, "model"),
        ({"model": None}, "model"),
        ({"model": ["x"]}, "model"),
        ({"model": "a\nb", "api_base": "http://h"}, "model"),
        ({"model": "unheard-of"}, "model"),
        ({"model": "x", "custom_llm_provider": "nobody"}, "model"),
        ({"model": "hosted_vllm/x"}, "api_base"),
        ({"model": "openai/x", "api_base": "http://u:canary@h"}, "api_base"),
        ({"model": "openai/x", "base_url": "http://h?canary"}, "base_url"),
        ({"model": "openai/x", "api_base": "os.environ/ABSENT"}, "api_base"),
        ({"model": "openai/x", "api_key": "canary\r\nx: y"}, "api_key"),
        ({"model": "openai/x", "api_key": ["canary"]}, "api_key"),
        ({"model": "openai/x", "rpm": -1}, "rpm"),
        ({"model": "openai/x", "rpm": "canary"}, "rpm"),
        ({"model": "openai/x", "weight": float("nan")}, "weight"),
        ({"model": "openai/x", "timeout": -1}, "timeout"),
        ({"model": "openai/x", "extra_headers": ["canary"]}, "extra_headers"),
        ({"model": "openai/x", "extra_headers": {"a": "canary\n"}}, "extra_headers.a"),
        ({"model": "openai/x", "extra_headers": {"a b": "canary"}}, "extra_headers.a b"),
        ({"model": "openai/x", "extra_headers": {"a": None}}, "extra_headers.a"),
        ({"model": "openai/x", "extra_headers": {"A": "1", "a": "2"}}, "extra_headers.a"),
        ({"model": "openai/x", "ssl_verify": "/nowhere/ca.pem"}, "ssl_verify"),
    ],
)
def test_faults_of_parameters(tmp_path: Path, parameters: dict[str, object], key: str) -> None:
    found = faults(tmp_path, entry(**parameters) if parameters else entry(rpm=1))
    assert list(found) == [f"model_list[0].litellm_params.{key}"]
    assert "canary" not in str(found)


def test_a_fault_in_a_variable_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"api_base: .*HOSTED_VLLM_API_BASE") as caught:
        read(
            tmp_path,
            entry(model="hosted_vllm/x"),
            environ={"HOSTED_VLLM_API_BASE": "http://u:canary@h"},
        )
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("bad", ["a b", 'a"b', "a\r\nb", "ä", "a" * 129, ["a"]])
def test_an_id_must_be_fit_for_a_header(tmp_path: Path, bad: object) -> None:
    wrong = {**entry(model="groq/x"), "model_info": {"id": bad}}
    assert list(faults(tmp_path, wrong)) == ["model_list[0].model_info.id"]


def test_fields_that_forwarding_writes_are_not_taken_from_the_file(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        entry(model="groq/x", extra_headers={"Content-Type": "a/b", "Host": "x", "X-A": "1"}),
    )
    assert found.config.deployments[0].headers == {"x-a": "1"}
    assert len(found.report.warnings) == 2


# the table


def test_every_provider_of_the_table_can_be_called(tmp_path: Path) -> None:
    providers = registry().providers
    entries = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"{name}/x",
                "api_key": "k",
                **({} if row.api_base else {"api_base": "http://h"}),
            },
        }
        for name, row in providers.items()
    ]
    found = read(tmp_path, *entries).config.deployments
    assert [deployment.provider for deployment in found] == list(providers)
    assert {deployment.model for deployment in found} == {"x"}
    assert {deployment.protocol for deployment in found} == {"openai", "anthropic"}
    assert not registry().untranslated & set(providers)
