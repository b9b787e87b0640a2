"""speedscope's format: https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources.

For each rank first all steps together, which is what the view "Left Heavy" is for, then step by step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.nesting import nesting
from otel_torch_modules._grammar import counted
from otel_torch_modules._pictures.stacks import TimedStacks
from otel_torch_modules._pictures.titles import title
from otel_torch_modules._trace import Span

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def write_speedscope(steps: Sequence[Span], out: IO[bytes]) -> None:
    """Write the spans of `steps`, which are in order of time; evaluations are as good as steps."""
    frames: dict[str, int] = {}
    of_rank: dict[int | None, list[Span]] = {}
    for step in steps:
        for span in step.ranks or [step]:
            of_rank.setdefault(span.rank, []).append(span)
    ranks = sorted(of_rank, key=lambda rank: -1 if rank is None else rank)
    head = {"$schema": SCHEMA, "exporter": "otel-torch-modules", "activeProfileIndex": 0}
    out.write(json.dumps(head)[:-1].encode() + b', "profiles": [\n')
    separator = b""
    for profile in _profiles(((rank, of_rank[rank]) for rank in ranks), frames):
        out.write(separator + _json(profile))
        separator = b",\n"
    out.write(b'\n], "shared": {"frames": ' + _json([{"name": name} for name in frames]) + b"}}\n")


def _profiles(
    ranks: Iterable[tuple[int | None, Sequence[Span]]], frames: dict[str, int]
) -> Iterator[dict[str, Any]]:
    for rank, spans in ranks:
        before = "" if rank is None else f"rank {rank}: "
        steps = [span for span in spans if _is_step(span)]
        outside = [span for span in spans if not _is_step(span)]
        if steps:
            name = f"{before}{counted(len(steps), 'step')} together"
            yield _summed(name, TimedStacks(steps), frames)
        if outside:
            yield _summed(f"{before}outside steps, together", TimedStacks(outside), frames)
        for span in spans:
            number = "" if span.step is None else f" {span.step}"
            what = "step" if _is_step(span) else span.name
            yield _one(f"{before}{what}{number}", span, frames)


def _is_step(span: Span) -> bool:
    return span.phase in (semconv.PHASE_STEP, semconv.PHASE_RANK) and not span.is_evaluation


def _summed(name: str, stacks: Iterable[tuple[Sequence[str], int]], frames: dict[str, int]) -> Any:
    samples: list[list[int]] = []
    weights: list[int] = []
    for stack, own in stacks:
        samples.append([frames.setdefault(frame, len(frames)) for frame in stack])
        weights.append(own)
    return {
        "type": "sampled",
        "name": name,
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }


def _one(name: str, root: Span, frames: dict[str, int]) -> Any:
    return {
        "type": "evented",
        "name": name,
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": root.duration,
        "events": list(_events(root, frames)),
    }


def _events(root: Span, frames: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield begins and ends, well nested: of spans that overlap, the one that began first has the time."""
    nested, sites, begin = nesting(root), root.shape.sites, root.start
    starts, ends, children = nested.starts, nested.ends, nested.children
    now = begin
    waiting = [0]  # numbers of spans to open, and below them ~ those of spans to close
    still_open: list[tuple[int, int]] = []  # frame and end
    while waiting:
        at = waiting.pop()
        if at < 0:
            frame, now = still_open.pop()
            yield {"type": "C", "frame": frame, "at": now - begin}
            continue
        limit = still_open[-1][1] if still_open else root.end
        start = min(max(starts[at], now), limit)
        end = min(max(ends[at], start), limit)
        name = title(sites[root.at + at])
        frame = frames.setdefault(name, len(frames))
        yield {"type": "O", "frame": frame, "at": start - begin}
        now = start
        still_open.append((frame, end))
        waiting += [~at, *reversed(children[at])]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
