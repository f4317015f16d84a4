"""Reading mappings by tables of options: what is known is parsed, what is not is reported.

A table maps a key to its `Option`; a second one maps the keys that are known and have no effect to
the reason. Faults are gathered, never raised, so that one run finds them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fastgate.config.report import HONOURED, IGNORED, NOTE, UNKNOWN, Report
from fastgate.errors import Fault

__all__ = ["Option", "Parse", "Reader", "Spot", "at_least", "choice", "plain"]

ENVIRONMENT = "os.environ/"
"""LiteLLM's prefix: the value is that of an environment variable."""

_MISSING = object()


class Spot(NamedTuple):
    """A place in the configuration, to complain about."""

    reader: Reader
    path: str

    def at(self, key: str) -> Spot:
        return Spot(self.reader, f"{self.path}.{key}" if self.path else key)

    def item(self, index: int) -> Spot:
        return Spot(self.reader, f"{self.path}[{index}]")

    def fault(self, message: str) -> None:
        self.reader.faults.append(Fault(self.path, message))

    def note(self, why: str) -> None:
        """Say something about a key that is honoured."""
        self.reader.report.add(self.path, NOTE, why)

    def ignore(self, why: str) -> None:
        self.reader.report.add(self.path, IGNORED, why)


Parse = Callable[[Any, Spot], Any]
"""Value and spot -> parsed value. Raises ValueError, or complains of parts by `spot.fault`."""


class Option(NamedTuple):
    """A key that is honoured."""

    parse: Parse
    meaning: str
    """For docs/configuration.md."""
    is_section: bool = False
    """`parse` reads a mapping or list with keys of its own, and wants it as it stands."""


class Reader:
    """One run: the environment it may look at, and what it found out."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)
        self.faults: list[Fault] = []
        self.report = Report()

    @property
    def root(self) -> Spot:
        return Spot(self, "")

    def first(self, names: Iterable[str]) -> tuple[str, str]:
        """Return the value of the first environment variable that is set, and its name."""
        for name in names:
            if self.environ.get(name, "").strip():
                return self.environ[name].strip(), name
        return "", ""

    def peek(self, value: Any) -> str:
        """Return a value as text without complaint; "": there is none."""
        if not isinstance(value, str):
            return ""
        if value.startswith(ENVIRONMENT):
            return self.environ.get(value.removeprefix(ENVIRONMENT), "")
        return value

    def mapping(self, value: Any, spot: Spot) -> dict[str, Any]:
        """Return `value` if it is a mapping, else an empty one and a fault; nothing is no fault."""
        if value is not None and not isinstance(value, dict):
            spot.fault("expected a mapping")
        return value if isinstance(value, dict) else {}

    def sequence(self, value: Any, spot: Spot) -> list[Any]:
        """Return `value` if it is a list, else an empty one and a fault; nothing is no fault."""
        if value is not None and not isinstance(value, list):
            spot.fault("expected a list")
        return value if isinstance(value, list) else []

    def read(
        self,
        value: Any,
        spot: Spot,
        options: Mapping[str, Option],
        ignored: Callable[[str], str] | None = None,
    ) -> dict[str, Any]:
        """Return the parsed values of the options given in the mapping `value`, by their keys.

        `ignored` says why a key has no effect; empty: it isn't known. What is null is left out.
        """
        found: dict[str, Any] = {}
        for key, raw in self.mapping(value, spot).items():
            here = spot.at(key)
            option = options.get(key)
            if option is None:
                why = ignored(key) if ignored is not None else ""
                if why:
                    here.ignore(why)
                else:
                    self.report.add(here.path, UNKNOWN, _suggestion(key, options))
                continue
            if not option.is_section:
                self.report.add(here.path, HONOURED)
            parse = option.parse
            parsed = parse(raw, here) if option.is_section else self.parse(raw, here, parse)
            if parsed is not None:
                found[key] = parsed
        return found

    def parse(self, raw: Any, spot: Spot, parse: Parse) -> Any:
        """Return the parsed value; None when there is none, or none that can be used."""
        value = self.resolve(raw, spot)
        if value is None or value is _MISSING:
            return None
        try:
            return parse(value, spot)
        except ValueError as error:
            spot.fault(str(error))
            return None

    def resolve(self, value: Any, spot: Spot) -> Any:
        """Return `value` with every `os.environ/NAME` in it replaced."""
        if isinstance(value, str) and value.startswith(ENVIRONMENT):
            name = value.removeprefix(ENVIRONMENT)
            if name not in self.environ:
                spot.fault(f"the environment variable {name} is not set")
                return _MISSING
            return self.environ[name]
        if isinstance(value, list):
            items = [self.resolve(each, spot.item(i)) for i, each in enumerate(value)]
            return [each for each in items if each is not _MISSING]
        if isinstance(value, dict):
            members = {key: self.resolve(each, spot.at(key)) for key, each in value.items()}
            return {key: each for key, each in members.items() if each is not _MISSING}
        return value


def plain(parse: Callable[[object], Any]) -> Parse:
    """Make a Parse of a function that needs no spot."""
    return lambda value, spot: parse(value)


def at_least(low: float, parse: Callable[[object], Any]) -> Parse:
    """Make a Parse that refuses what is below `low`."""

    def bounded(value: Any, spot: Spot) -> Any:
        found = parse(value)
        if found < low:
            raise ValueError(f"expected at least {low}")
        return found

    return bounded


def choice(*choices: str) -> Parse:
    """Make a Parse that takes one of a few words."""

    def chosen(value: Any, spot: Spot) -> str:
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return str(value)

    return chosen


def _suggestion(key: str, options: Mapping[str, Option]) -> str:
    # 0.75 finds a letter too many, too few or swapped, and a forgotten unit.
    close = difflib.get_close_matches(key, options, n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close else ""
