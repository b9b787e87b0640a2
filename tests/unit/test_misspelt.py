"""A variable with a letter wrong is said, with the name that was meant; those of others are not ours to judge."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import opentelemetry.environment_variables
import opentelemetry.instrumentation.environment_variables
import opentelemetry.sdk.environment_variables
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules import TorchModuleInstrumentor, _misspelt
from otel_torch_modules._misspelt import OURS, STANDARD, log, misspelt

OF_OTHERS = (
    *("OTEL_SERVICE_VERSION", "OTEL_JAVAAGENT_DEBUG", "OTEL_INSTRUMENTATION_HTTP_ENABLED"),
    *("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_OPERATOR_ENDPOINT", "OTEL_COLLECTOR_CONFIG"),
    "OTEL_TORCH_MODULES_TEST_BACKENDS",
    *("NOTEL_TORCH_MODULES_ENABLE", "MY_OTEL_SERVICE_NAMES", "TORCH_MODULES_ENABLED", "PATH", ""),
)


@st.composite
def typos(draw: st.DrawFn) -> tuple[str, str]:
    """Return a name, and the same with one letter left out, twice, or before its neighbour."""
    name = draw(st.sampled_from([name for name in (*OURS, *STANDARD) if len(name) >= 16]))
    at = draw(st.integers(5, len(name) - 2))
    wrong = draw(
        st.sampled_from(
            (
                name[:at] + name[at + 1 :],
                name[:at] + name[at] + name[at:],
                name[:at] + name[at + 1] + name[at] + name[at + 2 :],
            )
        )
    )
    return name, wrong


@given(typo=typos().filter(lambda typo: typo[1] not in (*OURS, *STANDARD)))
def test_a_letter_that_is_wrong_is_seen(typo: tuple[str, str]) -> None:
    name, wrong = typo
    (found,) = misspelt([wrong])
    assert (found.name, found.meant) == (wrong, name)
    assert found.sentence.startswith(f"{wrong} is not a variable")
    assert found.sentence.endswith(f"; {name} is meant?")


def test_what_is_known_and_what_is_of_others_is_let_be() -> None:
    of_sdk = [
        value
        for module in (
            opentelemetry.environment_variables,
            opentelemetry.instrumentation.environment_variables,
            opentelemetry.sdk.environment_variables,
        )
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("OTEL_")
    ]
    assert len(of_sdk) > 60
    assert list(misspelt([*of_sdk, *OURS, *STANDARD, *OF_OTHERS])) == []


def test_of_what_begins_as_ours_each_is_said() -> None:
    (far, lower) = misspelt(["OTEL_TORCH_MODULES_\x1b[2J", "otel_torch_modules_enabled"])
    assert far.sentence.startswith(
        "OTEL_TORCH_MODULES_\\x1b[2J is not a variable of otel-torch-modules"
    )
    assert lower.meant == "OTEL_TORCH_MODULES_ENABLED"


def test_it_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_misspelt, "_logged", set())
    monkeypatch.setenv("OTEL_TORCH_MODULES_MAXDEPTH", "3")
    monkeypatch.setenv("OTEL_SERVICE_NAMES", "gpt")
    for _ in range(2):
        TorchModuleInstrumentor().instrument()
        TorchModuleInstrumentor().uninstrument()
    assert caplog.record_tuples == [
        (
            "otel_torch_modules",
            logging.WARNING,
            "OTEL_TORCH_MODULES_MAXDEPTH is not a variable of otel-torch-modules; "
            "OTEL_TORCH_MODULES_MAX_DEPTH is meant?; "
            "OTEL_SERVICE_NAMES is not a variable; OTEL_SERVICE_NAME is meant?",
        )
    ]
    log(misspelt(["OTEL_SERVICE_NAMES"]))
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, ""),
        (
            {"OTEL_TORCH_MODULES_ENABLE": "true", "OTEL_TRACE_EXPORTER": "none"},
            "OTEL_TORCH_MODULES_ENABLE is not a variable of otel-torch-modules; "
            "OTEL_TORCH_MODULES_ENABLED is meant?\n",
        ),
        # Nobody asked for tracing: the variables of OpenTelemetry are not ours to judge.
        ({"OTEL_TRACE_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "always_on"}, ""),
        (
            {"OTEL_TORCH_MODULES_ENABLED": "true", "OTEL_TORCH_MODULES_RANK": "0"},
            "OTEL_TORCH_MODULES_RANK is not a variable of otel-torch-modules; "
            "OTEL_TORCH_MODULES_RANKS is meant?\n",
        ),
    ],
)
@pytest.mark.slow
def test_a_job_says_so_as_it_starts(variables: dict[str, str], said: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = subprocess.run(
        [sys.executable, "-c", "import torch; torch.nn.Linear(1, 1)"],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stderr == said
