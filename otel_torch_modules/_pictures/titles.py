"""What a span is called where the tree around it is not seen: the module by its full name."""

from __future__ import annotations

from otel_torch_modules._shape import Site


def title(site: Site) -> str:
    """Return a span's phase and its module, or its name where it is no module's."""
    return site.name if site.fqn is None or site.phase is None else f"{site.phase} {site.fqn}"
