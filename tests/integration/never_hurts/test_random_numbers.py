"""Nothing that tracing sets off draws from the program's random generators, on any thread, whoever takes the spans.

The generators raise where anybody but the program's own thread asks them, and what they have given there afterwards is
what an untraced run has. The receivers are real and let the whole of a connection be seen: one that takes all, one that
nobody is at, one that refuses for good and one that asks to be tried again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.otlp_receivers import RECEIVERS, refusing
from tests.support.training_program import ENABLED, TRAIN, run

PROGRAM = f"""
import atexit, random, threading
atexit.register(lambda: say())  # before torch is imported: it comes after the end of tracing
import numpy
{TRAIN}
own = threading.main_thread()
asked = []

def guarded(draw):
    def method(*arguments, **named):
        if threading.current_thread() is not own:
            asked.append(threading.current_thread().name)
            raise AssertionError("this generator is the program's")
        return draw(*arguments, **named)
    return method

for name in dir(random._inst):
    if not name.startswith("_") and name != "VERSION" and callable(getattr(random._inst, name)):
        setattr(random._inst, name, guarded(getattr(random._inst, name)))
        if hasattr(random, name):
            setattr(random, name, getattr(random._inst, name))

random.seed(0); numpy.random.seed(0); torch.manual_seed(0)

def states():
    return [repr(random.getstate()), repr(numpy.random.get_state()), torch.get_rng_state().tolist()]

before = states()

def say():
    print(asked, states() == before)

train(3)
from otel_torch_modules import TorchModuleInstrumentor
tracing = TorchModuleInstrumentor()._tracing
if tracing is not None:
    tracing._engine.worker.flush(0.5)  # long enough for some attempts
    with __import__("opentelemetry.trace").trace.get_tracer("program").start_as_current_span("own"):
        pass
train(3)
"""


@contextmanager
def nobody(_: str) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def taking(protocol: str) -> Iterator[str]:
    with RECEIVERS[protocol]() as receiver:
        yield receiver.endpoint


@contextmanager
def for_good(protocol: str) -> Iterator[str]:
    with refusing(protocol, again=False) as receiver:
        yield receiver.endpoint


@contextmanager
def for_now(protocol: str) -> Iterator[str]:
    with refusing(protocol, again=True) as receiver:
        yield receiver.endpoint


COLLECTORS: list[Callable[[str], AbstractContextManager[str]]] = [taking, nobody, for_good, for_now]


@pytest.mark.parametrize("collector", COLLECTORS, ids=["up", "down", "refusing", "overloaded"])
@pytest.mark.parametrize("protocol", RECEIVERS)
def test_no_generator_is_asked_over_the_network(
    tmp_path: Path,
    protocol: str,
    collector: Callable[[str], AbstractContextManager[str]],
) -> None:
    with collector(protocol) as endpoint:
        done = run(
            tmp_path,
            PROGRAM,
            **ENABLED,
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        )
    assert (done.returncode, done.stdout) == (0, "[] True\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_no_generator_is_asked_in_the_process(tmp_path: Path) -> None:
    done = run(tmp_path, PROGRAM, **{**ENABLED, "OTEL_TRACES_EXPORTER": "otlp_file,console"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n[] True\n")
