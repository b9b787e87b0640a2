"""Every span name, attribute, event, metric and scope name this package writes.

The names under ``torch.`` are this project's own; the rest are OpenTelemetry's semantic conventions.
Nothing here imports torch or the SDK, so readers of traces can use the same constants as the writer.
"""

from __future__ import annotations

from typing import Final

SCOPE_NAME: Final = "otel_torch_modules"
SERVICE_PART_SEPARATOR: Final = (
    " · "  # between a service's name and the phase or rank it is parted by
)

# Span names: a fixed word, or a word and a label of low cardinality.
STEP: Final = "train.step"
EVALUATION: Final = "evaluate"
STALL: Final = "train.stall"
BACKWARD_PASS: Final = "backward"
DATA_WAIT: Final = "dataloader.next"
FORWARD_PREFIX: Final = "forward "
BETWEEN: Final = "between"
BACKWARD_PREFIX: Final = "backward "
RECOMPUTE_PREFIX: Final = "recompute "
OPTIMIZER_PREFIX: Final = "optimizer.step "
RANK_PREFIX: Final = "rank "
COMPILATION: Final = "compile"
GARBAGE_COLLECTION: Final = "python.gc"
CHECKPOINT_PREFIX: Final = "checkpoint."
DEVICE: Final = "device"  # below it the phases that ran there, by their words

# Attributes of every span.
PHASE: Final = "torch.phase"

# Of what lies right below an optimizer's span: the phase of that. The optimizer's own time is without it.
PHASE_PARENT: Final = "torch.phase.parent"

# Values of `torch.phase`.
PHASE_STEP: Final = "step"
PHASE_RANK: Final = "rank"
PHASE_DATA: Final = "data"
PHASE_FORWARD: Final = "forward"
PHASE_BACKWARD: Final = "backward"
PHASE_RECOMPUTE: Final = "recompute"
PHASE_OPTIMIZER: Final = "optimizer"
PHASE_BETWEEN: Final = "between"
PHASE_EVALUATE: Final = "evaluate"
PHASE_STALL: Final = "stall"
PHASE_COMPILE: Final = "compile"
PHASE_GC: Final = "gc"
PHASE_CHECKPOINT: Final = "checkpoint"
PHASE_LOOP: Final = "loop"
PHASE_COLLECTIVE: Final = "collective"
PHASE_DEVICE: Final = "device"  # of the lane: its times are no part of the host's

# Attributes of module spans.
MODULE_FQN: Final = "torch.module.fqn"
MODULE_PATTERN: Final = "torch.module.pattern"
MODULE_CLASS: Final = "torch.module.class"
MODULE_CALL_INDEX: Final = "torch.module.call_index"
MODULE_TRAINING: Final = "torch.module.training"
MODULE_PARAMETERS: Final = "torch.module.parameters"
MODULE_INPUT_SHAPES: Final = "torch.module.input.shapes"
MODULE_INPUT_DTYPES: Final = "torch.module.input.dtypes"
MODULE_OUTPUT_SHAPES: Final = "torch.module.output.shapes"
MODULE_OUTPUT_DTYPES: Final = "torch.module.output.dtypes"
SELF_TIME: Final = "torch.self_time"
COMPILED: Final = "torch.compiled"
COMPILED_REGION: Final = "torch.compiled.region"
COMPILED_MODULES: Final = "torch.compiled.modules"
CODE_FUNCTION_NAME: Final = "code.function.name"

# Attributes of the step span and of the rank spans below it.
STEP_INDEX: Final = "torch.step"
STEP_MICRO_BATCHES: Final = "torch.step.micro_batches"
STEP_SKIPPED: Final = "torch.step.skipped"
STEP_TRUNCATED: Final = "torch.step.truncated"
STEP_DROPPED: Final = "torch.step.dropped"
STEP_STRIDE: Final = "torch.step.stride"
STEP_STALLED: Final = "torch.step.stalled"
STEP_KEPT: Final = "torch.step.kept"
STEP_SLOWDOWN: Final = "torch.step.slowdown"

# Values of `torch.step.kept`.
KEPT_SLOW: Final = "slow"
KEPT_FAILED: Final = "failed"
KEPT_FIRST: Final = "first"
KEPT_EVERY: Final = "every"
KEPT_REQUESTED: Final = "requested"
STEP_CPU_TIME: Final = "torch.step.cpu_time"
STEP_SWITCHES: Final = "torch.step.involuntary_switches"
STEP_EXPOSED: Final = "torch.step.exposed_communication"
STEP_TRACING_TIME: Final = "torch.step.tracing_time"
STEP_MAJOR_FAULTS: Final = "torch.step.major_faults"
MEMORY_ALLOCATED: Final = "torch.device.memory.allocated"
MEMORY_PEAK: Final = "torch.device.memory.peak"
MEMORY_RESERVED: Final = "torch.device.memory.reserved"
MEMORY_ALLOC_RETRIES: Final = "torch.device.memory.alloc_retries"
MEMORY_DEVICE_ALLOCS: Final = "torch.device.memory.device_allocs"
MEMORY_OOMS: Final = "torch.device.memory.ooms"

