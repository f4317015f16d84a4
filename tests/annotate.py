"""The annotation gate: a line between `# hot: begin` and `# hot: end` must be pure C.

`python -m tests.annotate` compiles every source of the core as setup.py does, with Cython's
annotation, and prints as FILE:LINE each hot line that has a score above 0 (it touches a Python
object or may raise). Kernels that stand in a contract (`cdef inline` in a .pxd) are compiled as if
they were a module.
"""

from __future__ import annotations

import ast
import html
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from Cython.Compiler.Main import compile as cythonize
from Cython.Compiler.Options import CompilationOptions

__all__ = ["hot_lines", "main", "touched"]

ROOT = Path(__file__).parents[1]
BEGIN, END = "# hot: begin", "# hot: end"

_LINE = re.compile(r'<pre class="cython line score-(\d+)"[^>]*>(.*?)</pre>', re.DOTALL)
_NUMBER = re.compile(r"[+\s]*(\d+):")


def hot_lines(source: str) -> set[int]:
    """Return the numbers of the lines between the marks; ValueError when they don't pair up."""
    hot: set[int] = set()
    begin = 0
    for number, line in enumerate(source.splitlines(), 1):
        mark = line.strip()
        if mark in (BEGIN, END) and (mark == BEGIN) == bool(begin):
            raise ValueError(f"line {number}: {mark!r} without its partner")
        if mark == BEGIN:
            begin = number
        elif mark == END:
            hot.update(range(begin, number))
            begin = 0
    if begin:
        raise ValueError(f"line {begin}: {BEGIN!r} without its partner")
    return hot


def scores(annotated: str) -> dict[int, int]:
    """Return line number -> score of one page that Cython wrote."""
    found: dict[int, int] = {}
    for match in _LINE.finditer(annotated):
        number = _NUMBER.match(html.unescape(re.sub(r"<[^>]+>", "", match[2])))
        if number:
            found[int(number[1])] = int(match[1])
    return found


def touched(
    source: Path, package: str, directives: dict[str, Any], scratch: Path
) -> dict[int, int]:
    """Return line -> score of the hot lines of `source` that are not pure C."""
    hot = hot_lines(source.read_text())
    if not hot:
        return {}
    name = f"{package}.{source.stem}"
    if source.suffix == ".pxd":
        name = f"{package}.contract_{source.stem}"
        copy = scratch / f"contract_{source.stem}.pyx"
        copy.write_text(source.read_text())
        source = copy
    output = scratch / (source.stem + ".c")
    options = CompilationOptions(
        annotate="default",
        compiler_directives=directives,
        include_path=[str(ROOT)],
        output_file=str(output),
    )
    if cythonize(str(source), options, full_module_name=name).num_errors:
        raise ValueError(f"{source} does not compile")
    page = scores(output.with_suffix(".html").read_text())
    return {number: page[number] for number in sorted(hot) if page.get(number, 0) > 0}


def setup_directives(name: str) -> dict[str, Any]:
    """Return the compiler directives `name` of setup.py, so that both compile the same code."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            directives: dict[str, Any] = ast.literal_eval(node.value)
            return directives
    raise ValueError(f"setup.py has no {name}")


def main() -> int:
    stage = setup_directives("DIRECTIVES")
    core = stage | setup_directives("CORE_DIRECTIVES")
    packages = ROOT / "fastgate"
    contracts = list(packages.glob("*/*.pxd"))
    stages = [path for contract in contracts if (path := contract.with_suffix(".py")).exists()]
    faults = hot = 0
    with TemporaryDirectory() as scratch:
        for source in sorted([*packages.glob("_core/*.pyx"), *contracts, *stages]):
            lines = source.read_text().splitlines()
            hot += len(hot_lines("\n".join(lines)))
            path = source.relative_to(ROOT)
            package = ".".join(path.parent.parts)
            directives = core if path.parent.name == "_core" else stage
            for number, score in touched(source, package, directives, Path(scratch)).items():
                faults += 1
                print(f"{path}:{number}: score {score}: {lines[number - 1].strip()}")
    print(f"{hot} hot lines, {faults} of them touch Python")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
