"""What holds for the whole process is the program's to set, and stays as it was set; also what can only be asked by
setting it, as the umask and the stack of new threads.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.training_program import ENABLED, TRAIN, run, said

PROGRAM = f"""
import ctypes, decimal, faulthandler, gc, locale, logging, multiprocessing, os, resource, signal, socket, sys
import threading, tracemalloc, warnings
import numpy
from opentelemetry.sdk.trace import TracerProvider
{TRAIN}

def asked_by_setting(setter):
    def ask():
        found = setter(0)
        setter(found)
        return found
    return ask

SET = {{  # how it is asked, and how it is set to what nobody else would
    "stack of new threads": (asked_by_setting(threading.stack_size), lambda: threading.stack_size(3 << 20)),
    "umask": (asked_by_setting(os.umask), lambda: os.umask(0o027)),
    "recursion limit": (sys.getrecursionlimit, lambda: sys.setrecursionlimit(1234)),
    "switch interval": (sys.getswitchinterval, lambda: sys.setswitchinterval(0.004)),
    "thresholds of collections": (gc.get_threshold, lambda: gc.set_threshold(901, 11, 12)),
    "collections": (gc.isenabled, gc.disable),
    "locale": (lambda: locale.setlocale(locale.LC_ALL), lambda: locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")),
    "precision of decimals": (lambda: decimal.getcontext().prec, lambda: setattr(decimal.getcontext(), "prec", 7)),
    "warnings": (lambda: list(warnings.filters), lambda: warnings.simplefilter("error", BytesWarning)),
    "time-out of sockets": (socket.getdefaulttimeout, lambda: socket.setdefaulttimeout(7)),
    "level of logs": (lambda: logging.root.level, lambda: logging.root.setLevel(17)),
    "disabled logs": (lambda: logging.root.manager.disable, lambda: logging.disable(13)),
    "masked signals": (
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, []),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
    ),
    "handlers of signals": (
        lambda: [signal.getsignal(number) for number in sorted(signal.valid_signals())],
        lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
    ),
    "errors of numpy": (numpy.geterr, lambda: numpy.seterr(divide="ignore")),
    "start of processes": (
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda: multiprocessing.set_start_method("forkserver"),
    ),
    "faults": (faulthandler.is_enabled, faulthandler.enable),
    "threads of torch": (torch.get_num_threads, lambda: torch.set_num_threads(3)),
    "type of tensors": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "precision of products": (
        torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")
    ),
    "determinism": (
        torch.are_deterministic_algorithms_enabled, lambda: torch.use_deterministic_algorithms(True)
    ),
    "anomalies": (torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(True)),
    "threads of autograd": (
        torch._C._is_multithreading_enabled, lambda: torch._C._set_multithreading_enabled(False)
    ),
    "denormals": (lambda: bool(torch.tensor([1e-310]).sum()), lambda: torch.set_flush_denormal(True)),
    "folder": (os.getcwd, lambda: os.chdir("/")),
    "variables": (lambda: dict(os.environ), lambda: os.environ.update(OF_THE_PROGRAM="1")),
    "limits": (
        lambda: [resource.getrlimit(of) for of in range(16)],
        lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    ),
    "excepthooks": (
        lambda: (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.breakpointhook),
        lambda: setattr(sys, "unraisablehook", print),
    ),
    "paths": (lambda: list(sys.path), lambda: sys.path.append("/of/the/program")),
    "profiler": (lambda: (sys.getprofile(), sys.gettrace()), lambda: None),
}}

for _, setter in SET.values():
    setter()
model.double()
TracerProvider().get_tracer("of the program")  # the first one adds a filter of warnings
before = {{name: ask() for name, (ask, _) in SET.items()}}

def changed():
    return [name for name, (ask, _) in SET.items() if ask() != before[name]]

train(3)
print(changed())
from otel_torch_modules import TorchModuleInstrumentor
tracing = TorchModuleInstrumentor()._tracing
assert tracing is not None
tracing._engine.worker.flush(60)
print(changed())
TorchModuleInstrumentor().uninstrument()
print(changed())
"""


def test_what_the_program_has_set_stays_as_it_is(tmp_path: Path) -> None:
    assert said(run(tmp_path, PROGRAM, **ENABLED)).splitlines() == ["[]", "[]", "[]"]
