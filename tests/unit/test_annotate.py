"""The annotation gate finds what it is there to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.annotate import hot_lines, setup_directives, touched

# Cython counts the module's own start on its first line.
PURE = """\
# a module
# hot: begin
cdef int double(int x) noexcept:
    return 2 * x
# hot: end

def face(x):
    return [double(x)]
"""
SLOW = PURE.replace("    return 2 * x", "    boxed = [x]\n    return 2 * len(boxed)")


def scores(tmp_path: Path, name: str, source: str) -> dict[int, int]:
    path = tmp_path / name
    path.write_text(source)
    (tmp_path / "out").mkdir()
    return touched(path, "fastgate._core", setup_directives("DIRECTIVES"), tmp_path / "out")


def test_a_pure_kernel_passes(tmp_path: Path) -> None:
    assert scores(tmp_path, "kernel.pyx", PURE) == {}


def test_a_kernel_that_builds_a_list_is_named_by_line(tmp_path: Path) -> None:
    assert 4 in scores(tmp_path, "kernel.pyx", SLOW)


def test_a_kernel_in_a_contract_is_checked_too(tmp_path: Path) -> None:
    inline = SLOW.replace("cdef int", "cdef inline int").partition("\ndef face")[0]
    assert 4 in scores(tmp_path, "kernel.pxd", inline)


def test_python_outside_the_marks_is_allowed() -> None:
    assert hot_lines(PURE) == {2, 3, 4}


@pytest.mark.parametrize("source", ["# hot: begin\n", "# hot: end\n", "# hot: begin\n" * 2])
def test_marks_that_do_not_pair_up_are_an_error(source: str) -> None:
    with pytest.raises(ValueError, match="without its partner"):
        hot_lines(source)
