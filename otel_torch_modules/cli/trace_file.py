"""Reads traces back from files: spans joined to trees, and which of these are whole.

The spans of one trace may stand in several lines and several files, children before their parents.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._printable import printable
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.damage import Damage, Place
from otel_torch_modules.cli.grammar import agree, counted
from otel_torch_modules.cli.otlp_lines import read_spans
from otel_torch_modules.cli.span_node import SpanNode

# Phases that stand below a step or an evaluation only: without it they are what is left of one.
_PARTS = (
    semconv.PHASE_DATA,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_OPTIMIZER,
)


_OUTSIDE = (semconv.PHASE_EVALUATE, semconv.PHASE_FORWARD)


class TraceFile(NamedTuple):
    """What a file holds, or several."""

    paths: Sequence[Path]
    steps: list[SpanNode]  # spans of phase `step`, and of `rank` whose step is not there, by start
    outside: list[SpanNode]  # evaluations and root forwards outside any step, the same
    roots: list[SpanNode]  # all of them, the program's too
    damages: list[Damage]  # one for each file
    fragments: int  # traces of which the root is not there

    @classmethod
    def read(cls, *paths: Path) -> TraceFile:
        """Read all spans of `paths` and join them to trees.

        Raises:
            CommandError: a file cannot be read or is not OTLP JSON lines, or there is no span of ours.
        """
        spans: list[SpanNode] = []
        damages: list[Damage] = []
        for path in paths:
            of_file, damage = read_spans(path)
            spans += of_file
            damages.append(damage)
        roots, astray = _join(spans)
        steps, outside = [], []
        for root in roots:
            inside = [span for span in root.walk() if span.phase == semconv.PHASE_STEP]
            is_rank = root.rank is not None
            if is_rank and not root.is_evaluation:
                inside = [root]
            steps += inside
            if not inside and (is_rank or root.phase in _OUTSIDE):
                outside.append(root)
        places = [place for damage in damages for place in damage.places]
        _mark_incomplete(steps, places)
        fragments = _fragments(steps, roots, astray, {place.trace_id for place in places})
        file = cls(
            paths,
            sorted(steps, key=_start),
            sorted((span for span in outside if span not in fragments), key=_start),
            [root for root in roots if root not in fragments],
            damages,
            len({span.trace_id for span in fragments} - {step.trace_id for step in steps}),
        )
        if not steps and not file.outside:
            losses = "".join(f" ({loss})" for loss in file.losses())
            raise CommandError(
                f"{file.name} {file.verb('holds', 'hold')} {counted(len(spans), 'span')}, but neither a training step "
                f"nor a forward pass{losses}"
            )
        return file

    @property
    def whole_steps(self) -> list[SpanNode]:
        """The steps of which nothing is missing that is known of."""
        return [step for step in self.steps if not step.incomplete]

    @property
    def name(self) -> str:
        """What the files are called in a sentence."""
        count = len(self.paths)
        return agree(count, printable(str(self.paths[0])), f"these {count} files")

    def verb(self, one: str, many: str) -> str:
        """Return which of the two agrees with `name`."""
        return agree(len(self.paths), one, many)

    def losses(self) -> Iterator[str]:
        """Yield what is to be told of what could not be read, and of what that has made incomplete."""
        for damage in self.damages:
            yield from damage.sentences()
        if self.fragments:
            were = counted(
                self.fragments, "trace has no root and was", "traces have no root and were"
            )
            parts = agree(self.fragments, "a part of it was", "parts of them were")
            yield f"{self.name}: {were} left out: {parts} lost"
        incomplete = len(self.steps) - len(self.whole_steps)
        if incomplete:
            steps = counted(incomplete, "step is", "steps are")
            yield f"{self.name}: {steps} incomplete: spans of {agree(incomplete, 'it', 'them')} were lost"

    def ranks_of_whole_steps(self) -> list[list[SpanNode]]:
        """Return the spans of the ranks of each whole step, by number; those of one trace belong together."""
        ranks: dict[tuple[str, int | None], list[SpanNode]] = {}
        cut = {(step.trace_id, step.step) for step in self.steps if step.incomplete}
        for step in self.steps:
            place = (step.trace_id, step.step)
            if place not in cut:
                ranks.setdefault(place, []).extend(step.ranks)
        return [sorted(of_step, key=lambda span: span.rank or 0) for of_step in ranks.values()]


def _start(span: SpanNode) -> int:
    return span.start


def _join(spans: Iterable[SpanNode]) -> tuple[list[SpanNode], list[SpanNode]]:
    """Return the roots, with all else below them, and what no root leads to: parents in a circle.

    A span sent twice counts once.
    """
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    roots: list[SpanNode] = []
    for span in sorted(by_id.values(), key=lambda span: (span.start, -span.end)):
        parent = by_id.get((span.trace_id, span.parent_id))
        (roots if parent is None else parent.children).append(span)
    for span in by_id.values():
        if len(span.ranks) > 1:  # by number, so that two steps look alike
            span.children.sort(key=lambda child: -1 if child.rank is None else child.rank)
    reached = {span for root in roots for span in root.walk()}
    return roots, [span for span in by_id.values() if span not in reached]


def _mark_incomplete(steps: Iterable[SpanNode], places: Iterable[Place]) -> None:
    missing: dict[str, list[int | None]] = {}
    for place in places:
        missing.setdefault(place.trace_id, []).append(place.time)
    for step in steps:
        times = missing.get(step.trace_id, ())
        step.incomplete |= any(time is None or _covers(step, time) for time in times)


def _covers(step: SpanNode, time: int) -> bool:
    return any(span.start <= time <= span.end for span in (step, *step.ranks))


def _fragments(
    steps: Iterable[SpanNode],
    roots: Iterable[SpanNode],
    astray: Sequence[SpanNode],
    damaged: Collection[str],
) -> set[SpanNode]:
    """Return the spans whose parent was lost, and mark the steps to which these belong.

    That a parent is not there is no fault by itself: a span of the program's, below which steps or forward passes lie,
    may go elsewhere.
    """
    of_trace: dict[str, list[SpanNode]] = {}
    for step in steps:
        of_trace.setdefault(step.trace_id, []).append(step)
    of_program = {(step.trace_id, step.parent_id) for step in steps}
    pieces = [
        root
        for root in roots
        if root.parent_id
        and root.phase not in (None, semconv.PHASE_STEP, semconv.PHASE_RANK)
        and (root.trace_id, root.parent_id) not in of_program
    ]
    parents_lost = {
        (piece.trace_id, piece.parent_id)
        for piece in pieces
        if piece.phase in _PARTS or piece.trace_id in damaged
    }
    fragments = set(astray)
    for piece in (*pieces, *astray):
        owners = [step for step in of_trace.get(piece.trace_id, ()) if _covers(step, piece.start)]
        for step in owners:
            step.incomplete = True
        if owners or (piece.trace_id, piece.parent_id) in parents_lost:
            fragments.add(piece)
    return fragments
