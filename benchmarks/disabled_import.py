"""What the package adds to ``import torch`` where tracing is not asked for.

    python -m benchmarks.disabled_import [--runs 20]

torch looks for entry points at the end of its import in any case; what is added is that ours is loaded and called. It
is timed in fresh interpreters that have imported torch without it. Against the noise of the import itself, hundreds
of milliseconds long, the difference could not be seen.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

_PROGRAM = """
import torch
from importlib.metadata import entry_points
from time import perf_counter_ns
door, = (found for found in entry_points(group="torch.backends") if found.name == "otel_torch_modules")
start = perf_counter_ns()
door.load()()
print(perf_counter_ns() - start)
"""


def main() -> None:
    """Print the median and the quartiles."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("OTEL_")
    } | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    times = [
        int(subprocess.check_output([sys.executable, "-c", _PROGRAM], env=environment)) / 1e6
        for _ in range(runs)
    ]
    low, median, high = statistics.quantiles(times, n=4)
    print(f"import torch with tracing not asked for: + {median:.2f} ms ({low:.2f} - {high:.2f})")


if __name__ == "__main__":
    main()
