"""`python -m otel_torch_modules` is the command `otel-torch-modules`."""

from __future__ import annotations

import sys

from otel_torch_modules.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
