"""Reads what a program offers to Prometheus."""

from __future__ import annotations

import re
import urllib.request
from typing import NamedTuple

LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def scrape(url: str) -> list[Sample]:
    """Return all samples, in the order in which they are offered."""
    with urllib.request.urlopen(url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    matches = (LINE.match(line) for line in lines if line and not line.startswith("#"))
    return [
        Sample(match["name"], dict(LABEL.findall(match["labels"] or "")), float(match["value"]))
        for match in matches
        if match is not None
    ]
