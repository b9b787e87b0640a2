"""What a step costs that ``KEEP`` sends with phases only, beside one that is sent with its modules.

    python -m benchmarks.keeping [--rounds 7]

The row of the table is of assembly alone, with the decision and the cut, at 1 000 module calls a step, in steps that
are like one before. Run by itself it trains the demo's GPT and a model of 1 000 calls, exports by gRPC to a local
collector, and prints for each step what was sent, and the processor time of the training thread and of all others:
everything sent, with ``KEEP=slow=1.3,every=100,first=3``, and where no step is slow.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from benchmarks.collector import local_collector
from benchmarks.enough import Enough
from benchmarks.figures import Figure, Row, median, ratio_of_medians, spread
from benchmarks.gpt import demo_step
from benchmarks.machine import old_objects_set_aside, use_one_thread
from benchmarks.recorded import recording_into
from benchmarks.toy import Toy, training_step
from otel_torch_modules import Config, Keep, TorchModuleInstrumentor, step
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._assembly.repeating.known_cuts import KnownCuts
from otel_torch_modules._emission.otlp.request_exporter import RequestExporter
from otel_torch_modules._engine.keeping import Keeping
from otel_torch_modules._records import Record
from otel_torch_modules.schedule import Schedule

_BLOCKS = 166  # 999 module calls
_WARM_UP = 8  # records, until it is known what they have in common
_BAR = 0.1
_HOW = {"all": None, "kept": Keep(slow=1.3, every=100, first=3), "phases": Keep()}


def assembling(enough: Enough) -> list[Row]:
    """Compare assembly with phases only, and with modules."""
    records: list[Record] = []
    train = training_step(Toy(_BLOCKS), torch.randn(2, 4, 8))
    whole, phases, keeping, cuts = (
        Assembler(Config()),
        Assembler(Config()),
        Keeping(Keep(slow=2.0), Schedule()),
        KnownCuts(),
    )

    def send_phases(record: Record) -> None:
        keeping.decide(record)
        record.log = cuts.cut(record.log)
        record.phases_only = True
        phases.assemble(record).release()

    def send_all(record: Record) -> None:
        whole.assemble(record).release()

    in_full: list[float] = []
    in_phases: list[float] = []

    def one_round() -> None:
        with steps.step(None):
            train()
        steps.finish()
        record, log = records[-1], records[-1].log  # to let go of it costs either way the same
        in_full.append(_thread_us(send_all, record))
        in_phases.append(_thread_us(send_phases, record))
        records.clear()
        del log

    with recording_into(records.append) as steps:
        for _ in range(_WARM_UP):
            one_round()
        in_full.clear()
        in_phases.clear()
        with old_objects_set_aside():
            for _ in enough.rounds(lambda: _rows(in_phases, in_full)):
                one_round()
    return _rows(in_phases, in_full)


COMPARISONS = (assembling,)


def _rows(in_phases: Sequence[float], in_full: Sequence[float]) -> list[Row]:
    note = f"{median(in_phases).value:.0f} of {median(in_full).value:.0f} µs"
    what = "assembly of a step with phases only, against one with modules, 1 000 calls"
    return [Row(what, _BAR, "x", ratio_of_medians(in_phases, in_full), note=note)]


def _thread_us(work: Callable[[Record], None], record: Record) -> float:
    start = time.thread_time_ns()
    work(record)
    return (time.thread_time_ns() - start) / 1e3


class _Sent:
    """How many bytes were handed to exporters."""

    count = 0


@contextmanager
def _counting() -> Iterator[_Sent]:
    sent, original = _Sent(), RequestExporter.export_request

    def export_request(self: RequestExporter, request: object) -> object:
        sent.count += len(request.data)  # type: ignore[attr-defined]
        return original(self, request)  # type: ignore[arg-type]

    RequestExporter.export_request = export_request  # type: ignore[method-assign, assignment]
    try:
        yield sent
    finally:
        RequestExporter.export_request = original  # type: ignore[method-assign]


def _measure(
    train: Callable[[], None], keep: Keep | None, steps: int
) -> tuple[float, float, float]:
    """Return kB sent, ms of the training thread and ms of all others, for each step."""
    instrumentor = TorchModuleInstrumentor()
    with _counting() as sent:
        instrumentor.instrument(config=Config(keep=keep))
        for index in range(_WARM_UP):
            with step(index):
                train()
        time.sleep(1.5)  # they have been sent
        before = sent.count
        with old_objects_set_aside():
            process, thread = time.process_time_ns(), time.thread_time_ns()
            for index in range(_WARM_UP, _WARM_UP + steps):
                with step(index):
                    train()
            thread = time.thread_time_ns() - thread
            instrumentor.uninstrument()
            process = time.process_time_ns() - process
    return (
        (sent.count - before) / steps / 1e3,
        thread / steps / 1e6,
        (process - thread) / steps / 1e6,
    )


def _untraced_ms(train: Callable[[], None], steps: int) -> float:
    with old_objects_set_aside():
        start = time.thread_time_ns()
        for _ in range(steps):
            train()
        return (time.thread_time_ns() - start) / steps / 1e6


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    use_one_thread()
    models = {
        "demo GPT": (demo_step(64, 8), 25),
        "1 000 calls": (training_step(Toy(_BLOCKS), torch.randn(2, 4, 8)), 60),
    }
    with local_collector():
        for name, (train, steps) in models.items():
            _untraced_ms(train, 5)
            found: dict[str, list[tuple[float, float, float]]] = {how: [] for how in _HOW}
            added: dict[str, list[float]] = {how: [] for how in _HOW}
            untraced: list[float] = []
            for _ in range(rounds):
                for how, keep in _HOW.items():
                    bare = _untraced_ms(train, steps)
                    measured = _measure(train, keep, steps)
                    untraced.append(bare)
                    found[how].append(measured)
                    added[how].append(measured[1] - bare)
            print(
                f"{name}: a step of {spread(untraced)} ms untraced, {steps} steps a round",
                flush=True,
            )
            for how, figures in found.items():
                sent, _, others = (spread(column) for column in zip(*figures, strict=True))
                _print(how, sent, spread(added[how]), others)


def _print(how: str, sent: Figure, training: Figure, others: Figure) -> None:
    print(f"  {how:<6} kB {sent!s:<26} ms, training's thread {training!s:<26} all others {others}")


if __name__ == "__main__":
    main()
