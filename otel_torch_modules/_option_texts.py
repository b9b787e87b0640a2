"""How the text of a variable is read, as the value of the option that is named like it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from otel_torch_modules._allowed import CAUSES, FRACTION, SECONDS, is_finite, is_fraction, refuse
from otel_torch_modules.keep import Keep
from otel_torch_modules.schedule import Schedule

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(
    r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})(e[+-]?[0-9]{1,2})?", re.IGNORECASE
)


def boolean(name: str, text: str) -> bool:
    """Return what `text` says, ``true`` or ``false`` in any case."""
    if text.lower() not in ("true", "false"):
        refuse(name, text, "true or false")
    return text.lower() == "true"


def _integer(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        refuse(name, text, "an integer of at least 1")
    return int(text)


def _fraction(name: str, text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not is_fraction(float(text)):
        refuse(name, text, FRACTION)
    return float(text)


def _seconds(name: str, text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not is_finite(float(text)):
        refuse(name, text, SECONDS)
    return float(text)


def _list(name: str, text: str) -> tuple[str, ...]:
    return tuple([item.strip() for item in text.split(",") if item.strip()])


def _causes(name: str, text: str) -> tuple[str, ...]:
    given = _list(name, text)
    if given in (("all",), ("none",)):
        return CAUSES if given == ("all",) else ()
    return given


def _word(name: str, text: str) -> str:
    return text


def _schedule(name: str, text: str) -> Schedule:
    allowed = "skip_first=, wait=, active=, repeat= with whole numbers, joined by commas"
    given: dict[str, int] = {}
    for item in _list(name, text):
        key, _, number = (part.strip() for part in item.partition("="))
        if key not in ("skip_first", "wait", "active", "repeat") or not _INTEGER.fullmatch(number):
            refuse(name, text, allowed)
        given[key] = int(number)
    return Schedule(**given)


def _keep(name: str, text: str) -> Keep:
    allowed = "slow= with a number above 1, every= and first= with whole numbers, joined by commas"
    given: dict[str, Any] = {}
    for item in _list(name, text):
        key, _, number = (part.strip() for part in item.partition("="))
        if key == "slow" and _DECIMAL.fullmatch(number):
            given[key] = float(number)
        elif key in ("every", "first") and _INTEGER.fullmatch(number):
            given[key] = int(number)
        else:
            refuse(name, text, allowed)
    return Keep(**given)


PARSERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "phases": _list,
    "include": _list,
    "exclude": _list,
    "max_depth": _integer,
    "span_kind": _word,
    "schedule": _schedule,
    "max_overhead": _fraction,
    "keep": _keep,
    "max_spans_per_step": _integer,
    "record_shapes": boolean,
    "ranks": _word,
    "detail_ranks": _word,
    "data_workers": boolean,
    "run_id": _word,
    "stall_timeout": _seconds,
    "blackbox": _word,
    "control": _word,
    "causes": _causes,
    "device_time": _word,
    "device_every": _integer,
    "compiled_marks": _list,
    "services": _word,
    "step_name": _word,
}
