"""What a module recomputes that is called more often in a step than anybody would look through."""

from __future__ import annotations

from typing import Any

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._site import Site
from otel_torch_modules._spans.span import Span
from otel_torch_modules.config import Config
from tests.support.logs import Module, Program

ROOT, CELL, INNER = (Site(name, "Module") for name in ("Root", "Root.cell", "Root.cell.inner"))
STEPS = 200  # of a loop in the model


def unrolled(cell: Module, times: int) -> Span:
    """Return the tree of a step whose model calls `cell` again and again."""
    program = Program()
    program.backward(program.forward(Module(ROOT, [cell] * times)))
    return Assembler(Config()).assemble(program.finished())


def index(span: Span) -> Any:
    return span.all_attributes.get(semconv.MODULE_CALL_INDEX, 0)


CHECKPOINTED = {
    "a cell": Module(CELL, [], checkpointed=True),
    "a cell with a part": Module(CELL, [Module(INNER)], checkpointed=True),
    "a part of a cell": Module(CELL, [Module(INNER, checkpointed=True)]),
    "a cell in a cell": Module(CELL, [Module(CELL, checkpointed=True), Module(CELL)]),
}


@pytest.mark.parametrize("times", [3, STEPS])
@pytest.mark.parametrize("cell", CHECKPOINTED.values(), ids=CHECKPOINTED)
def test_each_recompute_hangs_below_the_backward_of_what_it_repeats(
    cell: Module, times: int
) -> None:
    recomputes = [
        span
        for span in unrolled(cell, times).walk()
        if span.phase == semconv.PHASE_RECOMPUTE
        and span.parent is not None
        and span.parent.phase == semconv.PHASE_BACKWARD
    ]
    assert len(recomputes) == times
    for span in recomputes:
        parent = span.parent
        assert parent is not None
        assert parent.name.partition(" ")[2] == span.name.partition(" ")[2]
        assert index(parent) == index(span)
