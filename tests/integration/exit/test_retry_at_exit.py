"""The end of a process while a receiver wants to be left alone: in which order things happen, how often it is asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]

from tests.support.otlp_receivers import Refusal, answering
from tests.support.training_program import ENABLED, STEP, TRAIN, run, said

PROTOCOLS = ["grpc", "http/protobuf"]


def _otlp(endpoint: str, protocol: str) -> dict[str, str]:
    return {
        **ENABLED,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }


def _come_again(protocol: str, seconds: int) -> Refusal:
    if protocol == "http/protobuf":
        return Refusal(429, {"retry-after": str(seconds)})
    wanted = RetryInfo(retry_delay=Duration(seconds=seconds)).SerializeToString()
    return Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, {"google.rpc.retryinfo-bin": wanted})


class Asked:
    """Answers, and knows when it was asked."""

    def __init__(self, first: list[Any], then: Any) -> None:
        self.at: list[float] = []
        self._first = iter(first)
        self._then = then

    def __call__(self) -> Any:
        self.at.append(time.monotonic())
        return next(self._first, self._then)


def _fine(protocol: str) -> Any:
    return grpc.StatusCode.OK if protocol == "grpc" else 200


# What is registered before the first step comes after our first flush, and what before torch's import after our end.
WITH_HANDLERS = f"""
import atexit
atexit.register(lambda: print("at the very end"))
{TRAIN}
atexit.register(train, 3)
train(2)
atexit.register(train, 4)
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_arrives_after_the_pause_that_the_receiver_wants(tmp_path: Path, protocol: str) -> None:
    """Steps of the program and of its exit handlers, in this order; the receiver is not asked before its time."""
    answers = Asked([_come_again(protocol, 2)], _fine(protocol))
    with answering(protocol, answers) as receiver:
        done = run(tmp_path, WITH_HANDLERS, **_otlp(receiver.endpoint, protocol))
        assert said(done) == "at the very end\n"
        assert receiver.outlines() == [STEP] * 9
        steps = [root.attributes["torch.step"] for root in receiver.traces()]
    assert steps == [*range(9)]
    assert answers.at[1] - answers.at[0] >= 2


REFUSALS = {
    "in an hour": ("http/protobuf", _come_again("http/protobuf", 3_600), "429", range(1, 2)),
    "not now": ("grpc", grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", range(4, 15)),
}


@pytest.mark.parametrize(
    ("protocol", "answer", "error", "attempts"), REFUSALS.values(), ids=REFUSALS
)
def test_a_receiver_that_refuses_at_the_end_is_not_stormed(
    tmp_path: Path, protocol: str, answer: Any, error: str, attempts: range
) -> None:
    """Nine steps wait: the first flush, the handlers' and the end ask for them together."""
    asked = Asked([], answer)
    with answering(protocol, asked) as receiver:
        done = run(tmp_path, WITH_HANDLERS, **_otlp(receiver.endpoint, protocol))
        place = receiver.endpoint.rpartition("/")[2]
    assert (done.returncode, done.stdout) == (0, "at the very end\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"9 steps recorded, 0 sent: {place} answers {error}")
    assert len(asked.at) in attempts
