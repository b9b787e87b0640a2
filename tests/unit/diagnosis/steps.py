"""Steps whose own times are known, as columns: what the rules are tried on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from functools import cache
from math import nan
from random import Random
from typing import Any, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._shape import Shape, Site
from otel_torch_modules._trace import Remark, Span, Trace

BLOCKS = 4
START = 1_700_000_000_000_000_000
Parts = dict[str, float]  # own ms by what the node is called here


class Node(NamedTuple):
    key: str
    site: Site
    children: tuple[Node, ...] = ()


_sites: dict[tuple[str, str | None, str | None, int | None], Site] = {}


def site(name: str, phase: str | None, fqn: str | None = None, rank: int | None = None) -> Site:
    key = (name, phase, fqn, rank)
    if key not in _sites:
        about: dict[str, Any] = {semconv.PHASE: phase} if phase else {}
        if fqn:
            last = fqn.rpartition(".")[2]
            about |= {
                semconv.MODULE_FQN: fqn,
                semconv.MODULE_CLASS: "Block" if last.isdecimal() else last.upper(),
            }
        if rank is not None:
            about[semconv.DISTRIBUTED_RANK] = rank
        _sites[key] = Site(name, about)
    return _sites[key]


def _modules(phase: str, blocks: range) -> Iterator[Node]:
    for block in blocks:
        fqn = f"GPT.h.{block}"
        parts = ("attn", "mlp") if phase == "forward" else ("mlp", "attn")
        yield Node(
            f"{phase} {fqn}",
            site(f"{phase} h.{block}", phase, fqn),
            tuple(
                Node(f"{phase} {fqn}.{part}", site(f"{phase} {part}", phase, f"{fqn}.{part}"))
                for part in parts
            ),
        )


def fold(parts: Parts) -> None:
    """Have the modules' times be those of their roots."""
    for phase, root in (("forward", "GPT"), ("backward", "backward GPT")):
        inside = [key for key in parts if key.startswith(f"{phase} GPT.")]
        parts[root] = sum(parts.pop(key) for key in inside)


def _tree(keys: frozenset[str], rank: int | None, *, folded: bool) -> Node:
    others = (
        Node(key, site(name, phase))
        for key, name, phase in (
            ("data", "dataloader.next", "data"),
            ("gc", "python.gc", "gc"),
            ("compile", "compile", "compile"),
            ("checkpoint", "checkpoint.save", "checkpoint"),
            ("collective", "all_reduce", "collective"),
            ("clip", "clip_grad_norm", "loop"),
            ("mine", "my logging", None),
        )
        if key in keys
    )
    blocks = range(len({key.split(".")[2] for key in keys if key.startswith("forward GPT.h.")}))
    forward = Node(
        "GPT",
        site("forward GPT", "forward", "GPT"),
        () if folded else tuple(_modules("forward", blocks)),
    )
    recomputed = tuple(_modules("recompute", range(1))) if "recompute GPT.h.0.mlp" in keys else ()
    backward = Node(
        "engine",
        site("backward", "backward"),
        (
            Node(
                "backward GPT",
                site("backward GPT", "backward", "GPT"),
                () if folded else (*_modules("backward", blocks[::-1]), *recomputed),
            ),
        ),
    )
    optimizer = Node("optimizer", site("optimizer.step SGD", "optimizer"))
    children = (*others, forward, backward, optimizer)
    if rank is None:
        return Node("step", site("train.step", "step"), children)
    return Node("step", site(f"rank {rank}", "rank", rank=rank), children)


@cache
def _layout(keys: frozenset[str], rank: int | None, *, folded: bool) -> tuple[Shape, list[str]]:
    """Return the shape of a step that has these parts, and which of them each of its spans is."""
    nodes: list[Node] = []
    parents: list[int] = []
    stack = [(_tree(keys, rank, folded=folded), -1)]
    while stack:
        node, parent = stack.pop()
        stack += [(child, len(nodes)) for child in reversed(node.children)]
        nodes.append(node)
        parents.append(parent)
    shape = Shape(tuple([node.site for node in nodes]), tuple(parents))
    return shape, [node.key for node in nodes]


