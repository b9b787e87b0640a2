"""The check of TraceQL takes what Tempo takes and refuses what it refuses."""

from __future__ import annotations

import pytest

from tests.deploy.traceql import check


@pytest.mark.parametrize(
    "query",
    [
        # Tried on Tempo 3.0.3.
        '{ span.torch.phase = "backward" && duration > 1ms } | select(span.torch.module.fqn)',
        '{ span.torch.module.fqn =~ "GPT.h.[0-9]+.attn" && kind = producer } | avg(duration) > 100us',
        '{ name = "train.step" } >> { name = "dataloader.next" && duration > 3ms }',
        "{ kind = consumer } | count() > 20",
        # By the grammar.
        "{ }",
        "({ .a = 1 } || { .b = 2 }) >> { .c = 1.5s }",
        "{ .a = 1 && (.b = 2 || !.c) } | by(span.x) | count() > 2",
    ],
)
def test_taken(query: str) -> None:
    check(query)


@pytest.mark.parametrize(
    "query",
    [
        "name = 1",
        "{ phase = 1 }",
        "{ span.a = }",
        "{ span.a == 1 }",
        "{ span.a = 1",
        "{ span.a =~ 3 }",
        "{ duration > 1 ms }",
        '{ span.a = "x }',
        "{ span.a = 1 } | avg(duration)",
        "{ span.a = 1 } | first()",
        "{ span.a = 1 } }",
    ],
)
def test_refused(query: str) -> None:
    with pytest.raises(SyntaxError):
        check(query)
