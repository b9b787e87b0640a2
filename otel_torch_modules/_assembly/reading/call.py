"""A module call, and the names and attributes of the spans that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from otel_torch_modules import semconv
from otel_torch_modules._events import Varying
from otel_torch_modules._site import Site
from otel_torch_modules._spans.span import SharedAttributes, Span


class Call:
    """One call of a module.

    `parent` is the call that it was made from; the calls that recompute an activation have none outside the recompute.
    """

    __slots__ = (
        "base",
        "counts",
        "end",
        "first",
        "index",
        "label",
        "novel",
        "order",
        "parent",
        "recompute",
        "repeats",
        "site",
        "span",
        "start",
        "training",
    )

    def __init__(
        self, site: Site, parent: Call | None, first: int, training: bool | None, label: str
    ) -> None:
        self.site = site
        self.parent = parent
        self.first = first  # sequence number of the first node that it can have made
        self.training = training
        self.start = 0
        self.end = 0
        self.order = 0  # in which calls were made, in all threads
        self.index = 0  # among the calls of the same module from the same parent
        self.label = label
        self.recompute = False
        # Where the paths of what it calls begin: itself, or for a container its nearest caller that is more.
        self.base: Site = parent.base if parent is not None and site.container else site
        self.repeats: Call | None = None  # the forward call, of one that a backward makes directly
        self.novel = False  # made directly by a backward, and no forward is known that it repeats
        self.counts: dict[Site, int] | None = None  # how often it has called which
        self.span: Span | None = None  # forward or recompute; None past the limit of spans


class Calls:
    """The calls of one record, in the order in which they were made.

    Only a recompute asks for those of one module, so they are sorted by module when it does.
    """

    __slots__ = ("_all", "_by_site", "_sorted", "add")

    def __init__(self) -> None:
        self._all: list[Call] = []
        self._by_site: dict[Site, list[Call]] = {}
        self._sorted = 0
        self.add = self._all.append

    def of(self, site: Site) -> Sequence[Call]:
        """Return the calls of `site` until now."""
        for place in range(self._sorted, len(self._all)):
            call = self._all[place]
            self._by_site.setdefault(call.site, []).append(call)
        self._sorted = len(self._all)
        return self._by_site.get(site, ())


CALL_INDEX: Final = Varying(semconv.MODULE_CALL_INDEX, int)


def label_of(site: Site, parent: Call | None) -> str:
    """Return the path of `site` below its nearest caller that is more than a container.

    A root's label is its whole name, and below a root that is a container the path begins there.
    """
    return site.fqn if parent is None else _below(parent.base, site)


def attributes_of(call: Call, phase: str, around: str = "") -> SharedAttributes:
    """Return the attributes of a span of `call`, made once and kept on the site.

    Args:
        call: what the span shows.
        phase: of the span.
        around: the phase of what it lies right below, where that is to be said.
    """
    site = call.site
    if site.attributes is None:
        site.attributes = {}
    key = (phase, call.training, around)
    attributes: SharedAttributes | None = site.attributes.get(key)
    if attributes is None:
        attributes = site.attributes[key] = _attributes(site, *key)
    return attributes


def _below(base: Site, site: Site) -> str:
    if not site.fqn.startswith(base.fqn):
        return site.fqn
    rest = site.fqn[len(base.fqn) :]
    if not rest:  # what a wrapper wraps
        return site.class_name
    return rest[1:] if rest[0] == "." else site.fqn


def _attributes(site: Site, phase: str, training: bool | None, around: str) -> SharedAttributes:
    attributes: dict[str, Any] = {
        semconv.PHASE: phase,
        semconv.MODULE_FQN: site.fqn,
        semconv.MODULE_PATTERN: site.pattern,
        semconv.MODULE_CLASS: site.class_name,
    }
    if training is not None:
        attributes[semconv.MODULE_TRAINING] = training
    # The last ones stay where a limit leaves few.
    attributes[semconv.MODULE_PARAMETERS] = site.parameters
    attributes[semconv.CODE_FUNCTION_NAME] = site.function_name
    if site.compiled_modules:
        attributes[semconv.COMPILED] = True
        attributes[semconv.COMPILED_MODULES] = site.compiled_modules
    if around:
        attributes[semconv.PHASE_PARENT] = around
    return SharedAttributes(attributes)
