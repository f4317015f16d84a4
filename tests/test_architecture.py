"""What keeps the tree readable: import rules, sizes, names, import time, and a loud missing core.

The rules are those of docs/life-of-a-request.md ("Who may import what").
"""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastgate"

MAX_LINES = 500
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

# What no file of a package may import; a name covers its submodules.
DATABASES = {"sqlite3", "aiosqlite", "asyncpg", "psycopg", "redis", "sqlalchemy"}
DATA_PLANE = {"aiohttp", "yaml", "requests", "httpx", "fastgate.control", *DATABASES}
DATA_PLANE |= {"fastgate.management", "fastgate.store"}
FORBIDDEN_IMPORTS = {
    "gateway": DATA_PLANE,
    "upstream": {*DATA_PLANE, "fastgate.gateway"},
    "providers": {
        *("socket", "ssl", "selectors", "asyncio", "uvloop", "aiohttp", "time", "datetime"),
        *("fastgate.gateway", "fastgate.upstream", "fastgate.control"),
    },
    # What it answers must be the same however it is asked.
    "management": {"aiohttp", "fastgate.gateway", "fastgate.upstream", "fastgate.control"},
    "store": {"aiohttp", "fastgate.gateway", "fastgate.control", "fastgate.management"},
    "config": {"fastgate.gateway", "fastgate.upstream", "fastgate.control"},
    "spend": {"fastgate.gateway", "fastgate.upstream", "fastgate.control", "aiohttp"},
    "observe": {"fastgate.gateway", "fastgate.upstream", "fastgate.control", "aiohttp"},
}

# `fastgate --help` waits for the second. Wall-clock bounds, so generous; what keeps both low is
# that they load none of the HEAVY modules.
CLI_IMPORT_MS = 150
PACKAGE_IMPORT_MS = 50
HEAVY = ("aiohttp", "asyncio", "msgspec", "numpy", "torch", "uvloop", "yaml")


