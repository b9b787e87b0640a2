"""A step that is cut down to its phases afterwards has the spans of one that was recorded with phases only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import Config, semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._assembly.reading.call import CALL_INDEX
from otel_torch_modules._engine.phases import cut_to_phases
from otel_torch_modules._events import EXIT, NOTE, SPAN_ID, WIDTH
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules._spans.span import Span
from otel_torch_modules.testing import capture_spans
from tests.support.examples import examples
from tests.support.logs import THREAD, Module, Program, modules

ROOT, BELOW = Site("Root", "Root"), Site("Root.m", "Module")


class Block(nn.Module):
    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return self.second(self.first(x))  # type: ignore[no-any-return]
        hidden: Tensor = checkpoint(self.first, x, use_reentrant=self.reentrant)
        return self.second(hidden)  # type: ignore[no-any-return]


def plain() -> None:
    model = nn.Sequential(Block(), nn.ReLU(), Block())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for _ in range(2):  # micro-batches
            nn.MSELoss()(model(torch.randn(2, 4)), torch.zeros(2, 4)).backward()
        optimizer.step()


def checkpointed(reentrant: bool) -> None:
    model = Block(reentrant)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(torch.randn(2, 4, requires_grad=True)).sum().backward()
        optimizer.step()


def adversarial() -> None:
    makes, judges = Block(), nn.Sequential(Block(), nn.Sigmoid())
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (judges, makes)]
    for _ in range(2):
        made = makes(torch.randn(2, 4))
        judges(made.detach()).sum().backward()
        optimizers[0].step()
        judges(made).sum().backward()
        optimizers[1].step()


def closure() -> None:
    model = Block()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found: Tensor = model(torch.ones(2, 4)).square().sum()
        found.backward()
        return found

    for _ in range(2):
        optimizer.step(loss)  # type: ignore[arg-type]


def broken_off() -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    model = nn.Sequential(Block(), Raises())
    with pytest.raises(ValueError, match="no"):
        model(torch.randn(2, 4))
    checkpointed(False)


def evaluated() -> None:
    plain()
    with torch.no_grad():
        Block().eval()(torch.randn(2, 4))


LOOPS: list[Callable[[], None]] = [
    plain,
    lambda: checkpointed(False),
    lambda: checkpointed(True),
    adversarial,
    closure,
    broken_off,
    evaluated,
]


@pytest.mark.parametrize("loop", range(len(LOOPS)))
def test_it_is_what_a_record_of_phases_only_has(loop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def outline(config: Config) -> str:
        torch.manual_seed(0)
        with capture_spans(config) as captured:
            LOOPS[loop]()
        return captured.outline()

    expected = outline(Config(detail_ranks="1-7"))
    assemble = Assembler.assemble
    sizes: list[tuple[int, int]] = []

    def of_phases(self: Assembler, record: Record) -> object:
        before = len(record.log)
        record.log = cut_to_phases(record.log)
        sizes.append((len(record.log), before))
        return assemble(self, record)

    monkeypatch.setattr(Assembler, "assemble", of_phases)
    assert outline(Config()) == expected
    assert any(after < before for after, before in sizes)
    assert all(after <= before for after, before in sizes)


class Speaking(Program):
    """A program that asks for its span, or says something of it, where something happens."""

    def happen(self) -> None:
        self.log.extend((SPAN_ID, THREAD, 1_000 + self.tick(), self.time, None))
        self.log.extend((NOTE, THREAD, "update_name", self.tick(), ("said",)))


def without_checkpoints(module: Module) -> Module:
    below = [without_checkpoints(child) for child in module.children]
    return replace(module, children=below, checkpointed=False)


def run(micro_batches: list[Module], together: bool) -> Record:
    program = Speaking()
    made = []
    for module in micro_batches:
        made.append(program.forward(without_checkpoints(module)))
        if not together:
            program.backward(made[-1])
    if together:
        program.backward(*made)
    program.happen()
    return program.finished()


def before(span: Span, above: Span) -> list[Span]:
    """Return the earlier calls of the same module by the same caller."""
    calls = [other for other in above.children if other.attributes is span.attributes]
    return calls[: calls.index(span)]


def spoken_of(root: Span) -> list[tuple[object, ...]]:
    """Return the spans that a step of phases has, and those of which the program has spoken, with all above."""
    stays: set[int] = set()
    for span in root.walk():
        above = span if span.span_id else None
        while above is not None:
            stays.add(id(above))
            if above.parent is not None and semconv.MODULE_FQN in above.parent.attributes:
                stays.update(map(id, before(above, above.parent)))
            above = above.parent
    return [
        (
            span.name,
            span.start,
            span.end,
            span.span_id,
            span.parent and span.parent.name,
            span.notes,
            span.said.get(CALL_INDEX),
        )
        for span in root.walk()
        if {id(span), id(span.link)} & stays
        or semconv.MODULE_FQN not in span.attributes
        or span.attributes[semconv.MODULE_FQN] == "Root"
    ]


@settings(max_examples=examples(200))
@given(st.lists(modules(), min_size=1, max_size=3), st.booleans())
def test_modules_that_the_program_has_spoken_of_stay_with_those_around_them(
    micro_batches: list[Module], together: bool
) -> None:
    whole = run(micro_batches, together)
    cut = replace(whole, log=cut_to_phases(whole.log))
    expected = spoken_of(Assembler(Config()).assemble(whole))  # type: ignore[arg-type]
    assert spoken_of(Assembler(Config()).assemble(cut)) == expected  # type: ignore[arg-type]
    assert len(list(Assembler(Config()).assemble(cut).walk())) == len(expected)  # type: ignore[union-attr]


def test_what_is_said_of_the_step_keeps_no_module() -> None:
    events = [(ROOT, 0, 0, 0, True), (BELOW, 0, 0, 1, True), (EXIT, 0, 2, 2, None)]
    events += [(EXIT, 0, 3, 3, None), (NOTE, 0, "update_name", 4, ("said",))]
    kept = cut_to_phases([slot for event in events for slot in event])
    assert kept[::WIDTH] == [ROOT, EXIT, NOTE]


def test_the_end_of_a_call_that_was_open_before_is_left_out() -> None:
    events = [(EXIT, 0, 0, 0, None), (ROOT, 0, 0, 1, True), (BELOW, 0, 0, 2, True)]
    events += [(EXIT, 0, 2, 3, None), (EXIT, 0, 3, 4, None)]
    kept = cut_to_phases([slot for event in events for slot in event])
    assert kept[3::WIDTH] == [1, 4]
