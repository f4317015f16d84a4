"""Reading prices: the fields of `spend/fields.py`, wherever in the configuration they stand.

Amounts are read as decimal numbers, never as binary ones: 0.1 is a tenth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from fastgate.config import values
from fastgate.config.reader import Option, Reader, Spot, plain
from fastgate.config.schema import PriceEntry
from fastgate.spend.fields import ENGINE, FIELDS, steps_of, tier_of
from fastgate.spend.price import Price

__all__ = [
    "ENTRY",
    "PRICE",
    "Tiered",
    "checked",
    "given",
    "prices",
]

DIGITS = 15
"""What a binary floating-point number keeps of any decimal one: what stands behind is noise."""
FINEST_USD = Decimal("1e-18")
"""A thousand-millionth of a nano-dollar: a million times finer than any published price."""
MAX_USD = 1_000_000
"""For one of anything."""
SUSPICIOUS_USD = Decimal("0.01")
"""For a token: above ten times what any model costs, so perhaps meant for a million of them."""
MAX_TOKENS_PER_S = 10_000_000
"""Above what any engine reads from its cache."""

_INPUT_ONLY = ("embedding", "moderation", "rerank")
_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?Z?)?")


class Tiered(Mapping[str, Option]):
    """A table of options in which a price's field is also found with a tier behind it."""

    def __init__(self, options: Mapping[str, Option]) -> None:
        self._options = dict(options)

    def __getitem__(self, name: str) -> Option:
        return self._options[tier_of(name)[0]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)


def usd(value: object) -> Decimal:
    """Return an amount of dollars, as it is written."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a number")
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("expected a number, got other text") from None
    if not found.is_finite() or not 0 <= found <= MAX_USD:
        raise ValueError(f"expected dollars, from 0 to {MAX_USD}")
    exact = Context(prec=DIGITS).plus(found).quantize(FINEST_USD)
    if found and not exact:
        raise ValueError(f"expected 0, or at least {FINEST_USD} dollars")
    return exact


def _rate(value: object) -> Decimal:
    found = values.whole(value)
    if not 0 < found <= MAX_TOKENS_PER_S:
        raise ValueError(f"expected tokens per second, from 1 to {MAX_TOKENS_PER_S}")
    return Decimal(found)


def _gpus(value: object) -> Decimal:
    found = values.whole(value)
    if not 0 < found <= 1024:
        raise ValueError("expected from 1 to 1024 GPUs")
    return Decimal(found)


def _since(value: object) -> int:
    """Return the Unix time in microseconds of a day or a moment, UTC."""
    text = values.text(value)
    try:
        if not _UTC_TIME.fullmatch(text):
            raise ValueError
        moment = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("expected a day or a moment, UTC: 2026-01-31, 2026-01-31T18:00Z") from None
    return int(moment.timestamp()) * 1_000_000


_PARSERS = {"gpu_hour_usd": usd, "gpus": _gpus}

PRICE = {
    **{name: Option(plain(usd), field.meaning) for name, field in FIELDS.items()},
    **{name: Option(plain(_PARSERS.get(name, _rate)), meaning) for name, meaning in ENGINE.items()},
}

ENTRY = {
    "model": Option(
        plain(values.model_name), "The model's name upstream, or a pattern with one `*`."
    ),
    "provider": Option(plain(values.text), "Of this provider only; default: of any."),
    "deployment": Option(plain(values.text), "Of the deployment with this id only."),
    "since": Option(plain(_since), "From this day or moment (UTC) on; default: ever."),
}


def given(read: Mapping[str, Any]) -> dict[str, Decimal]:
    """Return what of a read section is a price."""
    return {name: value for name, value in read.items() if tier_of(name)[0] in PRICE}


def checked(fields: Mapping[str, Decimal], spot: Spot, mode: str = "") -> None:
    """Complain of fields that make no price together; `mode` is what the model is for."""
    if not fields:
        return
    if any(name in ENGINE for name in fields):
        _check_engine(fields, spot)
    else:
        _check_lanes(fields, spot, mode)
    try:
        Price("", steps_of(fields))
    except ValueError as error:
        spot.fault(str(error))


def _check_engine(fields: Mapping[str, Decimal], spot: Spot) -> None:
    for name in ("gpu_hour_usd", "prefill_tps", "decode_tps"):
        if name not in fields:
            spot.at(name).fault("missing: the price of an engine's time needs it")
    for name in fields:
        if name not in ENGINE:
            spot.at(name).fault("expected either this or gpu_hour_usd, not both")


def _check_lanes(fields: Mapping[str, Decimal], spot: Spot, mode: str) -> None:
    lanes = {FIELDS[name].lane for name in fields if name in FIELDS}
    if not lanes:
        spot.fault("expected a price without a tier, too: what shorter prompts cost")
    wanted = ("input",) if mode in _INPUT_ONLY else ("input", "output")
    for lane in wanted:
        if lane not in lanes and not lanes <= {"images", "requests", "seconds"}:
            spot.note(f"without {lane}_cost_per_token the cost of such tokens is unknown")
    for name, value in fields.items():
        if "token" in tier_of(name)[0] and value > SUSPICIOUS_USD:
            spot.at(name).note("dollars for one token: is that the price of a million?")


def prices(value: Any, spot: Spot) -> list[PriceEntry]:
    """Read `fastgate_settings.prices`."""
    found = []
    for index, entry in enumerate(spot.reader.sequence(value, spot)):
        here = spot.item(index)
        if not isinstance(entry, dict):
            here.fault("expected a mapping: {model: …, input_cost_per_token: …}")
            continue
        read = _read(entry, here, spot.reader)
        if read is not None:
            found.append(read)
    return found


def _read(entry: dict[str, Any], spot: Spot, reader: Reader) -> PriceEntry | None:
    faults_before = len(reader.faults)
    read = reader.read(entry, spot, Tiered({**ENTRY, **PRICE}))
    fields = given(read)
    if len(reader.faults) > faults_before:
        return None
    checked(fields, spot)
    if "model" not in read and "deployment" not in read:
        spot.at("model").fault("missing: name a model, or a deployment by its id")
    if not fields:
        spot.fault("expected a price: input_cost_per_token: …")
    if read.get("model", "").count("*") > 1:
        spot.at("model").fault("expected at most one *")
    if len(reader.faults) > faults_before:
        return None
    return PriceEntry(
        model=read.get("model", "*"),
        provider=read.get("provider", ""),
        deployment=read.get("deployment", ""),
        since_us=read.get("since", -1),
        fields=fields,
    )
