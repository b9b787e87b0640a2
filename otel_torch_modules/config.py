"""What may be set, checked once.

Every fault is a :class:`ValueError` that names the variable, the value and what is allowed, whether the value
came from the environment or from the program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import translate
from typing import Any

from otel_torch_modules import environment_variables as variables
from otel_torch_modules import ranks, semconv
from otel_torch_modules._allowed import (
    CAUSES,
    DEVICE_TIMES,
    FRACTION,
    PHASES,
    PREFIX,
    SECONDS,
    SERVICES,
    SPAN_KINDS,
    is_finite,
    is_fraction,
    is_whole,
    refuse,
)
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._option_texts import PARSERS, boolean
from otel_torch_modules._texts import encodable
from otel_torch_modules.keep import Keep
from otel_torch_modules.ranks import Ranks
from otel_torch_modules.schedule import Schedule

_STEP_NAME = re.compile(r"([^{}]|\{step\})+")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of the instrumentor; the meaning of each is with its variable.

    Example:
        >>> Config(max_depth=3, exclude=("Dropout",)).span_kind
        'separate'
    """

    phases: tuple[str, ...] = PHASES
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
                refuse(name, value, "a tuple of strings")
        if not self.phases or not set(self.phases) <= set(PHASES):
            refuse("phases", ",".join(self.phases), "train, eval, or both with a comma")
        if not set(self.causes) <= set(CAUSES):
            refuse(
                "causes", ",".join(self.causes), f"all, none, or of {', '.join(CAUSES)} with commas"
            )
        for name, words, allowed in (
            ("span_kind", SPAN_KINDS, "separate or internal"),
            ("device_time", DEVICE_TIMES, "off, phases or modules"),
            ("services", SERVICES, "one, phases or ranks"),
        ):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in words:
                refuse(name, value, allowed)
        if not isinstance(self.step_name, str) or not _STEP_NAME.fullmatch(self.step_name):
            refuse("step_name", self.step_name, "a text without braces, but for {step}")
        if not isinstance(self.schedule, Schedule):
            refuse("schedule", self.schedule, "a Schedule")
        if self.max_overhead is not None and not is_fraction(self.max_overhead):
            refuse("max_overhead", self.max_overhead, FRACTION)
        if self.keep is not None and not isinstance(self.keep, Keep):
            refuse("keep", self.keep, "a Keep")
        for name in ("record_shapes", "data_workers"):
            if not isinstance(getattr(self, name), bool):
                refuse(name, getattr(self, name), "true or false")
        for name in ("ranks", "detail_ranks"):
            value = getattr(self, name)
            try:
                chosen = isinstance(value, str) and Ranks(value)
            except ValueError as error:
                if is_interruption(error):
                    raise
                chosen = False
            if not chosen:
                refuse(name, value, ranks.ALLOWED)
        if not is_finite(self.stall_timeout):
            refuse("stall_timeout", self.stall_timeout, SECONDS)
        for name in ("run_id", "blackbox", "control"):
            if not isinstance(getattr(self, name), str):
                refuse(name, getattr(self, name), "a string")
        if self.control and os.path.abspath(self.control) == os.path.abspath(self.blackbox):
            refuse("control", self.control, "another folder than that of the black box")
        for name in ("max_depth", "max_spans_per_step", "device_every"):
            value = getattr(self, name)
            if name == "max_depth" and value is None:
                continue
            if not is_whole(value, 1):
                refuse(name, value, "an integer of at least 1")
        object.__setattr__(self, "step_name", encodable(self.step_name))
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
            text = environ.get(PREFIX + entry.name.upper(), "").strip()
            if text:
                given[entry.name] = PARSERS[entry.name](entry.name, text)
        return cls(**given)


def is_enabled(environ: Mapping[str, str]) -> bool:
    """Return whether ``OTEL_TORCH_MODULES_ENABLED`` says ``true``.

    Raises:
        ValueError: it says something else than ``true``, ``false`` or nothing.
    """
    text = environ.get(variables.OTEL_TORCH_MODULES_ENABLED, "").strip()
    return bool(text) and boolean("enabled", text)
