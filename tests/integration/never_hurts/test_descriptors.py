"""The program's descriptors are its own: it may close all there are, its standard streams and the folder it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run

SENT = """
from otel_torch_modules import TorchModuleInstrumentor

def sent():
    train(2)
    TorchModuleInstrumentor()._tracing._engine.worker.flush(60)
"""

# As programs do that make themselves daemons.
CLOSES_ALL = """
import os
sent()
os.closerange(3, 100)
own = [open(f"own-{number}", "ab", buffering=0) for number in range(20)]
for _ in range(2):
    sent()
    for file in own:
        file.write(b"mine ")
TorchModuleInstrumentor().uninstrument()
for file in own:
    file.write(b"mine ")
    file.close()
    print(open(file.name).read())
"""
CLOSES_STANDARD = """
import os
told = os.dup(1)
for standard in range(3):
    os.close(standard)
sent()
for standard in range(3):
    try:
        os.write(standard, b"the program's")
    except OSError:
        os.write(told, b"closed ")
os.dup2(told, 1)
sent()
TorchModuleInstrumentor().uninstrument()
os.write(1, b"open")
"""
GOES_ELSEWHERE = """
import os
sent()
os.mkdir("elsewhere")
os.chdir("elsewhere")
sent()
print(os.listdir())
"""
PROGRAMS = {
    CLOSES_ALL: 20 * ["mine mine mine"],
    CLOSES_STANDARD: ["closed closed closed open"],
    GOES_ELSEWHERE: ["[]"],
}


def _ends(folder: Path, program: str) -> tuple[int, list[str], str, list[list[str]]]:
    done = run(folder, TRAIN + SENT + program, **ENABLED, OTEL_TORCH_MODULES_FILE="traces.jsonl")
    lines = [line.strip() for line in done.stdout.splitlines()]
    return done.returncode, lines, done.stderr, outlines(folder)


@pytest.mark.slow
def test_the_programs_files_are_its_own_and_traces_are_whole(tmp_path: Path) -> None:
    steps = {CLOSES_ALL: 6, CLOSES_STANDARD: 4, GOES_ELSEWHERE: 4}
    assert side_by_side(tmp_path, _ends, PROGRAMS) == {
        program: (0, prints, "", steps[program] * [STEP]) for program, prints in PROGRAMS.items()
    }
