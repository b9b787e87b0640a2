"""What is in the way of a step's device times costs that step these times, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.simdev.run import on_the_device


@pytest.fixture(scope="module")
def run() -> Any:
    return on_the_device("-m", "tests.integration.device_time.programs.held_back")


def rest(span: Any) -> list[Any]:
    """Return what a tree says but for the device, its names and the names of its attributes.

    Of those right below a step not what the machine makes: stretches between them.
    """
    name, said, children = span
    others = ("device", "between", "zero_grad")
    return [
        name,
        [key for key in said if key not in OF_DEVICE],
        [rest(child) for child in children if child[0] not in others],
    ]


OF_DEVICE = [f"torch.device.{name}" for name in ("clock_error", "duration", "forward_lag", "lag")]


def of_device(span: Any) -> list[Any]:
    """Return which names of a tree say what of the device."""
    name, said, children = span
    found = [key for key in said if key in OF_DEVICE]
    below = [one for child in children for one in of_device(child)]
    return ([(name, found)] if found or name == "device" else []) + below


TOLD = [
    ("train.step", OF_DEVICE),
    *(
        (name, [OF_DEVICE[1], OF_DEVICE[3]])
        for name in ("forward Sequential", "backward", "optimizer.step SGD")
    ),
    ("device", []),
]


def with_times(steps: Any) -> list[bool]:
    """Return which steps say something of the device; they say all or nothing."""
    told = [sorted(of_device(step)) for step in steps]  # the lane lies where it began
    assert all(one in (sorted(TOLD), []) for one in told), told
    return [bool(one) for one in told]


def test_a_step_hit_by_a_capture_loses_its_device_times_alone(run: Any) -> None:
    steps = run["around a capture"]
    assert with_times(steps) == [True, True, True, False, True, True]
    assert [rest(step) for step in steps] == [rest(run["warm"][1])] * 6


def test_no_event_is_asked_for_while_anybody_captures(run: Any) -> None:
    """The program itself sees to it: the simulated device, as CUDA, ends a capture with an error otherwise."""
    stamps = run["stamps"]
    assert stamps["another's capture"] is False
    assert stamps["after it"] == [True, True]
    assert stamps["given up"] is False


def test_a_device_that_hangs_holds_nothing_back_at_the_end(run: Any) -> None:
    assert with_times(run["hung"]) == [True, True, False, False]
    assert run["took"] < 30
    assert [line for line in run["log"] if "the device has not done it" in line] == run["log"]
    assert len(run["log"]) == 1


def test_what_is_not_read_is_bounded(run: Any) -> None:
    stamps = run["stamps"]
    assert stamps["of 300"] == 256
    assert stamps["with modules"] == [True, True, False, False]  # each has thousands
    assert stamps["after one"] == [True, True, True]
    assert stamps["after all"] is True


def test_what_goes_wrong_with_an_event_costs_the_step_all(run: Any) -> None:
    stamps = run["stamps"]
    assert stamps["while capturing"] == [True, True, True]
    assert stamps["hit"] == [True, None]
    assert stamps["its event captured"] == [True, None]
    assert stamps["unknown"] == [[True, True, True]] * 5
    assert stamps["busy"] == [False, False]
