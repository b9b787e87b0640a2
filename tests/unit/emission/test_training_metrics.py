"""Steps as metrics: every data point of the SDK's, by a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from otel_torch_modules._emission.training_metrics import MOST_PATTERNS, TrainingMetrics
from otel_torch_modules._records import Record
from otel_torch_modules._spans.figures import Figures
from tests.support.hand_set_clock import HandSetClock

SECOND = 1_000_000_000
OWN = "torch.module.self_time"


class Telling:
    """Metrics, and what a reader finds."""

    def __init__(self, cpu_ns: int = 0) -> None:
        self.clock = HandSetClock()
        self._cpu_ns, self._spent = cpu_ns, 0
        self._reader = InMemoryMetricReader()
        meter = MeterProvider([self._reader], shutdown_on_exit=False).get_meter("test")
        self.metrics = TrainingMetrics(
            meter, clock=lambda: int(self.clock() * SECOND), cpu=self._cpu
        )

    def _cpu(self) -> int:
        self._spent += self._cpu_ns
        return self._spent

    def step(self, figures: Figures, *, sent: bool = True, **of_record: Any) -> None:
        end = int(self.clock() * SECOND)
        start = end - int(figures.duration * SECOND)
        record = Record("step", 7, start, 0, end, trace_id=0xABC, span_id=0xDEF, **of_record)
        self.metrics.step_ended(record, figures, sent=sent)

    def read(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return the attributes and the value of each point; of a histogram, how many entries and their sum."""
        return {
            name: [(dict(point.attributes or {}), _value(point)) for point in points]
            for name, points in self.points().items()
        }

    def points(self) -> Mapping[str, list[Any]]:
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for of_resource in (data.resource_metrics if data else ())
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
        }


def _value(point: Any) -> Any:
    if isinstance(point, HistogramDataPoint):
        return point.count, pytest.approx(point.sum)
    return point.value


STEP = Figures(
    2.0,
    {"forward": 0.5, "backward": 1.25},
    {("Net.*.fc", "forward"): 0.25, ("Net.*.fc", "backward"): 1.0},
)


def test_what_a_step_comes_to() -> None:
    telling = Telling()
    assert telling.read() == {}
    telling.clock.now = 10.0
    telling.step(STEP)
    telling.clock.now = 13.5
    assert telling.read() == {
        "torch.steps": [({}, 1)],
        "torch.step.duration": [({}, (1, 2.0))],
        "torch.phase.duration": [
            ({"torch.phase": "forward"}, (1, 0.5)),
            ({"torch.phase": "backward"}, (1, 1.25)),
        ],
        OWN: [
            ({"torch.module.pattern": "Net.*.fc", "torch.phase": "forward"}, (1, 0.25)),
            ({"torch.module.pattern": "Net.*.fc", "torch.phase": "backward"}, (1, 1.0)),
        ],
        "torch.step.index": [({}, 7)],
        "torch.step.age": [({}, 3.5)],
    }


def test_steps_that_failed_or_were_skipped_are_told_apart() -> None:
    telling = Telling()
    figures = Figures(1.0, {}, {})
    telling.step(figures)
    telling.step(figures, failed=True)
    telling.step(figures, skipped=True)
    counted = [
        ({}, 1),
        ({"error.type": "_OTHER"}, 1),
        ({"torch.step.skipped": True}, 1),
    ]
    read = telling.read()
    assert read["torch.steps"] == counted
    assert read["torch.step.duration"] == [(attributes, (1, 1.0)) for attributes, _ in counted]


@pytest.mark.parametrize(("sent", "found"), [(True, {(0xABC, 0xDEF)}), (False, set())])
def test_a_step_that_was_sent_is_an_example_of_all_that_it_came_to(
    sent: bool, found: set[tuple[int, int]]
) -> None:
    telling = Telling()
    telling.step(STEP, sent=sent)
    histograms = [
        point
        for points in telling.points().values()
        for point in points
        if isinstance(point, HistogramDataPoint)
    ]
    assert len(histograms) == 5
    for point in histograms:
        assert {(one.trace_id, one.span_id) for one in point.exemplars} == found


