"""What traces that look alike have in common: what their spans are, and how they lie below each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from otel_torch_modules import semconv

_CAUSES: Final = (semconv.PHASE_COMPILE, semconv.PHASE_GC, semconv.PHASE_CHECKPOINT)


class Site:
    """What the spans of one place have in common: their name, and the attributes that do not vary."""

    def __init__(self, name: str, attributes: Mapping[str, Any]) -> None:
        self.name = name
        self.attributes = attributes
        self.phase = text_in(attributes, semconv.PHASE)  # None on a span that the program made
        self.fqn = text_in(attributes, semconv.MODULE_FQN)
        self.module_class = text_in(attributes, semconv.MODULE_CLASS)
        is_rank = self.phase == semconv.PHASE_RANK
        self.rank = number_in(attributes, semconv.DISTRIBUTED_RANK) if is_rank else None


class Shape:
    """The tree of a trace: what `parents[at]` says lies below what, -1 for a root.

    The lane of a device, which was sent below a step or a rank, is a root of its own here, after all others: its times
    are the device's, and so it is in nothing that goes through a step, or adds it up.

    Args:
        lanes: by the number of a step's or a rank's span that of its device's lane.
    """

    def __init__(
        self,
        sites: tuple[Site, ...],
        parents: tuple[int, ...],
        lanes: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.sites = sites
        self.parents = parents
        self.lanes = lanes
        after = list(range(1, len(parents) + 1))
        for at in range(len(parents) - 1, -1, -1):
            if parents[at] >= 0:
                after[parents[at]] = max(after[parents[at]], after[at])
        self.after = tuple(after)  # the number of the first span that is not below this one

    def children(self, at: int) -> Iterator[int]:
        """Yield the numbers of the spans right below the one numbered `at`."""
        child, end = at + 1, self.after[at]
        while child < end:
            yield child
            child = self.after[child]

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """The numbers of the spans whose parent is not there, but for lanes and what is left of them."""
        return tuple(
            [
                at
                for at, parent in enumerate(self.parents)
                if parent < 0 and self.sites[at].phase != semconv.PHASE_DEVICE
            ]
        )

    @cached_property
    def of_program(self) -> tuple[int, ...]:
        """The numbers of the spans that the program made itself."""
        return tuple([at for at, site in enumerate(self.sites) if site.phase is None])

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The numbers of the spans of phase `step`."""
        return tuple([at for at, site in enumerate(self.sites) if site.phase == semconv.PHASE_STEP])

    @cached_property
    def causes(self) -> tuple[int, ...]:
        """The numbers of the spans of what takes time beside modules and has a rule of its own."""
        return tuple([at for at, site in enumerate(self.sites) if site.phase in _CAUSES])


def number_in(attributes: Mapping[str, Any], key: str) -> int | None:
    """Return the attribute `key` if it is a whole number."""
    value = attributes.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text_in(attributes: Mapping[str, Any], key: str) -> str | None:
    """Return the attribute `key` if it is a string."""
    value = attributes.get(key)
    return value if isinstance(value, str) else None
