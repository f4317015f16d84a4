"""Configuration files as plain values: YAML, `include`, and where each list entry came from.

Only plain YAML is read (no tags that make objects). Duplicate keys are refused, since parsers
disagree on which one counts; `<<` merges and anchors work. Every alias is expanded, and the number
of values bounded, so that a small file can't become a large one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fastgate.errors import ConfigError, Fault

__all__ = ["Source", "read"]

# A list of 10,000 deployments is 3 MB.
MAX_FILE_BYTES = 16 * 1024 * 1024
# 100,000 virtual keys with five members each are 1.1 million values.
MAX_VALUES = 4_000_000
MAX_DEPTH = 64
MAX_FILES = 256

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE_TAG = "tag:yaml.org,2002:merge"
_NUMBERS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
_COLLECTIONS = {f"tag:yaml.org,2002:{kind}" for kind in ("seq", "map")}
# `2024-06-01` is the name of an API version more often than a day.
_TEXTS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "timestamp", "value")}
_PLAIN = _NUMBERS | _TEXTS | _COLLECTIONS


class Source:
    """What the files say, merged, before anything is made of it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.files: list[Path] = []
        """All files read, the main one first."""
        self._origins: dict[str, list[tuple[str, int]]] = {}

    def path(self, section: str, index: int) -> str:
        """Return the path of a list entry as its author knows it: with its file, if included."""
        file, own_index = self._origins[section][index]
        return f"{file}: {section}[{own_index}]" if file else f"{section}[{index}]"

    def _merge(self, values: dict[str, Any], file: str) -> None:
        """Take over an included file: lists are extended, maps updated, the rest replaced."""
        for key, value in values.items():
            known = self.values.get(key)
            if isinstance(value, list):
                origins = self._origins.setdefault(key, [])
                origins += [(file, index) for index in range(len(value))]
            if isinstance(known, list) and isinstance(value, list):
                known.extend(value)
            elif isinstance(known, dict) and isinstance(value, dict):
                known.update(value)
            else:
                self.values[key] = value


def read(path: Path) -> Source:
    """Return what `path` and the files that it includes say. Raises ConfigError."""
    source = Source()
    _read_into(source, path, "", ())
    return source


def _read_into(source: Source, path: Path, label: str, above: tuple[Path, ...]) -> None:
    resolved = path.resolve()
    if resolved in above:
        raise ConfigError([Fault("include", f"{path} includes itself")])
    if len(source.files) >= MAX_FILES:
        raise ConfigError([Fault("include", f"expected at most {MAX_FILES} files")])
    source.files.append(resolved)
    values = _parse(path, label)
    includes = values.pop("include", None) or []
    if not isinstance(includes, list) or not all(isinstance(each, str) for each in includes):
        raise ConfigError([Fault(_at(label, "include"), "expected a list of file names")])
    source._merge(values, label)
    for name in includes:
        # Relative to the file that includes, not to the working directory.
        _read_into(source, path.parent / name, name, (*above, resolved))


def _parse(path: Path, label: str) -> dict[str, Any]:
    where = label or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Fault(where, f"can't be read: {error.strerror}")]) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([Fault(where, f"expected at most {MAX_FILE_BYTES} bytes")])
    try:
        values = _Builder(data, where).document()
    except yaml.YAMLError as error:
        raise ConfigError([Fault(where, _yaml_fault(error))]) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError([Fault(where, "expected a mapping: model_list: […]")])
    return values


class _Builder:
    """Plain values out of YAML nodes."""

    def __init__(self, data: bytes, where: str) -> None:
        self._loader = _Loader(data)
        self._where = where
        self._left = MAX_VALUES

    def document(self) -> Any:
        try:
            node = self._loader.get_single_node()
            return None if node is None else self._value(node, 0)
        except UnicodeDecodeError:
            raise ConfigError([Fault(self._where, "expected UTF-8")]) from None
        finally:
            self._loader.dispose()

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            # An alias that contains itself ends here, too.
            raise self._fault(
                node, f"expected at most {MAX_VALUES} values, {MAX_DEPTH} deep, aliases expanded"
            )
        if node.tag not in _PLAIN:
            raise self._fault(node, "expected plain YAML, without tags")
        if isinstance(node, yaml.SequenceNode):
            return [self._value(each, depth + 1) for each in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if node.tag in _TEXTS:
            return node.value
        try:
            return self._loader.construct_object(node)
        except ValueError:
            raise self._fault(node, "expected a number, or quotes around it") from None

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                merged = {**self._merged(value_node, depth), **merged}
                continue
            key = self._value(key_node, depth + 1)
            if isinstance(key, dict | list):
                raise self._fault(key_node, "expected text as a key")
            name = key_node.value
            if name in own:
                raise self._fault(key_node, f"duplicate key {name!r}")
            own[name] = self._value(value_node, depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        """Return what `<<` brings in; of several mappings the first one wins."""
        value = self._value(node, depth + 1)
        merged: dict[str, Any] = {}
        for each in reversed(value if isinstance(value, list) else [value]):
            if not isinstance(each, dict):
                raise self._fault(node, "expected a mapping, or a list of them, behind <<")
            merged.update(each)
        return merged

    def _fault(self, node: yaml.Node, message: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(
            [Fault(f"{self._where}, line {mark.line + 1}, column {mark.column + 1}", message)]
        )


def _yaml_fault(error: yaml.YAMLError) -> str:
    # str(error) would quote the line, which may hold a secret.
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        # Without libyaml's bindings, the problem may quote a word.
        problem = str(error.problem).partition(" '")[0]
        return f"not YAML: line {mark.line + 1}, column {mark.column + 1}: {problem}"
    return "not YAML"


def _at(label: str, path: str) -> str:
    return f"{label}: {path}" if label else path
