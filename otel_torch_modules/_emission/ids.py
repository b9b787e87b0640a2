"""Trace and span ids that neither follow nor disturb the program's random numbers.

The SDK's own generator draws from Python's global one: a script that calls ``random.seed(0)`` would repeat its ids in
every run and on every rank, and each draw would change the numbers that the program gets.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from os import urandom

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

from otel_torch_modules._engine import fork
from otel_torch_modules._records import next_number

_DRAWN_AT_ONCE = 2_048  # numbers


class UrandomIdGenerator(IdGenerator):
    """Ids from the operating system's random numbers.

    They are drawn many at a time: a call of the operating system gives up the interpreter lock, in the training thread
    and in the worker alike, and the training thread would wait to have it back at each step. There is no lock: a signal
    handler that asks for an id in the middle of another's drawing would wait for ever.

    Example:
        >>> UrandomIdGenerator().generate_span_id() > 0
        True
    """

    def __init__(self) -> None:
        self._numbers: Iterator[int] = iter(())
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Draw anew: the parent uses what was drawn."""
        self._numbers = iter(())

    def generate_span_id(self) -> int:
        return self.generate_span_ids(1)[0]

    def generate_span_ids(self, count: int) -> list[int]:
        """Return `count` ids."""
        numbers = self._draw(count)
        return numbers if all(numbers) else [number or 1 for number in numbers]

    def generate_trace_id(self) -> int:
        high, low = self._draw(2)
        return high << 64 | low or 1

    def generate_ids(self) -> tuple[int, int]:
        """Return a trace id and a span id."""
        high, low, span_id = self._draw(3)
        return high << 64 | low or 1, span_id or 1

    def is_trace_id_random(self) -> bool:
        return True

    def _draw(self, count: int) -> list[int]:
        numbers = list(islice(self._numbers, count))  # who draws at the same time has others
        while missing := count - len(numbers):
            self._numbers = _random_numbers(max(missing, _DRAWN_AT_ONCE))
            numbers += islice(self._numbers, missing)
        return numbers


class RecordIds:
    """The ids of records, for the first who asks: in most steps the worker, and the training thread draws none.

    Whoever asks gets the same ones, in whatever thread, in the middle of another's asking, in a child that was forked
    while the record was open: they are a hash of the record's number, with a key that is drawn once in a process.
    """

    def __init__(self) -> None:
        self._keys = [(0, urandom(32))]  # each with the first number that it is for
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Have other ids for the records that open here: those that are open have their parent's."""
        self._keys.append((next_number(), urandom(32)))

    def of(self, number: int) -> tuple[int, int]:
        """Return a trace id and a span id."""
        key = next(key for first, key in reversed(self._keys) if number >= first)
        drawn = blake2b(number.to_bytes(8, "big"), digest_size=24, key=key).digest()
        return int.from_bytes(drawn[:16], "big") or 1, int.from_bytes(drawn[16:], "big") or 1


def _random_numbers(count: int) -> Iterator[int]:
    return iter(array("Q", urandom(8 * count)))


def generate_ids(generator: IdGenerator) -> tuple[int, int]:
    """Return a trace id and a span id."""
    if isinstance(generator, UrandomIdGenerator):
        return generator.generate_ids()
    return generator.generate_trace_id(), generator.generate_span_id()


def generate_span_ids(generator: IdGenerator, count: int) -> list[int]:
    """Return `count` span ids."""
    if isinstance(generator, UrandomIdGenerator):
        return generator.generate_span_ids(count)
    return [generator.generate_span_id() for _ in range(count)]


def chosen_generator(of_provider: IdGenerator, ours: IdGenerator) -> IdGenerator:
    """Return the provider's generator where somebody chose it, else `ours`."""
    return ours if type(of_provider) is RandomIdGenerator else of_provider
