"""The plain data that crosses from recording to assembly and to emission.

A :class:`Record` is one step, or root forwards outside any step. Its ``log`` is one flat list that the
hot path only ever extends, :data:`WIDTH` slots an event, in the order in which things happened in the process.
A flat list of integers and shared references costs no object of its own per event, so recording neither
sets off the garbage collector nor needs it.

The slots of an event:

0. its tag: one of the :class:`Event` constants below, or, where a module call begins, the :class:`Site` that was
   called, which stands for :data:`CALL`;
1. the code of the thread in which it happened; of a :data:`MARK`, of the one whose sequence numbers are meant: that of
   the forward pass;
2. what :attr:`Event.slot` says;
3. the time, ``time.perf_counter_ns()``;
4. what is said of it, or None; with a :class:`Detail`, values besides.

An event is declared here and nowhere else: how a log is read, compared with another one, laid out and cut down to its
phases follows from the declaration. A :class:`Stretch`, an :class:`Opening` with its :class:`Closing` and a
:class:`Point` are shown as they are declared; the others are the calls of modules and the backward passes, and what the
program says of their spans, for which reading has rules of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any, Final, Literal, NamedTuple, Protocol

from otel_torch_modules import semconv

WIDTH: Final = 5


@dataclass(frozen=True, eq=False)
class Varying:
    """An attribute whose value may be another one at each call: it is no reason to take two steps for unlike.

    Args:
        name: of the attribute.
        type: of its values: ``bool``, ``int`` (64 bits), ``float``, ``str``, or ``tuple`` of texts.
    """

    name: str
    type: type[bool] | type[int] | type[float] | type[str] | type[tuple[str, ...]]


class Slot(Enum):
    """What slot 2 of an event holds."""

    NOTHING = "None"
    SAME = "alike in steps that do the same: a code, a name"
    NUMBER = "a sequence number of autograd: steps that do the same differ in where these begin"
    TIME = "a second time: when what ends now began"
    ID = "what no other event has"


@dataclass(frozen=True, eq=False)
class Event:
    """What can happen, declared.

    Args:
        name: says it to a reader of logs.
        slot: what slot 2 holds.
        values: the attributes whose values a :class:`Detail` in slot 4 has.
        repeats: whether a step in which it happens can be like one before; such a step need not be read. Not so what
            the program itself says: the module that it speaks of stays where a step is cut down.
        of_modules: whether it is left out where modules are: it says something of one, or is as frequent.
    """

    name: str
    slot: Slot = Slot.NOTHING
    values: tuple[Varying, ...] = ()
    repeats: bool = True
    of_modules: bool = False

    def __post_init__(self) -> None:
        if self.repeats and self.slot is Slot.ID:
            raise ValueError(f"{self.name!r}: a step with an id in it is like no other")

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Shown(NamedTuple):
    """The span that is made of an event."""

    name: str  # what the event says follows it
    phase: str
    # The attribute for what the event says, "" for none; None where it says nothing.
    said: str | None = None
    below_step: bool = False  # else below what is open in its thread
    # What it says is the path of a module below the one in which it lies, which was compiled.
    in_compiled: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Stretch(Event):
    """Something that has lasted from the time in slot 2 until now. Stretches that lie in it are below it.

    Args:
        shown: its span.
        passing: whether it comes and goes in steps that do the same otherwise.
        beside: whether its thread may go on with something else meanwhile. In the log it ends where its thread goes on;
            the last of its values is None where it is not known when it was done, else a list that gets that time.
    """

    slot: Slot = Slot.TIME
    shown: Shown = field(kw_only=True)
    passing: bool = field(default=False, kw_only=True)
    beside: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, eq=False, repr=False)
class Opening(Event):
    """Something begins; what happens in this thread until its :class:`Closing` is below it."""

    shown: Shown = field(kw_only=True)


@dataclass(frozen=True, eq=False, repr=False)
class Closing(Event):
    """What an :class:`Opening` began last in this thread has ended."""


@dataclass(frozen=True, eq=False, repr=False)
class Point(Event):
    """Something without a duration: an event, by the name of this one, of the span that is open in its thread.

    Spans with such an event are encoded one by one: what every call has is a value rather than a point.
    """

    said: str = ""  # the attribute for what it says; none where this is empty


class Detail(NamedTuple):
    """What slot 4 of an event holds where the event has values."""

    said: Any  # what it would hold otherwise
    values: tuple[Any, ...]  # of `Event.values`, in that order; None for one that is not known


INPUT_SHAPES: Final = Varying(semconv.MODULE_INPUT_SHAPES, tuple)
INPUT_DTYPES: Final = Varying(semconv.MODULE_INPUT_DTYPES, tuple)
OUTPUT_SHAPES: Final = Varying(semconv.MODULE_OUTPUT_SHAPES, tuple)
OUTPUT_DTYPES: Final = Varying(semconv.MODULE_OUTPUT_DTYPES, tuple)

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

_WAIT: Final = Shown(semconv.DATA_WAIT, semconv.PHASE_DATA, below_step=True)
_OPTIMIZER: Final = Shown(
    semconv.OPTIMIZER_PREFIX, semconv.PHASE_OPTIMIZER, said=semconv.OPTIMIZER_CLASS
)

# A module call begins: its tag is the site, and it says whether the module is in training. It ends, and says what it
# has raised, if anything: a `Raised`. It ends and no output has a graph.
CALL: Final = Event("call", Slot.NUMBER, values=(INPUT_SHAPES, INPUT_DTYPES))
EXIT: Final = Event("exit", Slot.NUMBER, values=(OUTPUT_SHAPES, OUTPUT_DTYPES))
EXIT_BARE: Final = Event("exit_bare", Slot.NUMBER, values=EXIT.values)

# Backward has come to a node, in the graph task with the code that it says.
MARK: Final = Event("mark", Slot.NUMBER)

# A graph task begins, slot 2 is its code: the least number that no other task has that runs, so that steps that do the
# same have the same. It says the code of the thread that called it, None if unknown. Its end says None where its nodes
# have run, then True; False where an exception has ended it.
TASK: Final = Event("task", Slot.SAME)
TASK_END: Final = Event("task_end", Slot.SAME)

# An optimizer, which says its class.
OPTIMIZER: Final = Opening("optimizer", shown=_OPTIMIZER)
OPTIMIZED: Final = Closing("optimized")

# The loop has waited for a batch. Where a dataset calls modules meanwhile, it begins, and ends.
DATA: Final = Stretch("data", shown=_WAIT)
FETCH: Final = Opening("fetch", shown=_WAIT)
FETCHED: Final = Closing("fetched")

# What took time beside modules: Dynamo compiled; Python collected garbage; a checkpoint was saved or loaded, which the
# event says; a collective ran, which the event says; the loop called what the event says.
COMPILATION: Final = Stretch(
    "compilation",
    values=(
        Varying(semconv.COMPILE_ID, str),
        Varying(semconv.COMPILE_TRIGGER, str),
        Varying(semconv.COMPILE_FUNCTION, str),
        Varying(semconv.CODE_FILE_PATH, str),
        Varying(semconv.RECOMPILE_REASON, str),
    ),
    shown=Shown(semconv.COMPILATION, semconv.PHASE_COMPILE),
    passing=True,
)
COLLECTION: Final = Stretch(
    "collection",
    values=(Varying(semconv.GC_GENERATION, int), Varying(semconv.GC_COLLECTED, int)),
    shown=Shown(semconv.GARBAGE_COLLECTION, semconv.PHASE_GC),
    passing=True,
)
CHECKPOINT: Final = Stretch(
    "checkpoint",
    values=(Varying(semconv.CODE_FUNCTION_NAME, str), Varying(semconv.FILE_SIZE, int)),
    shown=Shown(semconv.CHECKPOINT_PREFIX, semconv.PHASE_CHECKPOINT, said=""),
    passing=True,
)
ASYNC: Final = Varying(semconv.COLLECTIVE_ASYNC, bool)
COMPLETED: Final = Varying(semconv.COLLECTIVE_COMPLETED, bool)
COLLECTIVE: Final = Stretch(
    "collective",
    values=(
        Varying(semconv.COLLECTIVE_BYTES, int),
        Varying(semconv.COLLECTIVE_DTYPE, str),
        Varying(semconv.COLLECTIVE_GROUP, str),
        Varying(semconv.COLLECTIVE_GROUP_SIZE, int),
        ASYNC,
        COMPLETED,
    ),
    shown=Shown("", semconv.PHASE_COLLECTIVE, said=""),
    passing=True,
    beside=True,
    of_modules=True,
)
LOOP_CALL: Final = Stretch("loop_call", shown=Shown("", semconv.PHASE_LOOP, said=""), passing=True)

# The program has been in a module of a compiled region: forward, again, backward.
REGION_FORWARD: Final = Stretch(
    "region_forward",
    of_modules=True,
    shown=Shown(semconv.FORWARD_PREFIX, semconv.PHASE_FORWARD, said="", in_compiled=True),
)
REGION_RECOMPUTE: Final = Stretch(
    "region_recompute",
    of_modules=True,
    shown=Shown(semconv.RECOMPUTE_PREFIX, semconv.PHASE_RECOMPUTE, said="", in_compiled=True),
)
REGION_BACKWARD: Final = Stretch(
    "region_backward",
    of_modules=True,
    shown=Shown(semconv.BACKWARD_PREFIX, semconv.PHASE_BACKWARD, said="", in_compiled=True),
)

# The program has asked for the id of the innermost open span, in slot 2, or called a method of it: slot 2 has the
# method's name, slot 4 its arguments.
SPAN_ID: Final = Event("span_id", Slot.ID, repeats=False)
NOTE: Final = Event("note", Slot.ID, repeats=False)


def event_of(tag: Event | Site) -> Event:
    """Return what the event with this tag is declared as."""
    return CALL if isinstance(tag, Site) else tag


def begin_of(log: list[Any], place: int) -> int:
    """Return when what the event at `place` of a log tells of began."""
    begins = event_of(log[place]).slot is Slot.TIME
    begin: int = log[place + (2 if begins else 3)]
    return begin


class Site:
    """A module as a place in the program: what all its calls have in common.

    It holds no reference to the module, so it may outlive it.
    """

    __slots__ = (
        "attributes",
        "class_name",
        "compiled_modules",
        "container",
        "ends_in_function",
        "fqn",
        "function_name",
        "lone_input",
        "lone_result",
        "looks_left_out",
        "parameters",
        "pattern",
        "place",
        "recorded",
        "wrapper",
    )

    def __init__(
        self,
        fqn: str,
        class_name: str,
        *,
        pattern: str = "",
        function_name: str = "",
        parameters: int = 0,
        container: bool = False,
        compiled_modules: int = 0,
        recorded: bool = True,
    ) -> None:
        self.fqn = fqn
        self.class_name = class_name
        self.pattern = pattern or fqn  # with a star for the number of each block that is repeated
        self.function_name = function_name  # of the module's `forward`, with module path
        self.parameters = parameters  # elements, own and below
        self.container = container  # Sequential and the like: no name of their own in labels
        # Of how many modules its calls run compiled code, itself included; 0 where they run none.
        self.compiled_modules = compiled_modules
        self.recorded = recorded
        self.wrapper: Site | None = None  # below a call of it not recorded, it is the same call
        # Recording's: argument -> of how many next calls.
        self.looks_left_out: dict[int | str, int] = {}
        # Recording's: what its calls are given and return, where but one of these holds tensors.
        self.lone_input: Any = None
        self.lone_result: Any = None
        self.place: Any = None  # recording's: where it is now
        # Recording's: whether its calls end in a Function of Python's that returns a view; None until that was asked.
        self.ends_in_function: bool | None = None
        self.attributes: dict[Any, Any] | None = None  # assembly's: of its calls' spans

    @property
    def _told(self) -> tuple[Any, ...]:
        return (
            self.fqn,
            self.pattern,
            self.class_name,
            self.function_name,
            self.parameters,
            self.container,
            self.compiled_modules,
            self.recorded,
            self.wrapper,
        )

    def is_like(self, other: Site) -> bool:
        """Return whether calls of both are told alike."""
        return self._told == other._told

    def __repr__(self) -> str:
        return f"Site({self.fqn!r}, {self.class_name!r})"


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
    # No optimizer stepped: a scaler found infinities, or the gradients were dropped.
    skipped: bool = False
    # It was not seen to step, though the parameters are other ones: it is compiled.
    optimizer_compiled: bool = False
    # The program says where it is: it is a step though nothing was seen in it.
    sent_bare: bool = False
    # To an error of ours: it is open, but nothing goes into it and it is not sent.
    lost: bool = False
    dropped_before: int = 0  # records since the last step that was taken
    stalled: float = 0.0  # seconds for which nothing happened, where that was said
    stall: Stall | None = None  # of a stall
    measured: Mapping[Varying, Any] = field(default_factory=dict)  # of the step as a whole
    stamps: Any = None  # recording's, until they are read: `Stamps`
    device: DeviceTimes | None = None  # what they said
    passing: bool = False  # there are stretches in the log that come and go
    number: int = field(default_factory=next_number)
    log: list[Any] = field(default_factory=list)
