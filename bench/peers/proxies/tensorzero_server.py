"""TensorZero's gateway out of its Python package: `tensorzero_server.py FOLDER`.

FOLDER has `tensorzero.toml`; the port that the server chose is written to `port` beside it.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tensorzero import tensorzero

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    gateway = tensorzero._start_http_gateway(
        config_file=str(folder / "tensorzero.toml"),
        clickhouse_url=None,
        postgres_url=None,
        valkey_url=None,
        async_setup=False,
    )
    (folder / "port").write_text(str(urlsplit(gateway.base_url).port))
    signal.pause()
