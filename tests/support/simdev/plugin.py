"""A pytest plugin: the tests of the process run on the simulated accelerator.

``pytest -p tests.support.simdev.plugin`` puts it on.
What tests make without naming a device is made there. Their trees are those of the CPU, but for the lane of the device.
That one is looked at here: it is what the spans beside it say of themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import tests.support.simdev.device  # noqa: F401  registers it
from otel_torch_modules.testing import Captured, CapturedSpan


@pytest.fixture(autouse=True)
def on_the_simulated_accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_default_device("sim")
    all_trees = Captured.trees.fget  # type: ignore[attr-defined]
    trees = property(lambda captured: [*map(without_lane, all_trees(captured))])
    monkeypatch.setattr(Captured, "trees", trees)
    yield
    torch.set_default_device(None)


def without_lane(tree: CapturedSpan) -> CapturedSpan:
    """Return `tree` without the device's lane, after a look at it."""
    lanes = [span for span in tree.children if span.name == "device"]
    tree.children = [span for span in tree.children if span not in lanes]
    ran = sorted(
        (began, began + round(seconds * 1e9), str(span.attributes["torch.phase"]))
        for span in tree.children
        if isinstance(seconds := span.attributes.get("torch.device.duration"), float)
        and isinstance(lag := span.attributes["torch.device.lag"], float)
        for began in [span.start + round(lag * 1e9)]
    )
    assert [[(span.start, span.end, span.name) for span in lane.children] for lane in lanes] == (
        [ran] if ran else []
    )
    for lane in lanes:
        assert (lane.start, lane.end) == (ran[0][0], max(end for _, end, _ in ran))
        assert {span.attributes["torch.phase"] for span in lane.walk()} == {"device"}
    return tree
