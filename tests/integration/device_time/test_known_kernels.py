"""What the device took for phases and modules, on the simulated accelerator, where that is known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules._diagnosis.device_times import ToldBy, ran
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._reading.traces import Traces
from tests.support.simdev.run import on_the_device

DURATION, LAG = "torch.device.duration", "torch.device.lag"
FORWARD_LAG, CLOCK_ERROR = "torch.device.forward_lag", "torch.device.clock_error"
# Seconds. In backward the checkpointed block's forward comes once more.
FORWARD, BACKWARD, OPTIMIZER = 0.014, 0.027, 0.005
DEVICE_MEMORY = "torch.device.memory."
NEAR = 0.01  # a hundredth
SAME = 0.001  # s; the two clocks of the host are told from each other once


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the steps of the last training are."""
    return tmp_path_factory.mktemp("traces") / "steps.jsonl"


@pytest.fixture(scope="module")
def run(file: Path) -> Any:
    return on_the_device(
        "-m",
        "tests.integration.device_time.programs.known_kernels",
        OTEL_TRACES_EXPORTER="otlp_file",
        OTEL_TORCH_MODULES_FILE=str(file),
    )


def phases(step: Any) -> dict[str, dict[str, float]]:
    """Return what the spans right below a step say, those that say anything."""
    return {name: said for name, said, _, _ in step[3] if said}


def lane(step: Any) -> Any:
    (found,) = [span for span in step[3] if span[0] == "device"]
    return found


def test_each_phase_took_what_its_kernels_take(run: Any) -> None:
    assert len(run["steps"]) == 8
    for step in run["steps"]:
        found = {name: said[DURATION] for name, said in phases(step).items()}
        assert found == {
            "forward Net": pytest.approx(FORWARD, rel=NEAR),
            "backward": pytest.approx(BACKWARD, rel=NEAR),
            "optimizer.step Sgd": pytest.approx(OPTIMIZER, rel=NEAR),
        }


def test_the_lane_is_where_they_ran_on_the_device(run: Any) -> None:
    """One after the other, without a gap, and each step's where the one before it has ended."""
    for step, reached in zip(run["steps"], run["reached"], strict=True):
        _, said, (start, end), below = lane(step)
        assert said == {}
        assert [name for name, _, _, _ in below] == ["forward", "backward", "optimizer"]
        times = [times for _, _, times, _ in below]
        now = reached
        for (began, ended), length in zip(times, (FORWARD, BACKWARD, OPTIMIZER), strict=True):
            assert began == pytest.approx(now, abs=SAME * 1e9)
            assert (ended - began) / 1e9 == pytest.approx(length, rel=NEAR)
            now = ended
        assert (start, end) == (times[0][0], times[-1][1])
        assert start > max(ended for name, _, (_, ended), _ in step[3] if name != "device")


def test_what_is_in_a_file_of_ours_is_told_by_the_device(run: Any, file: Path) -> None:
    """Of steps that were read and of repeated ones: they have lanes, and last as long as their kernels."""
    steps = Traces.read(file).steps
    assert len(steps) == len(run["steps"])
    for step in steps:
        assert step.lane is not None
        found = [(span.name, span.start, span.end) for span in step.lane.children]
        spans = [span for span in step.children if ran(span) is not None]
        assert [name for name, _, _ in found] == [span.phase for span in spans]
        assert [(start, end) for _, start, end in found] == [
            pytest.approx(ran(span), abs=10) for span in spans
        ]
        assert step.lane.parent_id == step.span_id
    series = Run(steps).main
    assert series.told_by is ToldBy.DEVICE
    assert series.ms[1:] == [pytest.approx(1e3 * (FORWARD + BACKWARD + OPTIMIZER), rel=NEAR)] * (
        len(steps) - 1
    )
    assert series.phase("backward") == pytest.approx([1e3 * BACKWARD] * len(steps), rel=NEAR)


def test_no_other_span_says_anything(run: Any) -> None:
    for _, _, _, children in run["steps"]:
        for _, _, _, below in children:
            assert not [said for said in flat(below) if said]


