"""The demo trained for long, with all that a real job does beside: does it hold more, the longer it runs?

    python -m benchmarks.soak [--minutes 30]

Steps are found from the optimizer and exported to a local collector. Each epoch makes a new iterator of a
`DataLoader` with two workers, evaluates the model and saves a checkpoint. After each epoch, when nothing is open and
the loader's threads are over, memory, threads and file descriptors of the process are sampled. After the first
quarter of the time, which is for warming up, they have to be flat: the same threads and descriptors in each sample,
and no more memory in the last third of the samples than in the first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.collector import Sink, local_collector
from benchmarks.machine import describe, use_one_thread
from otel_torch_modules import Config, TorchModuleInstrumentor
from otel_torch_modules.examples import train_gpt

_WIDTH = 64
_BATCH_SIZE = 8
_STEPS = 20  # of an epoch
_EVALUATIONS = 4  # batches of an epoch
_WORKERS = 2
_LINES = 20  # of the printed table
_MORE_MEMORY = 0.02
_ENDING_S = 5.0


@dataclass(frozen=True)
class Sample:
    """What the process holds."""

    seconds: float
    steps: int
    spans: int
    memory: int
    threads: int
    descriptors: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:>8.0f}{self.steps:>10}{self.spans:>12}{self.memory / 1e6:>12.1f}"
            f"{self.threads:>10}{self.descriptors:>14}"
        )


class Job:
    """The training job: its model, its optimizer and its data."""

    def __init__(self, folder: Path) -> None:
        self._accumulation = train_gpt.ACCUMULATION
        self._model = train_gpt.GPT(_WIDTH)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-3)
        text = train_gpt.standard_library_text(200_000)
        self._training = train_gpt.Excerpts(text, _STEPS * self._accumulation * _BATCH_SIZE, 0)
        self._evaluation = train_gpt.Excerpts(text, _EVALUATIONS * _BATCH_SIZE, 1)
        self._checkpoint = folder / "checkpoint.pt"

    def epoch(self) -> None:
        """Train, evaluate, and save."""
        batches = iter(
            DataLoader(self._training, batch_size=_BATCH_SIZE, num_workers=_WORKERS, shuffle=True)
        )
        self._model.train()
        for _ in range(_STEPS):
            for _ in range(self._accumulation):
                (self._loss(*next(batches)) / self._accumulation).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
        self._model.eval()
        with torch.no_grad():
            for tokens, targets in DataLoader(self._evaluation, batch_size=_BATCH_SIZE):
                self._loss(tokens, targets)
        torch.save(
            {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()},
            self._checkpoint,
        )

    def _loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self._model(tokens)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def samples(job: Job, sink: Sink, seconds: float) -> Iterator[Sample]:
    """Train for so long; yield a sample after each epoch."""
    process, started, epochs = psutil.Process(), time.monotonic(), 0
    while (now := time.monotonic() - started) < seconds or epochs < 2:
        before = process.num_threads()
        job.epoch()
        epochs += 1
        _wait_for_threads(process, before)
        yield Sample(
            now,
            epochs * _STEPS,
            sink.accepted(),
            process.memory_info().rss,
            process.num_threads(),
            process.num_fds(),
        )


def _wait_for_threads(process: psutil.Process, most: int) -> None:
    """Wait until there are no more than `most` threads; give up after a while, for then they stay.

    A loader's iterator closes the queues to its workers and waits for these, but not for the threads that write to the
    queues (``multiprocessing.Queue.cancel_join_thread``): on a busy machine they end a moment later.
    """
    deadline = time.monotonic() + _ENDING_S
    while process.num_threads() > most and time.monotonic() < deadline:
        time.sleep(0.01)


def growth(found: list[Sample]) -> list[str]:
    """Return what is not flat, in words."""
    warm = found[len(found) // 4 :]
    third = max(1, len(warm) // 3)
    early, late = (
        statistics.median(sample.memory for sample in part)
        for part in (warm[:third], warm[-third:])
    )
    grown = []
    if late > early * (1 + _MORE_MEMORY):
        grown.append(f"memory has grown from {early / 1e6:.1f} to {late / 1e6:.1f} MB")
    for name in ("threads", "descriptors"):
        counts = {getattr(sample, name) for sample in warm}
        if len(counts) > 1:
            grown.append(f"{name} went from {min(counts)} to {max(counts)}")
    if found[-1].spans <= found[0].spans:
        grown.append("no spans arrived")
    return grown


def main() -> None:
    """Train, print some of the samples, and end with 1 where something is not flat."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    seconds = parser.parse_args().minutes * 60
    use_one_thread()
    print(describe())
    print(
        f"{'seconds':>8}{'steps':>10}{'spans':>12}{'memory, MB':>12}{'threads':>10}{'descriptors':>14}"
    )
    found: list[Sample] = []
    printed = 0
    with local_collector() as sink, tempfile.TemporaryDirectory() as folder:
        TorchModuleInstrumentor().instrument(config=Config())
        for sample in samples(Job(Path(folder)), sink, seconds):
            found.append(sample)
            if sample.seconds >= seconds / _LINES * printed:
                printed += 1
                print(sample, flush=True)
        TorchModuleInstrumentor().uninstrument()
    grown = growth(found)
    print("flat" if not grown else "\n".join(grown))
    sys.exit(bool(grown))


if __name__ == "__main__":
    main()
