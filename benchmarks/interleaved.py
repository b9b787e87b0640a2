"""Contenders in turn within one process, in short blocks, each between two blocks of nothing.

On a shared machine everything slows down and speeds up from one second to the next. What a contender costs is the
difference of its block to the blocks right before and right after it, so that what changes slowly cancels out; many
such differences are taken, in an order that changes, and their median counts.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import thread_time_ns

from benchmarks.contenders import Contender, Run, Step, nothing
from benchmarks.figures import Figure, median
from benchmarks.machine import old_objects_set_aside, undisturbed_ns


@dataclass(frozen=True)
class Size:
    """Of a block: steps that are timed, and steps before them that are not.

    Garbage is collected before what is timed. Where that has much to look at, a few more steps bring back what it has
    displaced from the processor's caches.
    """

    warm_up: int
    timed: int
    after_collection: int = 0


@dataclass(frozen=True)
class Paired:
    """Nanoseconds of a step in a contender's block, and without tracing before and after it."""

    own: float
    untraced: float

    @property
    def ratio(self) -> float:
        """How many times as long a step takes."""
        return self.own / self.untraced

    def overhead(self, untraced: float) -> float:
        """Return what is added to a step, nanoseconds, at the pace at which it takes so long `untraced`.

        That is another one in each round, and what is added goes with it.
        """
        return (self.ratio - 1) * untraced


def untraced_ns(pairs: Iterable[Paired]) -> float:
    """Return nanoseconds of a step without tracing: the median."""
    return statistics.median(pair.untraced for pair in pairs)


def ratio(pairs: Sequence[Paired]) -> Figure:
    """Return how many times as long a step takes, in the median."""
    return median([pair.ratio for pair in pairs])


Stopwatch = Callable[[Run, Step, int], float]
"""Runs so many steps, and returns how many nanoseconds one takes."""


def own_time(run: Run, train: Step, steps: int) -> float:
    """Return the processor time of this thread that a step takes where it is left alone: the mean of the quicker half.

    For where it waits for no other. After another program was there nothing is left of it in the processor's caches,
    and a step takes twice as long.
    """
    taken = []
    for _ in range(steps):
        start = thread_time_ns()
        run(train)
        taken.append(thread_time_ns() - start)
    return statistics.fmean(sorted(taken)[: (steps + 1) // 2])


def own_time_of_all(run: Run, train: Step, steps: int) -> float:
    """Return the mean processor time of this thread that a step takes: where some have more to do than others."""
    start = thread_time_ns()
    for _ in range(steps):
        run(train)
    return (thread_time_ns() - start) / steps


def time_of_all(run: Run, train: Step, steps: int) -> float:
    """Return the mean time of a step, without that in which this thread waited for a processor.

    For where others work meanwhile, for some steps and not for others.
    """
    start = undisturbed_ns()
    for _ in range(steps):
        run(train)
    return (undisturbed_ns() - start) / steps


def timed_ns(run: Run, train: Step, size: Size, stopwatch: Stopwatch) -> float:
    """Return the nanoseconds that a step of a block takes."""
    for _ in range(size.warm_up):
        run(train)
    gc.collect()
    for _ in range(size.after_collection):
        run(train)
    return stopwatch(run, train, size.timed)


Found = dict[str, list[Paired]]
"""What each contender took, once a round."""

Rounds = Callable[[Found], Iterable[object]]
"""Has an item for each turn that each contender is to have; given what is found so far."""


def compare(
    contenders: Mapping[str, Contender],
    train: Step,
    rounds: Rounds,
    size: Size,
    sizes: Mapping[str, Size] | None = None,
    stopwatch: Stopwatch = own_time,
) -> Found:
    """Return what each contender took, once a round.

    The garbage collector is on, as it is in programs, but for what was there after the first round: each contender pays
    for the objects that it makes itself, and none for torch's hundreds of thousands.

    Args:
        contenders: by name.
        train: one step.
        rounds: how often each has its turn.
        size: of a block.
        sizes: of the blocks of contenders for which it is another.
        stopwatch: which time counts.
    """

    def untraced() -> float:
        with nothing() as run:
            return timed_ns(run, train, size, stopwatch)

    def one_round() -> None:
        random.shuffle(order)
        before = untraced()
        for name in order:
            with contenders[name]() as run:
                own = timed_ns(run, train, (sizes or {}).get(name, size), stopwatch)
            after = untraced()
            found[name].append(Paired(own, (before + after) / 2))
            before = after

    order = list(contenders)
    found: Found = {name: [] for name in contenders}
    one_round()  # in which everything is done for the first time
    for pairs in found.values():
        pairs.clear()
    with old_objects_set_aside():
        for _ in rounds(found):
            one_round()
    return found
