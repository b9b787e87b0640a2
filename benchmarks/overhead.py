"""What a module call costs the training thread where nothing is exported, beside other tools.

    python -m benchmarks.overhead [--quick]

The model is the worst for a tracer: modules that do next to nothing. Measured as `interleaved.py` says, in
microseconds per module call on top of no tracing; forward and backward together, then forwards under `no_grad`.

Ours is compared with a few others at a time: after a tool that fills memory or takes ten times as long, nothing is
what it was for a while, and what costs a microsecond would drown in that.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import torch

from benchmarks import contenders
from benchmarks.contenders import Contender
from benchmarks.enough import Enough
from benchmarks.figures import Figure, Row, median, ratio_of_medians
from benchmarks.interleaved import Paired, Size, compare, untraced_ns
from benchmarks.machine import keep_freed_memory, use_one_thread
from benchmarks.part import asked_for
from benchmarks.toy import Toy, calls, inference, training_step

_OURS = "ours, recording"
_HOOKS = {"empty global hooks": contenders.empty_hooks}
_PROFILERS = {
    "torch.profiler, collecting": contenders.torch_profiler,
    "torch.profiler, collecting into new memory": contenders.torch_profiler_going_on,
}
_OF_MODULES = {"torch.profiler, collecting modules too": contenders.torch_profiler_of_modules}
_TRACKERS = {
    "ModTracker": contenders.mod_tracker,
    "ModTracker + SDK spans": contenders.tracked_spans,
}
_BARS = {
    "torch.profiler, collecting": 0.8,
    "torch.profiler, collecting into new memory": 0.8,
    "ModTracker": 0.25,
    "ModTracker + SDK spans": 0.10,
    "empty global hooks": 3.5,
}
_INFERENCE_BAR = 1.8
_BLOCK = Size(warm_up=6, timed=6)
_BLOCKS = {
    **dict.fromkeys(_TRACKERS, Size(warm_up=2, timed=3)),  # such a step takes ten times as long
    **dict.fromkeys(_PROFILERS, Size(warm_up=4, timed=6)),  # to end takes as long as all steps
}

Overheads = dict[str, list[float]]


def training_overheads(others: Mapping[str, Contender], enough: Enough) -> Overheads:
    """Return microseconds per module call, forward and backward, once a round, of ours and of `others`."""
    keep_freed_memory()
    compared = {_OURS: contenders.recording, **others}
    train = training_step(Toy(), torch.randn(2, 4, 8))
    rounds = enough.until_known(lambda found: _training_rows(per_call(found)))
    return per_call(compare(compared, train, rounds, _BLOCK, _BLOCKS))


def inference_overheads(enough: Enough) -> Overheads:
    """Return microseconds per module call of a forward under ``no_grad``, once a round."""
    compared = {_OURS: contenders.recording_inference, **_HOOKS}
    forward = inference(Toy().eval(), torch.randn(2, 4, 8))
    rounds = enough.until_known(lambda found: _inference_rows(per_call(found)))
    return per_call(compare(compared, forward, rounds, _BLOCK))


def per_call(found: Mapping[str, Sequence[Paired]]) -> Overheads:
    """Return the overheads of steps of the toy model as microseconds for each of its module calls."""
    untraced = untraced_ns(pair for pairs in found.values() for pair in pairs)
    return {
        name: [pair.overhead(untraced) / calls() / 1e3 for pair in pairs]
        for name, pairs in found.items()
    }


def against(ours: str, overheads: Overheads) -> dict[str, Figure]:
    """Return how many times the overhead of each other one that of `ours` is."""
    return {
        name: ratio_of_medians(overheads[ours], values)
        for name, values in overheads.items()
        if name != ours
    }


def hooks(enough: Enough) -> list[Row]:
    """Compare with empty hooks."""
    return _training_rows(training_overheads(_HOOKS, enough))


def profilers(enough: Enough) -> list[Row]:
    """Compare with ``torch.profiler``."""
    return _training_rows(training_overheads(_PROFILERS, enough))


def trackers(enough: Enough) -> list[Row]:
    """Compare with torch's ModTracker and spans made in its hooks."""
    return _training_rows(training_overheads(_TRACKERS, enough))


def inferring(enough: Enough) -> list[Row]:
    """Compare forwards under ``no_grad`` with empty hooks."""
    return _inference_rows(inference_overheads(enough))


COMPARISONS = (hooks, profilers, trackers, inferring)


def _training_rows(overheads: Overheads) -> list[Row]:
    what = "recording alone, per module call, against"
    return [
        _row(f"{what} {name}", _BARS.get(name, math.inf), figure, name, overheads)
        for name, figure in against(_OURS, overheads).items()
    ]


def _inference_rows(overheads: Overheads) -> list[Row]:
    what = "inference, per module call, against"
    return [
        _row(f"{what} {name}", _INFERENCE_BAR, figure, name, overheads)
        for name, figure in against(_OURS, overheads).items()
    ]


def _row(what: str, bar: float, figure: Figure, name: str, overheads: Overheads) -> Row:
    ours, theirs = (statistics.median(overheads[each]) for each in (_OURS, name))
    return Row(what, bar, "x", figure, note=f"{ours:.2f} to {theirs:.2f} µs")


def report(title: str, overheads: Overheads, ours: str = _OURS) -> None:
    """Print a line for each contender: median, its interval, the quartiles, and the ratio of `ours` to it."""
    print(f"{title:46}{'µs / module call':>28}{'quartiles':>18}{'ours against it':>28}")
    ratios = against(ours, overheads)
    for name, values in overheads.items():
        low, _, high = statistics.quantiles(values, n=4)
        ratio = ratios.get(name, "")
        print(f"{name:46}{median(values)!s:>28}{f'{low:.2f} - {high:.2f}':>18}{ratio!s:>28}")


def main() -> None:
    """Print both comparisons, with the profiler of modules too."""
    enough = asked_for(__doc__)
    use_one_thread()
    for others in (_HOOKS, _PROFILERS, _OF_MODULES, _TRACKERS):
        report("forward and backward", training_overheads(others, enough))
    report("forward under no_grad", inference_overheads(enough))


if __name__ == "__main__":
    main()
