"""For tests of programs that are traced, and of this package: spans in memory, as trees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_torch_modules.config import Config
from otel_torch_modules.instrumentor import TorchModuleInstrumentor


@dataclass(eq=False)
class CapturedSpan:
    """A finished span with the spans below it, in the order in which they started."""

    span: ReadableSpan
    children: list[CapturedSpan] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the span."""
        return self.span.name

    @property
    def attributes(self) -> dict[str, object]:
        """The attributes of the span."""
        return dict(self.span.attributes or {})

    @property
    def start(self) -> int:
        """Nanoseconds since the epoch."""
        return self.span.start_time or 0

    @property
    def end(self) -> int:
        """Nanoseconds since the epoch."""
        return self.span.end_time or 0

    def walk(self) -> Iterator[CapturedSpan]:
        """Yield this span and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str) -> list[CapturedSpan]:
        """Return the spans of this tree that have this name, in the order of the tree."""
        return [span for span in self.walk() if span.name == name]

    def outline(self) -> str:
        """Return the names of the whole tree, a line each, indented by depth.

        Among them are those that come and go with what the machine does: ``between``, ``python.gc``.
        """
        lines = [self.name]
        lines += ["  " + line for child in self.children for line in child.outline().split("\n")]
        return "\n".join(lines)


class Captured:
    """What was captured; filled when the block of `capture_spans` ends."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        """Give it to programs that have spans of their own."""
        self.exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """All spans, in the order in which they were sent."""
        return self.exporter.get_finished_spans()

    @property
    def trees(self) -> list[CapturedSpan]:
        """The root spans, in the order in which they started, with all below them.

        A span whose parent was not captured is a root here.
        """
        by_id = {span.context.span_id: CapturedSpan(span) for span in self.spans if span.context}
        roots = []
        for captured in sorted(by_id.values(), key=lambda captured: captured.start):
            parent = captured.span.parent
            if parent is not None and parent.span_id in by_id:
                by_id[parent.span_id].children.append(captured)
            else:
                roots.append(captured)
        return roots

    def outline(self) -> str:
        """Return the outlines of all trees, one below the other."""
        return "\n".join(tree.outline() for tree in self.trees)


@contextmanager
def capture_spans(config: Config | None = None) -> Iterator[Captured]:
    """Trace the block and keep its spans in memory; they are there when the block has ended.

    Args:
        config: the options; all defaults where None, whatever the environment says.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with capture_spans() as captured:
        ...     model(torch.ones(1, 2)).sum().backward()
        ...     optimizer.step()
        >>> [step] = captured.trees
        >>> print(step.find("backward")[0].outline())
        backward
          backward Sequential
            backward 0
    """
    captured = Captured()
    instrumentor = TorchModuleInstrumentor()
    instrumentor.instrument(config=config or Config(), tracer_provider=captured.provider)
    try:
        yield captured
    finally:
        instrumentor.uninstrument()
        captured.provider.shutdown()
