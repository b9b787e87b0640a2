"""Nothing of ours keeps from the program what its own signal handler raises.

A handler runs between any two lines, so also between two of ours, and may raise anything. Nothing may take that for an
error of ours: found here is whatever in Python takes exceptions, in all that can run in a thread of the program's.
"""

from __future__ import annotations

import ast
import gc
import linecache
import logging
import os
import signal
import sys
import sysconfig
import threading
import weakref
from bdb import BdbQuit
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeGuard

import pytest
import torch
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from torch import nn
from torch.utils.data import DataLoader

from otel_torch_modules import TorchModuleInstrumentor, _undisturbed
from otel_torch_modules._interruption import is_interruption, suppressed, uncovered
from otel_torch_modules._log import warn
from otel_torch_modules._own_thread import OwnThread
from otel_torch_modules._texts import describe_error
from otel_torch_modules._undisturbed import undisturbed
from otel_torch_modules.testing import capture_spans
from tests.support.left_to_itself import let_go_on
from tests.support.package_source import PACKAGE, TREES
from tests.support.workers import make_worker

SOON = 30.0  # s; reached only when something hangs
# Who reads traces, and the examples, are programs of their own.
ELSEWHERE = ("_reading", "_diagnosis", "_pictures", "cli", "examples")

PYTHONS = sysconfig.get_paths()["stdlib"]

# Python discards what is raised in a function of Python's that these call.
DISCARDING = {
    "WeakKeyDictionary",
    "WeakValueDictionary",
    "WeakSet",
    "WeakMethod",
    "finalize",
    "Thread",
}
# These take whatever is raised in them: only where no handler strikes.
SWALLOWING = {
    "suppress",
    "format_exception",
    "format_exception_only",
    "print_exc",
    "format_exc",
    "TracebackException",
}
LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
# At exit the program is over, and what is raised is discarded in any case.
APPROVED = {
    "_engine/process_exit.py": ["suppress(KeyboardInterrupt)"],
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield what can run in a thread of the program's."""
    for path, tree in TREES.items():
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] not in ELSEWHERE:
            yield str(relative), tree


def lets_through(handler: ast.ExceptHandler) -> bool:
    """Return whether `handler` raises again what interrupted us.

    It ends in a plain ``raise``, or there is ``if …is_interruption(error): raise`` or ``if ….fail(where): raise`` for
    all that comes to it, be it at its first line.
    """
    for node in handler.body:
        if isinstance(node, ast.Raise):
            return True
        if (
            isinstance(node, ast.If)
            and isinstance(node.body[0], ast.Raise)
            and isinstance(node.test, ast.Call)
            and ast.unparse(node.test.func).rpartition(".")[2] in ASKING
        ):
            return True
        if jumps(node):
            return False
    return False


ASKING = {"is_interruption", "_is_interruption", "fail", "call_fails", "_fail"}


def jumps(node: ast.AST) -> bool:
    return any(isinstance(inner, (ast.Return, ast.Break, ast.Continue)) for inner in ast.walk(node))


def takes(node: ast.AST) -> bool:
    """Return whether `node` could take what a signal handler raises."""
    if isinstance(node, ast.ExceptHandler):
        return not lets_through(node)
    if isinstance(node, ast.Try):
        return any(map(jumps, node.finalbody))
    if isinstance(node, ast.Call):
        owner, _, name = ast.unparse(node.func).rpartition(".")
        logs = name in LOGS and (
            owner.lower().endswith(("logger", "logging")) or "getLogger" in owner
        )
        return logs or name in DISCARDING | SWALLOWING
    return isinstance(node, ast.FunctionDef) and node.name == "__del__"


def takers(tree: ast.AST) -> list[str]:
    """Return what could take what a signal handler raises, but for what runs `undisturbed`."""
    found = []
    left = [tree]
    for node in left:
        if takes(node):
            found.append(ast.unparse(node).splitlines()[0])
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "undisturbed"):
            left += ast.iter_child_nodes(node)
    return found


def test_whatever_takes_exceptions_lets_interruptions_through() -> None:
    found = {name: takers(tree) for name, tree in sources()}
    assert {name: lines for name, lines in found.items() if lines} == APPROVED


def test_whoever_takes_errors_of_all_kinds_takes_an_exit_too() -> None:
    """In a thread of ours it is one of them."""
    found = [
        f"{name}: {ast.unparse(node).splitlines()[0]}"
        for name, tree in sources()
        for node in ast.walk(tree)
        if (isinstance(node, ast.ExceptHandler) and node.type and is_exception(node.type))
        or (is_suppressed(node) and any(map(is_exception, node.args)))
    ]
    assert found == []


