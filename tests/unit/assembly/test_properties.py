"""What holds for the tree of any record."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_torch_modules import semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._events import EXIT, EXIT_BARE, MARK, TASK, TASK_END, WIDTH, Shown, Stretch
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules._spans.span import CONSUMER, PRODUCER, Span
from otel_torch_modules.config import Config
from tests.support.examples import examples
from tests.support.logs import LASTED, SHOWN, Made, Module, Program, any_logs, modules

Shape = tuple[str, list["Shape"]]


def assemble(record: Record) -> Span:
    return Assembler(Config()).assemble(record)


def run(micro_batches: list[Module], together: bool) -> tuple[Record, list[Made]]:
    """Return the record of a step: each forward with its backward, or all forwards and then one backward."""
    program = Program()
    made = program.forwards_and_backwards(micro_batches, together=together)
    return program.finished(), made


STEPS = st.builds(run, st.lists(modules(), min_size=1, max_size=3), st.booleans())


def check_structure(root: Span) -> list[Span]:
    """Every span has one parent but the root, and lies inside it; return them all."""
    spans = list(root.walk())
    assert len({id(span) for span in spans}) == len(spans)
    assert root.parent is None
    for span in spans:
        assert span.start <= span.end
        for child in span.children:
            assert child.parent is span
            assert span.start <= child.start
            assert child.end <= span.end
        assert [c.start for c in span.children] == sorted(c.start for c in span.children)
    return spans


def shape(span: Span) -> list[Any]:
    """Return a tree with all that is to be the same when it is assembled once more."""
    return [
        span.name,
        span.phase,
        span.kind,
        span.start,
        span.end,
        dict(span.all_attributes),
        span.points,
        None if span.link is None else (span.link.name, span.link.start),
        [shape(child) for child in span.children],
    ]


@given(STEPS)
def test_every_span_but_the_root_has_one_parent_and_lies_inside_it(
    step: tuple[Record, list[Made]],
) -> None:
    check_structure(assemble(step[0]))


@given(STEPS)
def test_children_of_one_span_do_not_overlap(step: tuple[Record, list[Made]]) -> None:
    for span in assemble(step[0]).walk():
        for before, after in zip(span.children, span.children[1:], strict=False):
            assert before.end <= after.start


@given(STEPS)
def test_forward_is_what_was_called(step: tuple[Record, list[Made]]) -> None:
    record, made = step

    def called(call: Made) -> Shape:
        return call.module.site.fqn, [called(child) for child in call.children]

    def drawn(span: Span) -> Shape:
        called = [child for child in span.children if child.phase != SHOWN]
        return str(span.attributes[semconv.MODULE_FQN]), [drawn(child) for child in called]

    root = assemble(record)
    forwards = [span for span in root.children if span.phase == semconv.PHASE_FORWARD]
    assert [drawn(span) for span in forwards] == [called(call) for call in made]


@given(STEPS)
def test_backward_has_the_shape_of_forward_for_every_call_that_made_nodes(
    step: tuple[Record, list[Made]],
) -> None:
    root = assemble(step[0])
    forward_of: dict[int, Span] = {}
    for span in root.walk():
        if span.phase == semconv.PHASE_BACKWARD and span.name != semconv.BACKWARD_PASS:
            assert span.kind == CONSUMER
            assert span.link is not None
            assert id(span.link) not in forward_of.values()
            forward_of[id(span)] = span.link
            parent = span.parent
            assert parent is not None
            if parent.name == semconv.BACKWARD_PASS:
                assert span.link.parent is root
            else:
                assert span.link.parent is forward_of[id(parent)]
    producers = [span for span in root.walk() if span.kind == PRODUCER]
    assert Counter(map(id, producers)) == Counter(map(id, forward_of.values()))
    for span in root.walk():
        if span.link is not None:  # siblings run in the reverse of the order of forward
            links = [c.link.start for c in span.children if c.link is not None]
            assert links == sorted(links, reverse=True)


@given(STEPS)
def test_a_recompute_hangs_below_the_backward_of_what_it_repeats(
    step: tuple[Record, list[Made]],
) -> None:
    root = assemble(step[0])
    for span in root.walk():
        if span.phase == semconv.PHASE_RECOMPUTE:
            parent = span.parent
            assert parent is not None
            if parent.phase == semconv.PHASE_BACKWARD:
                assert parent.link is not None
                assert parent.attributes[semconv.MODULE_FQN] == span.attributes[semconv.MODULE_FQN]


@given(STEPS)
def test_no_backward_holds_the_recompute_of_another(step: tuple[Record, list[Made]]) -> None:
    spans = list(assemble(step[0]).walk())
    recomputes = [
        span
        for span in spans
        if span.phase == semconv.PHASE_RECOMPUTE
        and span.parent is not None
        and span.parent.phase == semconv.PHASE_BACKWARD
    ]
    backwards = [span for span in spans if span.link is not None]
    for recompute in recomputes:
        above = set()
        parent = recompute.parent
        while parent is not None:
            above.add(id(parent))
            parent = parent.parent
        for span in backwards:
            if id(span) not in above:
                assert span.end <= recompute.start or recompute.end <= span.start


@given(STEPS)
def test_nothing_is_lost_and_nothing_invented(step: tuple[Record, list[Made]]) -> None:
    record, made = step
    spans = list(assemble(record).walk())
    phases = Counter(span.phase for span in spans)
    calls = sum(isinstance(tag, Site) for tag in record.log[::WIDTH])
    tasks = record.log[::WIDTH].count(TASK)
    with_nodes = sum(span.kind == PRODUCER for span in spans)
    assert phases[semconv.PHASE_FORWARD] + phases[semconv.PHASE_RECOMPUTE] == calls
    assert phases[semconv.PHASE_BACKWARD] == tasks + with_nodes
    assert phases[semconv.PHASE_STEP] == 1
    happenings = record.log[::WIDTH].count(LASTED)
    assert phases[SHOWN] == 3 * happenings
    assert len(spans) == 1 + calls + tasks + with_nodes + 3 * happenings
    assert with_nodes == sum(_with_nodes(call) for call in made)


@given(STEPS)
def test_a_module_says_how_long_it_lasts_without_what_is_below(
    step: tuple[Record, list[Made]],
) -> None:
    for span in assemble(step[0]).walk():
        own = span.end - span.start - sum(child.end - child.start for child in span.children)
        is_module = semconv.MODULE_FQN in span.attributes
        assert span.all_attributes.get(semconv.SELF_TIME) == (own / 1e9 if is_module else None)


def test_what_is_below_side_by_side_is_taken_away_but_no_more_than_there_is() -> None:
    record = Record("step", 0, start=0, clock_offset=0, end=99)
    root, part = Site("Root", "Root"), Site("Root.part", "Part")
    lasts = Stretch("lasts", shown=Shown("lasts", "test"))
    record.log.extend((root, 0, 0, 10, True))
    record.log.extend((lasts, 0, 11, 28, None))
    record.log.extend((lasts, 0, 12, 29, None))
    record.log.extend((part, 0, 0, 30, True))
    record.log.extend((EXIT, 0, 1, 35, None))
    record.log.extend((EXIT, 0, 2, 40, None))
    found = [span.all_attributes.get(semconv.SELF_TIME) for span in assemble(record).walk()]
    assert found == [None, 0.0, None, None, 5e-9]


def _with_nodes(call: Made) -> int:
    return (call.last > call.first) + sum(map(_with_nodes, call.children))


@given(STEPS)
def test_the_same_record_gives_the_same_tree(step: tuple[Record, list[Made]]) -> None:
    record = step[0]
    assert shape(assemble(record)) == shape(assemble(record))
    again = Assembler(Config())
    assert shape(again.assemble(record))[:5] == shape(assemble(record))[:5]


@given(STEPS, st.integers(0, 100))
def test_a_log_cut_off_anywhere_gives_a_tree(step: tuple[Record, list[Made]], percent: int) -> None:
    record = step[0]
    del record.log[len(record.log) * percent // 100 :]
    check_structure(assemble(record))


@given(STEPS, st.data())
def test_a_log_that_begins_in_the_middle_gives_a_tree(
    step: tuple[Record, list[Made]], data: st.DataObject
) -> None:
    record = step[0]
    events = len(record.log) // WIDTH
    del record.log[: WIDTH * data.draw(st.integers(0, events))]
    check_structure(assemble(record))


@settings(max_examples=examples(300))
@given(st.lists(any_logs(), min_size=1, max_size=3), st.sampled_from(["step", "eval"]))
def test_no_log_makes_assembly_fail(logs: list[list[Any]], kind: Any) -> None:
    assembler = Assembler(Config(max_spans_per_step=20))
    for log in logs:
        record = Record(kind, 0, start=3, clock_offset=0, end=20, log=log)
        if kind == "eval":
            record.site = Site("Root", "Root")
        root = assembler.assemble(record)
        for span in root.walk():
            for child in span.children:
                assert child.parent is span


def test_a_call_without_a_graph_is_no_producer() -> None:
    root, child = Site("Root", "Root"), Site("Root.child", "Child")
    record = Record("step", 0, start=0, clock_offset=0, end=9)
    record.log.extend((root, 0, 0, 1, True))
    record.log.extend((child, 0, 0, 2, True))
    record.log.extend((EXIT_BARE, 0, 3, 3, None))
    record.log.extend((EXIT, 0, 4, 4, None))
    record.log.extend((TASK, 0, 1, 5, 0))
    record.log.extend((MARK, 0, 3, 6, 1))
    record.log.extend((TASK_END, 0, 1, 7, True))
    assert [(s.name, s.kind == PRODUCER) for s in assemble(record).walk()] == [
        ("train.step", False),
        ("forward Root", True),
        ("forward child", False),
        ("backward", False),
        ("backward Root", False),
    ]
