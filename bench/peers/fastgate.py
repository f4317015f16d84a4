"""fastgate with everything on that a request can meet, except caching."""

from __future__ import annotations

import importlib.util
import sys

import yaml

from bench.peers.peer import Peer, Place

__all__ = ["Fastgate"]

# So large that nothing is ever refused: the limits are kept, not met.
LIMIT = 2_000_000_000


class Fastgate(Peer):
    name = "fastgate"
    key = "sk-bench-0123456789abcdef"

    def missing(self) -> str:
        found = importlib.util.find_spec("fastgate") and importlib.util.find_spec("fastgate.cli")
        return "" if found else "pip install ."

    def command(self, place: Place) -> list[str]:
        config = place.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.configuration(place)))
        start = "import sys; from fastgate.cli import main; sys.exit(main())"
        return [
            *(sys.executable, "-c", start, "serve", "--config", str(config)),
            *("--port", str(place.port), "--workers", "1"),
        ]

    def configuration(self, place: Place) -> dict[str, object]:
        """One deployment; one virtual key with a team and limits that never refuse."""
        parameters = {
            "model": "openai/sim",
            "api_base": f"http://127.0.0.1:{place.upstream_port}/v1",
            "api_key": "sk-upstream",
        }
        key = {
            "key": self.key,
            "alias": "bench",
            "team": "bench",
            "models": ["sim"],
            "rpm": LIMIT,
            "tpm": LIMIT,
        }
        return {
            "model_list": [{"model_name": "sim", "litellm_params": parameters}],
            "general_settings": {"master_key": "sk-bench-master-0123456789abcdef"},
            "fastgate_settings": {"keys": [key]},
        }

    def environment(self, place: Place) -> dict[str, str]:
        return {"FASTGATE_HOME": str(place.folder)}
