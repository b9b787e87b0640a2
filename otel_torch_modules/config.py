"""What may be set, checked once.

Every fault is a :class:`ValueError` that names the variable, the value and what is allowed, whether the value
came from the environment or from the program.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import translate
from typing import Any, NoReturn

from otel_torch_modules import environment_variables as variables
from otel_torch_modules import ranks, semconv
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules.ranks import Ranks

_PREFIX = "OTEL_TORCH_MODULES_"
_PHASES = ("train", "eval")
_DEVICE_TIMES = ("off", "phases", "modules")
CAUSES = ("compile", "gc", "checkpoint", "collective", "loop", "host", "memory")
_SPAN_KINDS = ("separate", "internal")
_SERVICES = ("one", "phases", "ranks")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(
    r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})(e[+-]?[0-9]{1,2})?", re.IGNORECASE
)
_STEP_NAME = re.compile(r"([^{}]|\{step\})+")
_SECONDS = "a number of seconds, 0 for off, as in 60"
_FRACTION = "a number above 0 and at most 1, as in 0.01"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Which steps are recorded, in the words and with the meaning of `torch.profiler.schedule`.

    Args:
        skip_first: steps left out once, at the start.
        wait: steps left out at the start of each cycle.
        active: steps recorded at the end of each cycle.
        repeat: number of cycles; 0 for no end.

    Example:
        >>> [step for step in range(10) if Schedule(skip_first=1, wait=2, active=1).records(step)]
        [3, 6, 9]
    """

    skip_first: int = 0
    wait: int = 0
    active: int = 1
    repeat: int = 0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            least = 1 if entry.name == "active" else 0
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                _refuse("schedule", f"{entry.name}={value}", f"an integer of at least {least}")

    def records(self, step: int) -> bool:
        """Return whether the step with this index, counted from 0, is recorded."""
        step -= self.skip_first
        cycle, place = divmod(step, self.wait + self.active)
        return step >= 0 and place >= self.wait and (self.repeat == 0 or cycle < self.repeat)

    def recorded_before(self, step: int) -> int:
        """Return how many steps are recorded before the one with this index, which is recorded too."""
        cycle, place = divmod(step - self.skip_first, self.wait + self.active)
        return cycle * self.active + place - self.wait

    @property
    def share(self) -> float:
        """The share of steps that are recorded, in the long run and without `repeat`."""
        return self.active / (self.wait + self.active)


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which records are sent with all their modules; those that fail always are.

    Args:
        slow: how many times what is usual one has to take; None for none.
        every: one in so many; 0 for none.
        first: so many at the start.

    Example:
        >>> Keep(slow=1.3, every=100)
        Keep(slow=1.3, every=100, first=0)
    """

    slow: float | None = None
    every: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        if self.slow is not None and not (_is_finite(self.slow) and self.slow > 1):
            _refuse("keep", f"slow={self.slow}", "a number above 1")
        for name in ("every", "first"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                _refuse("keep", f"{name}={value}", "an integer of at least 0")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of the instrumentor; the meaning of each is with its variable.

    Example:
        >>> Config(max_depth=3, exclude=("Dropout",)).span_kind
        'separate'
    """

    phases: tuple[str, ...] = _PHASES
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_depth: int | None = None
    span_kind: str = "separate"
    schedule: Schedule = field(default_factory=Schedule)
    max_overhead: float | None = None
    keep: Keep | None = None
    max_spans_per_step: int = 100_000
    record_shapes: bool = False
    ranks: str = "all"
    detail_ranks: str = "all"
    data_workers: bool = False
    run_id: str = ""
    stall_timeout: float = 60.0
    blackbox: str = ""
    control: str = ""
    causes: tuple[str, ...] = CAUSES
    device_time: str = "phases"
    device_every: int = 16
    compiled_marks: tuple[str, ...] = ()
    services: str = "one"
    step_name: str = semconv.STEP

    def __post_init__(self) -> None:
        for name in ("phases", "include", "exclude", "causes", "compiled_marks"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                _refuse(name, value, "a tuple of strings")
        if not self.phases or not set(self.phases) <= set(_PHASES):
            _refuse("phases", ",".join(self.phases), "train, eval, or both with a comma")
        if not set(self.causes) <= set(CAUSES):
            _refuse(
                "causes", ",".join(self.causes), f"all, none, or of {', '.join(CAUSES)} with commas"
            )
        if self.span_kind not in _SPAN_KINDS:
            _refuse("span_kind", self.span_kind, "separate or internal")
        if self.device_time not in _DEVICE_TIMES:
            _refuse("device_time", self.device_time, "off, phases or modules")
        if self.services not in _SERVICES:
            _refuse("services", self.services, "one, phases or ranks")
        if not isinstance(self.step_name, str) or not _STEP_NAME.fullmatch(self.step_name):
            _refuse("step_name", self.step_name, "a text without braces, but for {step}")
        if not isinstance(self.schedule, Schedule):
            _refuse("schedule", self.schedule, "a Schedule")
        if self.max_overhead is not None and not _is_fraction(self.max_overhead):
            _refuse("max_overhead", self.max_overhead, _FRACTION)
        if self.keep is not None and not isinstance(self.keep, Keep):
            _refuse("keep", self.keep, "a Keep")
        for name in ("record_shapes", "data_workers"):
            if not isinstance(getattr(self, name), bool):
                _refuse(name, getattr(self, name), "true or false")
        for name in ("ranks", "detail_ranks"):
            try:
                Ranks(getattr(self, name))
            except (ValueError, AttributeError) as error:
                if is_interruption(error):
                    raise
                _refuse(name, getattr(self, name), ranks.ALLOWED)
        if not _is_finite(self.stall_timeout):
            _refuse("stall_timeout", self.stall_timeout, _SECONDS)
        for name in ("run_id", "blackbox", "control"):
            if not isinstance(getattr(self, name), str):
                _refuse(name, getattr(self, name), "a string")
        if self.control and os.path.abspath(self.control) == os.path.abspath(self.blackbox):
            _refuse("control", self.control, "another folder than that of the black box")
        for name in ("max_depth", "max_spans_per_step", "device_every"):
            value = getattr(self, name)
            if name == "max_depth" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                _refuse(name, value, "an integer of at least 1")
        recorded = re.compile("|".join(map(translate, self.include))) if self.include else None
        left_out = re.compile("|".join(map(translate, self.exclude))) if self.exclude else None
        object.__setattr__(self, "_recorded", recorded)
        object.__setattr__(self, "_left_out", left_out)

    def records_module(self, fqn: str, class_name: str) -> bool:
        """Return whether a module of this name and class has spans of its own."""
        recorded: re.Pattern[str] | None = self._recorded  # type: ignore[attr-defined]
        left_out: re.Pattern[str] | None = self._left_out  # type: ignore[attr-defined]
        if recorded and not (recorded.match(fqn) or recorded.match(class_name)):
            return False
        return not (left_out and (left_out.match(fqn) or left_out.match(class_name)))

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """Read the variables of this package.

        Raises:
            ValueError: naming the variable, its value and what is allowed.

        Example:
            >>> Config.from_env({"OTEL_TORCH_MODULES_MAX_DEPTH": "2"}).max_depth
            2
        """
        given: dict[str, Any] = {}
        for entry in fields(cls):
            text = environ.get(_PREFIX + entry.name.upper(), "").strip()
            if text:
                given[entry.name] = _PARSERS[entry.name](entry.name, text)
        return cls(**given)


def is_enabled(environ: Mapping[str, str]) -> bool:
    """Return whether ``OTEL_TORCH_MODULES_ENABLED`` says ``true``.

    Raises:
        ValueError: it says something else than ``true``, ``false`` or nothing.
    """
    text = environ.get(variables.OTEL_TORCH_MODULES_ENABLED, "").strip()
    return bool(text) and _boolean("enabled", text)


def _refuse(name: str, value: object, allowed: str) -> NoReturn:
    raise ValueError(f"{_PREFIX}{name.upper()}: {value!r} is not allowed; it must be {allowed}")


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        _refuse(name, text, "true or false")
    return text.lower() == "true"


def _integer(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        _refuse(name, text, "an integer of at least 1")
    return int(text)


def _is_fraction(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def _fraction(name: str, text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not _is_fraction(float(text)):
        _refuse(name, text, _FRACTION)
    return float(text)


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _seconds(name: str, text: str) -> float:
    if not _DECIMAL.fullmatch(text) or not _is_finite(float(text)):
        _refuse(name, text, _SECONDS)
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
            _refuse(name, text, allowed)
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
            _refuse(name, text, allowed)
    return Keep(**given)


_PARSERS = {
    "phases": _list,
    "include": _list,
    "exclude": _list,
    "max_depth": _integer,
    "span_kind": _word,
    "schedule": _schedule,
    "max_overhead": _fraction,
    "keep": _keep,
    "max_spans_per_step": _integer,
    "record_shapes": _boolean,
    "ranks": _word,
    "detail_ranks": _word,
    "data_workers": _boolean,
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