def test_of_a_step_that_was_not_recorded_it_is_known_when_it_began_and_ended() -> None:
    telling = Telling()
    telling.clock.now = 5.0
    telling.metrics.left_out_step_ended(Record("step", 3, 2 * SECOND, 0, 4 * SECOND))
    assert telling.read() == {
        "torch.steps": [({}, 1)],
        "torch.step.duration": [({}, (1, 2.0))],
        "torch.step.index": [({}, 3)],
        "torch.step.age": [({}, 1.0)],
    }


def test_the_last_step_is_the_one_that_ended_last_in_whatever_order_they_come() -> None:
    telling = Telling()
    for index in (3, 5, 4):
        telling.metrics.left_out_step_ended(Record("step", index, 0, 0, index * SECOND))
    telling.clock.now = 7.0
    read = telling.read()
    assert (read["torch.step.index"], read["torch.step.age"]) == ([({}, 5)], [({}, 2.0)])


@pytest.mark.parametrize("order", [1, -1])
def test_there_are_so_many_series_however_many_patterns(order: int) -> None:
    telling = Telling()
    count = 3 * MOST_PATTERNS
    modules = {
        (f"Net.m{number}", phase): float(number)
        for number in range(count)[::order]
        for phase in ("forward", "backward")
    }
    for _ in range(2):
        telling.step(Figures(1.0, {}, modules))
    telling.step(Figures(1.0, {}, {("Net.late", "forward"): 1e9}))
    found = telling.read()[OWN]
    slowest = {f"Net.m{number}" for number in range(count - MOST_PATTERNS, count)}
    named = {attributes["torch.module.pattern"] for attributes, _ in found}
    assert named == slowest | {"other"}
    rest = float(sum(range(count - MOST_PATTERNS)))
    others = {
        attributes["torch.phase"]: value
        for attributes, value in found
        if attributes["torch.module.pattern"] == "other"
    }
    assert others == {"forward": (3, 2 * rest + 1e9), "backward": (2, 2 * rest)}


def test_what_comes_later_has_a_series_while_there_is_room() -> None:
    telling = Telling()
    for pattern in ("Net.a", "Net.b"):
        telling.step(Figures(1.0, {}, {(pattern, "forward"): 1.0}))
    assert [attributes["torch.module.pattern"] for attributes, _ in telling.read()[OWN]] == [
        "Net.a",
        "Net.b",
    ]


def test_modules_are_left_out_of_steps_that_come_too_fast_and_steps_never() -> None:
    telling = Telling(cpu_ns=SECOND // 1000)  # to tell of the modules takes a millisecond
    for _ in range(100):
        telling.clock.now += 0.025
        telling.step(STEP)
    read = telling.read()
    assert read["torch.steps"] == [({}, 100)]
    assert [entries for _, (entries, _) in read["torch.phase.duration"]] == [100, 100]
    assert [entries for _, (entries, _) in read[OWN]] == [25, 25]


@pytest.mark.parametrize("seconds", [0.001, 0.03, 1.0, 42.0, 100.0])
def test_times_of_steps_are_told_to_a_quarter(seconds: float) -> None:
    telling = Telling()
    telling.step(Figures(seconds, {}, {}))
    (point,) = telling.points()["torch.step.duration"]
    bounds = (0.0, *point.explicit_bounds)
    place = point.bucket_counts.index(1)
    assert bounds[place] < seconds <= bounds[place + 1]
    assert place == 0 or bounds[place + 1] <= bounds[place] * 1.2601


def test_the_boundaries_grow() -> None:
    telling = Telling()
    telling.step(STEP)
    for name, points in telling.points().items():
        for point in points:
            if isinstance(point, HistogramDataPoint):
                bounds = list(point.explicit_bounds)
                assert bounds == sorted(set(bounds)), name
