"""An error of ours costs the record that it struck, wherever it comes up, and never the run.

Found by reflection: every function of ours that runs on the program's threads raises at its first call, at its third,
and at every call.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from inspect import unwrap
from textwrap import dedent
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from opentelemetry import context, trace
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

import otel_torch_modules
from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._recording.live_marks import live_marks
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._undisturbed import undisturbed
from otel_torch_modules.testing import capture_spans

PLAIN = nn.Module.__call__, _BaseDataLoaderIter.__next__


class InjectedError(Exception):
    """An error that is put into our code."""


class Refuses(nn.Module):
    """Raises what its caller catches."""

    def forward(self, x: Tensor) -> Tensor:
        raise LookupError("no expert for this")


class Net(nn.Module):
    """Has something of all that recording treats in ways of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.refuses = Refuses()
        self.pair = nn.LSTM(4, 4)

    def forward(self, x: Tensor, *, scale: Tensor) -> tuple[Tensor, Tensor]:
        trace.get_current_span().set_attribute("size", x.numel())
        x = self.act(self.fc(x * scale))
        try:
            x = self.refuses(x)
        except LookupError:
            x = checkpoint(self.block, x, use_reentrant=False)
        x, _ = self.pair(x)
        return x, x.sum()


class Program:
    """A loop with a loader, an optimizer and evaluations between; the same numbers whenever it is made anew."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self._model = Net()
        self._sgd = torch.optim.SGD(self._model.parameters(), lr=0.1, momentum=0.9)
        self._scale = torch.ones(1, requires_grad=True)

    def run(self, steps: int) -> list[float]:
        """Train, with an evaluation after each step; return what came of it."""
        found = []
        for inputs in DataLoader(torch.ones(2 * steps, 1, 4), batch_size=2):  # type: ignore[arg-type]
            _, loss = self._model(inputs, scale=self._scale)
            loss.backward()
            self._sgd.step()
            self._sgd.zero_grad()
            self._model.eval()
            with torch.no_grad():
                found += [loss.item(), self._model(inputs, scale=self._scale)[1].item()]
            self._model.train()
        return found


class Seam(NamedTuple):
    """A function of ours, and where it is found."""

    owner: Any
    name: str

    @property
    def function(self) -> Any:
        value = vars(self.owner)[self.name]
        return value.fget if isinstance(value, property) else getattr(value, "__func__", value)

    @property
    def code(self) -> CodeType | None:
        code = getattr(unwrap(self.function), "__code__", None)
        return code if isinstance(code, CodeType) and not isinstance(self.function, type) else None

    def __str__(self) -> str:
        return f"{self.owner.__name__.rpartition('.')[2]}.{self.name}"


# They stand between the program and the rest: an error that comes up at their own first line has nobody to catch it, or
# nobody knows yet what it costs. All that they call is tried.
GUARDS = {
    "Recorder._root_call",
    "Recorder._leave_us_out",
    "ThreadState.leave_by_exception",
    "root_call.call_root",
    "GraphTasks._ran",
    "GraphTasks._leave",
    "StepByHand.__enter__",
    "StepByHand.__exit__",
    "TrainingLoop.fetched",
    "TrainingLoop.optimizer_ends",
    "OpenStepSpan.set_attribute",
    "OpenStepSpan._note",
    # They tell whose an error is.
    "_interruption.is_interruption",
    "_interruption._is_package",
    "_interruption._frames",
    "_interruption._arguments",
    "_interruption._handlers",
    "Evaluations._send",
}

# Where these fail at every call nobody can be told, or is told by a thread that nobody waits for.
SAYING = {
    "_undisturbed.undisturbed",
    "OwnThread.start",
    "_greenlets.threads_are_green",
    "uncovered.__enter__",
    "uncovered.__exit__",
    "suppressed.__init__",
    "suppressed.__exit__",
}

# Where these fail at every call nobody can take back what is current.
DETACHING = {"RecordContext.detach"}


@cache
def modules(room: str) -> tuple[ModuleType, ...]:
    """Return the modules of `room`, or those that are in none."""
    package = importlib.import_module(f"{otel_torch_modules.__name__}{room}")
    found = (pkgutil.walk_packages if room else pkgutil.iter_modules)(
        package.__path__, f"{package.__name__}."
    )
    names = [info.name for info in found if not info.ispkg and not info.name.endswith("__main__")]
    return tuple(importlib.import_module(name) for name in names)


def seams(module: ModuleType) -> Iterator[Seam]:
    """Yield the functions and methods that `module` defines."""
    owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
    for owner in owners:
        if owner is not module and owner.__module__ != module.__name__:
            continue
        for name in list(vars(owner)):
            seam = Seam(owner, name)
            if seam.code is not None and seam.code.co_filename == module.__file__:
                yield seam


@cache
def called() -> frozenset[CodeType]:
    """Return the code of all that runs on the program's thread once the hooks are on."""
    codes = set()
    with capture_spans():
        sys.setprofile(lambda frame, event, _: codes.add(frame.f_code))
        try:
            Program().run(4)
            undisturbed(lambda: None)  # as whenever there is something to say
        finally:
            sys.setprofile(None)
    return frozenset(codes)


