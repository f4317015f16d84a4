"""Whatever a file says, loading it returns or raises ConfigError; and no message quotes a value."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fastgate.config import deployments, litellm, native, prices
from fastgate.config.load import Examined, examine
from fastgate.config.snapshot import Snapshot, decode, encode
from fastgate.errors import ConfigError

CANARY = "sk-canary-0123456789"

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [
            *(CANARY, f"https://u:{CANARY}@h", f"http://h?{CANARY}", f"a\r\nx: {CANARY}"),
            *("openai/x", "llama", "http://h/v1", "*", "a/*", "10s", "1"),
            *("os.environ/CANARY", "os.environ/ABSENT"),
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["llama", "model", "a", "*", "key"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def mapping(options: dict[str, Any]) -> st.SearchStrategy[Any]:
    return VALUES | st.dictionaries(st.sampled_from(sorted(options)), VALUES, max_size=5)


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "model_name": VALUES,
        "litellm_params": mapping(deployments.PARAMETERS),
        "model_info": mapping(deployments.MODEL_INFO),
    },
)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "model_list": VALUES | st.lists(ENTRY | VALUES, max_size=3),
        "router_settings": mapping(litellm.ROUTER),
        "litellm_settings": mapping(litellm.LITELLM),
        "general_settings": mapping(litellm.GENERAL),
        "environment_variables": VALUES,
        "include": SCALARS,
        "fastgate_settings": VALUES
        | st.fixed_dictionaries(
            {},
            optional={
                "keys": VALUES | st.lists(mapping(native.KEY), max_size=3),
                "prices": VALUES | st.lists(mapping(prices.ENTRY | prices.PRICE), max_size=3),
                **{
                    name: mapping(native.options_of(struct))
                    for name, struct in native.SECTIONS.items()
                },
            },
        ),
    },
)


def told(examined: Examined) -> str:
    """Return everything that may be shown of a configuration."""
    shown = [*examined.faults, *examined.report.entries, *examined.report.warnings]
    if examined.config is not None:
        snapshot = Snapshot(examined.config)
        shown += [examined.config, snapshot, *snapshot.groups.values(), snapshot.master]
        shown += [snapshot.principal(bytes.fromhex(key.key_hash)) for key in examined.config.keys]
    return "\n".join([*map(repr, shown), *map(str, shown)])


@given(FILES)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_file_loads_or_has_faults(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        try:
            examined = examine(path, {"CANARY": CANARY})
        except ConfigError as error:
            assert CANARY not in str(error)
            return
        assert (examined.config is None) == bool(examined.faults)


def single(section: str, options: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return files with nothing unusual but one key."""
    return st.builds(
        lambda key, value: {section: {key: value}}, st.sampled_from(sorted(options)), VALUES
    )


ENGINE = {"model": "openai/x", "api_base": "http://h/v1"}
ALMOST_VALID = st.one_of(
    single("router_settings", litellm.ROUTER),
    single("litellm_settings", litellm.LITELLM),
    single("general_settings", litellm.GENERAL),
    single("litellm_params", deployments.PARAMETERS),
    *(
        single(name, native.options_of(struct)).map(lambda each: {"fastgate_settings": each})
        for name, struct in native.SECTIONS.items()
    ),
)


@given(ALMOST_VALID)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_what_loads_can_travel_and_be_looked_up(values: dict[str, Any]) -> None:
    parameters = {**ENGINE, **values.pop("litellm_params", {})}
    entry = {"model_name": "llama", "litellm_params": parameters}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump({"model_list": [entry], **values}))
        config = examine(path, {"CANARY": CANARY}).config
    if config is not None:
        event("valid")
        assert decode(encode(config)) == config
        assert Snapshot(config).resolve("llama") is not None
        head = [*config.deployments[0].headers.values(), config.deployments[0].api_base]
        assert all(each.isascii() and each.isprintable() for each in head)


SECRETS = {
    "model_list": [
        {
            "model_name": "m",
            "litellm_params": {
                "model": "openai/x",
                "api_base": "http://h/v1",
                "api_key": CANARY,
                "extra_headers": {"x-secret": CANARY, "host": CANARY},
                "azure_ad_token": CANARY,
            },
        },
        {"model_name": "e", "litellm_params": {"model": "groq/x", "api_key": "os.environ/CANARY"}},
    ],
    "environment_variables": {"OTHER": CANARY},
    "general_settings": {"master_key": "master-" + CANARY, "database_url": f"x://u:{CANARY}@h"},
    "litellm_settings": {"cache_params": {"password": CANARY}},
    "fastgate_settings": {"keys": [{"key": CANARY, "alias": "a"}]},
}


def test_nothing_that_is_shown_holds_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(SECRETS))
    caplog.set_level(logging.DEBUG)
    examined = examine(path, {"CANARY": CANARY})
    assert examined.config is not None
    assert CANARY.encode() in encode(examined.config)
    assert CANARY not in told(examined)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "values",
    [
        {"model_list": CANARY},
        {"model_list": [CANARY]},
        {"model_list": [{"model_name": "m", "litellm_params": CANARY}]},
        {"router_settings": {"routing_strategy": CANARY, "num_retries": CANARY}},
        {"router_settings": {"fallbacks": CANARY, "default_fallbacks": [[CANARY]]}},
        {"general_settings": {"master_key": [CANARY], "max_request_size_mb": CANARY}},
        {"general_settings": CANARY, "fastgate_settings": CANARY},
        {"fastgate_settings": {"keys": CANARY, "log": {"level": CANARY}, "server": CANARY}},
        {"fastgate_settings": {"keys": [CANARY, {"key_hash": CANARY}, {"key": CANARY + "\n\0"}]}},
        {"fastgate_settings": {"limits": {"head_timeout_s": CANARY, "max_body_bytes": CANARY}}},
        {"environment_variables": [CANARY]},
        {"include": CANARY},
    ],
)
def test_no_fault_quotes_what_stands_in_the_wrong_place(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    try:
        examined = examine(path, {})
    except ConfigError as error:
        assert CANARY not in str(error)
    else:
        assert examined.faults
        assert CANARY not in told(examined)
