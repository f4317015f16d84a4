"""`fastgate_settings`: our own words, and the virtual keys of the file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastgate.config import document
from fastgate.config.load import Loaded, load
from fastgate.config.schema import VirtualKey
from fastgate.errors import ConfigError

KEY = "sk-0123456789abcdef"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def read(tmp_path: Path, settings: dict[str, Any], **general: Any) -> Loaded:
    path = tmp_path / "config.yaml"
    engine = {
        "model_name": "llama",
        "litellm_params": {"model": "llama", "api_base": "http://h/v1"},
        "model_info": {"access_groups": ["open"]},
    }
    path.write_text(
        yaml.safe_dump(
            {
                "model_list": [engine],
                "fastgate_settings": settings,
                "general_settings": general,
            }
        )
    )
    return load(path, {"KEY": KEY})


def faults(tmp_path: Path, settings: dict[str, Any], **general: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, settings, **general)
    return {fault.path: fault.message for fault in caught.value.faults}


def test_every_section_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        {
            "server": {"host": "::1", "port": "0", "workers": 2, "unix_socket": "/run/f.sock"},
            "limits": {"head_timeout_s": "500ms", "max_body_bytes": "1MiB", "drain_grace_s": 0},
            "upstream": {"idle_timeout_s": 2.5, "max_connections": 7, "max_waiting": 0},
            "log": {"level": "debug", "access_log": "off"},
        },
    ).config
    server, limits = config.server, config.limits
    assert (server.host, server.port, server.workers) == ("::1", 0, 2)
    assert server.unix_socket == "/run/f.sock"
    assert (limits.head_timeout_s, limits.max_body_bytes, limits.drain_grace_s) == (0.5, 1 << 20, 0)
    assert (config.upstream.idle_timeout_s, config.upstream.max_connections) == (2.5, 7)
    assert (config.log.level, config.log.access_log) == ("debug", "off")


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("server", "port", 65536),
        ("server", "port", -1),
        ("server", "workers", "two"),
        ("server", "tls_cert_file", "/nowhere/cert.pem"),
        ("server", "master_key_hash", "abc"),
        ("limits", "head_timeout_s", 0),
        ("limits", "head_timeout_s", "-5s"),
        ("limits", "head_timeout_s", "5 MiB"),
        ("limits", "max_body_bytes", 0),
        ("limits", "max_body_bytes", 1.5),
        ("limits", "low_water_bytes", "64KiB"),
        ("upstream", "max_connections", 0),
        ("upstream", "stall_timeout_s", 1e300),
        ("upstream", "stall_timeout_s", float("inf")),
        ("log", "level", "loud"),
        ("log", "access_log", ["a"]),
    ],
)
def test_values_out_of_range_are_faults(
    tmp_path: Path, section: str, name: str, value: object
) -> None:
    found = faults(tmp_path, {section: {name: value}})
    assert list(found) == [f"fastgate_settings.{section}.{name}"]
    assert found[f"fastgate_settings.{section}.{name}"].startswith("expected ")


def test_a_tls_key_needs_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("x")
    found = faults(tmp_path, {"server": {"tls_key_file": str(tmp_path / "key.pem")}})
    assert list(found) == ["fastgate_settings.server.tls_cert_file"]


def test_a_key_is_kept_as_its_hash(tmp_path: Path) -> None:
    member = {"alias": "a", "team": "t", "models": ["llama"], "rpm": 5, "tpm": 0, "max_parallel": 2}
    expected = VirtualKey(
        key_hash=DIGEST, alias="a", team="t", models=["llama"], rpm=5, tpm=0, max_parallel=2
    )
    for given in ({"key": KEY}, {"key": "os.environ/KEY"}, {"key_hash": DIGEST.upper()}):
        assert read(tmp_path, {"keys": [{**given, **member}]}).config.keys == [expected]


def test_what_is_not_given_is_unlimited(tmp_path: Path) -> None:
    assert read(tmp_path, {"keys": [{"key": KEY}]}).config.keys == [VirtualKey(key_hash=DIGEST)]


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("sk-canary", "keys[0]"),
        ({}, "keys[0]"),
        ({"key": KEY, "key_hash": DIGEST}, "keys[0]"),
        ({"key": 1234}, "keys[0].key"),
        ({"key": "a\nb"}, "keys[0].key"),
        ({"key_hash": DIGEST[1:]}, "keys[0].key_hash"),
        ({"key": KEY, "rpm": -1}, "keys[0].rpm"),
        ({"key": KEY, "rpm": 10**30}, "keys[0].rpm"),
        ({"key": KEY, "models": "llama"}, "keys[0].models"),
        ({"key": KEY, "alias": "a\nb"}, "keys[0].alias"),
        ({"key": KEY, "models": ["all-team-models"]}, "keys[0].models[0]"),
    ],
)
def test_what_is_no_virtual_key_is_a_fault(tmp_path: Path, entry: object, path: str) -> None:
    found = faults(tmp_path, {"keys": [entry]})
    assert list(found) == [f"fastgate_settings.{path}"]
    assert "canary" not in str(found)


def test_a_key_counts_once(tmp_path: Path) -> None:
    found = faults(tmp_path, {"keys": [{"key": KEY}, {"key_hash": DIGEST}]})
    assert list(found) == ["fastgate_settings.keys[1]"]


def test_the_master_key_is_no_virtual_key(tmp_path: Path) -> None:
    found = faults(tmp_path, {"keys": [{"key": KEY}]}, master_key=KEY)
    assert list(found) == ["fastgate_settings.keys[0]"]


def test_models_that_a_key_names_should_exist(tmp_path: Path) -> None:
    names = ["llama", "open", "x*", "all-proxy-models", "nobody"]
    found = read(tmp_path, {"keys": [{"key": KEY, "models": names}]})
    assert [fault.path for fault in found.report.warnings] == [
        "fastgate_settings.keys[0].models[4]"
    ]


def test_a_short_key_is_worth_a_warning(tmp_path: Path) -> None:
    found = read(tmp_path, {"keys": [{"key": "sk-canary"}]})
    assert [fault.path for fault in found.report.warnings] == ["fastgate_settings.keys[0].key"]
    assert "canary" not in str(found.report.warnings)


def test_the_page_says_what_the_loader_does() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text()
    assert document.filled(page) == page, "run python -m fastgate.config.document docs/*.md"
    assert {f"<!-- table: {name} -->" in page for name in document.tables()} == {True}


def test_every_option_has_a_meaning() -> None:
    tables = document.tables()
    rows = [
        row for name in ("server", "limits", "upstream", "log") for row in rows_of(tables[name])
    ]
    assert rows
    assert [row[0] for row in rows if not row[-1]] == []


def rows_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