def flat(spans: Any) -> Any:
    for _, said, _, below in spans:
        yield said
        yield from flat(below)


def test_the_lag_is_how_far_the_device_was_behind(run: Any) -> None:
    for step, reached in zip(run["steps"], run["reached"], strict=True):
        lag = phases(step)["forward Net"][LAG]
        (start,) = [times[0] for name, _, times, _ in step[3] if name == "forward Net"]
        assert lag == pytest.approx((reached - start) / 1e9, abs=SAME)
        assert lag > 0.2


def test_a_step_says_how_far_the_device_was_behind_at_the_end_of_forward_and_of_backward(
    run: Any,
) -> None:
    for name, said, _, children in run["steps"]:
        assert name == "train.step"
        of_device = {key: value for key, value in said.items() if DEVICE_MEMORY not in key}
        assert set(of_device) == {DURATION, LAG, FORWARD_LAG, CLOCK_ERROR}
        took = {name: (end - start) / 1e9 for name, _, (start, end), _ in children}
        assert took.pop("device") == pytest.approx(said[DURATION], abs=1e-6)
        forward, backward, _ = phases([name, said, 0, children]).values()
        assert said[FORWARD_LAG] == pytest.approx(
            forward[LAG] + forward[DURATION] - took["forward Net"], abs=1e-6
        )
        assert said[LAG] == pytest.approx(
            backward[LAG] + backward[DURATION] - took["backward"], abs=1e-6
        )
        assert said[DURATION] == pytest.approx(FORWARD + BACKWARD + OPTIMIZER, rel=NEAR)
        assert 0 <= said[CLOCK_ERROR] < 0.1


def test_nothing_waits_for_the_device_and_nothing_changes(run: Any) -> None:
    assert run["waited"] == 0
    assert run["traced"] == [run["untraced"]] * 2
    assert len(run["untraced"]) > 8  # losses, and parameters
    assert run["same beside hog"]


def test_off_is_off(run: Any) -> None:
    for tree in run["off"]:
        assert not [
            key for said in flat([tree]) for key in said if not key.startswith(DEVICE_MEMORY)
        ]


def test_events_are_used_again(run: Any) -> None:
    """Seven a step, of no more steps than the device was behind by, and one for each event of four steps' modules.

    Of both runs there are 16 steps, and 8 with modules. When the second begins some of the first's may not be back yet.
    """
    assert run["events"] <= 7 * (8 + 4) + 4 * 60


@pytest.mark.parametrize("while_", ["modules", "beside hog"])
def test_in_some_steps_each_module_took_what_its_kernels_take(run: Any, while_: str) -> None:
    """Also where the host is so busy that the program itself takes many times as long."""

    def near(seconds: float) -> Any:
        return pytest.approx(seconds, rel=NEAR, abs=1e-5)

    assert len(run[while_]) == (8 if while_ == "modules" else 4)
    for at, step in enumerate(run[while_]):
        found = list(durations(step[3]))
        if at % 2:
            assert [seconds for _, seconds in found if seconds is not None] == [
                near(FORWARD),
                near(BACKWARD),
                near(OPTIMIZER),
            ]
            continue
        assert found == [
            ("forward Net", near(FORWARD)),
            ("forward first", near(0.004)),
            ("forward lin", near(0)),
            ("forward again", near(0.006)),
            ("forward lin", near(0)),
            ("forward gathered", near(0.004)),
            ("backward", near(BACKWARD)),
            ("backward Net", near(BACKWARD)),
            ("backward gathered", near(0.001)),
            ("backward again", near(0.018)),
            ("recompute again", near(0.006)),
            ("recompute lin", near(0)),
            ("backward lin", near(0)),
            ("backward first", near(0.008)),
            ("backward lin", near(0)),
            ("optimizer.step Sgd", near(OPTIMIZER)),
        ]


def durations(spans: Any) -> Any:
    """Yield the names of spans with what the device took, but for what the machine's pauses make."""
    for name, said, _, below in spans:
        if name not in ("device", "between", "zero_grad", "python.gc"):
            yield name, said.get(DURATION)
            yield from durations(below)
