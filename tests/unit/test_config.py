"""Every option: its default, what it takes from the environment and from the program, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerAction, schedule

from otel_torch_modules import environment_variables
from otel_torch_modules.config import Config, is_enabled
from otel_torch_modules.keep import Keep
from otel_torch_modules.schedule import Schedule

DOCUMENTED = Path(__file__).parents[2] / "docs" / "variables.md"
PREFIX = "OTEL_TORCH_MODULES_"
VARIABLES = {name for name in vars(environment_variables) if name.startswith("OTEL_")}

DEFAULTS = {
    "phases": ("train", "eval"),
    "include": (),
    "exclude": (),
    "max_depth": None,
    "span_kind": "separate",
    "schedule": Schedule(skip_first=0, wait=0, active=1, repeat=0),
    "max_overhead": None,
    "keep": None,
    "max_spans_per_step": 100_000,
    "record_shapes": False,
    "ranks": "all",
    "detail_ranks": "all",
    "data_workers": False,
    "run_id": "",
    "stall_timeout": 60.0,
    "blackbox": "",
    "control": "",
    "causes": ("compile", "gc", "checkpoint", "collective", "loop", "host", "memory"),
    "device_time": "phases",
    "device_every": 16,
    "compiled_marks": (),
    "services": "one",
    "step_name": "train.step",
}

GOOD = [
    ("PHASES", "train", ("train",)),
    ("PHASES", " eval , train ", ("eval", "train")),
    ("INCLUDE", "GPT.h.*,Linear", ("GPT.h.*", "Linear")),
    ("EXCLUDE", "Dropout, ,GPT.ln_?", ("Dropout", "GPT.ln_?")),
    ("COMPILED_MARKS", "*.h.*, *.lm_head", ("*.h.*", "*.lm_head")),
    ("MAX_DEPTH", "3", 3),
    ("MAX_DEPTH", " +1 ", 1),
    ("SPAN_KIND", "internal", "internal"),
    ("SPAN_KIND", "separate", "separate"),
    (
        "SCHEDULE",
        "skip_first=10,wait=99,active=1,repeat=2",
        Schedule(skip_first=10, wait=99, active=1, repeat=2),
    ),
    ("SCHEDULE", "wait = 4", Schedule(wait=4)),
    ("MAX_OVERHEAD", "0.01", 0.01),
    ("MAX_OVERHEAD", " .5 ", 0.5),
    ("MAX_OVERHEAD", "1e-3", 0.001),
    ("MAX_OVERHEAD", "1", 1.0),
    ("MAX_SPANS_PER_STEP", "1", 1),
    ("KEEP", "slow=1.3,every=100,first=3", Keep(slow=1.3, every=100, first=3)),
    ("KEEP", " first = 1 ", Keep(first=1)),
    ("KEEP", "slow=2", Keep(slow=2.0)),
    ("RECORD_SHAPES", "TRUE", True),
    ("RECORD_SHAPES", "false", False),
    ("DATA_WORKERS", "true", True),
    ("RANKS", "0,8-11,*/64", "0,8-11,*/64"),
    ("DETAIL_RANKS", "0", "0"),
    ("RUN_ID", "night-3", "night-3"),
    ("BLACKBOX", "/shared/job 7", "/shared/job 7"),
    ("CONTROL", "/shared/control 7", "/shared/control 7"),
    ("STALL_TIMEOUT", "300", 300.0),
    ("STALL_TIMEOUT", "0", 0.0),
    ("STALL_TIMEOUT", " 0.5 ", 0.5),
    ("DEVICE_TIME", "off", "off"),
    ("DEVICE_TIME", " phases ", "phases"),
    ("DEVICE_TIME", "modules", "modules"),
    ("DEVICE_EVERY", "1", 1),
    ("SERVICES", "one", "one"),
    ("SERVICES", " phases ", "phases"),
    ("SERVICES", "ranks", "ranks"),
    ("STEP_NAME", "train.step {step}", "train.step {step}"),
    ("STEP_NAME", "fine-tuning", "fine-tuning"),
    ("CAUSES", "all", ("compile", "gc", "checkpoint", "collective", "loop", "host", "memory")),
    ("CAUSES", "none", ()),
    ("CAUSES", " loop , gc", ("loop", "gc")),
]

SECONDS = "a number of seconds, 0 for off, as in 60"
FRACTION = "a number above 0 and at most 1, as in 0.01"
INTEGER = "an integer of at least 1"
SCHEDULE = "skip_first=, wait=, active=, repeat= with whole numbers, joined by commas"
KEEP = "slow= with a number above 1, every= and first= with whole numbers, joined by commas"
RANKS = "all, or ranks, ranges and steps joined by commas, as in 0,8,16-23,*/64"
CAUSES = "all, none, or of compile, gc, checkpoint, collective, loop, host, memory with commas"
BAD = [
    ("PHASES", "training", "train, eval, or both with a comma"),
    ("PHASES", "train,test", "train, eval, or both with a comma"),
    ("CAUSES", "modules", CAUSES),
    ("CAUSES", "gc,none", CAUSES),
    ("MAX_DEPTH", "0", INTEGER),
    ("MAX_DEPTH", "-1", INTEGER),
    ("MAX_DEPTH", "2.5", INTEGER),
    ("MAX_DEPTH", "1_000", INTEGER),
    ("MAX_DEPTH", "9" * 5_000, INTEGER),
    ("MAX_OVERHEAD", "0.0", FRACTION),
    ("MAX_OVERHEAD", "1.01", FRACTION),
    ("MAX_OVERHEAD", "-0.5", FRACTION),
    ("MAX_OVERHEAD", "1%", FRACTION),
    ("MAX_OVERHEAD", "0,01", FRACTION),
    ("MAX_OVERHEAD", "nan", FRACTION),
    ("MAX_OVERHEAD", "0." + "1" * 5_000, FRACTION),
    ("SPAN_KIND", "Internal", "separate or internal"),
    ("DEVICE_TIME", "false", "off, phases or modules"),
    ("DEVICE_TIME", "Phases", "off, phases or modules"),
    ("DEVICE_EVERY", "0", INTEGER),
    ("SERVICES", "phase", "one, phases or ranks"),
    ("SERVICES", "Ranks", "one, phases or ranks"),
    ("STEP_NAME", "step {index}", "a text without braces, but for {step}"),
    ("STEP_NAME", "step {", "a text without braces, but for {step}"),
    ("SCHEDULE", "10", SCHEDULE),
    ("SCHEDULE", "wait=1;active=2", SCHEDULE),
    ("SCHEDULE", "warmup=1", SCHEDULE),
    ("SCHEDULE", "wait=", SCHEDULE),
    ("SCHEDULE", "wait=" + "9" * 5_000, SCHEDULE),
    ("SCHEDULE", "active=0", INTEGER),
    ("SCHEDULE", "wait=-1", "an integer of at least 0"),
    ("MAX_SPANS_PER_STEP", "many", INTEGER),
    ("KEEP", "slow", KEEP),
    ("KEEP", "slow=30%", KEEP),
    ("KEEP", "slow=1.3;every=100", KEEP),
    ("KEEP", "fast=0.5", KEEP),
    ("KEEP", "every=1.5", KEEP),
    ("KEEP", "slow=1.0", "a number above 1"),
    ("KEEP", "slow=-2.0", "a number above 1"),
    ("KEEP", "every=-1", "an integer of at least 0"),
    ("RECORD_SHAPES", "1", "true or false"),
    ("RECORD_SHAPES", "yes", "true or false"),
    ("DATA_WORKERS", "all", "true or false"),
    ("RANKS", "none", RANKS),
    ("DETAIL_RANKS", "8-0", RANKS),
    ("STALL_TIMEOUT", "-1.5", SECONDS),
    ("STALL_TIMEOUT", "60s", SECONDS),
    ("STALL_TIMEOUT", "off", SECONDS),
    ("STALL_TIMEOUT", "nan", SECONDS),
]


def refusal(name: str, value: object, allowed: str) -> str:
    return f"^{re.escape(f'{PREFIX}{name}: {value!r} is not allowed; it must be {allowed}')}$"


def test_defaults() -> None:
    assert {entry.name: getattr(Config(), entry.name) for entry in fields(Config)} == DEFAULTS
    assert Config.from_env({}) == Config()


@pytest.mark.parametrize("name", sorted(DEFAULTS))
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_as_good_as_none(name: str, text: str) -> None:
    assert Config.from_env({PREFIX + name.upper(): text}) == Config()


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_variable_sets_its_option_and_no_other(name: str, text: str, value: object) -> None:
    expected: Any = {**DEFAULTS, name.lower(): value}
    assert Config.from_env({PREFIX + name: text, "OTEL_SERVICE_NAME": "x"}) == Config(**expected)


def test_every_variable_is_tried() -> None:
    assert {name.lower() for name, _, _ in GOOD} == set(DEFAULTS)


@pytest.mark.parametrize(("name", "text", "allowed"), BAD)
def test_a_bad_variable_is_an_error_that_names_it_and_what_is_allowed(
    name: str, text: str, allowed: str
) -> None:
    value = int(text) if text in ("0", "-1") else text
    with pytest.raises(ValueError, match=refusal(name, value, allowed)):
        Config.from_env({PREFIX + name: text})


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("phases", "train", "a tuple of strings"),
        ("include", ["Linear"], "a tuple of strings"),
        ("exclude", (1,), "a tuple of strings"),
        ("max_depth", 1.0, INTEGER),
        ("max_depth", True, INTEGER),
        ("max_overhead", 0, FRACTION),
        ("max_overhead", 1.5, FRACTION),
        ("max_overhead", True, FRACTION),
        ("max_overhead", "0.01", FRACTION),
        ("max_overhead", float("nan"), FRACTION),
        ("max_spans_per_step", None, INTEGER),
        ("span_kind", None, "separate or internal"),
        ("schedule", "wait=1", "a Schedule"),
        ("keep", "slow=2", "a Keep"),
        ("record_shapes", 1, "true or false"),
        ("data_workers", 1, "true or false"),
        ("ranks", 0, RANKS),
        ("run_id", 7, "a string"),
    ],
)
def test_a_bad_value_of_the_program_is_the_same_error(
    option: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ValueError, match=refusal(option.upper(), value, allowed)):
        Config(**{option: value})


class Odd:
    """Neither shown nor compared."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError


