"""`allowed_ips`: which peers may show a key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fastgate.config.load import load
from fastgate.errors import AuthenticationError, ConfigError
from fastgate.gateway.addresses import Addresses

ALLOWED = ["127.0.0.1/32", "10.1.0.0/16", "2001:db8::/32", "fe80::/10"]


@pytest.mark.parametrize(
    "peer",
    ["127.0.0.1", "10.1.255.255", "2001:db8::5", "::ffff:10.1.2.3", "fe80::1%eth0", "unix"],
)
def test_a_listed_address_may_ask(peer: str) -> None:
    addresses = Addresses(ALLOWED)
    addresses.check(peer)
    addresses.check(peer)


@pytest.mark.parametrize("peer", ["127.0.0.2", "10.2.0.0", "2001:db9::5", "::ffff:10.2.0.1", "::1"])
def test_another_is_refused_and_named(peer: str) -> None:
    addresses = Addresses(ALLOWED)
    for _ in range(2):
        with pytest.raises(AuthenticationError, match=f"IP address {peer} not allowed") as refused:
            addresses.check(peer)
        assert refused.value.status == 403


def test_what_is_remembered_is_bounded() -> None:
    addresses = Addresses(["10.0.0.0/8"])
    for n in range(25_000):
        addresses.check(f"10.0.{n >> 8}.{n & 255}")
    assert len(addresses._known) <= 10_001


def test_the_configuration_takes_addresses_and_networks(tmp_path: Path) -> None:
    def read(listed: object) -> list[str]:
        path = tmp_path / "config.yaml"
        params = {"model": "openai/a", "api_base": "http://h/v1"}
        config = {
            "model_list": [{"model_name": "a", "litellm_params": params}],
            "general_settings": {"allowed_ips": listed},
        }
        path.write_text(yaml.safe_dump(config))
        return load(path, {}).config.allowed_ips

    assert read(["127.0.0.1", "10.0.0.0/8"]) == ["127.0.0.1/32", "10.0.0.0/8"]
    for bad in (["10.0.0.1/8"], ["localhost"], "127.0.0.1", [None]):
        with pytest.raises(ConfigError, match="allowed_ips"):
            read(bad)
