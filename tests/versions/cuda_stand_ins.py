"""Stand-ins for the libraries of CUDA that a torch built for it links, so that it can be imported where there are none.

Versions of torch for the CPU are on an index of their own, and not every place reaches it. A wheel for CUDA without
NVIDIA's packages does as well for what is tested here: each function of a stand-in returns the error of a machine
without a device. Needs gcc and readelf.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

_SYSTEM = re.compile(r"(lib(c|m|dl|pthread|rt|stdc\+\+|gcc_s|gomp|util)|ld-linux.*|linux-vdso)\.so")
_OF_CUDA = re.compile(r"__cuda|cu|nccl|nvrtc|nvtx|nvJitLink|nvshmem|_?cupti|__nv|_Z.*nvshmem|nvml")
_NO_DEVICE = 100  # cudaErrorNoDevice

# What torch calls while it is imported and reads the result of.
_BODIES = {
    "cudaGetErrorString": 'const char *cudaGetErrorString(int e) { return "no device (stand-in)"; }',
    "cudaGetErrorName": 'const char *cudaGetErrorName(int e) { return "cudaErrorNoDevice"; }',
    "cudaStreamIsCapturing": "int cudaStreamIsCapturing(void *s, int *is) { *is = 0; return 0; }",
    "cudaGetLastError": "int cudaGetLastError(void) { return 0; }",
    "cudaPeekAtLastError": "int cudaPeekAtLastError(void) { return 0; }",
}


def make(site_packages: Path) -> None:
    """Put stand-ins beside the libraries of the torch in `site_packages`, where these look first.

    Raises:
        subprocess.CalledProcessError: a program that is needed failed.
    """
    folder = site_packages / "torch" / "lib"
    symbols = _Symbols(sorted(path for path in folder.glob("*.so*") if not path.is_symlink()))
    loose = symbols.loose
    # What names no library is looked for in all: it goes into that of cuDNN, or into the first.
    needed = sorted(symbols.needed, key=lambda name: not name.startswith("libcudnn."))
    for library in needed:
        _compile(folder / library, symbols.versions[library], loose)
        loose = set()


class _Symbols:
    """What libraries need of others.

    Args:
        libraries: files; what one of them defines is not needed.
    """

    def __init__(self, libraries: list[Path]) -> None:
        present = {library.name for library in libraries}
        self.needed: set[str] = set()
        """Names of libraries."""
        self.versions: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        """For each of them the functions of each version of its symbols."""
        homes: dict[str, str] = {}
        used: list[tuple[str, str, str]] = []
        defined: set[str] = set()
        for library in libraries:
            needs = re.findall(r"\(NEEDED\).*\[(.+?)\]", _readelf("-dW", library))
            self.needed |= {name for name in needs if not _SYSTEM.match(name)} - present
            homes |= _homes(library)
            for line in _readelf("--dyn-syms", "-W", library).splitlines():
                fields = line.split()
                if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
                    continue
                name, version = (*re.split("@+", fields[7]), "")[:2]
                if fields[6] == "UND":
                    used.append((name, version, fields[4]))
                else:
                    defined.add(name)
        for name, version, _ in used:
            if homes.get(version) in self.needed:
                self.versions[homes[version]][version].add(name)
        self.loose = {
            name
            for name, version, binding in used
            if not version and binding == "GLOBAL" and name not in defined and _OF_CUDA.match(name)
        }
        """Functions that no library is named for."""


def _homes(library: Path) -> dict[str, str]:
    """Return which library each version of symbols that `library` needs is of."""
    homes, home = {}, ""
    for line in _readelf("-VW", library).splitlines():
        if found := re.search(r"File: (\S+)", line):
            home = found[1]
        elif home and "Flags" in line and (found := re.search(r"Name: (\S+)", line)):
            homes[found[1]] = home
    return homes


def _compile(library: Path, versions: dict[str, set[str]], loose: set[str]) -> None:
    versioned = {name for names in versions.values() for name in names}
    source, script = library.with_suffix(".stand_in.c"), library.with_suffix(".stand_in.map")
    source.write_text("\n".join(map(_body, sorted(versioned | loose))))
    script.write_text(
        "\n".join(
            f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};"
            for version, names in sorted(versions.items())
        )
    )
    command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{library.name}"]
    if versions:
        command.append(f"-Wl,--version-script={script}")
    subprocess.run([*command, "-o", str(library), str(source)], check=True)
    source.unlink()
    script.unlink()


def _body(name: str) -> str:
    return _BODIES.get(name, f"long {name}(void) {{ return {_NO_DEVICE}; }}")


def _readelf(*arguments: str | Path) -> str:
    command = ["readelf", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