# What the device says of a span, and of the step.
DEVICE_DURATION: Final = "torch.device.duration"
DEVICE_LAG: Final = "torch.device.lag"
DEVICE_FORWARD_LAG: Final = "torch.device.forward_lag"
DEVICE_CLOCK_ERROR: Final = "torch.device.clock_error"

# Attributes of the span of a stall and of the rank spans below it.
STALL_DURATION: Final = "torch.stall.duration"
STALL_REASON: Final = "torch.stall.reason"
STALL_PLACE: Final = "torch.stall.place"
STALL_FRAMES: Final = "torch.stall.frames"
STALL_COLLECTIVES: Final = "torch.stall.collectives"
CODE_STACKTRACE: Final = "code.stacktrace"

# Values of `torch.stall.reason`.
STALL_NO_PROGRESS: Final = "no_progress"
STALL_KILLED: Final = "killed"

# Attribute of all spans that had not ended when a stall was looked at.
UNFINISHED: Final = "torch.unfinished"

# Attribute of the span of an evaluation and of the rank spans below it, beside the number of the last step and others
# of those.
EVALUATION_FORWARDS: Final = "torch.evaluate.forwards"

# The place in a job of many ranks: the first is on rank spans, all are resource attributes.
DISTRIBUTED_RANK: Final = "torch.distributed.rank"
DISTRIBUTED_LOCAL_RANK: Final = "torch.distributed.local_rank"
DISTRIBUTED_WORLD_SIZE: Final = "torch.distributed.world_size"
DISTRIBUTED_NODE_RANK: Final = "torch.distributed.node_rank"
DISTRIBUTED_RUN_ID: Final = "torch.distributed.run_id"

# Attribute of optimizer spans.
OPTIMIZER_CLASS: Final = "torch.optimizer.class"

# Of a step, and of the rank spans below it, whose optimizer no span shows.
OPTIMIZER_COMPILED: Final = "torch.optimizer.compiled"

# Of a compilation. `0/1` is the second one of the first frame: its first recompilation.
COMPILE_ID: Final = "torch.compile.id"
COMPILE_TRIGGER: Final = "torch.compile.trigger"
COMPILE_FUNCTION: Final = "torch.compile.function"
RECOMPILE_REASON: Final = "torch.compile.recompile_reason"
CODE_FILE_PATH: Final = "code.file.path"

# Of a collection of garbage. The names are those of OpenTelemetry's metrics of CPython.
GC_GENERATION: Final = "cpython.gc.generation"
GC_COLLECTED: Final = "cpython.gc.collected"

# Of a checkpoint, beside the function that was called.
FILE_SIZE: Final = "file.size"

# Of a collective: the bytes of the tensors that this rank gives (of `recv` and `scatter`: that it takes), their type,
# the process group and how many ranks it has, whether the caller went on at once, and whether its end is known.
COLLECTIVE_BYTES: Final = "torch.collective.bytes"
COLLECTIVE_DTYPE: Final = "torch.collective.dtype"
COLLECTIVE_GROUP: Final = "torch.collective.group"
COLLECTIVE_GROUP_SIZE: Final = "torch.collective.group.size"
COLLECTIVE_ASYNC: Final = "torch.collective.async"
COLLECTIVE_COMPLETED: Final = "torch.collective.completed"

# Events and their attributes: https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_TRUNCATED: Final = "torch.exception.truncated"

# Metrics about this package itself: the SDK's own `otel.sdk.processor.span.*`, with `torch` and `step` in the place of
# `otel`, which is reserved, and `span`. https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/
METRIC_PROCESSED: Final = "torch.sdk.processor.step.processed"
METRIC_QUEUE_SIZE: Final = "torch.sdk.processor.step.queue.size"
METRIC_QUEUE_CAPACITY: Final = "torch.sdk.processor.step.queue.capacity"
UNIT_STEP: Final = "{step}"
UNIT_BYTES: Final = "By"

# Metrics of training.
METRIC_STEPS: Final = "torch.steps"
METRIC_STEP_DURATION: Final = "torch.step.duration"
METRIC_STEP_INDEX: Final = "torch.step.index"
METRIC_STEP_AGE: Final = "torch.step.age"
METRIC_PHASE_DURATION: Final = "torch.phase.duration"
METRIC_SELF_TIME: Final = "torch.module.self_time"
UNIT_SECONDS: Final = "s"

# The value of `torch.module.pattern` that stands for all the modules whose own series would be too many.
OTHER_PATTERNS: Final = "other"

# Attributes of these metrics, and their values.
COMPONENT_TYPE: Final = "otel.component.type"
COMPONENT_NAME: Final = "otel.component.name"
STEP_PROCESSOR: Final = "torch_step_processor"
ERROR_TYPE: Final = "error.type"
QUEUE_FULL: Final = "queue_full"
ALREADY_SHUTDOWN: Final = "already_shutdown"
ERROR_OTHER: Final = "_OTHER"

# Resource attributes.
TORCH_VERSION: Final = "torch.version"
ACCELERATOR: Final = "torch.accelerator"
