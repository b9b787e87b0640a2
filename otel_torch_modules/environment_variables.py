"""The environment variables of this package, one constant and one docstring each.

Booleans are ``true`` or ``false`` in any case; a variable that is unset or empty has its default. What
OpenTelemetry's own ``OTEL_*`` variables say holds here as elsewhere.
"""

from __future__ import annotations

from typing import Final

OTEL_TORCH_MODULES_ENABLED: Final = "OTEL_TORCH_MODULES_ENABLED"
"""Trace this process from the end of ``import torch`` on. ``true`` or ``false``; default ``false``."""

OTEL_TORCH_MODULES_PHASES: Final = "OTEL_TORCH_MODULES_PHASES"
"""What is recorded: ``train`` (steps), ``eval`` (root forwards outside a step), or both with a comma.

Default ``train,eval``.
"""

OTEL_TORCH_MODULES_INCLUDE: Final = "OTEL_TORCH_MODULES_INCLUDE"
"""Globs with commas; only modules whose fqn (``GPT.h.*``) or class (``Linear``) matches one have spans.

Default: all modules. A module left out passes its children up to its nearest recorded ancestor.
"""

OTEL_TORCH_MODULES_EXCLUDE: Final = "OTEL_TORCH_MODULES_EXCLUDE"
"""Globs with commas; modules whose fqn or class matches one have no spans, whatever ``INCLUDE`` says.

Default: none.
"""

OTEL_TORCH_MODULES_MAX_DEPTH: Final = "OTEL_TORCH_MODULES_MAX_DEPTH"
"""How many levels of module calls have spans, the root's included. An integer of at least 1; default: all."""

OTEL_TORCH_MODULES_SPAN_KIND: Final = "OTEL_TORCH_MODULES_SPAN_KIND"
"""``separate``: forward spans are PRODUCER and backward spans CONSUMER. ``internal``: all are INTERNAL.

Default ``separate``; ``internal`` suits a shared backend that draws service graphs.
"""

OTEL_TORCH_MODULES_SCHEDULE: Final = "OTEL_TORCH_MODULES_SCHEDULE"
"""Which steps are recorded, in the words of ``torch.profiler.schedule``.

``skip_first=10,wait=99,active=1,repeat=0``, any of them: after ``skip_first`` steps, ``wait`` steps are left
out and ``active`` steps recorded, again and again, or ``repeat`` times where that is not 0. Default: every step.
"""

OTEL_TORCH_MODULES_MAX_OVERHEAD: Final = "OTEL_TORCH_MODULES_MAX_OVERHEAD"
"""The most that tracing may cost, as a share of the time of the job untraced: ``0.01`` is one percent.

A number above 0 and at most 1; default: no limit. Steps over budget are recorded with phases only, all but one in
``torch.step.stride``.
"""

OTEL_TORCH_MODULES_KEEP: Final = "OTEL_TORCH_MODULES_KEEP"
"""Which of the steps and evaluations that were recorded with their modules are sent with them.

``slow=1.3,every=100,first=3``, any of them: those that take more than ``slow`` times what is usual, every so many, the
first so many, and those that fail; of the others the phases are sent. Default: all. See ``torch.step.kept``.
"""

OTEL_TORCH_MODULES_MAX_SPANS_PER_STEP: Final = "OTEL_TORCH_MODULES_MAX_SPANS_PER_STEP"
"""No step has more module spans than this; what is cut off is said by ``torch.step.truncated``.

An integer of at least 1; default 100000.
"""

OTEL_TORCH_MODULES_RECORD_SHAPES: Final = "OTEL_TORCH_MODULES_RECORD_SHAPES"
"""Put shapes and dtypes of inputs and outputs on forward spans. ``true`` or ``false``; default ``false``."""

OTEL_TORCH_MODULES_RANKS: Final = "OTEL_TORCH_MODULES_RANKS"
"""Which ranks of a job record anything: ``all``, or ranks, ranges and steps with commas (``0,8,16-23,*/64``).

Default ``all``. The lowest of them sends the step's own span. A job of one process is rank 0.
"""

