"""Build the compiled core.

FASTGATE_BUILD = release (default) | quick | debug | asan    how to compile
FASTGATE_ONLY  = fastgate._core.http1,...            build these modules alone
FASTGATE_JOBS  = N                                   compilers at once (default: cores)
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Stage files of the data plane, compiled as they stand: pure-Python mode, a .pxd beside each.
COMPILED = ["fastgate/config", "fastgate/gateway", "fastgate/tokens", "fastgate/upstream"]
if "--inplace" in sys.argv:
    # The load client is compiled in a checkout; it is no part of what is installed.
    COMPILED.append("bench/load")

BUILD = os.environ.get("FASTGATE_BUILD", "release")
ONLY = {name for name in os.environ.get("FASTGATE_ONLY", "").split(",") if name}

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "embedsignature": True,
    "auto_pickle": False,
    # Types come from the .pxd beside a stage file; annotations are for people and mypy.
    "annotation_typing": False,
}
# The core checks its own bounds; stage files keep Python's meaning of an index and of None.
CORE_DIRECTIVES = {
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}
# A None where an object was expected is an exception, as in Python, and not a crash of the worker.
STAGE_DIRECTIVES = {"nonecheck": True}
CFLAGS = ["-O2", "-Wall", "-Wsign-compare", "-fno-plt"]
LDFLAGS: list[str] = []
if BUILD == "debug":
    DIRECTIVES |= {"nonecheck": True, "overflowcheck": True, "linetrace": True}
    CORE_DIRECTIVES = {"boundscheck": True, "initializedcheck": True, "cdivision": False}
    CFLAGS = ["-O1", "-g", "-Wall", "-DCYTHON_TRACE_NOGIL=1"]
elif BUILD == "quick":
    # For tests of what the optimizer has no part in.
    CFLAGS = ["-O0", "-Wall"]
elif BUILD == "asan":
    CFLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    LDFLAGS = ["-fsanitize=address,undefined"]
elif BUILD != "release":
    raise SystemExit(f"FASTGATE_BUILD: expected release, quick, debug or asan, got {BUILD!r}")


class BuildExt(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = int(os.environ.get("FASTGATE_JOBS", os.cpu_count() or 1))


def sources() -> list[Path]:
    found = sorted(Path("fastgate/_core").glob("*.pyx"))
    for folder in COMPILED:
        found += sorted(p for p in Path(folder).glob("*.py") if p.with_suffix(".pxd").exists())
        found += sorted(Path(folder).glob("*.pyx"))
    return found


def extensions(suffix: str) -> list[Extension]:
    modules = []
    for source in sources():
        if source.suffix != suffix:
            continue
        name = ".".join(source.with_suffix("").parts)
        if not ONLY or name in ONLY:
            module = Extension(
                name, [str(source)], extra_compile_args=CFLAGS, extra_link_args=LDFLAGS
            )
            modules.append(module)
    return modules


def compiled(suffix: str, directives: dict[str, bool]) -> list[Extension]:
    # cythonize() knows directives of a call only, not of an Extension.
    return cythonize(
        extensions(suffix),
        build_dir=f"build/cython-{BUILD}",
        compiler_directives=DIRECTIVES | directives,
        nthreads=0,
        quiet=True,
    )


setup(
    ext_modules=compiled(".pyx", CORE_DIRECTIVES) + compiled(".py", STAGE_DIRECTIVES),
    cmdclass={"build_ext": BuildExt},
)
