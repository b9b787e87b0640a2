"""Modules are told of by metrics though their spans are not sent: the program is a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.training_program import ENABLED, TRAIN, outlines, run

# Steps that take a while: of those that come fast not each is told of.
SLOW = f"""{TRAIN}
import time
model.act.register_forward_hook(lambda *_: time.sleep(0.5))
train(5)
"""


def test_what_is_not_kept_is_measured_all_the_same(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        SLOW,
        **ENABLED,
        OTEL_TORCH_MODULES_KEEP="first=1",
        OTEL_METRICS_EXPORTER="console",
    )
    assert (done.returncode, done.stderr) == (0, "")
    (told,) = json.loads(done.stdout)["resource_metrics"]
    metrics = {
        metric["name"]: metric["data"]["data_points"]
        for of_scope in told["scope_metrics"]
        for metric in of_scope["metrics"]
    }
    assert [point["count"] for point in metrics["torch.step.duration"]] == [5]
    kinds = {
        (point["attributes"]["torch.phase"], point["attributes"]["torch.module.pattern"])
        for point in metrics["torch.module.self_time"]
    }
    assert kinds == {
        (phase, pattern)
        for phase in ("forward", "backward")
        for pattern in ("Net", "Net.fc", "Net.act")
    }
    for point in metrics["torch.module.self_time"]:
        assert point["count"] >= 3
        if point["attributes"]["torch.module.pattern"] == "Net.act":
            is_forward = point["attributes"]["torch.phase"] == "forward"
            assert (point["sum"] >= 0.5 * point["count"]) is is_forward
    detailed = [outline for outline in outlines(tmp_path) if "    forward fc" in outline]
    assert len(detailed) == 1
