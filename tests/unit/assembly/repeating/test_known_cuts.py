"""A log like one before it is cut as one that is read."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_torch_modules._assembly.repeating import known_cuts
from otel_torch_modules._assembly.repeating.known_cuts import KnownCuts
from otel_torch_modules._engine.phases import cut_to_phases, places_of_phases
from otel_torch_modules._events import EXIT, MARK, NOTE, TASK, TASK_END, WIDTH
from otel_torch_modules._site import Site
from tests.support.examples import examples
from tests.support.logs import Module, Program, any_logs, modules

ROOT, OTHER, BELOW = Site("Root", "Root"), Site("Other", "Other"), Site("Root.m", "Module")


def run(micro_batches: list[Module], together: bool, number: int, ticks: list[int]) -> list[Any]:
    program = Program(number, cycle(ticks))
    program.fetch()
    program.forwards_and_backwards(micro_batches, together=together)
    program.optimize()
    return program.finished().log


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the logs that were read."""
    lengths: list[int] = []

    def reading(log: list[Any]) -> list[int]:
        lengths.append(len(log))
        return places_of_phases(log)

    monkeypatch.setattr(known_cuts, "places_of_phases", reading)
    return lengths


STEPS = st.lists(st.tuples(st.lists(modules(), min_size=1, max_size=2), st.booleans()), max_size=3)


@settings(max_examples=examples(100))
@given(STEPS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1_000)), max_size=8))
def test_it_is_the_cut_of_a_log_that_is_read(
    kinds: list[tuple[list[Module], bool]], order: list[tuple[int, int]]
) -> None:
    cuts = KnownCuts()
    for kind, number in order:
        if kind < len(kinds):
            log = run(*kinds[kind], number, [1 + number % 7, 2])
            assert cuts.cut(log) == cut_to_phases(log)


@given(st.lists(any_logs().map(lambda log: log[: len(log) // WIDTH * WIDTH]), max_size=4))
def test_so_it_is_of_any_log(logs: list[list[Any]]) -> None:
    cuts = KnownCuts()
    for log in (*logs, *logs):
        assert cuts.cut(log) == cut_to_phases(log)


def log_of(*events: tuple[Any, ...]) -> list[Any]:
    return [slot for event in events for slot in event]


def forward(root: Site, begin: int, below: int, end: int) -> tuple[tuple[Any, ...], ...]:
    return (
        (root, 0, begin, begin, True),
        (BELOW, 0, below, begin, True),
        (EXIT, 0, end, end, None),
        (EXIT, 0, end, end, None),
    )


def step(*marks: int, number: int = 0, root: Site = ROOT, said: object = None) -> list[Any]:
    """Two root calls, of the numbers 0 to 10 and 10 to 20 counted from `number`, and a backward."""
    return log_of(
        *forward(root, number, number + 2, number + 10),
        *forward(OTHER, number + 10, number + 12, number + 20),
        (TASK, 0, 0, 30, 0),
        *((MARK, 0, number + mark, 40 + place, 0) for place, mark in enumerate(marks)),
        (TASK_END, 0, 0, 60, None),
        (TASK_END, 0, 0, 60, said),
    )


def test_of_steps_that_do_the_same_one_is_read(read: list[int]) -> None:
    cuts = KnownCuts()
    for number in range(0, 1_000, 100):
        log = step(19, 15, 12, 8, 5, 1, number=number, said=True)
        assert cuts.cut(log) == cut_to_phases(log)
    assert read == [len(log)]


@pytest.mark.parametrize(
    "other",
    [
        step(19, 15, 12, 11, 5, 1),  # backward comes later to the first root
        step(19, 15, 12, 8, 5, 1, root=Site("Root", "Root")),
        step(19, 15, 12, 8, 5, 1, said=False),
        step(19, 15, 12, 8, 5),
        [*step(19, 15, 12, 8, 5, 1), *log_of((NOTE, 0, "end", 70, ()))],
    ],
)
def test_one_that_does_something_else_is_read(other: list[Any], read: list[int]) -> None:
    cuts = KnownCuts()
    first = step(19, 15, 12, 8, 5, 1)
    cuts.cut(first)
    assert cuts.cut(other) == cut_to_phases(other)
    assert read == [len(first), len(other)]
    assert cuts.cut(first) == cut_to_phases(first)


def test_few_are_known(read: list[int]) -> None:
    cuts = KnownCuts()
    logs = [step(*range(19, 19 - count, -1)) for count in range(1, 12)]
    for log in (*logs, *logs):
        cuts.cut(log)
    assert len(read) == 2 * len(logs)
    cuts.cut(logs[-1])
    assert len(read) == 2 * len(logs)