def raise_on_purpose() -> None:
    """Be an error of ours."""
    raise InjectedError("on purpose")


class Fault:
    """Acts in the place of a function, on the thread that made it, while it is `armed`: it raises, or does nothing."""

    def __init__(
        self,
        original: Callable[..., Any],
        strikes: Callable[[int], bool],
        act: Callable[[], None] = raise_on_purpose,
    ) -> None:
        self._original = original
        self._strikes = strikes
        self._act = act
        self._thread = threading.get_ident()
        self.armed = False
        self.struck = 0
        self._calls = 0

    def function(self) -> Callable[..., Any]:
        def faulty(*arguments: Any, **keywords: Any) -> Any:
            if self.armed and threading.get_ident() == self._thread:
                self._calls += 1
                if self._strikes(self._calls):
                    self.struck += 1
                    return self._act()
            return self._original(*arguments, **keywords)

        return faulty


@contextmanager
def injected(
    seam: Seam, strikes: Callable[[int], bool], act: Callable[[], None] = raise_on_purpose
) -> Iterator[Fault]:
    """Put a fault in the place of `seam`, wherever its name was imported to."""
    fault = Fault(seam.function, strikes, act)
    value = vars(seam.owner)[seam.name]
    places = [seam.owner]
    if isinstance(seam.owner, ModuleType):
        places = [
            module
            for module in list(sys.modules.values())
            if module and vars(module).get(seam.name) is value
        ]
    replacement: Any = fault.function()
    if isinstance(value, (property, staticmethod, classmethod)):
        replacement = type(value)(replacement)
    for place in places:
        setattr(place, seam.name, replacement)
    try:
        yield fault
    finally:
        for place in places:
            setattr(place, seam.name, value)


STEPS = 7
OCCASIONS = {
    "first": lambda call: call == 1,
    "third": lambda call: call == 3,
    "every": lambda call: True,
}


@cache
def untraced() -> tuple[list[float], list[float]]:
    program = Program()
    return program.run(STEPS), program.run(3)


@cache
def whole() -> tuple[str, str]:
    """Return the outlines of a step and of an evaluation."""
    with capture_spans() as captured:
        Program().run(1)
    step, evaluation = captured.trees
    return step.outline(), evaluation.outline()


