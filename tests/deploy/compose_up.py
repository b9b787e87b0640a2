"""Runs `deploy/compose.yaml` as it is, where no image can be pulled: `make test-compose`.

The images are made here, under the names that the compose file pins: Jaeger and the collector out of the
programs of the tests, Prometheus out of Debian's, Python out of the interpreter and the packages that run
this script, over a minimal Debian. Tempo and Grafana are not to be had, so the profile `tempo` is not run.

Needs root, and Debian's packages docker.io, docker-compose, prometheus, busybox-static and mmdebstrap.
Starts a Docker daemon of its own and ends it again. Prints what it sees; exit code 0 where all is right.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE_FILE = REPOSITORY / "deploy" / "compose.yaml"
sys.path.insert(0, str(REPOSITORY))

from tests.support.backend_programs import find, find_on_path  # noqa: E402
from tests.support.jaeger_query import JaegerQuery  # noqa: E402

PYTHON_IMAGE = "python:3.12.11-slim-bookworm"
STEPS = 6
NOT_IN_IMAGE = ("__editable__*", "otel_torch_modules*", "__pycache__")
LIBRARIES = (
    "ca-certificates,libbz2-1.0,libexpat1,libffi8,libgomp1,liblzma5,libncursesw6,libreadline8,"
    "libsqlite3-0,libssl3,libstdc++6,libuuid1,passwd,zlib1g"
)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch, docker_daemon(Path(scratch)) as docker:
        build_images(Path(scratch) / "images", docker)
        compose = [find_on_path("docker-compose", "docker-compose"), "-f", str(COMPOSE_FILE)]
        environ = {**os.environ, **docker, "COMPOSE_PROFILES": "metrics", "STEPS": str(STEPS)}
        try:
            run([*compose, "up", "--build", "--detach"], environ)
            container = output([*compose, "ps", "--quiet", "train"], environ)
            exit_code = output(["docker", "wait", container], environ)
            logs = output([*compose, "logs", "--no-color", "train"], environ)
            print(logs)
            assert exit_code == "0", exit_code
            look_at(logs.splitlines()[-1].split("|", 1)[-1].strip())
            print(output([*compose, "ps"], environ))
        finally:
            run([*compose, "logs", "--tail", "5", "collector", "jaeger", "prometheus"], environ)
            run([*compose, "down", "--volumes"], environ)
    print("compose: all right")
    return 0


def look_at(address: str) -> None:
    """See that the trace that the job names is in Jaeger, and its metrics in Prometheus."""
    base, trace_id = address.rsplit("/trace/", 1)
    assert base == "http://localhost:16686", address
    query = JaegerQuery("http://127.0.0.1:16686")
    (root,) = until(lambda: query.roots(trace_id), "the trace in Jaeger")
    print("\n".join(root.outline()[:12]))
    assert root.name == "train.step", root.name
    expression = f'sum(traces_span_metrics_calls_total{{torch_phase="step"}}) == {STEPS}'
    until(lambda: prometheus(expression), expression)
    print(expression)


def prometheus(expression: str) -> list[dict[str, Any]]:
    parameters = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/query?{parameters}") as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


def until(read: Callable[[], list[Any]], what: str) -> list[Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = read()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: nothing within a minute")


@contextmanager
def docker_daemon(scratch: Path) -> Iterator[dict[str, str]]:
    """Yield the environment that leads to a daemon of our own."""
    socket = f"unix://{scratch}/docker.sock"
    log = (scratch / "dockerd.log").open("wb")
    daemon = subprocess.Popen(
        [
            find_on_path("dockerd", "docker.io"),
            f"--data-root={scratch / 'data'}",
            f"--exec-root={scratch / 'exec'}",
            f"--pidfile={scratch / 'docker.pid'}",
            f"--host={socket}",
        ],
        stdout=log,
        stderr=log,
    )
    environ = {"DOCKER_HOST": socket, "DOCKER_BUILDKIT": "0"}
    try:
        ask = ["docker", "version"]
        until(
            lambda: (
                [True]
                * (not subprocess.call(ask, env={**os.environ, **environ}, stdout=log, stderr=log))
            ),
            "a Docker daemon",
        )
        yield environ
    except BaseException:
        print((scratch / "dockerd.log").read_text()[-3000:])
        raise
    finally:
        daemon.terminate()
        daemon.wait()


def build_images(folder: Path, docker: dict[str, str]) -> None:
    build_program_image(folder / "jaeger", "jaegertracing/jaeger:2.20.0", [find("jaeger")], docker)
    build_program_image(
        folder / "collector",
        "otel/opentelemetry-collector-contrib:0.159.0",
        [find("otelcol")],
        docker,
    )
    loader = [Path("/lib64/ld-linux-x86-64.so.2"), Path("/lib/x86_64-linux-gnu/libc.so.6")]
    build_program_image(
        folder / "prometheus",
        "prom/prometheus:v3.14.0",
        [find_on_path("prometheus", "prometheus"), *loader],
        docker,
    )
    import_python_image(folder / "python", docker)


def build_program_image(
    folder: Path, name: str, files: list[str | Path], docker: dict[str, str]
) -> None:
    """Make an image of a program (the first file), what it needs, and `wget` for the health check."""
    program, *needed = map(Path, files)
    copy(program, folder / "program")
    for file in needed:
        copy(file.resolve(), folder / "root" / file.relative_to("/"))
    copy(Path(find_on_path("busybox", "busybox-static")), folder / "root/bin/wget")
    for directory in ("tmp", "prometheus"):
        (folder / "root" / directory).mkdir()
    (folder / "Dockerfile").write_text(
        'FROM scratch\nCOPY root /\nCOPY program /program\nENTRYPOINT ["/program"]\n'
    )
    run(["docker", "build", "--quiet", "--tag", name, str(folder)], {**os.environ, **docker})


def import_python_image(folder: Path, docker: dict[str, str]) -> None:
    """Make a Debian with this interpreter in /usr/local, and all that `pip install` would bring."""
    folder.mkdir(parents=True)
    root = folder / "root"
    debian = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={LIBRARIES}", "bookworm"]
    run([*debian, str(root)], dict(os.environ))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    local = root / "usr/local"
    copy(prefix / "bin" / version, local / "bin" / version)
    (local / "bin/python").symlink_to(version)
    (local / "bin/pip").write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    (local / "bin/pip").chmod(0o755)
    for library in (prefix / "lib").glob("libpython3*"):
        copy(library.resolve(), local / "lib" / library.name)
    ignore = shutil.ignore_patterns("site-packages", "test", *NOT_IN_IMAGE)
    shutil.copytree(prefix / "lib" / version, local / "lib" / version, ignore=ignore)
    shutil.copytree(
        site.getsitepackages()[0],
        local / "lib" / version / "site-packages",
        ignore=shutil.ignore_patterns(*NOT_IN_IMAGE),
    )
    environ = {**os.environ, **docker}
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        change = [
            "--change",
            "ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin LD_LIBRARY_PATH=/usr/local/lib",
        ]
        subprocess.run(
            ["docker", "import", *change, "-", PYTHON_IMAGE],
            stdin=tar.stdout,
            env=environ,
            check=True,
        )
    shutil.rmtree(root)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def run(command: list[str], environ: dict[str, str]) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, env=environ, check=True)


def output(command: list[str], environ: dict[str, str]) -> str:
    return subprocess.run(
        command, env=environ, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
