"""The plain data that crosses from recording to assembly and to emission.

A :class:`Record` is one step, or root forwards outside any step. Its ``log`` is one flat list that the
hot path only ever extends, `WIDTH` slots an event, in the order in which things happened in the process.
A flat list of integers and shared references costs no object of its own per event, so recording neither
sets off the garbage collector nor needs it. What the slots hold, `_events.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Literal, NamedTuple, Protocol

from otel_torch_modules import semconv
from otel_torch_modules._events import Varying
from otel_torch_modules._site import Site

# What is measured of a step as a whole: see `Record.measured`.
STEP_CPU_TIME: Final = Varying(semconv.STEP_CPU_TIME, float)
STEP_SWITCHES: Final = Varying(semconv.STEP_SWITCHES, int)
STEP_EXPOSED: Final = Varying(semconv.STEP_EXPOSED, float)
STEP_TRACING_TIME: Final = Varying(semconv.STEP_TRACING_TIME, float)
STEP_MAJOR_FAULTS: Final = Varying(semconv.STEP_MAJOR_FAULTS, int)
MEMORY_ALLOCATED: Final = Varying(semconv.MEMORY_ALLOCATED, int)
MEMORY_PEAK: Final = Varying(semconv.MEMORY_PEAK, int)
MEMORY_RESERVED: Final = Varying(semconv.MEMORY_RESERVED, int)
MEMORY_ALLOC_RETRIES: Final = Varying(semconv.MEMORY_ALLOC_RETRIES, int)
MEMORY_DEVICE_ALLOCS: Final = Varying(semconv.MEMORY_DEVICE_ALLOCS, int)
MEMORY_OOMS: Final = Varying(semconv.MEMORY_OOMS, int)

# What the device says, in seconds: of a step, and but for the last two of a span. See `DeviceTimes`.
DEVICE_DURATION: Final = Varying(semconv.DEVICE_DURATION, float)
DEVICE_LAG: Final = Varying(semconv.DEVICE_LAG, float)
DEVICE_FORWARD_LAG: Final = Varying(semconv.DEVICE_FORWARD_LAG, float)
DEVICE_CLOCK_ERROR: Final = Varying(semconv.DEVICE_CLOCK_ERROR, float)


class Raised(NamedTuple):
    """An exception that left a call, as text: the exception itself would keep tensors alive."""

    type: str
    message: str
    stacktrace: str  # empty but on the innermost call that it left
    truncated: bool = False  # message or stack trace


class OuterParent(NamedTuple):
    """The span that was current when the record was opened: the program's own, or another process's."""

    trace_id: int
    span_id: int
    trace_flags: int
    trace_state: Any  # opentelemetry's TraceState, only handed on
    remote: bool = False  # another process's


class SharedStep(NamedTuple):
    """The span of a step to which several ranks send a span each, with the same trace id."""

    span_id: int
    rank: int  # of this process
    sent_here: bool  # else another rank sends it


class Kept(NamedTuple):
    """Why a record is sent with its modules, where most are sent without."""

    reason: str
    slowdown: float | None = None  # how many times what is usual it took, where that is the reason


class Stall(NamedTuple):
    """Why a record is looked at that has not ended: nothing has happened in it for a while."""

    seconds: float  # for how long
    number: int  # counts how often that was said of the same wait, from 0
    reason: str
    frames: str  # of the thread that does not get on
    stacktrace: str  # of all threads
    collectives: tuple[str, ...]  # that this rank has begun last in each group
    opened: Record | None  # what is recorded and open; None where that is nothing


class DeviceTimes(NamedTuple):
    """When the device came to what a step has put on its streams."""

    times: Mapping[int, int]  # by the times in the log of what it belongs to; both perf_counter_ns
    measured: Mapping[Varying, Any]  # of the step as a whole
    of_modules: bool = False  # not of phases alone


class Stamps(Protocol):
    """What a step has put on the device's streams, which has not come to it yet. Asked on the worker's thread."""

    of_modules: bool
    """Whether calls of modules have stamps too."""

    @property
    def taken_ns(self) -> int:
        """What it took the program's threads to put them there, about."""

    def passed(self) -> bool:
        """Return whether the device has come past all, or it will not be known; without waiting for it."""

    def lose(self) -> None:
        """Let the step be without the device's times."""

    def read(self) -> DeviceTimes | None:
        """Return when the device came to them, once `passed`; None where that is not known."""


next_number: Final[Callable[[], int]] = count().__next__
"""Return a number that no record has in this process."""


@dataclass(slots=True)
class Record:
    """One step, or an evaluation: root forwards outside any step; on its way from the thread that made it.

    Or a stall: a copy of one that is open, as far as it goes.
    """

    kind: Literal["step", "eval", "stall", "checkpoint"]
    index: (
        int | None
    )  # of a step; of an evaluation that of the last step; None of a forward by itself
    start: int  # perf_counter_ns
    clock_offset: int  # ns; add it to a perf_counter_ns for nanoseconds since the epoch
    end: int = 0
    step_name: str = semconv.STEP  # of a step; `{step}` in it stands for its number
    site: Site | None = None  # the root module of a forward by itself
    trace_id: int = 0
    span_id: int = 0
    parent: OuterParent | None = None
    # Of a stall: the step's; of a checkpoint: that of the step before it.
    link: OuterParent | None = None
    shared: SharedStep | None = None  # then `span_id` is that of the rank's span
    phases_only: bool = False  # no modules below the roots
    stride: int | None = None  # one step in so many has modules, while there is a budget
    requested: bool = False  # a user has asked for the step while the job runs: sent in full
    kept: Kept | None = None  # with its modules, where that was decided when it was over
    trace_flags: int = 1
    trace_state: Any = None
    sampler_attributes: Mapping[str, Any] = field(default_factory=dict)  # of every span
    context: Any = None  # opentelemetry's, as it was when the record opened; until it is sent
    micro_batches: int = 0
    forwards: int = 0  # of an evaluation
    truncated: bool = False
    failed: bool = False
    raised: Raised | None = None  # outside any module, where it is known what
    # No optimizer stepped: a scaler found infinities, or the gradients were dropped.
    skipped: bool = False
    # It was not seen to step, though the parameters are other ones: it is compiled.
    optimizer_compiled: bool = False
    # The program says where it is: it is a step though nothing was seen in it.
    sent_bare: bool = False
    # To an error of ours: it is open, but nothing goes into it and it is not sent.
    lost: bool = False
    dropped_before: int = 0  # records, of which no step before it has told
    stalled: float = 0.0  # seconds for which nothing happened, where that was said
    stall: Stall | None = None  # of a stall
    measured: Mapping[Varying, Any] = field(default_factory=dict)  # of the step as a whole
    readings: Any = None  # recording's, until it is said in `measured` what they say: `Measures`
    stamps: Any = None  # recording's, until they are read: `Stamps`
    device: DeviceTimes | None = None  # what they said
    passing: bool = False  # there are stretches in the log that come and go
    # Counts who would send it off: threads that train, and a signal handler, may come to its end at once.
    senders: Iterator[int] = field(default_factory=count, repr=False, compare=False)
    number: int = field(default_factory=next_number)
    log: list[Any] = field(default_factory=list)
