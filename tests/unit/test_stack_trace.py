"""Stack traces are what Python prints, but for the marks below the parts of lines."""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Callable

import pytest

from otel_torch_modules._stack_trace import stack_trace


class OddError(Exception):
    """Has no text that could be had."""

    def __str__(self) -> str:
        raise ValueError("no")


def plain() -> None:
    int("x")


def chained() -> None:
    try:
        plain()
    except ValueError as error:
        raise LookupError("nothing here") from error


def in_a_handler() -> None:
    try:
        chained()
    except LookupError:
        raise KeyError("another") from None


def while_handled() -> None:
    try:
        chained()
    except LookupError:
        {}["missing"]


def deep(left: int = 300) -> None:
    if left:
        deep(left - 1)
    raise RuntimeError


def noted() -> None:
    error = OddError()
    if hasattr(error, "add_note"):  # new in Python 3.11
        error.add_note("a note")
        error.add_note("on two\nlines")
    raise error


def generated() -> None:
    exec(compile("def f():\n    raise ValueError('no source')\nf()", "<generated>", "exec"))


def circular() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    raise first


def grouped() -> None:
    kind = getattr(builtins, "ExceptionGroup", None) or type("NoGroup", (Exception,), {})
    raise kind("several", [ValueError("one"), TypeError("two")])


@pytest.mark.parametrize(
    "fails",
    [plain, chained, in_a_handler, while_handled, deep, noted, generated, circular, grouped],
    ids=lambda fails: fails.__name__,
)
def test_it_is_what_python_prints_without_marks(fails: Callable[[], None]) -> None:
    try:
        fails()
    except Exception as error:
        printed, ours = traceback.format_exception(error), stack_trace(error)
    lines = "".join(printed).splitlines()
    assert ours.splitlines() == [line for line in lines if not line.strip() or line.strip(" ^~")]
