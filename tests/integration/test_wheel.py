"""What a stranger gets: the wheel, installed where there is no checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

from otel_torch_modules._reading.traces import Traces
from tests.support.training_program import TIME_LIMIT, environment

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "otel_torch_modules"


def succeed(*command: str | Path, cwd: Path, shell: bool = False) -> str:
    process = subprocess.run(
        command[0] if shell else command,
        shell=shell,
        cwd=cwd,
        env={**environment(cwd), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from nothing but what packaging needs: the folder that it is built in has no leftovers."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    succeed(sys.executable, "-m", "pip", "wheel", *offline, "-w", "dist", ".", cwd=source)
    (found,) = (source / "dist").iterdir()
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel, and of this one all but the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    interpreter = folder / "bin" / "python"
    (site_packages,) = (folder / "lib").glob("python3*/site-packages")
    # A plain path in a .pth adds a folder, but not what .pth files in there would add: the checkout.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    offline = ("--no-deps", "--no-index", "--quiet", "--force-reinstall")
    pip = (sys.executable, "-m", "pip", "--python", interpreter)
    succeed(*pip, "install", *offline, wheel, cwd=folder)
    return interpreter


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    here = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == here


def test_the_readme_installs_the_wheel_by_its_name(wheel: Path) -> None:
    assert f"pip install ./{wheel.name}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_wheel_says_its_licence_and_brings_the_text(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (folder,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = message_from_bytes(archive.read(f"{folder}/METADATA"))
        text = archive.read(f"{folder}/licenses/LICENSE")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == "otel-torch-modules contributors"
    assert text == (ROOT / "LICENSE").read_bytes()


def test_the_demo_gives_the_first_picture_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    lines = succeed(python.parent / "otel-torch-modules", "demo", "--steps", "3", cwd=tmp_path)
    file = tmp_path / "traces" / "demo.jsonl"
    assert [step.step for step in Traces.read(file).steps] == [0, 1, 2]
    assert f"{python.parents[1].name}/lib" in lines.splitlines()[2], "not the script of the wheel"
    assert "├─ forward GPT" in lines
    # Its first three lines are the command that it ran: it can be repeated, as it stands.
    command = "\n".join(lines.splitlines()[:3])
    file.unlink()
    assert "loss" in succeed(command, cwd=tmp_path, shell=True)
    # And so can its last one, for a step that there is.
    look = lines.splitlines()[-1].removeprefix("Any other step: ").replace("--step N", "--step 2")
    assert succeed(look, cwd=tmp_path, shell=True).startswith("step 2, ")


def test_the_package_runs_as_a_module(python: Path, tmp_path: Path) -> None:
    said = succeed(python, "-m", "otel_torch_modules", "--version", cwd=tmp_path)
    assert said == succeed(python.parent / "otel-torch-modules", "--version", cwd=tmp_path)
