"""Contenders in turn within one process, in short blocks, each between two blocks of nothing.

On a shared machine everything slows down and speeds up from one second to the next. What a contender costs is how many
times as long as the blocks right before and right after it its own takes, so that what changes slowly cancels out; many
such ratios are taken, in an order that changes, and their median counts.
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
from benchmarks.machine import old_objects_set_aside, set_aside_what_stays


@dataclass(frozen=True)
class Size:
    """Of a block: steps that are timed, and steps before them that are not.

    Garbage is collected before what is timed. Where that has much to look at, a few more steps bring back what it has
    displaced from the processor's caches. Where something is done once in some steps, so many are timed together.
    """

    warm_up: int
    timed: int
    after_collection: int = 0
    together: int = 1


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


def timed_ns(run: Run, train: Step, size: Size, clock: Callable[[], int]) -> float:
    """Return the nanoseconds of `clock` that a step of a block takes where it is left alone.

    After another program was there a step takes twice as long, for nothing is left of it in the processor's caches. So
    it is the quicker half of what is timed together that counts.
    """
    for _ in range(size.warm_up):
        run(train)
    gc.collect()
    for _ in range(size.after_collection):
        run(train)
    taken = []
    for _ in range(size.timed // size.together):
        start = clock()
        for _ in range(size.together):
            run(train)
        taken.append((clock() - start) / size.together)
    return statistics.fmean(sorted(taken)[: (len(taken) + 1) // 2])


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
    clock: Callable[[], int] = thread_time_ns,
) -> Found:
    """Return what each contender took, once a round.

    The garbage collector is on, as it is in programs, but for what was there after the first round and what another
    contender has left: each pays for the objects that it makes itself, and none for torch's hundreds of thousands, nor
    for the thousands that ModTracker leaves behind in each step.

    Args:
        contenders: by name.
        train: one step.
        rounds: how often each has its turn.
        size: of a block.
        sizes: of the blocks of contenders for which it is another.
        clock: `undisturbed_ns` where the training thread waits for others of its process.
    """

    def untraced() -> float:
        with nothing() as run:
            return timed_ns(run, train, size, clock)

    def one_round() -> None:
        random.shuffle(order)
        before = untraced()
        for name in order:
            with contenders[name]() as run:
                own = timed_ns(run, train, (sizes or {}).get(name, size), clock)
            set_aside_what_stays()
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
