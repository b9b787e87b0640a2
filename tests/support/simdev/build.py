"""Builds the simulated accelerator, once for each source and version of torch.

Example:
    >>> library()                                       # doctest: +SKIP
    PosixPath('/tmp/otel-torch-modules-simdev-0/4f0c…/simdev.so')
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

NAME = "simdev"
_SOURCE = Path(__file__).with_name("device.cpp")


def missing() -> str | None:
    """Return why the accelerator cannot be built here; None where it can."""
    if shutil.which("g++") is None:
        return "the simulated accelerator needs g++"
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13):
        return f"the simulated accelerator needs the headers of torch 2.13; this is {torch.__version__}"
    return None


def library() -> Path:
    """Return the built extension module: about half a minute the first time.

    Raises:
        subprocess.CalledProcessError: the compiler refused; what it said is on stderr.
    """
    key = hashlib.sha256(
        b"\0".join((_SOURCE.read_bytes(), torch.__version__.encode(), sys.version.encode()))
    ).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"otel-torch-modules-simdev-{os.getuid()}" / key
    built = folder / f"{NAME}.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Under a name of its own first: two processes may build at once, and neither must load half a file.
        half = folder / f"{os.getpid()}.so"
        subprocess.run(_command(half), check=True)
        half.replace(built)
    return built


def _command(output: Path) -> list[str]:
    abi = int(torch.compiled_with_cxx11_abi())
    return [
        "g++",
        "-shared",
        "-fPIC",
        "-std=c++20",
        "-O1",
        f"-DTORCH_EXTENSION_NAME={NAME}",
        f"-D_GLIBCXX_USE_CXX11_ABI={abi}",
        *(f"-isystem{path}" for path in (*include_paths(), sysconfig.get_paths()["include"])),
        str(_SOURCE),
        *(f"-L{path}" for path in library_paths()),
        *(f"-Wl,-rpath,{path}" for path in library_paths()),
        *("-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python"),
        "-o",
        str(output),
    ]