def sources(*suffixes: str) -> list[Path]:
    return sorted(
        path
        for folder in ("fastgate", "bench", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    )


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for every import of a file, those in functions included."""
    if path.suffix in (".pyx", ".pxd"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r"\s*(?:from\s+(\S+)\s+c?import|c?import\s+(\S+))", line)
            if match:
                yield number, absolute(path, match[1] or match[2])
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, "." * node.level + (node.module or ""))
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def absolute(path: Path, module: str) -> str:
    dots = len(module) - len(module.lstrip("."))
    if not dots:
        return module
    package = path.relative_to(ROOT).parts[:-dots]
    return ".".join([*package, module[dots:]]).rstrip(".")


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def offences(package: str, forbidden: set[str]) -> list[str]:
    return [
        f"{name_of(path)}:{line} imports {module}"
        for path in sources(".py", ".pyx", ".pxd")
        if path.is_relative_to(PACKAGE / package)
        for line, module in imports(path)
        if any(is_within(module, name) for name in forbidden)
    ]


@pytest.mark.parametrize("package", sorted(FORBIDDEN_IMPORTS))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert offences(package, FORBIDDEN_IMPORTS[package]) == []


def test_the_core_imports_nothing_of_ours() -> None:
    assert [
        f"{name_of(path)}:{line} imports {module}"
        for path in sources(".py", ".pyx", ".pxd", ".pyi")
        if path.is_relative_to(PACKAGE / "_core")
        for line, module in imports(path)
        if is_within(module, "fastgate") and not is_within(module, "fastgate._core")
    ] == []


def test_the_core_has_no_clock_no_randomness_and_no_io() -> None:
    forbidden = {"time", "datetime", "random", "secrets", "socket", "asyncio", "os", "libc.time"}
    found = offences("_core", forbidden)
    # Its __init__ looks into its own folder for the compiled modules.
    assert [offence for offence in found if "__init__.py" not in offence] == []


def test_an_import_rule_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fastgate/gateway").mkdir(parents=True)
    (tmp_path / "fastgate/gateway/stage.py").write_text(
        "def late():\n    from ..control import app\n    import yaml.nodes\n"
    )
    (tmp_path / "fastgate/gateway/stage.pxd").write_text("from fastgate.control cimport x\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "fastgate")
    assert offences("gateway", DATA_PLANE) == [
        "fastgate/gateway/stage.pxd:1 imports fastgate.control",
        "fastgate/gateway/stage.py:2 imports fastgate.control.app",
        "fastgate/gateway/stage.py:3 imports yaml.nodes",
    ]


def test_provider_names_stand_only_under_providers() -> None:
    registry = tomllib.loads((PACKAGE / "providers/registry.toml").read_text())
    providers = set(registry.get("providers", registry))
    # A wire format is named for the provider that made it, and the data plane does speak those.
    providers -= {"openai", "anthropic"}
    assert providers
    assert [
        f"{name_of(path)}:{node.lineno} {node.value!r}"
        for path in sources(".py")
        if path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "providers")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in providers
    ] == []


def test_no_file_is_too_long_to_read() -> None:
    lengths = {
        name_of(path): path.read_bytes().count(b"\n")
        for path in sources(".py", ".pyx", ".pxd", ".pyi")
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_modules_are_named_for_what_they_hold() -> None:
    assert [name_of(path) for path in sources(".py", ".pyx") if path.stem in FORBIDDEN_NAMES] == []


def test_every_compiled_module_runs_compiled() -> None:
    contracts = [path for path in sources(".pxd") if path.is_relative_to(PACKAGE)]
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in contracts
        if path.stem != "__init__"
        and (path.with_suffix(".pyx").exists() or path.with_suffix(".py").exists())
    ]
    assert modules
    loaded = {name: str(importlib.import_module(name).__file__) for name in modules}
    assert [name for name, file in loaded.items() if not file.endswith((".so", ".pyd"))] == []


def test_each_module_of_the_core_has_a_contract_and_a_stub() -> None:
    lacking = [
        name_of(path.with_suffix(suffix))
        for path in sources(".pyx")
        for suffix in (".pxd", ".pyi")
        if not path.with_suffix(suffix).exists()
    ]
    assert lacking == []


def import_ms(module: str) -> float:
    """Return how long a fresh interpreter takes to import `module`: the best of five."""
    times = []
    for _ in range(5):
        report = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", f"import {module}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        # Lines are "import time: self | cumulative | name", in µs; a parent package has its own.
        total = 0.0
        for line in report.splitlines():
            fields = line.split("|")
            if len(fields) == 3 and fields[2].strip() in (module, module.partition(".")[0]):
                total += float(fields[1])
        times.append(total / 1000)
    return min(times)


@pytest.mark.parametrize(
    ("module", "limit_ms"), [("fastgate", PACKAGE_IMPORT_MS), ("fastgate.cli", CLI_IMPORT_MS)]
)
def test_cold_import_is_quick(module: str, limit_ms: int) -> None:
    assert 0 < import_ms(module) <= limit_ms


def loaded_by(module: str, candidates: tuple[str, ...]) -> list[str]:
    script = f"import sys, {module}; print([n for n in {candidates!r} if n in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return list(ast.literal_eval(result.stdout))


def test_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("fastgate.cli", HEAVY) == []


def test_a_worker_loads_nothing_of_the_control_plane() -> None:
    forbidden = ("aiohttp", "fastgate.control", "sqlite3", "yaml", "psycopg", "redis")
    assert loaded_by("fastgate.gateway.worker", forbidden) == []


def test_the_command_is_installed_under_its_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["fastgate"].partition(":")
    result = subprocess.run(
        [sys.executable, "-c", f"import sys, {module} as m; sys.exit(m.{function}())", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert project["version"] in result.stdout


def test_a_missing_core_names_the_fix(tmp_path: Path) -> None:
    shutil.copytree(
        PACKAGE, tmp_path / "fastgate", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    )
    result = subprocess.run(
        [sys.executable, "-c", "import fastgate._core.http1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith(
        "ImportError: the compiled core is missing: run `make build` or `pip install .`"
    )


def test_run_time_dependencies_stay_few() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 7


@pytest.mark.parametrize("page", ["docs/life-of-a-request.md", "docs/threat-model.md", "README.md"])
def test_the_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    folders = (ROOT, PACKAGE)
    names = re.findall(r"`([\w.-]+(?:/[\w.-]+)*(?:/|\.py|\.md))`", text)
    names += re.findall(r"\]\(([^):#]+)\)", text)
    names += [name + ".pyx" for name in re.findall(r"`(_core/\w+)`", text)]
    base = (ROOT / page).parent
    lacking = [name for name in names if not any((f / name).exists() for f in (*folders, base))]
    assert names
    assert lacking == []


def dockerfile() -> list[list[str]]:
    """Return the Dockerfile's instructions as [KEYWORD, rest], continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in lines]


def test_the_image_is_pinned_unprivileged_and_watched() -> None:
    instructions = dockerfile()
    bases = [rest.split() for keyword, rest in instructions if keyword == "FROM"]
    assert len(bases) == 2
    for base in bases:
        tag = base[0].rpartition(":")[2]
        assert re.match(r"3\.\d+(\.\d+)?-slim-", tag), base
    final = instructions[max(i for i, (key, _) in enumerate(instructions) if key == "FROM") :]
    settings = dict(final)
    assert settings["USER"] not in ("root", "0")
    assert "/health/liveliness" in settings["HEALTHCHECK"]
    assert settings["EXPOSE"] == "4000"
    # The exec form: a shell as process 1 would swallow the SIGTERM that starts a drain.
    assert settings["ENTRYPOINT"].startswith("[")
    assert settings["CMD"].startswith("[")
    # What is needed to compile stays behind.
    assert not any(keyword == "RUN" and "gcc" in rest for keyword, rest in final)
