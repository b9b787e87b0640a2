"""Which service spans belong to, as ``OTEL_TORCH_MODULES_SERVICES`` says: Jaeger gives each service a colour.

Only where the provider is ours: a program's own has the resource that the program gave it.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from otel_torch_modules import semconv

_PHASES = (
    semconv.PHASE_DATA,
    semconv.PHASE_FORWARD,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_OPTIMIZER,
)


class Services:
    """How the service's name differs between spans, and between processes.

    Args:
        by: ``one``, ``phases`` or ``ranks``.
    """

    def __init__(self, by: str) -> None:
        self._by = by
        self.parts: tuple[str, ...] = (*(_PHASES if by == "phases" else ()), "")
        """What the spans of a process are parted into; that of the step itself is last and has no name."""
        self._of: Resource | None = None
        self._named: dict[str, Resource] = {}  # of the parts of that

    def part_of(self, phase: str) -> str:
        """Return the part that spans of `phase` are in."""
        return phase if phase in self.parts else ""

    def of_process(self, resource: Resource) -> Resource:
        """Return the resource of a process whose own is `resource`."""
        rank = resource.attributes.get(semconv.DISTRIBUTED_RANK)
        if self._by != "ranks" or rank is None:
            return resource
        return _named(resource, f"{semconv.RANK_PREFIX}{rank}")

    def of_part(self, resource: Resource, part: str) -> Resource:
        """Return the resource of a part of the spans of a process."""
        if not part:
            return resource
        if self._of is not resource:
            self._of, self._named = resource, {}
        named = self._named.get(part)
        if named is None:
            named = self._named[part] = _named(resource, part)
        return named


def _named(resource: Resource, part: str) -> Resource:
    name = f"{resource.attributes.get(SERVICE_NAME)}{semconv.SERVICE_PART_SEPARATOR}{part}"
    return resource.merge(Resource({SERVICE_NAME: name}))


ONE: Final = Services("one")
