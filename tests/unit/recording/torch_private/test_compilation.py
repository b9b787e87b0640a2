"""What is taken of torch for `compilation.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

from otel_torch_modules._recording.torch_private.compilation import (
    GRAPH_RUNNERS,
    compilation_callbacks,
    compilation_metrics,
    compilation_told,
    compiler,
    skip_frames_of,
    told_by_dynamo,
)


def test_compiler() -> None:
    answers = []

    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            answers.append((compiler._is_compiling_flag, torch.compiler.is_compiling()))
            return x + 1

    Asks()(torch.ones(2))
    torch.export.export(Asks(), (torch.ones(2),), strict=False)
    assert answers[0] == (False, False)
    assert set(answers[1:]) == {(True, True)}


@pytest.mark.slow
def test_dynamo_is_there() -> None:
    asked = "from otel_torch_modules._recording.torch_private.compilation import dynamo_is_there as there\n"
    program = f"{asked}print(there())\nimport torch._dynamo\nprint(there())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_compilation_callbacks_compilation_told_and_compilation_metrics() -> None:
    told: list[tuple[Any, ...]] = []
    torch._dynamo.reset()
    handler = compilation_callbacks()
    end = handler.register_end_callback(lambda *arguments: told.append(arguments))
    try:
        torch.compile(lambda x: x * 2, backend="eager")(torch.ones(1))
    finally:
        handler.remove_end_callback(end)
    (arguments,) = told
    identifier, trigger = compilation_told(*arguments)
    if arguments:  # from torch 2.8 on
        last = compilation_metrics()[-1]
        assert (identifier, trigger) == (str(last.compile_id), "dynamo")
        assert (last.co_name, last.co_filename) == ("<lambda>", __file__)
    assert compilation_told() == (None, None)


def test_skip_frames_of() -> None:
    def function() -> int:
        return 1

    skip_frames_of(function.__code__)
    assert function() == 1


def test_told_by_dynamo() -> None:
    graphs = []

    def keep(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append([node.op for node in graph.graph.nodes])
        return graph

    told: list[None] = []
    tell = told_by_dynamo(lambda: told.append(None))

    @torch.compile(backend=keep, fullgraph=True)
    def calls(x: Tensor) -> Tensor:
        tell()
        return x + 1

    torch._dynamo.reset()
    calls(torch.ones(2))
    times = len(told)
    assert times > 0
    calls(torch.ones(2))
    assert len(told) == times
    assert graphs == [["placeholder", "call_function", "output"]]


@pytest.mark.parametrize("name", GRAPH_RUNNERS)
def test_graph_runners(name: str) -> None:
    assert importlib.util.find_spec(name) is not None
