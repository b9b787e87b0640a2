"""A step that is cut down to its phases afterwards has the spans of one that was recorded with phases only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import Config
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._engine.phases import cut_to_phases
from otel_torch_modules._records import DATA, NOTE, SPAN_ID, WIDTH, Event, Record
from otel_torch_modules.testing import capture_spans


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


@pytest.mark.parametrize("tag", [SPAN_ID, NOTE])
def test_what_the_program_said_inside_a_module_keeps_the_module(tag: Event) -> None:
    log = [slot for each in (DATA, tag, DATA) for slot in (each, 0, 0, 0, None)]
    assert len(log) == 3 * WIDTH
    assert cut_to_phases(log) is log
