"""Which records are recorded and how deep, and the way that they leave by."""

from __future__ import annotations

from collections.abc import Callable

from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.requests import Requests
from otel_torch_modules._recording.torch_private.process_group import process_groups
from otel_torch_modules._records import Record
from otel_torch_modules._step_context import StepContext
from otel_torch_modules.config import Config


class Admission:
    """Asked where a record opens, and told where it closes.

    Args:
        config: which phases and which steps are recorded.
        context: makes a record the program's current span.
        submit: takes a finished record; must not block.
        leave_out: takes a step that has ended and was not recorded; must not block.
        short_of_room: whether a record that opens should do without its modules, as too much waits to be sent.
        losses: end with a record that is whole.
        spending: decides how deep records go; None where there is no budget and all are full.
        causes: are in the log of a record that closes, whatever modules did.
        requests: for steps, while the job runs; None where nobody can ask.
    """

    def __init__(
        self,
        config: Config,
        context: StepContext,
        submit: Callable[[Record], object],
        leave_out: Callable[[Record], object],
        short_of_room: Callable[[], bool],
        losses: Losses,
        spending: Spending | None,
        causes: Causes,
        requests: Requests | None,
    ) -> None:
        self._config = config
        self._submit = submit
        self._leave_out = leave_out
        self._short_of_room = short_of_room
        self._losses = losses
        self._spending = spending
        self._causes = causes
        self._requests = requests
        self.context = context

    def admits_step(self, index: int) -> bool:
        """Return whether the step of this number is one of those that are recorded."""
        if self._requests is not None and self._requests.asks_for(index):
            return True
        return self._config.schedule.records(index)

    def open_step(self, record: Record) -> bool:
        """Return whether `record`, a step that opens, is recorded."""
        assert record.index is not None
        record.step_name = self._config.step_name
        for look in self._causes.on_opening:
            look()
        if self._spending is not None:
            self._spending.step_opens()
        request = None if self._requests is None else self._requests.step_opens(record.index)
        record.requested = request is not None
        recorded = (
            not record.lost
            and (
                record.requested
                or ("train" in self._config.phases and self._config.schedule.records(record.index))
            )
            and self.context.open(record)
        )
        if not recorded:
            return False
        self._causes.happened.open_step = record
        if self._short_of_room():
            record.phases_only = record.truncated = True
        if request is not None and self._requests is not None:
            has_modules = not record.truncated and self._requests.records_modules(request)
            record.phases_only = not has_modules
        elif self._spending is not None:
            self._spending.set_depth_of_step(record)
        if process_groups and not record.phases_only:
            self._causes.modules_open()
        return True

    def close(self, record: Record) -> None:
        """Send off a record that is over; of a step that was not recorded it is known when it began and ended.

        Nothing is done where somebody has done so.
        """
        if self._causes.happened.open_step is record:
            self._causes.happened.open_step = None
        if record.lost or next(record.senders) > 0:
            return
        if record.kind == "step":
            if not (record.log or record.sent_bare):
                self._leave_out(record)
                return
            if self._spending is not None:
                self._spending.step_closes(record, self._causes.take_launched())
        if any(self._causes.pending):
            self._causes.put_into(record)
        self._submit(record)
        if self._losses.in_a_row:
            self._losses.end_with_a_whole_record()

    @property
    def admits_dataset_calls(self) -> bool:
        """Whether what datasets call is recorded: not where there is a budget, which knows nothing of it."""
        return self._spending is None

    @property
    def admits_worker_processes(self) -> bool:
        """Whether anything is recorded in the worker processes of data loaders."""
        return self._config.data_workers

    def admits_evaluation(self, last_step: int | None) -> bool:
        """Return whether root forwards outside any step are recorded after the step of this number, or before any."""
        return "eval" in self._config.phases and self.admits_step(last_step or 0)

    def open_evaluation(self, record: Record) -> bool:
        """Return whether `record`, an evaluation that opens, is recorded."""
        for look in self._causes.on_opening:
            look()
        if not self.context.open(record):
            return False
        if self._short_of_room():
            record.phases_only = record.truncated = True
        return True

    def send_apart(self, record: Record) -> None:
        """Send off what lies between two steps, if that is recorded."""
        if self.context.open(record):
            self.close(record)

    def open_forward(self, record: Record) -> None:
        """Decide whether the forward that opens in the evaluation `record` has modules."""
        if self._spending is not None:
            self._spending.set_depth_of_evaluation(record)

    def close_forward(self, events: int | None) -> None:
        """Take note that a forward of an evaluation is over that holds so many events; None where it has no modules."""
        if self._spending is not None:
            self._spending.evaluation_closes(events, self._causes.take_launched())
