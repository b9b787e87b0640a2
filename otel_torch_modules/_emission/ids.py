"""Trace and span ids that neither follow nor disturb the program's random numbers.

The SDK's own generator draws from Python's global one: a script that calls ``random.seed(0)`` would repeat its ids in
every run and on every rank, and each draw would change the numbers that the program gets.
"""

from __future__ import annotations

import os
import struct

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator


class UrandomIdGenerator(IdGenerator):
    """Ids from the operating system's random numbers.

    Example:
        >>> UrandomIdGenerator().generate_span_id() > 0
        True
    """

    def generate_span_id(self) -> int:
        return int.from_bytes(os.urandom(8), "big") or 1

    def generate_trace_id(self) -> int:
        return int.from_bytes(os.urandom(16), "big") or 1

    def is_trace_id_random(self) -> bool:
        return True


def generate_span_ids(generator: IdGenerator, count: int) -> list[int]:
    """Return `count` span ids; of a `UrandomIdGenerator` in one call of the operating system."""
    if isinstance(generator, UrandomIdGenerator):
        return [span_id or 1 for span_id in struct.unpack(f"{count}Q", os.urandom(8 * count))]
    return [generator.generate_span_id() for _ in range(count)]


def chosen_generator(of_provider: IdGenerator, ours: IdGenerator) -> IdGenerator:
    """Return the provider's generator where somebody chose it, else `ours`."""
    return ours if type(of_provider) is RandomIdGenerator else of_provider
