"""Signals do to the process what they would do untraced: no thread of ours takes one, or causes one that counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, TRAIN, run

SENT = """
from otel_torch_modules import TorchModuleInstrumentor

def sent():
    train(2)
    TorchModuleInstrumentor()._tracing._engine.worker.flush(60)
"""

# What happens to the process or to where its traces go, and what it prints of that without tracing.
PROGRAMS = {
    "waited for": (
        """
sent()
waited = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
signal.pthread_sigmask(signal.SIG_BLOCK, waited)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1):
    os.kill(os.getpid(), number)
    sent()
    print(signal.sigwait(waited).name)
""",
        "SIGTERM SIGHUP SIGCHLD SIGALRM SIGUSR1",
    ),
    "by the length of a file, which ends the process": (
        """
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
sent()
""",
        "",
    ),
    "by the length of a file, which the program handles": (
        """
signal.signal(signal.SIGXFSZ, lambda *_: print("handled"))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
sent()
""",
        "",
    ),
    "by a pipe that nobody reads, which ends the process": (
        """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sent()
os.close(reader)
sent()
""",
        "",
    ),
    "by a pipe that nobody reads, which the program handles": (
        """
signal.signal(signal.SIGPIPE, lambda *_: print("handled"))
sent()
os.close(reader)
sent()
""",
        "",
    ),
    "by lines of log that nobody reads": (
        """
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sent()
errors, writer = os.pipe()
os.dup2(writer, 2)
os.close(errors)
os.close(reader)
sent()
""",
        "",
    ),
}


def _ends(folder: Path, name: str) -> tuple[int, list[str]]:
    happens, _ = PROGRAMS[name]
    pipe = str(folder / "pipe")
    source = f"""
import os, resource, signal
os.mkfifo({pipe!r})
reader = os.open({pipe!r}, os.O_RDONLY | os.O_NONBLOCK)
{TRAIN}{SENT}{happens}
print("ends", flush=True)
"""
    into = {"OTEL_TORCH_MODULES_FILE": pipe} if "nobody reads" in name else {}
    # One thread, as launchers have it: else numpy has one that takes signals, traced or not.
    done = run(folder, source, OMP_NUM_THREADS="1", **ENABLED, **into)
    return done.returncode, done.stdout.split()


@pytest.mark.slow
def test_no_signal_does_what_it_would_not_do_untraced(tmp_path: Path) -> None:
    expected = {name: (0, [*prints.split(), "ends"]) for name, (_, prints) in PROGRAMS.items()}
    assert side_by_side(tmp_path, _ends, PROGRAMS) == expected
