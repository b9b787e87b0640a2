"""Nothing is lost when a process ends in an orderly way, whoever made the provider and when."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from tests.support.side_by_side import side_by_side
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


ENDINGS = {
    "": (0, ""),
    "import sys; sys.exit(3)": (3, ""),
    "raise SystemExit": (0, ""),
    "raise MemoryError": (1, "MemoryError"),
}


def test_nothing_is_lost_however_a_program_ends(tmp_path: Path) -> None:
    def ended(folder: Path, ending: str) -> tuple[int, str]:
        done = run(folder, f"{TRAIN}\ntrain(3)\n{ending}", **ENABLED)
        assert outlines(folder) == [STEP] * 3, ending
        return done.returncode, done.stderr.strip().rpartition("\n")[2]

    assert side_by_side(tmp_path, ended, ENDINGS) == ENDINGS


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


PROVIDERS = {
    "before torch": OWN_PROVIDER + TRAIN + "train(1)",
    "before the first step": TRAIN + OWN_PROVIDER + "train(1)",
    "never": TRAIN + "train(1)",
    "before an exception": TRAIN + OWN_PROVIDER + "train(1)\n1 / 0",
}


def test_a_single_step_arrives_whoever_made_the_provider(tmp_path: Path) -> None:
    def traced(folder: Path, made: str) -> list[list[str]]:
        run(folder, PROVIDERS[made], **ENABLED)
        return outlines(folder)

    assert side_by_side(tmp_path, traced, PROVIDERS) == {made: [STEP] for made in PROVIDERS}


def test_nothing_is_lost_in_a_worker_process(tmp_path: Path) -> None:
    def traced(folder: Path, case: tuple[str, str]) -> list[list[str]]:
        method, provider = case
        source = f"""{TRAIN}{provider}
if __name__ == "__main__":
    worker = torch.multiprocessing.get_context({method!r}).Process(target=train)
    train(1)
    worker.start()
    worker.join()
    print(worker.exitcode)
"""
        assert said(run(folder, source, **ENABLED)) == "0\n", case
        return outlines(folder)

    cases = list(product(("fork", "spawn"), ("", OWN_PROVIDER)))
    assert side_by_side(tmp_path, traced, cases) == {case: [STEP] * 3 for case in cases}


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