OTEL_TORCH_MODULES_DETAIL_RANKS: Final = "OTEL_TORCH_MODULES_DETAIL_RANKS"
"""Which of these ranks record modules; written like ``RANKS``, default ``all``.

The others record phases only: the step, data wait, root forwards, backward passes, optimizers.
"""

OTEL_TORCH_MODULES_DATA_WORKERS: Final = "OTEL_TORCH_MODULES_DATA_WORKERS"
"""Trace the modules that a dataset calls in the worker processes of a ``DataLoader``: each root forward is a trace.

``true`` or ``false``; default ``false``: nothing is recorded there.
"""

OTEL_TORCH_MODULES_RUN_ID: Final = "OTEL_TORCH_MODULES_RUN_ID"
"""The name of the run, the same on all ranks and another one for each run: their steps share traces by it.

Any string. Default: what the launcher says (torchrun, Ray Train, Kubeflow, Slurm, Open MPI, Intel MPI).
"""

OTEL_TORCH_MODULES_STALL_TIMEOUT: Final = "OTEL_TORCH_MODULES_STALL_TIMEOUT"
"""When nothing has happened for so many seconds where something is waited for, say where each rank stands.

A number of at least 0; ``0`` is off. Default 60. See ``train.stall``.
"""

OTEL_TORCH_MODULES_BLACKBOX: Final = "OTEL_TORCH_MODULES_BLACKBOX"
"""A folder, one for each job, where each rank keeps a file that says where it stands: it is left behind by a kill.

Default: none. The next start of the job sends what was left behind as ``train.stall``.
"""

OTEL_TORCH_MODULES_CONTROL: Final = "OTEL_TORCH_MODULES_CONTROL"
"""A folder that all ranks and the user share, one for each job: there ``otel-torch-modules record`` asks for steps.

Default: none. Each rank says there once a second where it stands, which ``otel-torch-modules top`` shows.
"""

OTEL_TORCH_MODULES_CAUSES: Final = "OTEL_TORCH_MODULES_CAUSES"
"""What is recorded of that which takes time beside modules: ``all``, ``none``, or names with commas.

The names: ``compile``, ``gc``, ``checkpoint``, ``collective``, ``loop`` (clipping, ``zero_grad``, scaler, scheduler),
``host``, ``memory``. Default ``all``.
"""

OTEL_TORCH_MODULES_DEVICE_TIME: Final = "OTEL_TORCH_MODULES_DEVICE_TIME"
"""What has the time that the device took, beside that of the thread that trains: ``off``, ``phases``, ``modules``.

Default ``phases``: root forwards, backward passes and optimizers of each step, where the process uses an accelerator;
``modules``: in some steps all modules too. Nothing synchronises with it.
"""

OTEL_TORCH_MODULES_DEVICE_EVERY: Final = "OTEL_TORCH_MODULES_DEVICE_EVERY"
"""With ``DEVICE_TIME=modules``, in one step of so many modules have the device's times.

An integer of at least 1; default 16.
"""

OTEL_TORCH_MODULES_COMPILED_MARKS: Final = "OTEL_TORCH_MODULES_COMPILED_MARKS"
"""Inside which modules of a compiled one there are spans too: globs with commas over names, as ``*.h.*``.

Default: none. What is before the first dot stands for the compiled module. Kernels are no longer made of operations on
both sides of a border, so that numbers of low precision may be others.
"""

OTEL_TORCH_MODULES_SERVICES: Final = "OTEL_TORCH_MODULES_SERVICES"
"""Which services spans are of: ``one``; ``phases`` or ``ranks``, a service for each (``my-training · backward``).

Default ``one``. Jaeger gives each service a colour. Only where the program sets no tracer provider of its own.
"""

OTEL_TORCH_MODULES_STEP_NAME: Final = "OTEL_TORCH_MODULES_STEP_NAME"
"""What the span of a step is called; ``{step}`` stands for its number.

Default ``train.step``. With the number, names are as many as steps are: an operation each in Jaeger's list.
"""

OTEL_TORCH_MODULES_FILE: Final = "OTEL_TORCH_MODULES_FILE"
"""Where OTLP JSON lines are written, by ``OTEL_TRACES_EXPORTER=otlp_file`` or where that is unset.

``{pid}`` and ``{rank}`` are filled in.
"""
