"""Names of places as whoever wrote the trace has made them: a pattern has as many parts as its name."""

from __future__ import annotations

import sys

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.places import Places
from otel_torch_modules._shape import Site

DEEPEST = sys.getrecursionlimit() + 100


def places_of(*fqns: str) -> Places:
    about = {semconv.PHASE: "forward", semconv.MODULE_CLASS: "Block"}
    return Places([Site(f"forward {fqn}", {**about, semconv.MODULE_FQN: fqn}) for fqn in fqns])


@pytest.mark.parametrize(
    ("fqns", "patterns"),
    [
        (["GPT", "GPT.h.0", "GPT.h.1"], ["GPT", "GPT.h.*", "GPT.h.*"]),
        (["GPT.h.0"], ["GPT.h.0"]),
        (["0", "1"], ["*", "*"]),
        ([".", "..", "..."], [".", "..", "..."]),
        ([".0", ".1"], [".*", ".*"]),
        ([".h.0", ".h.1"], [".h.*", ".h.*"]),
        (["h..0", "h..1", "h.", "h"], ["h..*", "h..*", "h.", "h"]),
        (["h.*.0", "h.*.1", "*"], ["h.*.*", "h.*.*", "*"]),
        ([""], [""]),
        ([".".join(["a"] * DEEPEST)], [".".join(["a"] * DEEPEST)]),
    ],
    ids=[*map(str, range(9)), "deep"],
)
def test_a_pattern(fqns: list[str], patterns: list[str]) -> None:
    places = places_of(*fqns)
    assert [places.pattern(fqn) for fqn in fqns] == patterns
