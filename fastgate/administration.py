"""`fastgate keys | teams | users | budgets | spend`: the management API for people and scripts.

Each command is one request to a running gateway, so what it may do is what its key may do. The
table below is all there is to say of a command; what it prints is a table, or with --json the
answer as it came.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, NamedTuple

__all__ = ["Command", "add_commands"]

_ABOUT = """\
Needs a running gateway. The key is the master key, or that of a user: each may do what its role
allows.

environment:
  FASTGATE_URL                              where the gateway is (default: http://127.0.0.1:4000)
  FASTGATE_MASTER_KEY, LITELLM_MASTER_KEY   the key
"""


class Option(NamedTuple):
    """An option, or without dashes an argument, and the field that it becomes."""

    flag: str
    field: str
    help: str
    kind: type = str
    many: bool = False


class Command(NamedTuple):
    """One request."""

    verb: str
    help: str
    method: str
    path: str
    options: tuple[Option, ...] = ()
    rows: str = ""
    """Where in the answer the list is; empty: the answer is it."""
    columns: tuple[str, ...] = ()
    """Of the list; none: the answer is an object, shown field by field."""


_KEY = Option("key", "key", "the key, or its SHA-256")
_LIMITS = (
    Option("--max-budget", "max_budget", "dollars", float),
    Option("--budget-duration", "budget_duration", "30s, 12h, 7d, 1mo: when it starts anew"),
    Option("--rpm", "rpm_limit", "requests in a minute", int),
    Option("--tpm", "tpm_limit", "tokens in a minute", int),
)
_MODELS = Option("--model", "models", "a model it may use; may be given several times", many=True)
_PERIOD = (
    Option("--from", "start_date", "first day, YYYY-MM-DD (default: 30 days ago)"),
    Option("--to", "end_date", "last day, YYYY-MM-DD (default: today)"),
)
_KEY_COLUMNS = ("key_name", "key_alias", "team_id", "user_id", "spend", "max_budget", "token")

_COMMANDS: dict[str, tuple[str, tuple[Command, ...]]] = {
    "keys": (
        "virtual keys",
        (
            Command(
                "list",
                "list keys, newest first",
                "GET",
                "/key/list?return_full_object=true&size=100",
                (
                    Option("--team", "team_id", "of this team"),
                    Option("--user", "user_id", "of this user"),
                    Option("--page", "page", "of 100 each", int),
                ),
                "keys",
                _KEY_COLUMNS,
            ),
            Command(
                "new",
                "make a key; it is shown this once",
                "POST",
                "/key/generate",
                (
                    Option("--alias", "key_alias", "what it is called"),
                    Option("--team", "team_id", "whose it is"),
                    Option("--user", "user_id", "whose it is"),
                    Option("--duration", "duration", "12h, 30d: when it expires"),
                    Option("--tag", "tags", "may be given several times", many=True),
                    _MODELS,
                    *_LIMITS,
                ),
            ),
            Command("info", "show a key", "GET", "/key/info", (_KEY,), "info"),
            Command("block", "refuse a key", "POST", "/key/block", (_KEY,)),
            Command("unblock", "accept it again", "POST", "/key/unblock", (_KEY,)),
            Command(
                "regenerate",
                "replace a key, keeping its limits and spend",
                "POST",
                "/key/regenerate",
                (_KEY, Option("--grace", "grace_period", "1h: how long the old one goes on")),
            ),
            Command(
                "delete",
                "remove keys for good",
                "POST",
                "/key/delete",
                (Option("key", "keys", "the key, or its SHA-256", many=True),),
            ),
        ),
    ),
    "teams": (
        "teams and their members",
        (
            Command(
                *("list", "list teams", "GET", "/team/list", (), ""),
                ("team_id", "team_alias", "spend", "max_budget", "blocked"),
            ),
            Command(
                "new",
                "make a team",
                "POST",
                "/team/new",
                (
                    Option("--id", "team_id", "(default: made up)"),
                    Option("--alias", "team_alias", "what it is called"),
                    _MODELS,
                    *_LIMITS,
                ),
            ),
            Command(
                *("info", "show a team", "GET", "/team/info"),
                (Option("team", "team_id", "its id"),),
                "team_info",
            ),
            Command(
                "block", "refuse its keys", "POST", "/team/block", (Option("team", "team_id", ""),)
            ),
            Command(
                *("unblock", "accept them again", "POST", "/team/unblock"),
                (Option("team", "team_id", "its id"),),
            ),
            Command(
                *("delete", "remove teams with their keys", "POST", "/team/delete"),
                (Option("team", "team_ids", "its id", many=True),),
            ),
        ),
    ),
    "users": (
        "users",
        (
            Command(
                *("list", "list users", "GET", "/user/list?page_size=100"),
                (Option("--page", "page", "of 100 each", int),),
                "users",
                ("user_id", "user_email", "user_role", "spend", "max_budget"),
            ),
            Command(
                "new",
                "make a user, and a key that is shown this once",
                "POST",
                "/user/new",
                (
                    Option("--id", "user_id", "(default: made up)"),
                    Option("--email", "user_email", ""),
                    Option("--role", "user_role", "proxy_admin, internal_user, …"),
                    Option("--team", "teams", "may be given several times", many=True),
                    _MODELS,
                    *_LIMITS,
                ),
            ),
            Command(
                *("info", "show a user", "GET", "/user/info"),
                (Option("user", "user_id", "their id"),),
                "user_info",
            ),
            Command(
                *("delete", "remove users with their keys", "POST", "/user/delete"),
                (Option("user", "user_ids", "their id", many=True),),
            ),
        ),
    ),
    "budgets": (
        "budgets that several things refer to",
        (
            Command(
                *("list", "list budgets", "GET", "/budget/list", (), ""),
                ("budget_id", "max_budget", "budget_duration", "rpm_limit", "tpm_limit"),
            ),
            Command(
                *("new", "make a budget", "POST", "/budget/new"),
                (Option("--id", "budget_id", "(default: made up)"), *_LIMITS),
            ),
            Command(
                *("delete", "remove a budget", "POST", "/budget/delete"),
                (Option("budget", "id", "its id"),),
            ),
        ),
    ),
    "spend": (
        "what was spent",
        (
            Command(
                *("teams", "by team", "GET", "/global/spend/teams", _PERIOD),
                "total_spend_per_team",
                ("team_id", "total_spend"),
            ),
            Command(
                *("keys", "by key", "GET", "/global/spend/keys", _PERIOD, ""),
                ("key_name", "key_alias", "total_spend", "api_key"),
            ),
            Command(
                *("models", "by model", "GET", "/global/spend/models", _PERIOD, ""),
                ("model", "total_spend"),
            ),
            Command(
                *("tags", "by tag", "GET", "/global/spend/tags", _PERIOD, ""),
                ("individual_request_tag", "log_count", "total_spend"),
            ),
            Command(
                "logs",
                "single requests, newest first",
                "GET",
                "/spend/logs/v2",
                (
                    *_PERIOD,
                    Option("--team", "team_id", "of this team"),
                    Option("--user", "user_id", "of this user"),
                    Option("--page", "page", "of 50 each", int),
                ),
                "data",
                ("startTime", "request_id", "model_group", "status", "total_tokens", "spend"),
            ),
        ),
    ),
}


def add_commands(commands: Any) -> dict[str, Any]:
    """Add all of them to argparse's `commands`; return the subcommands of each, for more."""
    raw = argparse.RawDescriptionHelpFormatter
    found = {}
    for noun, (about, verbs) in _COMMANDS.items():
        parser = commands.add_parser(noun, help=about, description=_ABOUT, formatter_class=raw)
        found[noun] = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
        for command in verbs:
            _add(found[noun], command)
    return found


def _add(verbs: Any, command: Command) -> None:
    parser = verbs.add_parser(command.verb, help=command.help, description=command.help)
    for option in command.options:
        how: dict[str, Any] = {"help": option.help, "type": option.kind}
        if option.flag.startswith("-"):
            how["dest"] = option.field
            how["metavar"] = "N" if option.kind is not str else option.field.upper()
            if option.many:
                how["action"] = "append"
        else:
            how["metavar"] = option.flag.upper()
            if option.many:
                how["nargs"] = "+"
        name = option.flag if option.flag.startswith("-") else option.field
        parser.add_argument(name, **how)
    parser.add_argument("--url", metavar="URL", help="of the gateway")
    parser.add_argument(
        "--api-key", metavar="KEY", help="to ask with; other people can see a command line"
    )
    parser.add_argument("--json", action="store_true", help="print the answer as it came")
    parser.set_defaults(run=lambda arguments: _run(command, arguments))


def _run(command: Command, arguments: argparse.Namespace) -> int:
    from fastgate.management import client  # noqa: PLC0415  urllib.request: 20 ms

    given = {option.field: getattr(arguments, option.field) for option in command.options}
    given = {name: value for name, value in given.items() if value is not None}
    asking = client.Asking(arguments.url, arguments.api_key, os.environ)
    return client.run(asking, command, given, as_json=arguments.json)
