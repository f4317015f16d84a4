"""A reverse proxy as one writes it with FastAPI and httpx; the upstream's port in UPSTREAM_PORT."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}

app = FastAPI()
client = httpx.AsyncClient(
    base_url=f"http://127.0.0.1:{os.environ['UPSTREAM_PORT']}",
    timeout=120,
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=512, keepalive_expiry=4),
)


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def handle(path: str, request: Request) -> StreamingResponse:
    headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
    asked = client.build_request(
        request.method, "/" + path, headers=headers, content=await request.body()
    )
    answer = await client.send(asked, stream=True)

    async def body() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            await answer.aclose()

    return StreamingResponse(
        body(), status_code=answer.status_code, media_type=answer.headers.get("content-type")
    )
