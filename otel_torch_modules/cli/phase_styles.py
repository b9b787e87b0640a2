"""The colour of each phase, the same in table and tree."""

from __future__ import annotations

from otel_torch_modules import semconv
from otel_torch_modules.cli.phase_shares import BETWEEN

PHASE_STYLES = {
    semconv.PHASE_DATA: "yellow",
    semconv.PHASE_FORWARD: "cyan",
    semconv.PHASE_BACKWARD: "magenta",
    semconv.PHASE_RECOMPUTE: "dark_orange",
    semconv.PHASE_OPTIMIZER: "green",
    BETWEEN: "bright_black",
}
