"""What a module call costs the training thread where nothing is exported, beside other tools.

    python -m benchmarks.overhead [--rounds 40]

The model is the worst for a tracer: modules that do next to nothing. Measured as `interleaved.py` says, in
microseconds per module call on top of no tracing; forward and backward together, then forwards under `no_grad`.

Ours is compared with a few others at a time: after a tool that fills memory or takes ten times as long, nothing is
what it was for a while, and what costs a microsecond would drown in that.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from time import thread_time_ns

import torch

from benchmarks import contenders
from benchmarks.figures import Row, median, ratio_of_medians
from benchmarks.interleaved import Paired, Size, compare
from benchmarks.machine import keep_freed_memory, use_one_thread
from benchmarks.toy import Toy, calls, inference, training_step

_OURS = "ours, recording"
_HOOKS = {"empty global hooks": contenders.empty_hooks}
_PROFILERS = {
    "torch.profiler, collecting": contenders.torch_profiler,
    "torch.profiler, collecting into new memory": contenders.torch_profiler_going_on,
    "torch.profiler, collecting modules too": contenders.torch_profiler_of_modules,
}
_TRACKERS = {
    "ModTracker": contenders.mod_tracker,
    "ModTracker + SDK spans": contenders.tracked_spans,
}
_INFERENCE = {
    "empty global hooks": contenders.empty_hooks,
    _OURS: contenders.recording_inference,
}
_BARS = {
    "torch.profiler, collecting": 0.8,
    "torch.profiler, collecting into new memory": 0.8,
    "ModTracker": 0.25,
    "ModTracker + SDK spans": 0.10,
    "empty global hooks": 3.5,
}
_INFERENCE_BAR = 1.8
_BLOCK = Size(warm_up=20, timed=10)

Overheads = dict[str, list[float]]


def training_overheads(rounds: int) -> list[Overheads]:
    """Return microseconds per module call, forward and backward, once a round, of ours and a few others each."""
    train = training_step(Toy(), torch.randn(2, 4, 8))
    groups = ((_HOOKS, 4 * rounds), (_PROFILERS, rounds), (_TRACKERS, rounds))
    return [
        per_call(
            compare(
                {_OURS: contenders.recording, **others},
                train,
                of_these,
                _BLOCK,
                clock=thread_time_ns,
            )
        )
        for others, of_these in groups
    ]


def inference_overheads(rounds: int) -> Overheads:
    """Return microseconds per module call of a forward under ``no_grad``, once a round."""
    model = Toy().eval()
    forward = inference(model, torch.randn(2, 4, 8))
    return per_call(compare(_INFERENCE, forward, rounds, _BLOCK, clock=thread_time_ns))


def per_call(found: Mapping[str, Sequence[Paired]]) -> Overheads:
    """Return the overheads of steps of the toy model as microseconds for each of its module calls."""
    return {
        name: [pair.overhead / calls() / 1e3 for pair in pairs] for name, pairs in found.items()
    }


def rows(quick: bool) -> list[Row]:
    """Return the rows of the table."""
    keep_freed_memory()
    rounds = 8 if quick else 30
    found = [
        Row(
            f"recording alone, per module call, against {name}",
            _BARS[name],
            "x",
            ratio_of_medians(overheads[_OURS], overheads[name]),
            note=_both(overheads, name),
        )
        for overheads in training_overheads(rounds)
        for name in overheads
        if name in _BARS
    ]
    forwards = inference_overheads(4 * rounds)
    name = "empty global hooks"
    figure = ratio_of_medians(forwards[_OURS], forwards[name])
    what = f"inference, per module call, against {name}"
    return [*found, Row(what, _INFERENCE_BAR, "x", figure, note=_both(forwards, name))]


def _both(overheads: Overheads, name: str) -> str:
    ours, theirs = (statistics.median(overheads[each]) for each in (_OURS, name))
    return f"{ours:.2f} to {theirs:.2f} µs"


def report(title: str, overheads: Overheads, ours: str = _OURS) -> None:
    """Print a line for each contender: median, its interval, the quartiles, and the ratio of `ours` to it."""
    print(f"{title:46}{'µs / module call':>28}{'quartiles':>18}{'ours against it':>28}")
    for name, values in overheads.items():
        low, _, high = statistics.quantiles(values, n=4)
        ratio = "" if name == ours else str(ratio_of_medians(overheads[ours], values))
        print(f"{name:46}{median(values)!s:>28}{f'{low:.2f} - {high:.2f}':>18}{ratio:>28}")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    use_one_thread()
    keep_freed_memory()
    for overheads in training_overheads(rounds):
        report("forward and backward", overheads)
    report("forward under no_grad", inference_overheads(4 * rounds))


if __name__ == "__main__":
    main()
