"""What is spent comes to the right account: steps and evaluations, the training thread and the worker."""

from __future__ import annotations

import logging

import pytest

from otel_torch_modules._events import WIDTH
from otel_torch_modules._recording.cost.budget import LARGEST_STRIDE
from otel_torch_modules._recording.cost.calibration import CalibrationError, CallCost
from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._records import Record
from otel_torch_modules.schedule import Schedule

MS = 1_000_000
EVENTS = 100


class TakenStamps:
    """So much was spent for them."""

    def __init__(self, taken_ns: int, of_modules: bool) -> None:
        self.taken_ns = taken_ns
        self.of_modules = of_modules

    def passed(self) -> bool:
        return True

    def lose(self) -> None: ...

    def read(self) -> None: ...


class Process:
    """A training process with clocks that go as fast as the test says."""

    def __init__(
        self,
        fraction: float,
        schedule: Schedule | None = None,
        *,
        boundary_ns: int = 10_000,
        event_ns: int = 1_000,
        worker_phases_ns: int = 10_000,
        worker_full_ns: int = 110_000,
        calibrates: bool = True,
        launched: int = 0,
        stamps: TakenStamps | None = None,
        module_stamps_every: int | None = None,
    ) -> None:
        self.schedule = schedule or Schedule()
        self.measured: list[tuple[int, bool]] = []  # when, and whether with a backward
        self._boundary_ns = boundary_ns
        self._event_ns = event_ns
        self._worker_ns = {False: worker_full_ns, True: worker_phases_ns}
        self._calibrates = calibrates
        self._launched = launched
        self._stamps = stamps
        self._module_stamps_every = module_stamps_every
        self._time = 0
        self._worker_time = 0
        self._index = 0
        self._submitted: Record | None = None
        self._spending = Spending(
            fraction,
            self.schedule,
            measure=self._measure,
            clock=lambda: self._time,
            worker_clock=lambda: self._worker_time,
        )

    def step(self, ns: int = 10 * MS) -> Record | None:
        """Make a step; return its record, None where the schedule leaves it out."""
        record = Record("step", self._index, self._time, 0)
        self._spending.step_opens()
        recorded = self.schedule.records(self._index)
        self._index += 1
        if recorded:
            self._spending.set_depth_of_step(record)
            self._work(record)
            record.stamps = self._stamps
            if self._module_stamps_every and (self._index - 1) % self._module_stamps_every:
                record.stamps = None
            self._spending.step_closes(record, self._launched)
        self._time += ns
        return record if recorded else None

    def evaluate(self, ns: int) -> Record:
        """Make a root forward outside a step."""
        record = Record("eval", None, self._time, 0)
        self._spending.set_depth_of_evaluation(record)
        self._work(record)
        self._time += ns
        self._spending.evaluation_closes(None if record.phases_only else EVENTS, self._launched)
        return record

    def _work(self, record: Record) -> None:
        self._spending.spend(self._boundary_ns)
        self._time += self._boundary_ns
        if not record.phases_only:
            record.log.extend([None] * WIDTH * EVENTS)
            self._time += EVENTS * self._event_ns
        self._spending.worker_turns_to(record)
        self._worker_time += self._worker_ns[record.phases_only]

    def _measure(self, backward: bool) -> CallCost:
        self.measured.append((self._time, backward))
        if not self._calibrates:
            raise CalibrationError("on purpose")
        self._time += 5 * MS
        return CallCost(event=self._event_ns, left_out=0, root=0)


def strides(records: list[Record | None]) -> list[int | None]:
    return [record.stride for record in records if record is not None]


def full(records: list[Record | None]) -> list[int | None]:
    return [record.index for record in records if record is not None and not record.phases_only]


def test_all_that_a_full_record_costs_counts() -> None:
    # A step takes 10 ms. Phases cost 20 µs, modules 100 µs on the training thread and 100 µs on the worker: at a stride
    # of 2 that is 120 µs, and with the quarter that goes unseen 150 µs.
    process = Process(0.0155)
    records = [process.step() for _ in range(64)]
    assert strides(records)[-1] == 2
    assert full(records)[-8:] == [48, 50, 52, 54, 56, 58, 60, 62]
    dearer = Process(0.0155, boundary_ns=20_000)
    assert strides([dearer.step() for _ in range(64)])[-1] == 4
    cheaper = Process(0.0155, worker_full_ns=10_000)
    assert strides([cheaper.step() for _ in range(64)])[-1] == 1


