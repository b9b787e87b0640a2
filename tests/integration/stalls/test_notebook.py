"""A real notebook's kernel: a cell that is over is no stall, one that does not get on is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_client.manager import start_new_kernel

STALL_TIMEOUT = 0.5  # s

SET_UP = """
import logging, os, pathlib, torch
logging.basicConfig(filename={log!r}, format="%(message)s")
go_on = pathlib.Path({go_on!r})

class Net(torch.nn.Module):
    hangs = False
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
    def forward(self, x):
        while self.hangs and not go_on.exists():
            pass
        return self.layer(x)

model = Net()
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
"""
LOOP = """
for _ in range(4):
    model(torch.ones(1, 2)).sum().backward()
    sgd.step()
"""
HALF_A_STEP = "loss = model(torch.ones(1, 2)).sum()"
EVALUATION = "with torch.no_grad():\n    model(torch.ones(1, 2))"


def until(happens: Callable[[], bool]) -> None:
    """Return when it has happened."""
    give_up = time.monotonic() + 120
    while not happens():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_cells(tmp_path: Path) -> None:
    log, go_on, traces = tmp_path / "log", tmp_path / "go_on", tmp_path / "traces.jsonl"
    log.touch()

    def alarms() -> list[str]:
        return [line for line in log.read_text().splitlines() if line.startswith("No progress")]

    manager, kernel = start_new_kernel(
        env={
            **os.environ,
            "OTEL_TORCH_MODULES_ENABLED": "true",
            "OTEL_TORCH_MODULES_STALL_TIMEOUT": str(STALL_TIMEOUT),
            "OTEL_TRACES_EXPORTER": "otlp_file",
            "OTEL_TORCH_MODULES_FILE": str(traces),
            "OTEL_TORCH_MODULES_CAUSES": "none",
        }
    )
    try:

        def run(cell: str) -> None:
            reply = kernel.execute_interactive(cell, timeout=120, output_hook=lambda _: None)
            assert reply["content"]["status"] == "ok", reply["content"]

        run(SET_UP.format(log=str(log), go_on=str(go_on)))
        for cell in (LOOP, HALF_A_STEP, EVALUATION):
            run(cell)
            time.sleep(4 * STALL_TIMEOUT)  # what is tried: nobody asks anything of the kernel
        assert alarms() == []
        assert "train.step" in traces.read_text()

        kernel.execute(f"model.hangs = True{LOOP}")
        until(lambda: bool(alarms()))
        go_on.touch()
        run("model.hangs = False")
        assert [line.partition(" in forward ")[2].split()[0] for line in alarms()[:1]] == ["Net"]
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
