"""Writes ``docs/versions.md``: with which Python, torch and SDK the parts that lean on them were run.

Run it as ``make test-versions``. Each row is an environment of its own below ``.versions``: gigabytes, where torch for
the CPU alone cannot be had. What cannot be installed here is named as not run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from tests.versions import cuda_stand_ins

_ROOT = Path(__file__).parents[2]
_ENVIRONMENTS = _ROOT / ".versions"
_PINS = _ROOT / "constraints.txt"

_PARTS = (
    "tests/unit/recording",
    "tests/unit/tracker/test_stack.py",
    "tests/unit/engine",
    "tests/unit/job/test_identity.py",
    "tests/unit/emission",
    "tests/unit/assembly",
    "tests/integration/backward",
    "tests/integration/causes",
    "tests/integration/steps/test_boundaries.py",
    "tests/integration/doors/test_variable.py",
    "tests/integration/test_demo.py",
)
_TOOLS = (
    "backports.zstd",
    "hypothesis",
    "msgspec",
    "numpy",
    "packaging",
    "psutil",
    "pytest",
    "pytest-timeout",
    "pyyaml",
    "rich",
)
_OPENTELEMETRY = ("sdk", "exporter-otlp")
_OF_OPENTELEMETRY = ("opentelemetry-", "protobuf==", "googleapis-", "importlib", "wrapt==")

_PAGE = """# Versions

Run on {day} by `make test-versions`: what leans on names of torch and the SDK that are not public, backward's trees,
causes, steps, the variable's door and the demo.

| Python | torch | OpenTelemetry | result |
|---|---|---|---|
{rows}

The suite runs on the versions of `constraints.txt`. Newer ones are meant to work; on a torch newer than all of these
one line of log, at INFO, says that it has not been tried.
"""


@dataclass(frozen=True)
class Versions:
    """One row. None stands for what `constraints.txt` pins."""

    python: str = "3.11"
    torch: str | None = None
    opentelemetry: str | None = None


_ROWS = (
    Versions(),
    Versions(torch="2.6.0"),
    Versions(torch="2.9.1"),
    Versions(torch="2.14.1"),
    Versions(opentelemetry="1.30.0"),
    Versions(torch="2.6.0", opentelemetry="1.30.0"),
    Versions(python="3.10"),
    Versions(python="3.12"),
    Versions(python="3.13"),
)


def main() -> None:
    """Run all and write the page."""
    pins = _pins()
    rows = []
    for versions in _ROWS:
        print(versions, file=sys.stderr, flush=True)
        names = (
            versions.python,
            versions.torch or pins["torch"],
            versions.opentelemetry or pins["opentelemetry-sdk"],
        )
        result = _result(versions)
        print(result, file=sys.stderr, flush=True)
        rows.append(f"| {' | '.join((*names, result))} |")
    page = _ROOT / "docs" / "versions.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(_PAGE.format(day=date.today().isoformat(), rows="\n".join(rows)))


def _result(versions: Versions) -> str:
    """Return what the tests of a row came to, or why they were not run."""
    interpreter = f"python{versions.python}"
    if not _runs(interpreter):
        return f"not run: no {interpreter} here"
    folder = _ENVIRONMENTS / "-".join(
        (versions.python, versions.torch or "torch", versions.opentelemetry or "opentelemetry")
    )
    try:
        _make(folder, interpreter, versions)
    except subprocess.CalledProcessError as error:
        return f"not run: {' '.join(map(str, error.cmd[3:6]))} … cannot be had here"
    finished = subprocess.run(
        [folder / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *_PARTS],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    (folder / "pytest.txt").write_text(finished.stdout + finished.stderr)
    return re.sub(r" in [\d.]+s.*", "", finished.stdout.strip().splitlines()[-1])


def _runs(interpreter: str) -> bool:
    # pyenv has a program of that name also for versions that are not chosen here.
    try:
        return subprocess.run([interpreter, "-c", ""], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _make(folder: Path, interpreter: str, versions: Versions) -> None:
    """Make the environment of a row unless it is there."""
    made = folder / ".made"
    if made.exists():
        return
    subprocess.run([interpreter, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    pins = folder / "constraints.txt"
    pins.write_text("\n".join(_pins_but_for(versions)))
    _install_torch(folder, [*map(str, pip)], versions.torch or _pins()["torch"])
    wanted = [*_TOOLS, *_dependencies(versions)]
    subprocess.run([*pip, "-c", pins, *wanted], check=True)
    subprocess.run([*pip, "--no-deps", "-e", _ROOT], check=True)
    made.touch()


def _install_torch(folder: Path, pip: list[str], version: str) -> None:
    """Install torch without NVIDIA's packages, and stand-ins for these where its build is for CUDA."""
    subprocess.run([*pip, "--no-deps", f"torch=={version}"], check=True)
    site_packages = next((folder / "lib").glob("python3*/site-packages"))
    metadata = next(site_packages.glob("torch-*.dist-info")) / "METADATA"
    for line in re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(), re.MULTILINE):
        requirement = Requirement(line)
        marker = requirement.marker
        if (
            "nvidia" in requirement.name
            or "cuda" in requirement.name
            or "triton" in requirement.name
        ):
            continue
        if marker is None or marker.evaluate({"extra": ""}):
            subprocess.run([*pip, f"{requirement.name}{requirement.specifier}"], check=True)
    if not list((site_packages / "torch" / "lib").glob("libtorch_cuda.so")):
        return
    cuda_stand_ins.make(site_packages)


def _pins() -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", _PINS.read_text(), re.MULTILINE))


def _pins_but_for(versions: Versions) -> Iterator[str]:
    """Yield the lines of `constraints.txt` that say nothing of what the row asks for otherwise."""
    for line in _PINS.read_text().splitlines():
        asked = (versions.torch is not None and line.startswith(("torch==", "sympy=="))) or (
            versions.opentelemetry is not None and line.startswith(_OF_OPENTELEMETRY)
        )
        if not asked:
            yield line


def _dependencies(versions: Versions) -> Iterator[str]:
    for line in requires("otel-torch-modules") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and "extra" in str(requirement.marker):
            continue
        if requirement.name == "torch":
            continue
        short = requirement.name.removeprefix("opentelemetry-")
        if versions.opentelemetry is not None and short in _OPENTELEMETRY:
            yield f"{requirement.name}=={versions.opentelemetry}"
        else:
            yield line


if __name__ == "__main__":
    main()
