"""A model that was compiled as one is told of, and nothing else is."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from otel_torch_modules._diagnosis.compiled import compiled_as_one
from otel_torch_modules._shape import Shape, Site
from otel_torch_modules._trace import Span, Trace


def site(phase: str, fqn: str | None, modules: object = None) -> Site:
    about: dict[str, Any] = {"torch.phase": phase}
    if fqn is not None:
        about["torch.module.fqn"] = fqn
    if modules is not None:
        about |= {"torch.compiled": True, "torch.compiled.modules": modules}
    return Site(phase, about)


def step(*spans: tuple[int, Site]) -> Span:
    """Return a step with these spans, each below the one with this number; the step's is 0."""
    sites = (site("step", None), *(of for _, of in spans))
    parents = (-1, *(parent for parent, _ in spans))
    numbers = array("Q", range(1, len(sites) + 1))
    processes = ("",) * len(sites)
    trace = Trace(
        "0f", Shape(sites, parents), numbers, numbers, numbers, numbers, processes, {}, {}
    )
    return Span(trace, 0)


def hint(fqn: str, modules: int) -> str:
    return f"{fqn} is compiled: one span for {modules} modules; compile its blocks one by one to see them."


WHOLE = site("forward", "GPT", 36)
BACKWARD = site("backward", "GPT", 36)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, WHOLE), (0, BACKWARD)], hint("GPT", 36)),
        ([(0, site("forward", "Lit")), (1, site("forward", "Lit.model", 8))], hint("Lit.model", 8)),
        # The worst of several, and below a rank.
        ([(0, site("forward", "Critic", 9)), (0, WHOLE)], hint("GPT", 36)),
        ([(0, site("rank", None)), (1, WHOLE)], hint("GPT", 36)),
        # What a compilation or the program itself has put below it are no modules.
        ([(0, WHOLE), (1, site("compile", None))], hint("GPT", 36)),
        # Nothing is compiled, or what is is a block, small, or seen through graph breaks.
        ([(0, site("forward", "GPT"))], None),
        ([(0, site("forward", "GPT")), (1, site("forward", "GPT.h.0", 9))], None),
        ([(0, site("forward", "Net", 7))], None),
        ([(0, WHOLE), (1, site("forward", "GPT.h.0"))], None),
        # Who wrote it may have put anything there.
        ([(0, site("forward", "GPT", "36"))], None),
        ([(0, site("forward", None, 36))], None),
        ([], None),
    ],
)
def test_compiled_as_one(spans: list[tuple[int, Site]], expected: str | None) -> None:
    assert compiled_as_one(step(*spans)) == expected
