"""Recording, assembly and emission put together, for as long as a process is instrumented."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AbstractContextManager
from types import ModuleType

import torch
from opentelemetry.trace import TracerProvider

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission.pipeline import Pipeline
from otel_torch_modules._engine import fork
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._job.process_group import rank_and_world_size
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._recording.dynamo import skip_frames_of
from otel_torch_modules._recording.loop.hooks import LoopHooks
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.torch_private import is_unchecked
from otel_torch_modules._records import Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import Span
from otel_torch_modules.config import Config

logger = logging.getLogger("otel_torch_modules")

_STOP_TIMEOUT_S = 30.0  # of a program that takes tracing down itself, and goes on afterwards


class Tracing:
    """From hooks to spans.

    Args:
        config: the options.
        tracer_provider: where spans go; None for the program's own, or one made for it.
    """

    def __init__(self, config: Config, tracer_provider: TracerProvider | None) -> None:
        self._recorder = Recorder(config)
        self._assembler = Assembler(config)
        self._spending = (
            None if config.max_overhead is None else Spending(config.max_overhead, config.schedule)
        )
        self._job_context = JobContext(os.environ)
        self._pipeline = Pipeline(
            assemble=self._assemble,
            open_span=self._recorder,
            hand_over=self._hand_over,
            finish=self._finish,
            identity=JobIdentity(config, os.environ, rank_and_world_size),
            job_context=self._job_context,
            tracer_provider=tracer_provider,
        )
        self._losses = Losses(self._pipeline.lose, self._unhook)
        self._steps = Steps(
            config,
            self._recorder,
            self._pipeline.context,
            self._submit,
            losses=self._losses,
            spending=self._spending,
        )
        self._hooks = LoopHooks(self._steps.loop)

    def start(self) -> None:
        """Put the hooks on."""
        if is_unchecked():
            logger.info("Tracing has not been tried with torch %s yet", torch.__version__)
        fork.watch(self)
        skip_frames_of(*_own_modules())
        self._job_context.attach()
        self._recorder.install()
        self._hooks.install()

    def stop(self) -> None:
        """Take the hooks off, send what was recorded and end all threads."""
        fork.unwatch(self)
        self._unhook()
        self._pipeline.stop(_STOP_TIMEOUT_S)
        self._job_context.detach()

    def step(self, index: int | None) -> AbstractContextManager[None]:
        """See :func:`otel_torch_modules.step`."""
        return self._steps.step(index)

    def after_fork_in_child(self) -> None:
        """Forget the parent's step: the parent sends it."""
        self._steps.abandon()

    def _unhook(self) -> None:
        self._hooks.uninstall()
        self._recorder.uninstall()

    def _assemble(self, record: Record) -> Span | SpanColumns:
        if self._spending is not None:
            self._spending.worker_turns_to(record)
        return self._assembler.assemble(record)

    def _submit(self, record: Record) -> bool:
        taken = self._pipeline.put(record)
        self._losses.end_with_a_whole_record()
        return taken

    def _hand_over(self) -> None:
        self._steps.hand_over_idle()

    def _finish(self) -> None:
        try:
            self._steps.finish()
        except Exception:
            self._recorder.fail("where the last step is handed over")


def _own_modules() -> list[ModuleType]:
    return [
        module for name, module in list(sys.modules.items()) if name.startswith(f"{__package__}.")
    ]
