"""What a row of a folded tree is called that stands for several spans."""

from __future__ import annotations

from array import array

import pytest

from otel_torch_modules._shape import Shape, Site
from otel_torch_modules._trace import Span, Trace
from otel_torch_modules.cli.folded_tree import Row


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["forward mlp"], "forward mlp"),
        (["forward mlp", "forward mlp"], "forward mlp ×2"),
        (["forward h.0", "forward h.1", "forward h.2"], "forward h.0…2 ×3"),
        (["forward h.2", "forward h.10", "forward h.9"], "forward h.2…10 ×3"),
        (["forward h.0.0", "forward h.1.0", "forward h.3.0"], "forward h.0…3.0 ×3"),
        (["forward h.0.2.l", "forward h.1.2.l"], "forward h.0…1.2.l ×2"),
        (["forward 0.1", "forward 1.0", "forward 1.1"], "forward 0…1.0…1 ×3"),
        (["forward h.0", "forward h.0", "forward h.1", "forward h.1"], "forward h.0…1 ×4"),
        (["forward conv1x1", "forward conv1x1"], "forward conv1x1 ×2"),
        (
            ["forward a", "forward b.0"],
            "forward a ×2",
        ),  # different in words: the first stands for all
        (["backward h.3", "backward h.0"], "backward h.0…3 ×2"),
    ],
)
def test_it_has_each_number_from_the_least_to_the_most(names: list[str], label: str) -> None:
    sites = tuple([Site(name, {"torch.phase": "forward"}) for name in names])
    trace = Trace(
        "a" * 32,
        Shape(sites, tuple([-1] * len(names))),
        array("Q", range(1, len(names) + 1)),
        array("Q", [0] * len(names)),
        array("Q", [0] * len(names)),
        array("Q", [1] * len(names)),
        [""] * len(names),
        {},
        {},
    )
    spans = [Span(trace, at) for at in range(len(names))]
    assert Row(spans, [], 1.0, 1.0, None).label == label