ODD = {
    "unlike anything": Odd(),
    "bytes": b"all",
    "array": np.array([1, 2]),
    "tensor": torch.tensor([1, 2]),
    "number": np.float64("nan"),
    "very large": 10**5_000,
    "list": ["train"],
    "surrogate": "\ud800",
    "class": Config,
    "nothing": None,
}
CLASSES = {"": Config, "schedule": Schedule, "keep": Keep}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    ("variable", "cls", "option"),
    [
        (variable or entry.name, cls, entry.name)
        for variable, cls in CLASSES.items()
        for entry in fields(cls)  # type: ignore[arg-type]
    ],
)
def test_anything_at_all_is_an_option_or_an_error_that_names_it(
    variable: str, cls: Any, option: str, value: Any
) -> None:
    refused = rf"{PREFIX}{variable.upper()}: .+ is not allowed; it must be .+"
    message = ""
    try:
        cls(**{option: value})
    except ValueError as error:
        message = str(error)
    assert re.fullmatch(rf"|{refused}", message, re.DOTALL)


def test_a_name_of_steps_has_no_character_that_cannot_be_sent() -> None:
    assert Config(step_name="step \udce9").step_name == "step \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(Odd(), "what is of type Odd"), (-(10**5_000), "an integer of 16610 bits")],
    ids=["raises", "has too many digits"],
)
def test_what_cannot_be_shown_is_named(value: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"MAX_DEPTH: {shown} is not allowed"):
        Config(max_depth=value)


