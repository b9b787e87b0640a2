"""Memory: what a recorded call holds until its step is sent, and whether a long run holds more than a short one.

    python benchmarks/memory.py [--steps 10000]

The first figure is what `tracemalloc` sees of a step's record, forward and backward, when the step is over. The second
is what it sees of the whole process after so many traced and exported steps of a small model, against a hundred.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from collector import local_collector
from recorded import record_steps
from toy import Toy, calls, training_step

from otel_torch_modules import Config, TorchModuleInstrumentor, step

_FEW = 100


def bytes_of_a_call() -> float:
    """Return what one more step's record holds, for each of its module calls."""
    blocks, held = 100, []
    for count in (3, 13):
        tracemalloc.start()
        records = record_steps(blocks, count)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        del records
        tracemalloc.stop()
    return (held[1] - held[0]) / 10 / calls(blocks)


def held_after(steps: int) -> tuple[int, int]:
    """Return the traced bytes after `_FEW` steps and after `steps`."""
    train = training_step(Toy(4), torch.randn(2, 4, 8))
    instrumentor = TorchModuleInstrumentor()
    instrumentor.instrument(config=Config())
    few = 0
    for index in range(steps):
        with step(index):
            train()
        if index % _FEW == 0 and instrumentor._tracing is not None:
            instrumentor._tracing._pipeline.flush(60)
        if index == _FEW:
            tracemalloc.start()
            gc.collect()
        if index == 2 * _FEW:
            gc.collect()
            few = tracemalloc.get_traced_memory()[0]
    if instrumentor._tracing is not None:
        instrumentor._tracing._pipeline.flush(60)
    gc.collect()
    many = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    instrumentor.uninstrument()
    return few, many


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=10_000)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    print(f"a recorded module call holds {bytes_of_a_call():.0f} bytes until its step is sent")
    with local_collector() as found:
        if not found:
            sys.exit("no collector: set OTEL_TORCH_MODULES_TEST_BACKENDS to a folder with otelcol")
        few, many = held_after(steps)
    print(f"held of {_FEW} steps: {few / 1e3:.0f} kB, after {steps} steps: {many / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
