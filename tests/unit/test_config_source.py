"""Files to plain values: YAML's traps, includes, and bounds on what a small file may become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastgate.config import source
from fastgate.errors import ConfigError


def parsed(tmp_path: Path, text: str | bytes) -> dict[str, Any]:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return source.read(path).values


def faults(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(tmp_path, text)
    assert len(caught.value.faults) == 1
    return str(caught.value)


def test_plain_yaml_is_read(tmp_path: Path) -> None:
    assert parsed(tmp_path, "a: [1, 2.5, x, true, null]\nb: {c: '1'}\n") == {
        "a": [1, 2.5, "x", True, None],
        "b": {"c": "1"},
    }


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert parsed(tmp_path, "# nothing\n") == {}


def test_what_looks_like_a_day_stays_text(tmp_path: Path) -> None:
    assert parsed(tmp_path, "api_version: 2024-06-01\n") == {"api_version": "2024-06-01"}


def test_keys_are_text(tmp_path: Path) -> None:
    assert parsed(tmp_path, "a: {1: x, true: y}\n") == {"a": {"1": "x", "true": "y"}}


def test_a_duplicate_key_is_refused_with_its_place(tmp_path: Path) -> None:
    text = faults(tmp_path, "a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert "line 4, column 3: duplicate key 'b'" in text


def test_merges_and_anchors_work(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {y: 4, <<: [{y: 5, z: 6}, *a]}\n"
    assert parsed(tmp_path, text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 4, "z": 6},
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [canary]\n",
        "a: !secret canary\n",
        "a: {<<: canary}\n",
        "a: 'canary\n",
        "a: *canary\n",
        "a: [canary\nb: }\n",
        "a: canary\n\tb: canary\n",
        "{[canary]: 1}\n",
        "- canary\n",
        "canary\n",
        "a: canary\n--- \nb: canary\n",
        b"a: \xff\xfecanary\n",
        b"a: \x00canary\n",
        "a: &a [*a]\n",
    ],
)
def test_other_yaml_is_refused_without_quoting_it(tmp_path: Path, text: str | bytes) -> None:
    assert "canary" not in faults(tmp_path, text)


def test_a_small_file_can_not_become_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_VALUES", 1000)
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    assert "at most 1000 values" in faults(tmp_path, "\n".join(lines))


def test_a_deep_file_is_refused(tmp_path: Path) -> None:
    assert "64 deep" in faults(tmp_path, "a: " + "[" * 100 + "]" * 100)


def test_a_large_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_FILE_BYTES", 100)
    assert "at most 100 bytes" in faults(tmp_path, "#" * 101)
    assert parsed(tmp_path, "#" * 100) == {}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: can't be read: No such file"):
        source.read(tmp_path / "absent.yaml")


def test_includes_extend_lists_and_merge_mappings(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/models.yaml").write_text(
        "model_list: [b, c]\nlitellm_settings: {x: 2}\ninclude: [more.yaml]\n"
    )
    (tmp_path / "sub/more.yaml").write_text("model_list: [d]\ngeneral_settings: {z: 1}\n")
    main = tmp_path / "config.yaml"
    main.write_text("include: [sub/models.yaml]\nmodel_list: [a]\nlitellm_settings: {x: 1, y: 1}\n")
    found = source.read(main)
    assert found.values == {
        "model_list": ["a", "b", "c", "d"],
        "litellm_settings": {"x": 2, "y": 1},
        "general_settings": {"z": 1},
    }
    assert [path.name for path in found.files] == ["config.yaml", "models.yaml", "more.yaml"]
    assert [found.path("model_list", index) for index in range(4)] == [
        "model_list[0]",
        "sub/models.yaml: model_list[0]",
        "sub/models.yaml: model_list[1]",
        "more.yaml: model_list[0]",
    ]


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("include: [config.yaml]\n")
    assert "includes itself" in faults(tmp_path, "include: [other.yaml]\n")


def test_a_file_may_be_included_twice_but_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_FILES", 8)
    (tmp_path / "leaf.yaml").write_text("model_list: [x]\n")
    assert parsed(tmp_path, "include: [leaf.yaml, leaf.yaml]\n") == {"model_list": ["x", "x"]}
    assert "at most 8 files" in faults(tmp_path, f"include: {['leaf.yaml'] * 9}\n")


@pytest.mark.parametrize("value", ["models.yaml", "{a: b}", "[1]"])
def test_include_is_a_list_of_names(tmp_path: Path, value: str) -> None:
    assert "include: expected a list of file names" in faults(tmp_path, f"include: {value}\n")
