"""A distribution of somebody else's, written into a folder, with entry points that OpenTelemetry's variables name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

DISTRIBUTION = "acme-telemetry"
VERSION = "1.2"
NAME = "acme"
"""Of each of its entry points."""


def write_plugin(folder: Path, groups: Iterable[str], source: str) -> dict[str, str]:
    """Write one that has `NAME` in all `groups`, as `make` in the module whose `source` it is.

    Returns:
        The variables with which Python finds it.
    """
    metadata = folder / f"acme_telemetry-{VERSION}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {VERSION}\n"
    )
    points = [f"[{group}]\n{NAME} = acme_telemetry:make\n" for group in groups]
    (metadata / "entry_points.txt").write_text("\n".join(points))
    (folder / "acme_telemetry.py").write_text(source)
    return {"PYTHONPATH": str(folder)}
