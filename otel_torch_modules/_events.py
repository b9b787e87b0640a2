"""The events of a log, each of them declared here and nowhere else.

The slots of an event in the log of a record:

0. its tag: one of the :class:`Event` constants below, or, where a module call begins, the :class:`Site` that was
   called, which stands for :data:`CALL`;
1. the code of the thread in which it happened; of a :data:`MARK`, of the one whose sequence numbers are meant: that of
   the forward pass;
2. what :attr:`Event.slot` says;
3. the time, ``time.perf_counter_ns()``;
4. what is said of it, or None; with a :class:`Detail`, values besides.

How a log is read, compared with another one, laid out and cut down to its phases follows from the declaration. A
:class:`Stretch`, an :class:`Opening` with its :class:`Closing` and a :class:`Point` are shown as they are declared; the
others are the calls of modules and the backward passes, and what the program says of their spans, for which reading has
rules of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._site import Site

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
# method's name, slot 4 its arguments; or, where it has done so several times in a row, `Notes` of all but the first.
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
