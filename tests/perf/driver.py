"""Run under callgrind: do each operation a number of times, then twice as often, each a dump.

`python -m tests.perf.driver LIBRARY COUNT MODULE...`, where LIBRARY is dump.c, compiled. The dumps
are named, for each operation, `ready NAME`, `once NAME`, `twice NAME`; a dump holds what
was done since the one before it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
from itertools import repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# CPython 3.11 specialises bytecode within 64 runs; caches and pools of ours fill much sooner.
_WARM_UP = 200


def main(library: str, count: int, modules: list[str]) -> None:
    dump = ctypes.CDLL(library).dump
    dump.argtypes = [ctypes.c_char_p]
    dump.restype = None
    gc.disable()
    for module in modules:
        for name, make in importlib.import_module(module).OPERATIONS.items():
            operation = make()
            full_name = f"{module.rpartition('.ops_')[2]}: {name}".encode()
            _times(_WARM_UP, operation)
            dump(b"ready " + full_name)
            _times(count, operation)
            dump(b"once " + full_name)
            _times(2 * count, operation)
            dump(b"twice " + full_name)


def _times(count: int, operation: Callable[[], object]) -> None:
    for _ in repeat(None, count):
        operation()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
