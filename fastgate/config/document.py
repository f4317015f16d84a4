"""The tables of docs/configuration.md, made from what the loader itself goes by.

`python -m fastgate.config.document docs/configuration.md` writes them anew, each between its
`<!-- table: NAME -->` and `<!-- end -->`; a test compares.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fastgate.config import deployments, ignored, litellm, native, prices, schema
from fastgate.config.load import RENAMED
from fastgate.config.reader import Option
from fastgate.providers.registry import registry

__all__ = ["filled", "tables"]

_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)


def filled(page: str) -> str:
    """Return `page` with its tables made anew. Raises KeyError for one that there isn't."""
    made = tables()
    return _TABLE.sub(lambda match: match[1] + made[match[2]] + match[3], page)


def tables() -> dict[str, str]:
    """Return all tables by their names."""
    found = {
        "model_list": _options(deployments.ENTRY),
        "litellm_params": _options(_without(deployments.PARAMETERS, prices.PRICE)),
        "model_info": _options(_without(deployments.MODEL_INFO, prices.PRICE)),
        "price": _options(prices.PRICE),
        "prices": _options(prices.ENTRY),
        "router_settings": _options(litellm.ROUTER, _router_defaults()),
        "litellm_settings": _options(_without(litellm.LITELLM, litellm.ROUTER)),
        "general_settings": _options(litellm.GENERAL),
        "keys": _options(native.KEY),
        "providers": _providers(),
        "ignored": _ignored(),
    }
    for name, struct in native.SECTIONS.items():
        found[name] = _fields(struct)
    return found


def _without(options: Mapping[str, Option], others: Mapping[str, Option]) -> dict[str, Option]:
    return {name: option for name, option in options.items() if name not in others}


def _options(options: Mapping[str, Option], defaults: Mapping[str, str] | None = None) -> str:
    if defaults is None:
        return _rows(["key", "meaning"], [[f"`{n}`", o.meaning] for n, o in options.items()])
    return _rows(
        ["key", "default", "meaning"],
        [[f"`{n}`", defaults.get(n, ""), o.meaning] for n, o in options.items()],
    )


def _router_defaults() -> dict[str, str]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(schema.Router)}
    return {
        name: _shown(name, defaults[field])
        for name in litellm.ROUTER
        if (field := RENAMED.get(name, name)) in defaults and defaults[field] != -1
    }


def _fields(struct: type[msgspec.Struct]) -> str:
    """Describe a struct of schema.py: the string under a field is its meaning."""
    meanings = _strings_under_fields(struct)
    honoured = native.options_of(struct)
    return _rows(
        ["key", "default", "meaning"],
        [
            [f"`{field.name}`", _shown(field.name, field.default), meanings[field.name]]
            for field in msgspec.structs.fields(struct)
            if field.name in honoured
        ],
    )


def _strings_under_fields(struct: type[msgspec.Struct]) -> dict[str, str]:
    body = ast.parse(inspect.getsource(struct)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    name = ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            found[name] = ""
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            found[name] = " ".join(str(node.value.value).split())
    return found


def _shown(name: str, default: object) -> str:
    if name.endswith("_bytes") and isinstance(default, int):
        for unit, size in (("MiB", 1024**2), ("KiB", 1024)):
            if default % size == 0:
                return f"`{default // size}{unit}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int | float):
        return f"`{default:g}`"
    return f"`{default}`" if isinstance(default, str) and default else ""


def _providers() -> str:
    table = registry()
    rows = []
    for name, row in sorted(table.providers.items()):
        variables = " ".join(f"`{variable}`" for variable in (*row.base_env, *row.key_env))
        rows.append([f"`{name}/`", row.api_base or "from `api_base`", variables])
    unspoken = ", ".join(f"`{name}`" for name in sorted(table.untranslated))
    return (
        _rows(["prefix", "default `api_base`", "environment variables"], rows)
        + f"\nNot supported yet, and left out with a warning: {unspoken}.\n"
    )


def _ignored() -> str:
    rows = [
        [f"`{section}.{key}`" if section else f"`{key}`", why]
        for section, table in ignored.TABLES.items()
        for key, why in sorted(table.items())
    ]
    return _rows(["key", "why it has no effect"], rows)


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(argv: list[str]) -> int:
    for name in argv:
        page = Path(name)
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
