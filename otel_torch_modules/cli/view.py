"""`otel-torch-modules view`: a file of traces as a table of steps and the tree of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from otel_torch_modules._diagnosis.compiled import compiled_as_one
from otel_torch_modules._diagnosis.late_start import with_those_before
from otel_torch_modules._diagnosis.straggler import find_straggler
from otel_torch_modules._diagnosis.words import extent
from otel_torch_modules._grammar import counted
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.folded_tree import folded, folded_tree
from otel_torch_modules.cli.overview import MOST_ROWS, overview, usual_step
from otel_torch_modules.cli.run_coverage import coverage
from otel_torch_modules.cli.step_table import slowest_step, step_table
from otel_torch_modules.cli.step_tree import Cut, errors, heading, step_tree
from otel_torch_modules.cli.why import run_of

_MOST_STEPS = 4  # of a table above a tree: the two fit 40 lines
_FORWARD_PASSES = ("forward pass", "forward passes")


class View:
    """The contents of a file, printed on a console."""

    def __init__(self, sources: Sequence[str], query: Query, console: Console, cut: Cut) -> None:
        self._file = Traces.read(*sources, query=query)
        self._console = console
        self._cut = cut
        for loss in self._file.cautions():  # a path stays in one piece
            console.print(Text(f"{loss}."), soft_wrap=True)

    @property
    def slowest(self) -> Span:
        """The slowest step; in a file without steps the slowest forward pass."""
        return slowest_step(self._file.steps or self._file.outside)

    def print_overview(self) -> None:
        """Print all steps as a line, the usual one and the odd ones, the usual one's tree, the verdict.

        Of traces without a whole step, the table and the folded tree of the slowest.
        """
        run = run_of(self._file)
        if not run:
            self._print_table(most=_MOST_STEPS)
            self._console.print()
            self._print_folded(self.slowest)
            return
        covered = coverage(self._file.roots)
        self._print(overview(run, covered, self._console.width))
        self._print_all_outside()

    def print_usual_step(self) -> None:
        """Print the tree of the usual step, with a row for each span."""
        run = run_of(self._file)
        self._print_tree(usual_step(run) if run else self.slowest)

    def print_all_steps(self) -> None:
        """Print the table of all steps."""
        self._print_table(most=len(self._file.steps))

    def print_slowest_step(self) -> None:
        """Print the tree of the slowest step."""
        self._print_tree(self.slowest)

    def print_step(self, index: int) -> None:
        """Print the tree of the step with this index, the last one where a file holds several runs.

        Raises:
            CommandError: there is no such step.
        """
        found = [step for step in self._file.steps if step.step == index]
        if not found:
            has = self._file.verb("has", "have")
            raise CommandError(f"{self._file.name} {has} no step {index}; {self._known_steps()}")
        if len(found) > 1:
            self._print([Text(f"Step {index} is there {len(found)} times; this is the last.")])
        self._print_tree(found[-1])

    def _known_steps(self) -> str:
        indices = [step.step for step in self._file.steps if step.step is not None]
        has = self._file.verb("it has", "they have")
        if not indices:
            return f"{has} no steps"
        return f"{has} {counted(len(indices), 'step')}, {extent(indices)}"

    def _print_table(self, *, most: int) -> None:
        if self._file.steps:
            self._print(step_table(self._file.steps, self._console.width, most=most))
        self._print_all_outside()
        covered = coverage(self._file.roots)
        if covered:
            self._print([Text(covered)])

    def _print_all_outside(self) -> None:
        evaluations = [span for span in self._file.outside if span.is_evaluation]
        if evaluations:
            passes = counted(sum(span.forwards or 0 for span in evaluations), *_FORWARD_PASSES)
            self._print_outside(
                f"{counted(len(evaluations), 'evaluation')} of {passes}", evaluations
            )
        forwards = [span for span in self._file.outside if not span.is_evaluation]
        if forwards:
            self._print_outside(counted(len(forwards), *_FORWARD_PASSES), forwards)

    def _print_outside(self, what: str, spans: Sequence[Span]) -> None:
        times = [span.duration / 1e6 for span in spans]
        outside = f"{what} outside a step: {sum(times):.2f} ms in all, {max(times):.2f} ms at most."
        self._print([Text(outside)])

    def _print_folded(self, root: Span) -> None:
        self._print([heading(root)])
        self._print(folded_tree(folded(root), self._console.width, MOST_ROWS))
        self._print(list(errors(root))[:1])
        self._print_remarks(root)

    def _print_tree(self, root: Span) -> None:
        self._print(step_tree(root, self._console.width, self._cut))
        self._print_remarks(root)

    def _print_remarks(self, root: Span) -> None:
        hint = compiled_as_one(root)
        if hint:
            self._print([Text(hint)])
        if len(root.ranks) > 1:
            self._print([Text(find_straggler(root.ranks, self._ranks_before(root)).sentence)])

    def _ranks_before(self, root: Span) -> Sequence[Span]:
        steps = [ranks for ranks in self._file.ranks_of_whole_steps() if ranks]
        found = (
            before
            for ranks, before in with_those_before(steps)
            if (ranks[0].trace_id, ranks[0].step) == (root.trace_id, root.step)
        )
        return next(found, ())

    def _print(self, lines: Iterable[Text]) -> None:
        width = self._console.width
        for line in lines:
            for part in line.wrap(self._console, width) if line.cell_len > width else [line]:
                part.rstrip()
                self._console.print(part, soft_wrap=True)
