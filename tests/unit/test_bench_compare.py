"""The comparison's arithmetic, and what it reads from wrk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bench.compare import choose_peers, measure
from bench.figures import FIGURES, Measured, read_wrk
from bench.install import install_commands
from bench.peers.peer import FOLDER, Peer, Place, load_peer, peer_names
from bench.procfs import Disturbance
from bench.stand import Failed, Running, Stand
from bench.summary import is_calm, summary, table

WRK = """Running 2s test @ http://127.0.0.1:18501/v1/chat/completions
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.85ms  210.00us  12.00ms   91.00%
    Req/Sec    75.20k     2.10k   78.00k    80.00%
  Latency Distribution
     50%  812.00us
     75%    0.90ms
     90%    1.00ms
     99%    1.52ms
  150431 requests in 2.00s, 88.10MB read
Requests/sec:  75205.10
Transfer/sec:     44.05MB
"""

CALM = Disturbance(0.01, 0.0)
BUSY = Disturbance(0.20, 0.0)


def test_wrk_output_is_read_in_milliseconds() -> None:
    assert read_wrk(WRK) == {
        "p50_ms": 0.812,
        "p99_ms": 1.52,
        "requests": 150431,
        "per_s": 75205.1,
    }


@pytest.mark.parametrize(
    "trouble",
    ["Non-2xx or 3xx responses: 12", "Socket errors: connect 0, read 3, write 0, timeout 0"],
)
def test_refused_and_broken_requests_are_no_figures(trouble: str) -> None:
    with pytest.raises(Failed, match="3"):
        read_wrk(WRK + trouble)


def taken(values: list[float], disturbance: Disturbance = CALM) -> list[Measured]:
    return [Measured({"cpu_us": value}, disturbance, "command") for value in values]


def test_ratios_are_taken_within_rounds() -> None:
    report = summary(
        {
            ("plain_c64", "nginx"): taken([10.0, 20.0, 40.0]),
            ("plain_c64", "fastgate"): taken([12.0, 24.0, 36.0], BUSY),
        }
    )["plain_c64"]
    # Of 1.2, 1.2 and 0.9; the ratio of the medians would be 1.2 by chance only.
    assert report["fastgate"]["cpu_us"]["ratio_to_nginx"] == pytest.approx(1.2)
    assert report["fastgate"]["cpu_us"]["median"] == 24.0
    assert report["nginx"]["cpu_us"]["spread"] == pytest.approx(1.5)
    assert report["fastgate"]["disturbed_rounds"] == 3
    assert "ratio_to_nginx" not in report["nginx"]["cpu_us"]


def test_disturbed_rounds_count_only_where_there_are_no_others() -> None:
    report = summary(
        {
            ("plain_c64", "nginx"): taken([10.0, 20.0, 10.0]),
            ("plain_c64", "fastgate"): [
                *taken([30.0], BUSY),
                *taken([24.0]),
                *taken([99.0], Disturbance(0.0, 0.5)),
            ],
        }
    )["plain_c64"]
    assert report["fastgate"]["cpu_us"]["values"] == [24.0]
    assert report["fastgate"]["cpu_us"]["ratio_to_nginx"] == pytest.approx(1.2)
    assert report["fastgate"]["disturbed_rounds"] == 2


def test_added_latency_is_what_lies_over_the_direct_connection() -> None:
    rounds = {
        ("ttft_50rps", "direct"): [Measured({"p50_ms": 0.4}, CALM, "")],
        ("ttft_50rps", "nginx"): [Measured({"p50_ms": 0.6}, CALM, "")],
    }
    found = summary(rounds)
    assert found["ttft_50rps"]["nginx"]["p50_ms"]["added_over_direct"] == pytest.approx(0.2)
    shown = table(found, ["direct", "nginx"])
    assert "p50_ms added by nginx" in shown
    assert "0.200" in shown
    alone = summary({("ttft_50rps", "nginx"): rounds["ttft_50rps", "nginx"]})
    assert "added" not in table(alone, ["nginx"])


def test_strangers_and_stolen_time_disturb() -> None:
    assert is_calm(Measured({}, Disturbance(0.10, 0.05), ""))
    assert not is_calm(Measured({}, Disturbance(0.11, 0.0), ""))
    assert not is_calm(Measured({}, Disturbance(0.0, 0.06), ""))


@pytest.mark.parametrize(
    ("came", "kept"),
    [([CALM], CALM), ([BUSY, CALM], CALM), ([BUSY, Disturbance(0.5, 0.0)], BUSY)],
)
def test_what_was_disturbed_is_measured_once_more(
    came: list[Disturbance], kept: Disturbance, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = iter(came)
    monkeypatch.setitem(FIGURES, "made-up", lambda *_: Measured({}, next(rest), ""))
    stand = Stand(0, 0)
    running = Running(load_peer("direct"), 0, None, [], [], 0.0)
    assert measure(stand, "made-up", running, 1.0).disturbance == kept
    assert not list(rest)


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(Failed, match="no peer 'nothing': there are direct, nginx"):
        choose_peers(["direct", "nothing"])


def test_what_is_not_installed_is_left_out_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Peer("litellm", install={"finds": "no-such-command"})
    monkeypatch.setattr(
        "bench.compare.load_peer", lambda name: absent if name == "litellm" else load_peer(name)
    )
    peers, skipped = choose_peers(["direct", "litellm"])
    assert [peer.name for peer in peers] == ["direct"]
    assert skipped == {"litellm": "try: python -m bench install litellm"}
    with pytest.raises(Failed, match="none of these"):
        choose_peers(["litellm"])


def test_a_peer_with_a_folder_of_its_own_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    assert not Peer("system", install={"finds": "sh"}).missing()
    own = Peer("none-of-ours", install={"pip": ["x"], "finds": "sh"})
    assert own.missing() == "python -m bench install none-of-ours"
    assert own.installed_bytes() == 0
    assert Peer("system", install={"finds": "sh"}).installed_bytes() is None


def test_npm_is_told_the_versions_below_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.install.INSTALLED", tmp_path)
    peer = Peer("p", install={"npm": ["a@1"], "npm_overrides": {"b": "2"}, "finds": "a"})
    commands = install_commands(peer)
    assert [command[-1] for command in commands] == ["a@1"]
    assert json.loads((tmp_path / "p/package.json").read_text())["overrides"] == {"b": "2"}


@pytest.mark.parametrize("name", peer_names())
def test_peers_are_whole(name: str, tmp_path: Path) -> None:
    peer = load_peer(name)
    assert peer.about
    assert peer.verified or peer.why
    place = Place(port=1234, upstream_port=5678, folder=tmp_path, spare_port=4321)
    command = peer.command(place)
    texts = [*command, *peer.environment(place).values(), *peer.headers(place)]
    texts += [file.read_text() for file in tmp_path.iterdir()]
    assert "${" not in "".join(texts)
    if name != "direct":
        assert any("1234" in text for text in texts) or peer.port_file(place)
        assert any("5678" in text for text in texts)
        assert peer.install.get("finds")
        assert {"apt", "pip", "npm", "hint"} & peer.install.keys()


def test_a_peer_s_file_with_a_wrong_part_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.toml").write_text('abuot = "x"')
    monkeypatch.setattr("bench.peers.peer.FOLDER", tmp_path)
    with pytest.raises(ValueError, match="abuot"):
        load_peer("odd")
    assert tmp_path != FOLDER


def test_fastgate_has_everything_on(tmp_path: Path) -> None:
    peer = load_peer("fastgate")
    peer.command(Place(port=1234, upstream_port=5678, folder=tmp_path))
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    key = config["fastgate_settings"]["keys"][0]
    assert key["key"] == peer.key
    assert key["rpm"] > 10**9
    assert "access_log" not in config["fastgate_settings"].get("log", {})
