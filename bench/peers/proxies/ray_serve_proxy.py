"""The FastAPI proxy, as a Ray Serve deployment: `ray_serve_proxy.py PORT UPSTREAM_PORT`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import ray
from ray import serve


def main(port: int, upstream_port: int) -> None:
    os.environ["UPSTREAM_PORT"] = str(upstream_port)
    sys.path.insert(0, str(Path(__file__).parent))
    from fastapi_httpx_proxy import app  # noqa: PLC0415  reads UPSTREAM_PORT

    @serve.deployment(max_ongoing_requests=1024)
    @serve.ingress(app)
    class Proxy:
        pass

    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Proxy.bind())
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