def faults_of(seam: Seam, occasion: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what goes wrong when `seam` fails at `occasion`."""
    caplog.clear()
    before = context.get_current()
    expected_results, expected_trees = untraced(), whole()
    program = Program()
    live_marks.room()  # what other tests' threads have left is let go of now
    wrong = []
    with injected(seam, OCCASIONS[occasion]) as fault, capture_spans() as captured:
        fault.armed = True
        try:
            results = program.run(STEPS)
        except InjectedError:
            results = []
            wrong.append("it reaches the program")
        fault.armed = False
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
        hooked = nn.Module.__call__ is not PLAIN[0]
        lost = tracing._engine.worker.outcomes().get("InjectedError", 0)
        results_later = program.run(3)
        if (results, results_later) != expected_results:
            wrong.append("results differ")
        if context.get_current() != before:
            if (str(seam), occasion) not in [(name, "every") for name in DETACHING]:
                wrong.append("a context is left")
            context.attach(before)
        state = tracing._recorder.local.state
        if (state.stack, state.minted, state.root_only) != ([], {}, False):
            wrong.append("the thread's state is left")
    outlines = [tree.outline() for tree in captured.trees]
    # Where no step has opened yet, a forward is a record by itself.
    by_itself = dedent(expected_trees[1].removeprefix("evaluate\n"))
    if any(outline not in (*expected_trees, by_itself) for outline in outlines):
        wrong.append("half a record arrives")
    expected = 2 * (STEPS + 3) - lost if hooked else len(outlines)
    if (
        len(outlines) < expected
    ):  # more where the record that was being handed over got through after all
        wrong.append(f"{len(outlines)} of {expected} records arrive")
    if hooked and outlines[-6:] != 3 * list(expected_trees):
        wrong.append("a later record is missing")
    if occasion != "every" and (lost, hooked) != (fault.struck, True):
        wrong.append(f"{lost} lost, hooks on: {hooked}")
    if occasion == "every" and str(seam) in SAYING:
        return [f"{seam}: {what}" for what in wrong]
    errors = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    stops = [entry for entry in errors if entry.getMessage().startswith("Tracing stops")]
    if len(stops) != (not hooked) or (lost != 5 if stops else lost > 2 * STEPS):
        wrong.append(f"hooks on: {hooked} after {lost}")
    if bool(errors) != bool(fault.struck) or not all(
        entry.exc_text for entry in errors if entry not in stops
    ):
        wrong.append("not told of with a traceback")
    return [f"{seam}: {what}" for what in wrong]


# What prints, and what looks for itself, takes no part in training.
ROOMS = ("", "._recording", "._engine", "._job", "._emission")


def tried(room: str) -> list[Seam]:
    """Return the functions in `room` that run on the program's thread, but for those that stand guard."""
    return [
        seam
        for module in modules(room)
        for seam in seams(module)
        if seam.code in called() and str(seam) not in GUARDS
    ]


@pytest.mark.parametrize("occasion", OCCASIONS)
@pytest.mark.parametrize("room", ROOMS)
def test_an_error_costs_the_record_that_it_strikes(
    room: str, occasion: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert [fault for seam in tried(room) for fault in faults_of(seam, occasion, caplog)] == []


@cache
def called_to_say() -> frozenset[CodeType]:
    """Return the code of all that runs on the program's thread where something is said of an error."""
    codes = set()
    try:
        raise InjectedError("on purpose")
    except InjectedError as error:
        losses = Losses(lambda _: None, lambda: None)
        sys.setprofile(lambda frame, event, _: codes.add(frame.f_code))
        losses.say(error, "It fails %s", "here")
        sys.setprofile(None)
    return frozenset(codes)


def test_the_hooks_come_off_though_nobody_can_be_told() -> None:
    opens = Seam(Steps, "root_opens")
    says = [
        seam for module in modules("") for seam in seams(module) if seam.code in called_to_say()
    ]
    assert {"suppressed.__init__", "_log.report", "_undisturbed.undisturbed"} <= set(map(str, says))
    stay = []
    every = OCCASIONS["every"]
    for seam in (seam for seam in says if str(seam) not in GUARDS):
        with injected(opens, every) as fault, injected(seam, every) as mute, capture_spans():
            fault.armed = mute.armed = True
            try:
                assert Program().run(STEPS) == untraced()[0]
            finally:
                fault.armed = mute.armed = False
            if nn.Module.__call__ is not PLAIN[0]:
                stay.append(str(seam))
    assert stay == []


def test_all_that_runs_is_tried() -> None:
    def with_inner(code: CodeType) -> Iterator[CodeType]:
        yield code
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from with_inner(constant)

    found = {seam.code for room in ROOMS for module in modules(room) for seam in seams(module)}
    reached = {inner for code in found if code for inner in with_inner(code)}
    home = otel_torch_modules.__path__[0]
    ours = {code for code in called() if code.co_filename.startswith(home)}
    assert {(code.co_filename, code.co_name) for code in ours - reached} == set()
    names = {str(seam) for room in ROOMS for seam in tried(room)}
    assert names > {
        "Steps.root_opens",
        "Evaluations.root_opens",
        "RecordContext.attach",
        "Worker.put",
    }
