"""The plain data that crosses from recording to assembly and to emission.

A :class:`Record` is one step, or root forwards outside any step. Its ``log`` is one flat list that the
hot path only ever extends, :data:`WIDTH` slots an event, in the order in which things happened in the process.
A flat list of integers and shared references costs no object of its own per event, so recording neither
sets off the garbage collector nor needs it.

Slot 0 is the event's tag: one of the constants below, or, where a module call begins, the
:class:`Site` that was called.

==============  ==============  ==================  ========  =========================================
slot 0          slot 1          slot 2              slot 3    slot 4
==============  ==============  ==================  ========  =========================================
a ``Site``      thread code     sequence number     time      ``module.training`` or :class:`CallDetail`
``EXIT``        thread code     sequence number     time      None, :class:`Raised` or shapes
``EXIT_BARE``   thread code     sequence number     time      the same; no output has a graph
``MARK``        thread code     sequence number     time      graph task code
``TASK``        thread code     graph task code     time      thread code of the caller, None if unknown
``TASK_END``    thread code     graph task code     time      None: its nodes have run; True: it ended;
                                                              False: an exception ended it
``OPTIMIZER``   thread code     class name          time      None
``OPTIMIZED``   thread code     None                time      None or :class:`Raised`
``DATA``        thread code     time of the start   time      None
``FETCH``       thread code     None                time      None; a wait in which a dataset calls modules begins
``FETCHED``     thread code     None                time      None; it ends
``SPAN_ID``     thread code     span id             time      None
``NOTE``        thread code     method name         time      its arguments
==============  ==============  ==================  ========  =========================================

For ``MARK`` the thread is the one whose sequence numbers are meant: that of the forward pass. For all others it is
the thread in which the event happened. Times are ``time.perf_counter_ns()``. The code of a graph task is the least
number that no other task has that runs, so that steps that do the same have logs that differ in nothing but times and
where the sequence numbers begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

WIDTH: Final = 5

EXIT: Final = "exit"
EXIT_BARE: Final = "exit_bare"
MARK: Final = "mark"
TASK: Final = "task"
TASK_END: Final = "task_end"
OPTIMIZER: Final = "optimizer"
OPTIMIZED: Final = "optimized"
DATA: Final = "data"
FETCH: Final = "fetch"
FETCHED: Final = "fetched"
SPAN_ID: Final = "span_id"
NOTE: Final = "note"


class Site:
    """A module as a place in the program: what all its calls have in common.

    It holds no reference to the module, so it may outlive it.
    """

    __slots__ = (
        "attributes",
        "class_name",
        "compiled",
        "container",
        "ends_in_function",
        "fqn",
        "function_name",
        "looks_left_out",
        "parameters",
        "place",
        "recorded",
        "wrapper",
    )

    def __init__(
        self,
        fqn: str,
        class_name: str,
        *,
        function_name: str = "",
        parameters: int = 0,
        container: bool = False,
        compiled: bool = False,
        recorded: bool = True,
    ) -> None:
        self.fqn = fqn
        self.class_name = class_name
        self.function_name = function_name  # of the module's `forward`, with module path
        self.parameters = parameters  # elements, own and below
        self.container = container  # Sequential and the like: no name of their own in labels
        self.compiled = compiled
        self.recorded = recorded
        self.wrapper: Site | None = None  # below a call of it not recorded, it is the same call
        # Recording's: argument -> of how many next calls.
        self.looks_left_out: dict[int | str, int] = {}
        self.place: Any = None  # recording's: where it is now
        # Recording's: whether its calls end in a Function of Python's that returns a view; None until that was asked.
        self.ends_in_function: bool | None = None
        self.attributes: dict[Any, Any] | None = None  # assembly's: of its calls' spans

    @property
    def _told(self) -> tuple[Any, ...]:
        return (
            self.fqn,
            self.class_name,
            self.function_name,
            self.parameters,
            self.container,
            self.compiled,
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


class Shapes(NamedTuple):
    """Shapes and dtypes of a call's tensors, those that are held outermost first."""

    shapes: tuple[str, ...]
    dtypes: tuple[str, ...]


class CallDetail(NamedTuple):
    """What slot 4 of a call's first event holds when shapes are recorded."""

    training: bool
    inputs: Shapes


class OuterParent(NamedTuple):
    """The span that was current when the record was opened: the program's own, or another process's."""

    trace_id: int
    span_id: int
    trace_flags: int
    trace_state: Any  # opentelemetry's TraceState, only handed on
    is_remote: bool = False  # another process's


class SharedStep(NamedTuple):
    """The span of a step to which several ranks send a span each, with the same trace id."""

    span_id: int
    rank: int  # of this process
    sent_here: bool  # else another rank sends it


@dataclass(slots=True)
class Record:
    """One step, or an evaluation: root forwards outside any step; on its way from the thread that made it."""

    kind: Literal["step", "eval"]
    index: (
        int | None
    )  # of a step; of an evaluation that of the last step; None of a forward by itself
    start: int  # perf_counter_ns
    clock_offset: int  # ns; add it to a perf_counter_ns for nanoseconds since the epoch
    end: int = 0
    site: Site | None = None  # the root module of a forward by itself
    trace_id: int = 0
    span_id: int = 0
    parent: OuterParent | None = None
    shared: SharedStep | None = None  # then `span_id` is that of the rank's span
    phases_only: bool = False  # no modules below the roots
    stride: int | None = None  # one step in so many has modules, while there is a budget
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
    # To an error of ours: it is open, but nothing goes into it and it is not sent.
    lost: bool = False
    dropped_before: int = 0  # records since the last step that was taken
    # Of trace and span: whoever draws puts them here, and the first are `trace_id` and `span_id`.
    drawn_ids: list[tuple[int, int]] = field(default_factory=list)
    log: list[Any] = field(default_factory=list)


class OpenSpan(Protocol):
    """What the program's own spans and attributes need to know of the call that is open now."""

    def span_id(self, record: Record) -> int:
        """Return the id of the innermost span of `record` that is open in this thread.

        Made at the first call and the same until the module call ends.
        """

    def note(self, record: Record, method: str, arguments: tuple[Any, ...]) -> None:
        """Keep a call of `opentelemetry.trace.Span.<method>` for the innermost open span."""

    def fail(self, where: str) -> bool:
        """Drop the open record for the exception that is being handled; return whether that is the program's own."""


class StepContext(Protocol):
    """Makes a record the current span of the program. Called on the training thread."""

    def open(self, record: Record) -> bool:
        """Return whether `record`, which opens, is recorded: the provider's sampler may leave it out."""

    def goes_on(self, record: Record) -> bool:
        """Return whether the program's own current span in this thread is the one that `record` was opened below."""

    def attach(self, record: Record) -> None:
        """Make `record` current in this thread unless it is."""

    def detach(self, record: Record) -> None:
        """Undo `attach` where `record` is still current in this thread."""