def usual_parts(blocks: int = BLOCKS) -> Parts:
    """Return own times in ms of a step, of about 29 ms."""
    parts = {"data": 0.05, "step": 0.5, "engine": 0.1, "optimizer": 1.0}
    for block in range(blocks):
        for part, ms in (("attn", 1.0), ("mlp", 1.2)):
            parts[f"forward GPT.h.{block}.{part}"] = ms
            parts[f"backward GPT.h.{block}.{part}"] = 2 * ms
    return parts


Change = Callable[[int, Parts], None]


def make_steps(
    count: int = 100,
    change: Change = lambda step, parts: None,
    *,
    noise: float = 0.02,
    gap: float | Callable[[int], float] = 0.1,
    attributes: Callable[[int], dict[str, Any]] = lambda step: {},
    rank: int | None = None,
    kept: Callable[[int], str | None] | None = None,
    seed: int = 0,
) -> list[Span]:
    """Return steps of one rank.

    Args:
        change: changes the own times of a step.
        noise: how far own times are off, as a share: a standard deviation.
        gap: ms between steps, or after each of them.
        kept: why a step was sent with its modules, None for one with phases only; all have them where it is None.
    """
    random = Random(seed)
    steps: list[Span] = []
    now = float(START)
    for step in range(count):
        parts = usual_parts()
        if step == 0:
            parts = {key: 2 * time for key, time in parts.items()}
        change(step, parts)
        why = kept(step) if kept is not None else None
        folded = kept is not None and why is None
        if folded:
            fold(parts)
        about = {semconv.STEP_KEPT: why} if why is not None else {}
        said = attributes(step)
        shape, keys = _layout(frozenset(parts), rank, folded=folded)
        times: list[int] = []  # when each span begins, and the last one ends
        for key in keys:
            times.append(round(now))
            now += parts.get(key, 0.01) * 1e6 * max(random.gauss(1, noise), 0.5)
        times.append(round(now))
        trace = Trace(
            f"{step:032x}",
            shape,
            array("Q", range(1, len(keys) + 1)),
            array("Q", [parent + 1 for parent in shape.parents]),
            array("Q", times[:-1]),
            array("Q", [times[after] for after in shape.after]),
            [""] * len(keys),
            {
                name: array("d", [value, *[nan] * (len(keys) - 1)])
                for name, value in said.items()
                if isinstance(value, float)
            },
            {0: Remark({semconv.STEP_INDEX: step, **about, **said})},
        )
        steps.append(Span(trace, 0))
        now += (gap if isinstance(gap, float | int) else gap(step)) * 1e6
    return steps


def after(step: Span, name: str, phase: str | None, ms: float) -> Span:
    """Return a span that begins where a step has ended, in no step."""
    number, since = step.step or 0, step.end
    trace = Trace(
        f"{number + 1:x}".ljust(32, "f"),
        Shape((site(name, phase),), (-1,)),
        array("Q", [1]),
        array("Q", [0]),
        array("Q", [since]),
        array("Q", [since + round(ms * 1e6)]),
        [step.process],
        {},
        {},
    )
    return Span(trace, 0)


def make_paused_run(name: str, phase: str | None, pauses: dict[int, float]) -> Run:
    """Return a run with a span that lies in no step after some of its steps, of so many ms."""
    steps = make_steps(gap=lambda step: pauses.get(step, 0.0) + 0.1)
    return Run(steps, [after(steps[step], name, phase, ms) for step, ms in pauses.items()])


def make_run(count: int = 100, change: Change = lambda step, parts: None, **about: Any) -> Run:
    return Run(make_steps(count, change, **about))
