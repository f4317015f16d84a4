"""Are the deployments there? Asks each for its list of models, as `GET /health` wants to know it.

A probe costs no tokens. It says that the server answers and takes our key, not that a model works:
that is what the cooldowns of real traffic tell.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastgate.config.schema import Config, Deployment

__all__ = ["Health", "Result", "judge"]

PROBE_TIMEOUT_S = 5.0
CACHE_S = 10.0
"""Of dashboards that poll, each opening asks all providers."""
# At once: far from any provider's limit, and a thousand dead hosts take 80 s instead of hours.
_PROBES = 64
_ERROR_CHARS = 200


class Result(NamedTuple):
    """What was found."""

    deployment: Deployment
    error: str
    """Empty: healthy."""


def judge(status: int) -> str:
    """Return what is wrong when a list of models is answered with `status`; empty: nothing.

    Engines without such a list say 404 or 405, and one that limits us is alive.
    """
    if 200 <= status < 300 or status in (404, 405, 429):
        return ""
    if status in (401, 403):
        return f"HTTP {status}: it refuses our key"
    return f"HTTP {status}"


class Health:
    """Probes when asked, at most once in CACHE_S; who asks meanwhile waits for the same probes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._config: Config | None = None
        self._expires_s = 0.0
        self._running: asyncio.Task[list[Result]] | None = None

    async def check(self, config: Config) -> list[Result]:
        """Return a result for each deployment, in their order."""
        running = self._running
        usable = running is not None and (not running.done() or self._clock() < self._expires_s)
        if running is None or not usable or self._config is not config:
            self._config = config
            self._running = running = asyncio.create_task(self._probe_all(config))
        # One who goes away must not take the answer from the others.
        return await asyncio.shield(running)

    async def _probe_all(self, config: Config) -> list[Result]:
        tls = await asyncio.to_thread(_tls_contexts, config)
        gate = asyncio.Semaphore(_PROBES)

        async def probe(session: aiohttp.ClientSession, deployment: Deployment) -> Result:
            context = tls[deployment.ca_file, deployment.tls_verify]
            async with gate:
                if isinstance(context, str):
                    return Result(deployment, context)
                return Result(deployment, await _probe(session, deployment, context))

        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                probes = [probe(session, deployment) for deployment in config.deployments]
                return await asyncio.gather(*probes)
        finally:
            self._expires_s = self._clock() + CACHE_S


def _tls_contexts(config: Config) -> dict[tuple[str, bool], ssl.SSLContext | str]:
    """Return a context, or why there is none, for each combination; made once, at 10 ms each."""
    contexts: dict[tuple[str, bool], ssl.SSLContext | str] = {}
    for deployment in config.deployments:
        how = (deployment.ca_file, deployment.tls_verify)
        if how in contexts:
            continue
        try:
            context = ssl.create_default_context(cafile=deployment.ca_file or None)
        except OSError as error:
            contexts[how] = f"{deployment.ca_file}: {error.strerror or error}"
            continue
        if not deployment.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        contexts[how] = context
    return contexts


async def _probe(
    session: aiohttp.ClientSession, deployment: Deployment, context: ssl.SSLContext
) -> str:
    if deployment.unix_socket:
        connector = aiohttp.UnixConnector(deployment.unix_socket)
        async with aiohttp.ClientSession(connector=connector) as own:
            return await _ask(own, deployment, context)
    return await _ask(session, deployment, context)


async def _ask(
    session: aiohttp.ClientSession, deployment: Deployment, context: ssl.SSLContext
) -> str:
    headers = {**deployment.headers, "user-agent": "fastgate"}
    if deployment.auth_value:
        headers[deployment.auth_header] = deployment.auth_value.decode("latin-1")
    url = URL.build(
        scheme=deployment.scheme,
        host=deployment.host.strip("[]"),
        port=deployment.port,
        path=deployment.base_path + "/models",
    )
    try:
        async with session.get(
            url,
            headers=headers,
            ssl=context,
            server_hostname=(deployment.server_name or None) if url.scheme == "https" else None,
            # Where it points is not in the configuration; our key must not go there.
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S),
        ) as response:
            return judge(response.status)
    except TimeoutError:
        return f"no answer within {PROBE_TIMEOUT_S:g} s"
    except aiohttp.ClientConnectorCertificateError as error:
        return f"TLS: {error.certificate_error}"[:_ERROR_CHARS]
    except aiohttp.ClientConnectorError as error:
        return f"connect: {_reason(error.os_error)}"[:_ERROR_CHARS]
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:_ERROR_CHARS]


def _reason(error: OSError) -> str:
    """Return the system's words: asyncio's own repeat the address, and of many are a list."""
    return os.strerror(error.errno) if error.errno else str(error)
