"""An event is declared once: what reads, compares, lays out and cuts logs down knows it by its declaration."""

from __future__ import annotations

from typing import Any

import pytest

from otel_torch_modules import _events
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._assembly.reading.declared import SHOWN
from otel_torch_modules._assembly.reading.tree import RULES
from otel_torch_modules._engine.phases import cut_to_phases
from otel_torch_modules._events import CALL, WIDTH, Event, Slot
from otel_torch_modules._records import Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import Happening, Span
from otel_torch_modules.config import Config
from tests.support.logs import (
    BEGAN,
    ENDED,
    FREQUENT,
    LASTED,
    STRUCK,
    Module,
    Program,
)
from tests.unit.assembly.repeating.test_repeats import CHILD, ROOT, Reading, tree_of

DECLARED = [event for event in vars(_events).values() if isinstance(event, Event)]


def record(at: int) -> Record:
    """A step in whose child something happens that no room has heard of."""
    program = Program(10 * at)
    program.time = 1000 * at
    program.forward(Module(ROOT, [Module(CHILD, happens=True)]))
    return program.finished()


def said(span: Span) -> tuple[Any, ...]:
    attributes = {
        name: value
        for name, value in span.all_attributes.items()
        if "module" not in name and name != "torch.self_time"
    }
    return span.name, span.start, span.end, attributes, span.points, list(map(said, span.children))


@pytest.mark.parametrize("repeated", [False, True])
def test_an_event_that_only_its_declaration_tells_of_is_shown_whole(repeated: bool) -> None:
    assembler = Assembler(Config()) if repeated else Reading(Config())
    trees = [assembler.assemble(record(at)) for at in range(4)]
    assert isinstance(trees[3], SpanColumns) is repeated
    (_, *_, (root,)) = said(tree_of(trees[3]))
    (*_, (child,)) = root
    assert child == (
        "forward child",
        3002,
        3010,
        {"torch.phase": "forward"} | {"code.function.name": ""},
        None,
        [
            (
                "lasted it",
                3003,
                3004,
                {"torch.phase": "test", "test.what": "it", "test.share": 3003 / 7},
                None,
                [],
            ),
            (
                "inside",
                3005,
                3009,
                {"torch.phase": "test", "test.label": "at 3009"},
                [
                    Happening(
                        "struck",
                        3006,
                        {"test.size": 3006, "test.label": "a", "test.what": "him"},
                    )
                ],
                [("frequent", 3007, 3008, {"torch.phase": "test"}, None, [])],
            ),
        ],
    )


def test_what_is_frequent_goes_with_the_modules_and_all_else_stays() -> None:
    tags = cut_to_phases(record(0).log)[::WIDTH]
    assert tags == [ROOT, LASTED, BEGAN, STRUCK, ENDED, _events.EXIT]
    assert FREQUENT in record(0).log


@pytest.mark.parametrize("event", DECLARED)
def test_what_is_declared_is_read(event: Event) -> None:
    assert (event is CALL) + (event in RULES) + (type(event) in SHOWN) == 1


def test_a_step_with_an_id_in_it_is_never_taken_for_one_before() -> None:
    with pytest.raises(ValueError, match="'unique': a step with an id in it is like no other"):
        Event("unique", Slot.ID)