def is_suppressed(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "suppressed"


def is_exception(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "Exception"


@pytest.mark.parametrize(
    "source",
    [
        "try: work()\nexcept OSError: pass",
        "try: work()\nexcept Exception as error: say(error)",
        "try: work()\nexcept: pass",
        "try: work()\nexcept ValueError as error:\n    if ours(error) and self.fail(''): raise",
        "try: work()\nexcept ValueError:\n    if odd(): return 1\n    if self.fail(''): raise",
        "def work():\n    try: more()\n    finally: return 1",
        "with suppress(OSError): work()",
        "class Thing:\n    def __del__(self): work()",
        "held = weakref.WeakSet()",
        "_logger.warning('so')",
        "threading.Thread(target=work).start()",
        "logging.getLogger('a').error('so')",
        "text = traceback.format_exception(error)",
    ],
)
def test_takers_are_seen(source: str) -> None:
    assert len(takers(ast.parse(source))) == 1


def runs_python(callback: Any) -> bool:
    """Return whether calling `callback` runs a function that is written in Python."""
    if isinstance(callback, partial):
        return any(map(runs_python, (callback.func, *callback.args)))
    if isinstance(callback, type):
        return (
            any(map(runs_python, vars(callback).values())) if callback.__flags__ & 1 << 9 else False
        )
    return isinstance(callback, (FunctionType, MethodType))


class Net(nn.Module):
    """Has children, calls what it does not hold, and raises what its caller catches."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            self.fc(x[:, :3])
        except RuntimeError:
            x = self.fc(x)
        return nn.ReLU()(x)


def train(steps: int) -> nn.Module:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for inputs in DataLoader(torch.ones(2 * steps, 4), batch_size=2):  # type: ignore[arg-type]
        nn.MSELoss()(model(inputs), inputs).backward()
        sgd.step()
        sgd.zero_grad()
        with torch.no_grad():
            model(inputs)
    return model


@pytest.fixture
def _nothing_frozen() -> Iterator[None]:
    """What had been imported before the first test is among `gc.get_objects()` too."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("_nothing_frozen")
def test_nothing_in_python_is_called_where_what_it_raises_is_discarded() -> None:
    def called_back() -> set[str]:
        """Return the callbacks in Python of weak references and of the collector."""
        weak = [thing for thing in gc.get_objects() if issubclass(type(thing), weakref.ref)]
        found = [thing.__callback__ for thing in weak]
        return {str(one) for one in (*found, *gc.callbacks) if one and runs_python(one)}

    before = called_back()
    with capture_spans():
        kept = train(2)
        threading.Thread(target=train, args=(1,)).start()
        new = called_back() - before
        del kept
    # Python's own, of each thread that there is, the SDK's, of each processor, and Dynamo's.
    theirs = (
        "WeakSet.__init__.<locals>._remove",
        "WeakMethod.__new__.<locals>._cb",
        "ExactWeakKeyDictionary.",
    )
    assert {name for name in new if not any(one in name for one in theirs)} == set()


def test_callbacks_in_python_are_seen() -> None:
    class Told:
        def __call__(self, _: Any) -> None:
            pass

        tell = __call__

    assert runs_python(Told().tell)
    assert runs_python(partial(map, Told().tell))
    assert not runs_python(partial(next, iter(())))
    assert not runs_python([].append)


def test_nothing_of_ours_that_is_written_in_python_is_called_before_a_fork() -> None:
    called: list[str] = []
    process = os.getpid()

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call" and os.getpid() == process:
            called.append(frame.f_code.co_filename)

    with capture_spans():
        train(1)
        sys.setprofile(profile)
        child = os.fork()
        if child == 0:
            os._exit(0)
        sys.setprofile(None)
    os.waitpid(child, 0)
    assert [name for name in called if name.startswith(str(PACKAGE))] == []


def is_pythons(code: CodeType) -> bool:
    return code.co_filename.startswith(PYTHONS) and "site-packages" not in code.co_filename


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield what is in `function`, but for the functions that are made there."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            yield node
            yield from own_nodes(node)


def takes_errors_of_all_kinds(code: CodeType) -> bool:
    """Return whether the function of `code` goes on after an exception of whatever type, or of the system."""
    for function in ast.walk(ast.parse(Path(code.co_filename).read_text())):
        if isinstance(function, ast.FunctionDef) and code.co_firstlineno in {
            function.lineno,
            *(decorator.lineno for decorator in function.decorator_list[:1]),
        }:
            return any(
                isinstance(node, ast.ExceptHandler)
                and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                and (
                    node.type is None
                    or not {"Exception", "BaseException", "OSError"}.isdisjoint(
                        name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)
                    )
                )
                for node in own_nodes(function)
            )
    return False  # a lambda, or what stands in a comprehension


def test_what_we_call_of_pythons_own_takes_no_errors_of_all_kinds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: set[CodeType] = set()

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call" and is_pythons(frame.f_code):
            caller = frame.f_back
            while caller is not None and is_pythons(caller.f_code):
                caller = caller.f_back
            if caller is not None and caller.f_code.co_filename.startswith(str(PACKAGE)):
                called.add(frame.f_code)

    with capture_spans():
        train(1)  # what is imported meanwhile is imported once
        sys.setprofile(profile)
        try:
            train(3)
            warn(logging.getLogger("otel_torch_modules.test"), "Something is wrong")
            describe_error(LookupError("no such thing"), with_stacktrace=True)
        finally:
            sys.setprofile(None)
    assert {"start", "isEnabledFor"} <= {code.co_name for code in called}
    assert {code for code in called if takes_errors_of_all_kinds(code)} == set()


def test_functions_of_pythons_that_take_errors_of_all_kinds_are_seen() -> None:
    takers = logging.LogRecord.__init__, logging.Handler.handleError, linecache.updatecache
    assert all(takes_errors_of_all_kinds(function.__code__) for function in takers)
    assert not takes_errors_of_all_kinds(threading.Thread.start.__code__)


class TimeIsUpError(Exception):
    """What the program's handler raises."""


@pytest.fixture(params=[TimeIsUpError, TimeoutError, ValueError, KeyboardInterrupt])
def strikes(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """A handler of SIGALRM that raises; the type of it."""

    def strike(number: int, frame: Any) -> None:
        raise request.param("time is up")

    before = signal.signal(signal.SIGALRM, strike)
    yield request.param
    signal.signal(signal.SIGALRM, before)


def test_what_a_handler_raises_is_not_suppressed(strikes: type[BaseException]) -> None:
    with pytest.raises(strikes, match="time is up"), suppressed(Exception):
        signal.raise_signal(signal.SIGALRM)
    with suppressed(ValueError):
        int("x")
    with suppressed(DecodeError):
        Span.FromString(b"no span")


@pytest.mark.parametrize(
    ("install", "event"),
    [
        (sys.settrace, "call"),
        (sys.settrace, "line"),
        (sys.settrace, "return"),
        (sys.setprofile, "call"),
        (sys.setprofile, "c_call"),
        (sys.setprofile, "c_return"),
        (sys.setprofile, "return"),
    ],
)
def test_what_a_trace_function_raises_is_not_suppressed(
    install: Callable[[Any], None], event: str
) -> None:
    """As where the user of a debugger that steps through the program says that it is to end."""

    def called() -> None:
        len("")

    def calls() -> None:
        called()

    def strike(frame: Any, happens: str, _: Any) -> Any:
        if happens == event and frame.f_code is called.__code__:
            raise BdbQuit
        return strike

    before = {sys.settrace: sys.gettrace(), sys.setprofile: sys.getprofile()}[install]
    install(strike)
    try:
        with pytest.raises(BdbQuit), suppressed(Exception):
            calls()
    finally:
        install(before)


def test_what_swallows_runs_where_no_handler_strikes(strikes: type[BaseException]) -> None:
    ran: list[bool] = []

    def swallow() -> None:
        try:
            os.kill(os.getpid(), signal.SIGALRM)
            ran.append(threading.current_thread() is threading.main_thread())
        except BaseException:
            ran.append(True)

    with pytest.raises(strikes, match="time is up"):
        undisturbed(swallow)
        for _ in range(1000):  # it may have come back before Python noticed
            pass
    let_go_on()
    assert ran == [False]


def joined() -> None:
    OwnThread().join()


def started() -> None:
    OwnThread().start()


@contextmanager
def a_start() -> Iterator[Callable[[], object]]:
    yield started


@contextmanager
def a_flush() -> Iterator[Callable[[], object]]:
    worker = make_worker(lambda record: None)
    worker.start()
    yield lambda: worker.flush(SOON)
    assert worker.stop(SOON)


def release_again() -> None:
    threading.Lock().release()


def take_from_the_list_again() -> None:
    dict[Any, Any]().pop(None)


def fail() -> None:
    raise AssertionError


@pytest.mark.parametrize("cleans_up", [release_again, take_from_the_list_again, fail])
@pytest.mark.parametrize(
    ("kind", "name", "waits"),
    [(threading.Thread, "join", joined), (threading.Thread, "start", started)],
)
def test_what_strikes_is_raised_and_not_what_python_makes_of_it(
    kind: type,
    name: str,
    waits: Callable[[], None],
    cleans_up: Callable[[], None],
    strikes: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def struck(*_: Any) -> None:
        try:
            signal.raise_signal(signal.SIGALRM)
        finally:
            cleans_up()

    monkeypatch.setattr(kind, name, struck)
    with pytest.raises(strikes, match="time is up"):
        waits()
    try:
        raise ValueError
    except ValueError:
        with pytest.raises(strikes, match="time is up"):
            waits()


@pytest.mark.parametrize("wait", [a_start, a_flush])
def test_what_strikes_where_a_lock_is_taken_back_is_raised(
    wait: Callable[[], AbstractContextManager[Callable[[], object]]],
    strikes: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_back = threading.Condition._acquire_restore  # type: ignore[attr-defined]

    def strike_first(condition: threading.Condition, state: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            monkeypatch.undo()
            signal.raise_signal(signal.SIGALRM)
        take_back(condition, state)

    with wait() as waits:
        monkeypatch.setattr(threading.Condition, "_acquire_restore", strike_first)
        with pytest.raises(strikes, match="time is up"):
            while True:  # where what is waited for was faster, no lock is taken back
                waits()
    let_go_on()


def test_what_was_being_handled_before_does_not_strike(strikes: type[BaseException]) -> None:
    try:
        signal.raise_signal(signal.SIGALRM)
    except BaseException:
        with pytest.raises(RuntimeError, match="unlocked"), uncovered():
            release_again()


@pytest.mark.slow
def test_objects_of_our_threads_die_in_another_thread_of_ours() -> None:
    died: list[bool] = []

    class Told(OwnThread):
        def __del__(self) -> None:
            died.append(threading.current_thread() is threading.main_thread())

    for _ in range(3):
        thread = Told(target=gc.collect)
        thread.start()
        thread.join()
    del thread
    assert died == [False, False]
    OwnThread(target=gc.collect).start()
    let_go_on()


def test_what_runs_undisturbed_gives_what_it_returns_or_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert undisturbed(lambda: 3) == 3
    assert undisturbed(lambda: int("x")) is None
    held = threading.RLock()
    monkeypatch.setattr(_undisturbed, "_PATIENCE_S", 0.01)
    with held:  # a handler of the program's log may call a module
        assert undisturbed(lambda: held.acquire()) is None
    let_go_on()


def test_errors_are_told_from_what_a_handler_raises(strikes: type[BaseException]) -> None:
    def told(function: Callable[[], Any]) -> bool:
        try:
            function()
        except BaseException as error:
            return is_interruption(error)
        raise AssertionError

    assert told(lambda: signal.raise_signal(signal.SIGALRM))
    assert not told(lambda: int("x"))


def test_nothing_interrupts_a_thread_of_ours() -> None:
    """Nobody above it waits for what the program's own code raises there."""
    told: list[bool] = []

    def fail() -> None:
        for error in (SystemExit(), KeyboardInterrupt(), BdbQuit(), TimeIsUpError()):
            with suppressed(BaseException):
                raise error
            told.append(is_interruption(error))

    thread = OwnThread(target=fail)
    thread.start()
    thread.join()
    assert told == [False] * 4
    assert is_interruption(SystemExit())


def test_to_describe_an_error_takes_nothing_that_a_handler_raises(
    strikes: type[BaseException],
) -> None:
    class LateError(Exception):
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGALRM)
            return "late"

    with pytest.raises(strikes, match="time is up"):
        describe_error(LateError(), with_stacktrace=True)


def test_what_a_handler_raises_reaches_the_program_where_tracing_logs(
    strikes: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("otel_torch_modules.test")

    class Sends(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            try:
                os.kill(os.getpid(), signal.SIGALRM)
            except Exception:
                self.handleError(_)

    handler = Sends()
    logger.addHandler(handler)
    try:
        with pytest.raises(strikes, match="time is up"):
            warn(logger, "Something is wrong")
            for _ in range(1000):
                pass
        let_go_on()
    finally:
        logger.removeHandler(handler)
    assert caplog.messages == ["Something is wrong"]


def test_an_interrupted_call_of_what_is_no_module_yet_is_the_programs(
    strikes: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            pass

        def forward(self) -> None:
            pass

    with capture_spans():
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
        monkeypatch.setattr(
            tracing._recorder.boundary, "root_opens", lambda *_: signal.raise_signal(signal.SIGALRM)
        )
        with pytest.raises(strikes, match="time is up"):
            Bare()()
