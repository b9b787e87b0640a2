"""What OpenTelemetry's variables may say, and what is left of them where they say something else.

A base image, an operator or a platform team may have set them, and to what nobody can read. The specification wants
such a value ignored with a warning, as if the variable were not set; the SDK raises for many of them.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from otel_torch_modules import _entry_points
from otel_torch_modules._interruption import suppressed
from otel_torch_modules._log import warn
from otel_torch_modules._secrets import HIDDEN, is_secret, without_secrets

_logger = logging.getLogger("otel_torch_modules")
_logged: set[str] = set()

_LONGEST = 80  # characters of a value that are shown


class Left(NamedTuple):
    """What a rule leaves of a value."""

    value: str  # empty: nothing
    complaint: str = ""  # empty: nothing is wrong


Rule = Callable[[str, str, Mapping[str, str]], Left]
"""Says what is left of a variable's value, given its name, the value and what the others say."""


class OddValue(NamedTuple):
    """A variable whose value, or a part of it, does not count."""

    name: str
    sentence: str


class Readable(NamedTuple):
    """What variables say, without what does not count."""

    values: dict[str, str]
    odd: tuple[OddValue, ...]


def read(environ: Mapping[str, str], rules: Mapping[str, Rule]) -> Readable:
    """Return `environ` as `rules` leave it; each rule is told what those before it have left.

    Example:
        >>> read({"LIMIT": "many"}, {"LIMIT": whole(1)}).values
        {}
    """
    values = dict(environ)
    odd: list[OddValue] = []
    for name, rule in rules.items():
        if name not in values:
            continue
        text = values.pop(name).strip()
        if not text:
            if rule is LIMIT:
                values[name] = ""
            continue
        left = rule(name, text, values)
        if left.value:
            values[name] = left.value
        if left.complaint:
            odd.append(OddValue(name, left.complaint))
    return Readable(values, tuple(odd))


def log(found: Iterable[OddValue]) -> None:
    """Say what was `found`, a line for each variable, once in a process."""
    for one in found:
        if one.name not in _logged:
            _logged.add(one.name)
            warn(_logger, "%s; it is ignored", one.sentence)


def refused(name: str, value: str, allowed: str, *, part: str = "") -> Left:
    """Return that nothing is left of `value`, or all but a `part` of it, and what it must be."""
    return Left("", f"{name}: {shown(name, part or value)} is not allowed; it must be {allowed}")


def shown(name: str, value: str) -> str:
    """Return `value` of the variable `name` as a sentence may have it."""
    if is_secret(name):
        return "what it is set to (not shown)"
    text = without_secrets({name: value})[name]
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def whole(least: int) -> Rule:
    """Return the rule of an integer."""

    def rule(name: str, value: str, _: Mapping[str, str]) -> Left:
        with suppressed(ValueError):
            if int(value) >= least:
                return Left(str(int(value)))
        return refused(name, value, f"an integer of at least {least}")

    return rule


LIMIT: Final = whole(0)
"""Set to nothing it means no limit, and not that it is not set."""


def positive(unit: str, example: str) -> Rule:
    """Return the rule of a number of `unit` that is above 0 and has an end."""

    def rule(name: str, value: str, _: Mapping[str, str]) -> Left:
        with suppressed(ValueError):
            if 0 < float(value) < math.inf:
                return Left(value)
        return refused(name, value, f"a number of {unit} above 0, as in {example}")

    return rule


def choice(*allowed: str) -> Rule:
    """Return the rule of one of some words, in any case."""

    def rule(name: str, value: str, _: Mapping[str, str]) -> Left:
        for word in allowed:
            if word.lower() == value.lower():
                return Left(word)
        *others, last = allowed
        return refused(name, value, f"{', '.join(others)} or {last}")

    return rule


BOOLEAN: Final = choice("true", "false")


def installed(*built_in: str) -> Rule:
    """Return the rule of the name of an entry point, or in any case of what is `built_in`."""

    def rule(name: str, value: str, _: Mapping[str, str]) -> Left:
        there = _entry_points.names(name)
        found = _spelt(value, there, built_in)
        return Left(found) if found else _missing(name, [value], {*there, *built_in})

    return rule


def all_installed(*built_in: str, nothing: str = "") -> Rule:
    """Return the rule of such names with commas: those that are known are left.

    Args:
        built_in: further names.
        nothing: what stands for no name at all.
    """

    def rule(name: str, value: str, _: Mapping[str, str]) -> Left:
        if value.lower() == nothing:
            return Left(nothing)
        there = _entry_points.names(name)
        given = [item for item in (item.strip() for item in value.split(",")) if item]
        found = {item: _spelt(item, there, built_in) for item in given}
        missing = [item for item, spelt in found.items() if not spelt]
        left = ",".join(dict.fromkeys(filter(None, found.values())))
        if given and not missing:
            return Left(left)
        return _missing(name, missing or [value], {*there, *built_in})._replace(value=left)

    return rule


def _spelt(item: str, there: Iterable[str], built_in: Iterable[str]) -> str:
    """Return the name that `item` is, empty where it is none."""
    if item in there:
        return item
    return next((name for name in built_in if name == item.lower()), "")


def _missing(name: str, items: Iterable[str], known: Iterable[str]) -> Left:
    wanted = HIDDEN if is_secret(name) else shown(name, ",".join(items))[1:-1]
    there = ", ".join(sorted(known)) or "none"
    return Left("", f"{name}={wanted} is not installed; there are: {there}")
