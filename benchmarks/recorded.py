"""What is recorded, taken before assembly, or sent at once: the one place that reaches into the package for it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter_ns

import torch
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.toy import Toy, training_step
from otel_torch_modules import Config, TorchModuleInstrumentor
from otel_torch_modules._emission.current_span import RecordContext
from otel_torch_modules._emission.provider import LazyTracerProvider
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.device_events import DeviceEvents
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.torch_private.process_group import (
    process_groups,
    rank_and_world_size,
)
from otel_torch_modules._records import Record
from otel_torch_modules._step_context import StepContext

_SENDING_LIMIT_S = 60


class _NoContext:
    """A step context that makes nothing current."""

    def open(self, record: Record) -> bool:
        return True

    def attach(self, record: Record) -> None:
        pass

    def detach(self, record: Record) -> None:
        pass

    def goes_on(self, record: Record) -> bool:
        return True

    def settle(self, record: Record) -> None:
        pass


class _Drops:
    """A sender that sends nothing."""

    ready = True

    def idle(self) -> None:
        pass

    def export(self) -> bool:
        return True

    def close(self) -> None:
        pass


def _do_nothing(*_: object) -> None:
    pass


def _drop(record: Record) -> None:
    pass


def _lost(error: str) -> None:
    raise AssertionError(f"a record was lost to an error of ours, {error}")


def recording_into(
    submit: Callable[[Record], object],
    config: Config | None = None,
    device_events: DeviceEvents | None = None,
) -> AbstractContextManager[Steps]:
    """Record what runs in the block; finished records go to `submit`, on the training thread."""
    config = config or Config()
    return _recording(config, Recorder(config), _NoContext(), submit, device_events)


@contextmanager
def recording_phases() -> Iterator[Steps]:
    """Record what runs in the block with phases only, and do all that the training thread does with a step.

    The step has ids, is sampled, is the program's current span, and is handed to the worker, which drops it.
    """
    config = Config(detail_ranks="1")  # this process is rank 0
    recorder = Recorder(config)
    provider = LazyTracerProvider(TracerProvider(shutdown_on_exit=False), on_found=_do_nothing)
    identity = JobIdentity(config, {}, rank_and_world_size, process_groups)
    context = RecordContext(recorder, provider, provider.prepare, identity)
    deliveries = Deliveries()
    worker = Worker(_Drops(), deliveries, _drop, _do_nothing, _do_nothing, capacity=64_000_000)
    with _recording(config, recorder, context, worker.put) as steps:
        yield steps
    worker.stop(1.0)
    if deliveries.untold or not deliveries.recorded["step"]:
        raise AssertionError(f"what became of the records: {deliveries.outcomes()}")


@contextmanager
def _recording(
    config: Config,
    recorder: Recorder,
    context: StepContext,
    submit: Callable[[Record], object],
    device_events: DeviceEvents | None = None,
) -> Iterator[Steps]:
    steps = Steps(
        config,
        recorder,
        context,
        submit,
        _do_nothing,
        losses=Losses(_lost, _do_nothing),
        causes=Causes((), recorder),
        device_events=device_events,
        hurry=lambda: _do_nothing,
    )
    recorder.install()
    try:
        yield steps
        steps.finish()
    finally:
        recorder.uninstall()


def fill_what_has_a_bound() -> None:
    """Fill what this process, which is traced, keeps of the worker's last stretches of work."""
    tracing = TorchModuleInstrumentor()._tracing
    assert tracing is not None
    stretches = tracing._engine.worker.working_time._stretches
    assert stretches.maxlen is not None
    stretches.extend((perf_counter_ns(), perf_counter_ns()) for _ in range(stretches.maxlen))


def forget_formats() -> None:
    """Empty the cache of Python's `struct`, which has up to a hundred of the formats that columns were written in."""
    struct._clearcache()  # type: ignore[attr-defined]


def send_all() -> None:
    """Have all sent that was recorded in this process, which is traced.

    Raises:
        AssertionError: not all has been after a minute without progress.
    """
    tracing = TorchModuleInstrumentor()._tracing
    assert tracing is not None
    if not tracing._engine.worker.flush(_SENDING_LIMIT_S):
        raise AssertionError(f"nothing more was sent for {_SENDING_LIMIT_S} s")


def record_steps(blocks: int, count: int) -> list[Record]:
    """Return the records of `count` steps of a model of `blocks` blocks."""
    records: list[Record] = []
    train = training_step(Toy(blocks), torch.randn(2, 4, 8))
    with recording_into(records.append) as steps:
        for _ in range(count):
            with steps.step(None):
                train()
    return records
