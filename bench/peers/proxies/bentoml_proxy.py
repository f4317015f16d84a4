"""The FastAPI proxy, mounted in a BentoML service."""

from __future__ import annotations

import bentoml
from fastapi_httpx_proxy import app


@bentoml.service(workers=1, traffic={"timeout": 120, "max_concurrency": 1024})
@bentoml.asgi_app(app, path="/")
class Proxy:
    pass