def test_the_files_of_ranks_are_in_folders_of_their_own() -> None:
    with pytest.raises(
        ValueError, match=refusal("CONTROL", "/a/b", "another folder than that of the black box")
    ):
        Config(control="/a/b", blackbox="/a/./b/")


def test_no_phase_at_all_is_refused() -> None:
    with pytest.raises(
        ValueError, match=refusal("PHASES", "", "train, eval, or both with a comma")
    ):
        Config(phases=())


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        (None, False),
        ("", False),
        (" ", False),
        ("true", True),
        (" True ", True),
        ("FALSE", False),
    ],
)
def test_enabled(text: str | None, enabled: bool) -> None:
    environ = {} if text is None else {"OTEL_TORCH_MODULES_ENABLED": text}
    assert is_enabled(environ) is enabled


@given(st.text().filter(lambda text: text.strip().lower() not in ("", "true", "false")))
def test_enabled_is_true_or_false_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match=refusal("ENABLED", text.strip(), "true or false")):
        is_enabled({"OTEL_TORCH_MODULES_ENABLED": text})


@given(
    st.dictionaries(
        st.sampled_from(sorted(DEFAULTS)), st.text(max_size=20) | st.integers().map(str)
    )
)
def test_any_text_is_a_configuration_or_an_error_that_names_its_variable(
    texts: dict[str, str],
) -> None:
    environ = {PREFIX + name.upper(): text for name, text in texts.items()}
    message = ""
    try:
        Config.from_env(environ)
    except ValueError as error:
        message = str(error)
    named = "|".join(environ)
    assert re.fullmatch(rf"|({named}): .+ is not allowed; it must be .+", message, re.DOTALL)


@pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")
@given(
    st.integers(0, 60),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 5),
    st.integers(0, 4),
)
def test_a_schedule_means_what_it_means_to_the_profiler(
    step: int, skip_first: int, wait: int, active: int, repeat: int
) -> None:
    words = {"skip_first": skip_first, "wait": wait, "active": active, "repeat": repeat}
    action = schedule(warmup=0, **words)(step)
    recorded = action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
    assert Schedule(**words).records(step) is recorded


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5))
def test_a_schedule_counts_the_steps_that_it_records(
    skip_first: int, wait: int, active: int
) -> None:
    schedule = Schedule(skip_first=skip_first, wait=wait, active=active)
    recorded = [
        step for step in range(skip_first + 100 * (wait + active)) if schedule.records(step)
    ]
    assert [schedule.recorded_before(step) for step in recorded] == list(range(len(recorded)))
    assert len(recorded) == round(schedule.share * 100 * (wait + active))


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ({}, ["GPT", "GPT.h.0", "GPT.h.0.mlp", "GPT.h.10.mlp"]),
        ({"include": ("GPT.h.*",)}, ["GPT.h.0", "GPT.h.0.mlp", "GPT.h.10.mlp"]),
        ({"include": ("GPT.h.?",)}, ["GPT.h.0"]),
        ({"include": ("MLP", "GPT")}, ["GPT", "GPT.h.0.mlp", "GPT.h.10.mlp"]),
        ({"include": ("mlp",)}, []),
        ({"exclude": ("M*",)}, ["GPT", "GPT.h.0"]),
        ({"include": ("MLP",), "exclude": ("GPT.h.1*",)}, ["GPT.h.0.mlp"]),
        ({"include": ("GPT.h.[0-4]*",), "exclude": ("*.mlp",)}, ["GPT.h.0"]),
    ],
)
def test_include_and_exclude(options: Any, recorded: list[str]) -> None:
    classes = {"GPT": "GPT", "GPT.h.0": "Block", "GPT.h.0.mlp": "MLP", "GPT.h.10.mlp": "MLP"}
    config = Config(**options)
    assert [fqn for fqn, name in classes.items() if config.records_module(fqn, name)] == recorded


def test_every_variable_is_an_option_or_read_elsewhere() -> None:
    elsewhere = {"ENABLED", "FILE"}
    options = {entry.name.upper() for entry in fields(Config)}
    assert {PREFIX + name for name in options | elsewhere} == VARIABLES
    assert all(getattr(environment_variables, name) == name for name in VARIABLES)


def test_every_variable_has_a_docstring_and_a_row_in_the_table() -> None:
    source = Path(environment_variables.__file__ or "").read_text()
    documented = re.findall(r'^(OTEL_\w+): Final = "\1"\n"""\S', source, re.MULTILINE)
    rows = re.findall(rf"^\| `({PREFIX}\w+)` \|", DOCUMENTED.read_text(), re.MULTILINE)
    assert documented == sorted(set(documented), key=documented.index)
    assert set(documented) == VARIABLES
    assert sorted(rows) == sorted(VARIABLES)
