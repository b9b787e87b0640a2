"""The whole route of a record, for as long as a process is instrumented. But what looks on (`_lookout.py`) nothing else
knows all four of its rooms.

The program's threads record, and put what is finished. The engine's thread assembles it and emits the spans.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import ExitStack

import torch
from opentelemetry.trace import TracerProvider

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._assembly.repeating.known_cuts import KnownCuts
from otel_torch_modules._emission import step_metrics
from otel_torch_modules._emission.emission import Emission
from otel_torch_modules._engine import fork
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.engine import Engine
from otel_torch_modules._engine.keeping import Keeping, has_modules
from otel_torch_modules._interruption import suppressed
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._log import inform
from otel_torch_modules._lookout import Lookout
from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.compiled_marks.compiled_marks import CompiledMarks
from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._recording.device_events import DeviceEvents
from otel_torch_modules._recording.dynamo import skip_own_frames
from otel_torch_modules._recording.loop.hooks import LoopHooks
from otel_torch_modules._recording.loop.process_group import ProcessGroupEnd
from otel_torch_modules._recording.loop.standing import Standing
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.requests import Requests
from otel_torch_modules._recording.torch_private.process_group import (
    process_groups,
    rank_and_world_size,
)
from otel_torch_modules._recording.torch_private.profiler import import_for_profiler
from otel_torch_modules._recording.torch_private.version import is_unchecked
from otel_torch_modules._records import Record
from otel_torch_modules.config import Config

logger = logging.getLogger("otel_torch_modules")

_MOST_LEFT_OUT = 4_096  # steps; the worker comes for them a few times a second

_STOP_TIMEOUT_S = 30.0  # of a program that takes tracing down itself, and goes on afterwards


class Tracing:
    """From hooks to spans.

    Args:
        config: the options.
        tracer_provider: where spans go; None for the program's own, or one made for it.
    """

    def __init__(self, config: Config, tracer_provider: TracerProvider | None) -> None:
        self._hooked = ExitStack()
        """Takes off each hook that is on, whatever comes of another."""
        self._recorder = Recorder(config)
        self._spending = (
            None if config.max_overhead is None else Spending(config.max_overhead, config.schedule)
        )
        self._assembler = Assembler(config)
        self._assembler_apart = Assembler(config)  # of what is measured and not sent
        self._cuts = KnownCuts()
        self._keeping = None if config.keep is None else Keeping(config.keep, config.schedule)
        self._job_context = JobContext(os.environ)
        self._identity = JobIdentity(config, os.environ, rank_and_world_size, process_groups)
        self._deliveries = Deliveries()
        self._emission = Emission(
            open_span=self._recorder,
            identity=self._identity,
            job_context=self._job_context,
            deliveries=self._deliveries,
            tracer_provider=tracer_provider,
            on_found=lambda: self._engine.start(),
            services=config.services,
        )
        self._engine = Engine(
            self._emission,
            self._deliveries,
            handle=self._handle,
            hand_over=self._hand_over,
            look=lambda: self._lookout.look(),
            finish=self._finish,
        )
        self._causes = Causes(config.causes, self._recorder)
        self._says_tracing_time = "host" in config.causes
        self._device_events = _device_events(config)
        self._losses = Losses(self._engine.worker.lose, self._hooked.close)
        self._requests = (
            Requests(self._recorder, self._engine.worker.start, self._rank)
            if config.control
            else None
        )
        self._steps = Steps(
            config,
            self._recorder,
            self._emission.context,
            self._engine.worker.put,
            self._leave_out,
            losses=self._losses,
            causes=self._causes,
            hurry=lambda: self._engine.worker.hurry,
            short_of_room=self._engine.worker.queue.is_nearly_full,
            device_events=self._device_events,
            spending=self._spending,
            requests=self._requests,
        )
        self._causes.loop = self._steps.loop
        self._compiled_marks: CompiledMarks | None = None
        if config.compiled_marks:
            self._compiled_marks = CompiledMarks(config.compiled_marks, self._recorder)
            self._causes.on_opening.append(self._compiled_marks.record_opens)
        spend = None if self._spending is None else self._spending.spend
        self._hooks = LoopHooks(self._steps.loop, spend)
        self._group_end = ProcessGroupEnd(self._send_early, self._recorder.fail)
        self._lookout = Lookout(
            config,
            Standing(self._steps.current, self._recorder),
            self._requests,
            identity=self._identity,
            deliveries=self._deliveries,
            assembler=self._assembler,
            emission=self._emission,
        )
        # Steps that were not recorded, until the worker tells of them.
        self._left_out: deque[Record] = deque(maxlen=_MOST_LEFT_OUT)
        self.step = self._steps.step

    def start(self) -> None:
        """Put the hooks on."""
        if is_unchecked():
            inform(logger, "Tracing has not been tried with torch %s yet", torch.__version__)
        fork.watch(self)
        step_metrics.watch(self._engine.worker)
        skip_own_frames()
        import_for_profiler()
        self._job_context.attach()
        for part in (
            self._recorder,
            self._hooks,
            self._group_end,
            self._causes,
            self._device_events,
            self._compiled_marks,
        ):
            if part is not None:
                self._hooked.callback(part.uninstall)  # also what is half on where it fails
                part.install()

    def stop(self) -> None:
        """Take the hooks off, send what was recorded and end all threads: each, whatever another raises."""
        with ExitStack() as undo:
            undo.callback(self._job_context.detach)
            undo.callback(step_metrics.unwatch, self._engine.worker)
            undo.callback(self._engine.stop, _STOP_TIMEOUT_S)
            undo.callback(self._hooked.close)
            undo.callback(fork.unwatch, self)

    def after_fork_in_child(self) -> None:
        """Forget the parent's step: the parent sends it."""
        self._steps.abandon()
        self._left_out.clear()
        self._lookout.forget()
        self._causes.forget()
        if self._device_events is not None:
            self._device_events.forget()

    def _send_early(self) -> None:
        """The job says that it ends: it may be killed before the process does."""
        self._steps.hand_over_ended()
        self._engine.send_early()

    def _leave_out(self, record: Record) -> None:
        """A step that was not recorded has ended: metrics tell of it all the same."""
        self._left_out.append(record)
        if self._emission.measures_anyway:
            self._emission.prepare()  # the worker starts with the provider

    def _handle(self, record: Record) -> None:
        """Assemble `record` and send it."""
        with self._deliveries.assembling(record):
            # Assembly keeps the last records for a while, and a context may hold what is the program's.
            context, record.context = record.context, None
            self._causes.measures.say(record)
            if record.stamps is not None:
                _read_device_times(record)
            if self._says_tracing_time and record.kind == "step":
                self._engine.worker.working_time.say(record)
            self._emission.context.settle(record)
            if self._spending is not None:
                self._spending.worker_turns_to(record)
            self._lookout.tell(record)
            if self._keeping is not None:
                self._leave_out_modules(self._keeping, record)
            tree = self._assembler.assemble(record)
            self._lookout.tell_phases(record, tree)
            sent = self._emission.emit(tree, context)
            if record.kind == "step":
                self._emission.measure(record, tree, sent=sent)
            tree.release()

    def _leave_out_modules(self, keeping: Keeping, record: Record) -> None:
        """Cut `record` down to its phases, unless it is to be sent whole."""
        if has_modules(record):
            record.kept = keeping.decide(record)
            if record.kept is None:
                if record.kind == "step":
                    assemble = self._assembler_apart.assemble
                    self._emission.measure_modules_left_out(record, assemble)
                record.log = self._cuts.cut(record.log)
                record.phases_only = True

    def _hand_over(self) -> None:
        """Put what is finished: on the worker's thread, a few times a second."""
        self._steps.hand_over_idle()
        with suppressed(IndexError):
            while True:
                self._emission.measure_left_out(self._left_out.popleft())

    def _rank(self) -> int | None:
        return self._identity.rank

    def _finish(self) -> None:
        try:
            self._lookout.close()
            self._steps.finish()
        except BaseException:
            if self._recorder.fail("where the last step is handed over"):
                raise


def _read_device_times(record: Record) -> None:
    """Let `record` have the times of the device, if these are known."""
    record.device, record.stamps = record.stamps.read(), None
    if record.device is not None:
        record.measured = {**record.measured, **record.device.measured}


def _device_events(config: Config) -> DeviceEvents | None:
    if config.device_time == "off":
        return None
    every = config.device_every if config.device_time == "modules" else None
    return DeviceEvents(every, config.schedule)