def test_what_is_done_beside_calls_counts() -> None:
    # As above at a stride of 2: 150 of 155 µs. One collective adds 5 µs to each step and 5 to one with modules, ten
    # events of 1 µs; six of the device's events, of a microsecond each, as much.
    for process, stride in (
        (Process(0.0155, launched=1), 4),
        (Process(0.0155, stamps=TakenStamps(6_000, False)), 4),
        (Process(0.0155, stamps=TakenStamps(12_000, True)), 4),
        # What few steps have counts by its share.
        (Process(0.0155, stamps=TakenStamps(192_000, True), module_stamps_every=16), 4),
        (Process(0.0155, stamps=TakenStamps(12_000, True), module_stamps_every=16), 2),
    ):
        assert strides([process.step() for _ in range(64)])[-1] == stride


def test_what_an_evaluation_launches_counts_there() -> None:
    # Phases cost 20 µs and modules 200, with the unseen quarter 275 of 300 µs.
    evaluations = {launched: Process(0.03, launched=launched) for launched in (0, 4)}
    found = {
        launched: [process.evaluate(10 * MS) for _ in range(64)][-1].stride
        for launched, process in evaluations.items()
    }
    assert found == {0: 1, 4: 2}


def test_a_schedule_counts_recorded_steps_and_the_whole_time() -> None:
    # One step in 4 is recorded, so a recorded one may cost four times as much: 150 of 155 µs at a stride of 2.
    process = Process(0.0155 / 4, Schedule(wait=3, active=1))
    records = [process.step() for _ in range(256)]
    assert strides(records)[-1] == 2
    assert full(records)[-4:] == [227, 235, 243, 251]


def test_evaluations_have_a_budget_of_their_own() -> None:
    process = Process(0.0125)
    for _ in range(64):
        process.step(100 * MS)
    evaluations: list[Record | None] = [process.evaluate(MS) for _ in range(1_000)]
    # Phases alone cost more than 1.25 % of a millisecond.
    assert strides(evaluations)[-1] == LARGEST_STRIDE
    assert [record is not None and not record.phases_only for record in evaluations] == [
        *[True] * 4,
        *[False] * 996,
    ]
    assert strides([process.step(100 * MS) for _ in range(16)]) == [1] * 16


def test_one_evaluation_now_and_then_is_in_full() -> None:
    process = Process(0.0125)
    for _ in range(40):
        for _ in range(10):
            process.step()
        evaluation = process.evaluate(MS)
    assert evaluation.stride == 1
    assert not evaluation.phases_only


def test_calibration_is_renewed_ever_more_seldom_and_at_least_once_a_minute() -> None:
    process = Process(1)
    for _ in range(300):
        process.step(1_000 * MS)
    process.evaluate(MS)
    times = [round(time / 1e9) for time, _ in process.measured]
    assert times == [0, 4, 12, 28, 60, 120, 180, 240, 300]
    assert [backward for _, backward in process.measured] == 8 * [True] + [False]


def test_where_calibration_fails_costs_are_guessed_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = Process(0.0125, calibrates=False)
    records = [process.step(1_000 * MS) for _ in range(200)]
    assert len(process.measured) == 1
    assert strides(records)[-1] == 1
    assert [record.getMessage() for record in caplog.records] == [
        "What a module call costs is guessed, not measured: on purpose"
    ]


def test_phases_alone_over_budget_are_said_once_for_each_account_with_its_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = Process(0.001, worker_phases_ns=20_000)
    with caplog.at_level(logging.INFO):
        forwards: list[Record | None] = [process.evaluate(100_000) for _ in range(400)]
        assert len(caplog.records) == 1
        steps = [process.step() for _ in range(400)]
        for _ in range(400):
            process.evaluate(100_000)
    assert [strides(records)[-1] for records in (forwards, steps)] == [LARGEST_STRIDE] * 2
    assert caplog.messages == [
        "Phases alone cost 38 µs a forward outside steps, more than the 0.1 that OTEL_TORCH_MODULES_MAX_OVERHEAD "
        "allows: one in 1024 has modules. OTEL_TORCH_MODULES_PHASES=train leaves such forwards out",
        "Phases alone cost 38 µs a step, more than the 10 that OTEL_TORCH_MODULES_MAX_OVERHEAD allows: one in 1024 has "
        "modules. OTEL_TORCH_MODULES_SCHEDULE leaves out whole steps",
    ]
