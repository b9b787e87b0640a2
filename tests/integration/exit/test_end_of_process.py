"""Nothing is lost when a process ends in an orderly way, whoever made the provider and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run, said

OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter

provider = TracerProvider(resource=Resource({"service.name": "theirs"}))
provider.add_span_processor(BatchSpanProcessor(OtlpFileSpanExporter()))
trace.set_tracer_provider(provider)
"""


@pytest.mark.parametrize(
    ("ending", "code", "last_words"),
    [
        ("", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("raise SystemExit", 0, ""),
        ("raise MemoryError", 1, "MemoryError"),
    ],
    ids=["end", "exit", "SystemExit", "exception"],
)
def test_nothing_is_lost_however_a_program_ends(
    tmp_path: Path, ending: str, code: int, last_words: str
) -> None:
    done = run(tmp_path, f"{TRAIN}\ntrain(3)\n{ending}", **ENABLED)
    assert (done.returncode, done.stderr.strip().rpartition("\n")[2]) == (code, last_words)
    assert outlines(tmp_path) == [STEP] * 3


def test_nothing_is_lost_when_the_user_interrupts(tmp_path: Path) -> None:
    interrupt = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    done = run(tmp_path, f"{TRAIN}\ntrain(3)\n{interrupt}", **ENABLED)
    # Python ends by the signal, or with code 1 where another thread calls `exec` meanwhile, as imports do.
    assert done.returncode in (-2, 1)
    assert done.stderr.endswith("\nKeyboardInterrupt\n")
    assert outlines(tmp_path) == [STEP] * 3


def test_a_step_that_the_end_breaks_off_is_sent_as_far_as_it_came(tmp_path: Path) -> None:
    done = run(tmp_path, f"{TRAIN}\nmodel(torch.ones(2, 4)).sum().backward()\n1 / 0", **ENABLED)
    assert done.returncode == 1
    assert outlines(tmp_path) == [STEP[:-1]]


@pytest.mark.parametrize(
    "source",
    [
        OWN_PROVIDER + TRAIN + "train(1)",
        TRAIN + OWN_PROVIDER + "train(1)",
        TRAIN + "train(1)",
        TRAIN + OWN_PROVIDER + "train(1)\n1 / 0",
    ],
    ids=["before torch", "before the first step", "never", "before an exception"],
)
def test_a_single_step_arrives_whoever_made_the_provider(tmp_path: Path, source: str) -> None:
    run(tmp_path, source, **ENABLED)
    assert outlines(tmp_path) == [STEP]


@pytest.mark.parametrize("provider", ["", OWN_PROVIDER], ids=["ours", "the program's"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nothing_is_lost_in_a_worker_process(tmp_path: Path, provider: str, method: str) -> None:
    source = f"""{TRAIN}{provider}
if __name__ == "__main__":
    worker = torch.multiprocessing.get_context({method!r}).Process(target=train)
    train(1)
    worker.start()
    worker.join()
    print(worker.exitcode)
"""
    assert said(run(tmp_path, source, **ENABLED)) == "0\n"
    assert outlines(tmp_path) == [STEP] * 3


def test_no_signal_handler_is_installed(tmp_path: Path) -> None:
    source = f"""
import signal
before = [signal.getsignal(number) for number in signal.valid_signals()]
{TRAIN}
train()
print([signal.getsignal(number) for number in signal.valid_signals()] == before)
"""
    assert said(run(tmp_path, source, **ENABLED)) == "True\n"


def test_a_program_that_takes_tracing_down_before_it_replaces_itself_loses_nothing(
    tmp_path: Path,
) -> None:
    ending = """
from otel_torch_modules import TorchModuleInstrumentor
TorchModuleInstrumentor().uninstrument()
import os, sys
os.execv(sys.executable, [sys.executable, "-c", "print('another program')"])
"""
    done = run(tmp_path, f"{TRAIN}\ntrain(3)\n{ending}", **ENABLED)
    assert said(done) == "another program\n"
    assert outlines(tmp_path) == [STEP] * 3
