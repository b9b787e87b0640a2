"""Own times of many steps summed by stack: by which spans lie in which, whatever step they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from otel_torch_modules._diagnosis.series import own_times
from otel_torch_modules._pictures.titles import title
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Span

Stack = tuple[str, ...]  # titles, the outermost first


class TimedStacks:
    """Stacks as a tree, each with its own time in ns."""

    def __init__(self, roots: Iterable[Span]) -> None:
        self._titles: list[str] = []
        self._above: list[int] = []
        self._below: list[list[int]] = []
        self._own: list[int] = []
        self._tops: list[int] = []
        self._numbers: dict[tuple[int, str], int] = {}
        known: dict[tuple[Shape, int], Sequence[int]] = {}
        for root in roots:
            key = (root.shape, root.at)
            numbers = known.get(key)
            if numbers is None:
                numbers = known[key] = self._of_shape(root.shape, root.at)
            own = self._own
            for number, time in zip(numbers, own_times(root), strict=True):
                own[number] += time

    def _of_shape(self, shape: Shape, first: int) -> Sequence[int]:
        numbers: list[int] = []
        for at in range(first, shape.after[first]):
            above = numbers[shape.parents[at] - first] if at > first else -1
            key = (above, title(shape.sites[at]))
            number = self._numbers.setdefault(key, len(self._titles))
            if number == len(self._titles):
                self._titles.append(key[1])
                self._above.append(above)
                self._below.append([])
                self._own.append(0)
                (self._tops if above < 0 else self._below[above]).append(number)
            numbers.append(number)
        return numbers

    def __iter__(self) -> Iterator[tuple[Stack, int]]:
        """Yield each stack that has own time, and it, in ns; those with the same beginning together."""
        waiting: list[tuple[int, Stack]] = [(number, ()) for number in reversed(self._tops)]
        while waiting:
            number, above = waiting.pop()
            stack = (*above, self._titles[number])
            if self._own[number]:
                yield stack, self._own[number]
            waiting += [(below, stack) for below in reversed(self._below[number])]
