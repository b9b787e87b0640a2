"""What `otel-torch-modules doctor` says, and when it is content."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from otel_torch_modules._control import files
from otel_torch_modules._emission.otlp import file as file_exporter
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules.cli import doctor, exporter_check
from otel_torch_modules.cli.doctor import examine
from otel_torch_modules.cli.provider_check import examine_provider
from tests.support.otlp_receivers import RECEIVERS, Receiver


@pytest.fixture
def listening() -> Iterator[int]:
    """Return a port of 127.0.0.1 at which a receiver answers, over gRPC."""
    with RECEIVERS["grpc"]() as receiver:
        yield _port(receiver)


def _port(receiver: Receiver) -> int:
    return int(receiver.endpoint.rpartition(":")[2])


@pytest.fixture
def silent() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


NO_RECEIVER = {"OTEL_TRACES_EXPORTER": "console"}
NO_URL = "is not allowed; it must be a URL such as http://host:4317"


def rows_of(output: str) -> dict[str, str]:
    table = output.split("\n\n")[0]
    return {name: state for name, _, state in (line.partition("  ") for line in table.splitlines())}


def faults_of(environ: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    code = examine({**NO_RECEIVER, **environ})
    summary = capsys.readouterr().out.split("\n\n")[1].splitlines()
    faults = [line.removeprefix("✗ ") for line in summary[1:]]
    things = "1 thing is" if len(faults) == 1 else f"{len(faults)} things are"
    assert (code, summary[0]) == ((1, f"{things} wrong:") if faults else (0, "Nothing is wrong."))
    return faults


def test_everything_is_said(capsys: pytest.CaptureFixture[str], listening: int) -> None:
    environ = {
        "OTEL_TORCH_MODULES_ENABLED": "True",
        "OTEL_TORCH_MODULES_EXCLUDE": "Dropout, GPT.h.*",
        "OTEL_TORCH_MODULES_SCHEDULE": "wait=9",
        "OTEL_TORCH_MODULES_KEEP": "slow=1.3,first=3",
        "OTEL_SERVICE_NAME": "gpt",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
        "OTEL_TRACES_EXPORTER": "otlp,console",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listening}",
        "PATH": "/bin",
    }
    assert examine(environ) == 0
    width = 43
    rows = {
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": metadata.version("torch"),
        "opentelemetry-sdk": metadata.version("opentelemetry-sdk"),
        "opentelemetry-exporter-otlp": metadata.version("opentelemetry-exporter-otlp"),
        "opentelemetry-instrumentation": metadata.version("opentelemetry-instrumentation"),
        "msgspec": metadata.version("msgspec"),
        "rich": metadata.version("rich"),
        "entry point torch.backends": "otel_torch_modules is registered",
        "entry point opentelemetry_instrumentor": "torch_modules is registered",
        "entry point opentelemetry_traces_exporter": "otlp_file is registered",
        "OTEL_TORCH_MODULES_ENABLED": "true",
        "OTEL_TORCH_MODULES_PHASES": "train,eval (default)",
        "OTEL_TORCH_MODULES_INCLUDE": "all modules (default)",
        "OTEL_TORCH_MODULES_EXCLUDE": "Dropout,GPT.h.*",
        "OTEL_TORCH_MODULES_MAX_DEPTH": "no limit (default)",
        "OTEL_TORCH_MODULES_SPAN_KIND": "separate (default)",
        "OTEL_TORCH_MODULES_SCHEDULE": "skip_first=0,wait=9,active=1,repeat=0",
        "OTEL_TORCH_MODULES_MAX_OVERHEAD": "no limit (default)",
        "OTEL_TORCH_MODULES_KEEP": "slow=1.3,every=0,first=3",
        "OTEL_TORCH_MODULES_MAX_SPANS_PER_STEP": "100000 (default)",
        "OTEL_TORCH_MODULES_RECORD_SHAPES": "false (default)",
        "OTEL_TORCH_MODULES_RANKS": "all (default)",
        "OTEL_TORCH_MODULES_DETAIL_RANKS": "all (default)",
        "OTEL_TORCH_MODULES_DATA_WORKERS": "false (default)",
        "OTEL_TORCH_MODULES_RUN_ID": "from the launcher (default)",
        "OTEL_TORCH_MODULES_STALL_TIMEOUT": "60.0 (default)",
        "OTEL_TORCH_MODULES_BLACKBOX": "none (default)",
        "OTEL_TORCH_MODULES_CONTROL": "none (default)",
        "OTEL_TORCH_MODULES_CAUSES": "compile,gc,checkpoint,collective,loop,host,memory (default)",
        "OTEL_TORCH_MODULES_DEVICE_TIME": "phases (default)",
        "OTEL_TORCH_MODULES_DEVICE_EVERY": "16 (default)",
        "OTEL_TORCH_MODULES_COMPILED_MARKS": "none (default)",
        "OTEL_TORCH_MODULES_SERVICES": "one (default)",
        "OTEL_TORCH_MODULES_STEP_NAME": "train.step (default)",
        "OTEL_TORCH_MODULES_FILE": "traces-{pid}.jsonl (default)",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listening}",
        "OTEL_EXPORTER_OTLP_HEADERS": "(set)",
        "OTEL_SERVICE_NAME": "gpt",
        "OTEL_TRACES_EXPORTER": "otlp,console",
    }
    rows["provider"] = "the program's own, or one made from the OTEL_* variables"
    rows["logfire"] = "is installed: it wraps the SDK's provider where logfire.configure() is used"
    rows["limits"] = (
        "a span: 128 attributes, 128 events, 128 links, 128 attributes an event, 128 attributes a link, "
        "any characters a value"
    )
    exporters = [f"otlp, grpc, http://127.0.0.1:{listening}: answers", "console"]
    lines = [f"{subject:<{width}}{state}" for subject, state in rows.items()]
    lines += [f"{'exporter':<{width}}{state}" for state in exporters]
    assert capsys.readouterr().out == "\n".join(lines) + "\n\nNothing is wrong.\n"


@pytest.mark.parametrize(
    ("environ", "faults"),
    [
        ({}, []),
        ({"OTEL_TORCH_MODULES_ENABLED": "false"}, []),
        (
            {"OTEL_TORCH_MODULES_ENABLED": "yes", "OTEL_TORCH_MODULES_MAX_DEPTH": "0"},
            [
                "OTEL_TORCH_MODULES_ENABLED: 'yes' is not allowed; it must be true or false",
                "OTEL_TORCH_MODULES_MAX_DEPTH: 0 is not allowed; it must be an integer of at least 1",
            ],
        ),
        (
            {"OTEL_TORCH_MODULES_ENABLED": "true", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
            [
                "TORCH_DEVICE_BACKEND_AUTOLOAD=0 keeps torch from loading entry points, so "
                "OTEL_TORCH_MODULES_ENABLED has no effect"
            ],
        ),
        (
            {"OTEL_TORCH_MODULES_MAXDEPTH": "3", "OTEL_TORCH_MODULES_Q": "1"},
            [
                "OTEL_TORCH_MODULES_MAXDEPTH is not a variable of otel-torch-modules; "
                "OTEL_TORCH_MODULES_MAX_DEPTH is meant?",
                "OTEL_TORCH_MODULES_Q is not a variable of otel-torch-modules; "
                "OTEL_TORCH_MODULES_KEEP is meant?",
            ],
        ),
        (
            {
                "OTEL_TORCH_MODULE_ENABLED": "true",
                "OTEL_TRACE_EXPORTER": "otlp",
                "OTEL_OF_OTHERS": "1",
            },
            [
                "OTEL_TORCH_MODULE_ENABLED is not a variable; OTEL_TORCH_MODULES_ENABLED is meant?",
                "OTEL_TRACE_EXPORTER is not a variable; OTEL_TRACES_EXPORTER is meant?",
            ],
        ),
        (
            {"OTEL_SPAN_LINK_COUNT_LIMIT": "-1", "OTEL_ATTRIBUTE_COUNT_LIMIT": "many"},
            [
                f"{name}: {value!r} is not allowed; it must be an integer of at least 0"
                for name, value in (
                    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "many"),
                    ("OTEL_SPAN_LINK_COUNT_LIMIT", "-1"),
                )
            ],
        ),
        (
            {"OTEL_TORCH_MODULES_BLACKBOX": "/a", "OTEL_TORCH_MODULES_CONTROL": "/a/"},
            [
                "OTEL_TORCH_MODULES_CONTROL: '/a/' is not allowed; it must be another folder than that of the "
                "black box"
            ],
        ),
        ({"OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider"}, []),
        (
            {"OTEL_PYTHON_TRACER_PROVIDER": "theirs"},
            [
                "OTEL_PYTHON_TRACER_PROVIDER=theirs is not installed; there are: "
                "default_tracer_provider, sdk_tracer_provider"
            ],
        ),
        (
            {"OTEL_SDK_DISABLED": "true"},
            ["OTEL_SDK_DISABLED=true switches off all of OpenTelemetry"],
        ),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
            ["OTEL_TRACES_SAMPLER=parentbased_always_off leaves out every step"],
        ),
        (
            {"OTEL_TRACES_SAMPLER": "sometimes", "OTEL_TRACES_SAMPLER_ARG": "2"},
            [
                "OTEL_TRACES_SAMPLER=sometimes is not installed; there are: always_off, always_on, "
                "parentbased_always_off, parentbased_always_on, parentbased_traceidratio, traceidratio"
            ],
        ),
        ({"OTEL_TRACES_SAMPLER": "Always_On", "OTEL_TRACES_SAMPLER_ARG": "x"}, []),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, []),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}, []),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, []),
        *(
            (
                {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio},
                [
                    f"OTEL_TRACES_SAMPLER_ARG: {ratio!r} is not allowed; it must be a number from 0 to 1"
                ],
            )
            for ratio in ("1/100", "1.5", "-0.1", "nan")
        ),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.0"},
            ["OTEL_TRACES_SAMPLER_ARG=0.0 leaves out every step"],
        ),
        ({"OTEL_TRACES_EXPORTER": "None"}, ["OTEL_TRACES_EXPORTER=none: spans go nowhere"]),
        (
            {"OTEL_TRACES_EXPORTER": "console,zipkin9"},
            [
                "OTEL_TRACES_EXPORTER=zipkin9 is not installed; there are: "
                "console, otlp, otlp_file, otlp_proto_grpc, otlp_proto_http"
            ],
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http"},
            [
                "OTEL_EXPORTER_OTLP_PROTOCOL: 'http' is not allowed; it must be grpc or http/protobuf"
            ],
        ),
        (
            {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon", "OTEL_BSP_MAX_QUEUE_SIZE": "0"},
            [
                "OTEL_BSP_MAX_QUEUE_SIZE: '0' is not allowed; it must be an integer of at least 1",
                "OTEL_EXPORTER_OTLP_TIMEOUT: 'soon' is not allowed; it must be a number of seconds above 0, as in 10",
            ],
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://:4317"},
            [f"OTEL_EXPORTER_OTLP_ENDPOINT: 'http://:4317' {NO_URL}"],
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host:port"},
            [f"OTEL_EXPORTER_OTLP_ENDPOINT: 'http://host:port' {NO_URL}"],
        ),
        *(
            (
                {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
                [f"OTEL_EXPORTER_OTLP_ENDPOINT: {endpoint!r} {NO_URL}"],
            )
            for endpoint in (
                "http://[abc]:4317",
                "http://[::1",
                "http://host:99999",
                "//",
                "grpc://",
            )
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{'a' * 70}:4317",
            },
            [
                f"nothing answers at {'a' * 70}:4317 (no host can have this name); start a collector there "
                "or set OTEL_EXPORTER_OTLP_ENDPOINT"
            ],
        ),
        (
            {"OTEL_CONFIG_FILE": "/nowhere/otel.yaml"},
            ["OTEL_CONFIG_FILE=/nowhere/otel.yaml is no file that can be read"],
        ),
    ],
)
def test_what_is_wrong_has_a_line(
    environ: dict[str, str],
    faults: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert faults_of(environ, capsys) == faults


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:{port}",
                "OTEL_EXPORTER_OTLP_INSECURE": "true",  # without a scheme it would be TLS
            },
            "otlp, grpc, 127.0.0.1:{port}",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:{port}/v1/traces",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            "otlp, http/protobuf, http://127.0.0.1:{port}/v1/traces",
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp_proto_http",
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:{port}",
            },
            "otlp_proto_http, http/protobuf, http://127.0.0.1:{port}",
        ),
    ],
)
def test_the_endpoint_in_force_is_asked(
    environ: dict[str, str],
    asked: str,
    capsys: pytest.CaptureFixture[str],
    silent: int,
) -> None:
    def examined(port: int) -> tuple[int, str]:
        code = examine({name: value.format(port=port) for name, value in environ.items()})
        return code, capsys.readouterr().out

    with RECEIVERS[asked.split(", ")[1]]() as receiver:
        port = _port(receiver)
        code, output = examined(port)
    assert (code, rows_of(output)["exporter"].strip()) == (0, f"{asked.format(port=port)}: answers")
    code, output = examined(silent)
    assert code == 1
    assert rows_of(output)["exporter"].strip() == f"{asked.format(port=silent)}: no answer"
    assert output.endswith(
        f"\n✗ nothing answers at 127.0.0.1:{silent} (connection refused); start a collector there "
        "or set OTEL_EXPORTER_OTLP_ENDPOINT\n"
    )


def test_an_incomplete_installation_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = {"torch": "2.5.1+cpu", "opentelemetry-sdk": "1.30.0", "rich": "13.0"}

    def version(distribution: str) -> str:
        if distribution not in installed:
            raise metadata.PackageNotFoundError(distribution)
        return installed[distribution]

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "entry_points", lambda group, name: group != "torch.backends")
    assert faults_of({}, capsys) == [
        "torch 2.5.1+cpu is too old; 2.6 or later is needed",
        "opentelemetry-exporter-otlp is not installed; version 1.30 or later is needed",
        "opentelemetry-instrumentation is not installed; version 0.51 or later is needed",
        "entry point otel_torch_modules of group torch.backends is not registered; "
        "install otel-torch-modules again",
    ]


def test_a_file_that_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("kept")
    (tmp_path / "folder-7").mkdir()
    no_folder = f"nothing can be written to {tmp_path}/taken (not a directory)"
    no_file = f"nothing can be written to {tmp_path}/folder-7 (is a directory)"
    no_place = "nothing can be written to /proc (no such file or directory)"
    for file, fault in (
        (f"{tmp_path}/new/folder/{{rank}}.jsonl", ""),
        (f"{tmp_path}/taken", ""),
        (f"{tmp_path}/taken/t.jsonl", no_folder),
        (f"{tmp_path}/folder-{{rank}}", no_file),
        # A folder that says that it may be written to by root, and may not.
        *(
            (("/proc/traces.jsonl", no_place),)
            if sys.platform == "linux" and not os.getuid()
            else ()
        ),
    ):
        environ = {
            "OTEL_TRACES_EXPORTER": "otlp_file",
            "OTEL_TORCH_MODULES_FILE": file,
            "RANK": "7",
        }
        faults = faults_of(environ, capsys)
        assert faults == ([f"OTEL_TORCH_MODULES_FILE={file}: {fault}"] if fault else [])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder-7", "taken"]
    assert (tmp_path / "taken").read_text() == "kept"


@pytest.mark.parametrize("variable", ["BLACKBOX", "CONTROL"])
def test_a_folder_that_cannot_be_made_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    (tmp_path / "taken").write_text("kept")
    (tmp_path / "there").mkdir()
    (tmp_path / "lost").symlink_to("nowhere")
    name = f"OTEL_TORCH_MODULES_{variable}"
    for folder, fault in (
        ("there", ""),
        ("new", ""),
        ("new/below", ""),
        ("taken", "taken (not a directory)"),
        ("taken/below", "taken (not a directory)"),
        ("lost", "lost (no such file or directory)"),
    ):
        path = tmp_path / folder
        faults = faults_of({name: str(path)}, capsys)
        said = f"{name}={path}: nothing can be written to {tmp_path}/{fault}"
        assert faults == ([said] if fault else [])
        with pytest.raises(OSError) if fault else nullcontext():  # noqa: PT011
            files.make_folder(path)
            files.put(path / "rank-0.json", {})


LEADS = {
    "../taken": True,
    "../new": True,
    "../other": False,  # a link to where no folder is
    "../new/file": False,
    "../taken/file": False,
    "link": False,
    "../folder": False,
}


@pytest.mark.parametrize("target", LEADS)
@pytest.mark.parametrize("below", ["", "/traces.jsonl", "/more/traces.jsonl"])
def test_of_links_it_says_what_the_exporter_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, below: str
) -> None:
    (tmp_path / "taken").write_text("kept\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").symlink_to("nowhere/file")
    link = tmp_path / "folder" / "link"
    link.symlink_to(target)
    written = LEADS[target] if not below else target == "../folder"
    file = f"{link}{below}"
    environ = {"OTEL_TRACES_EXPORTER": "otlp_file", "OTEL_TORCH_MODULES_FILE": file}
    before = sorted(tmp_path.rglob("*"))
    faults = faults_of(environ, capsys)
    assert sorted(tmp_path.rglob("*")) == before
    exporter = file_exporter.OtlpFileSpanExporter(file)
    reply = exporter.export_request(EncodedRequest(b"{}\n", 1))
    exporter.shutdown()
    assert (not faults, not reply.error) == (written, written), (faults, reply)
    if written:
        assert Path(file).read_text().endswith("{}\n")
        assert link.is_symlink()


def test_a_pipe_that_nobody_reads_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environ = {"OTEL_TRACES_EXPORTER": "", "OTEL_TORCH_MODULES_FILE": str(pipe)}
    assert faults_of(environ, capsys) == [
        f"OTEL_TORCH_MODULES_FILE={pipe}: nothing can be written to {pipe} (no such device or address)"
    ]


@pytest.mark.parametrize(
    ("environ", "limits"),
    [
        (
            {"OTEL_ATTRIBUTE_COUNT_LIMIT": "7"},
            "7 attributes, 128 events, 128 links, 7 attributes an event",
        ),
        (
            {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "9", "OTEL_ATTRIBUTE_COUNT_LIMIT": "7"},
            "9 attributes, 128 events, 128 links, 7 attributes an event",
        ),
        ({"OTEL_SPAN_EVENT_COUNT_LIMIT": ""}, "128 attributes, any events, 128 links"),
    ],
)
def test_the_limits_in_force_are_said(
    environ: dict[str, str], limits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    examine({**NO_RECEIVER, **environ})
    assert rows_of(capsys.readouterr().out)["limits"].strip().startswith(f"a span: {limits}")


class Wrapping:
    """As Logfire's: no class of the SDK, and one of the SDK inside."""

    def __init__(self, provider: object) -> None:
        self.provider = provider


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("TracerProvider()", "opentelemetry.sdk.trace.TracerProvider"),
        (
            "Wrapping(TracerProvider())",
            "__main__.Wrapping, which wraps opentelemetry.sdk.trace.TracerProvider",
        ),
        (
            "Wrapping(None)",
            "__main__.Wrapping, which has nothing of the SDK: spans get ids of its own",
        ),
        ("None", "the program's own, or one made from the OTEL_* variables"),
    ],
)
def test_the_provider_that_is_there_is_named(make: str, said: str) -> None:
    script = (
        "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider\n"
        f"{inspect.getsource(Wrapping)}\n"
        f"provider = {make}\n"
        "if provider: trace.set_tracer_provider(provider)\n"
        "from otel_torch_modules.cli.main import main; main(['doctor'])\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert rows_of(output.stdout)["provider"].strip() == said


FEWER = (
    "dropped, evaluations included: they came faster than they could be sent, or were refused (the job's log says "
    "which); record fewer of them "
    "(raise wait in OTEL_TORCH_MODULES_SCHEDULE) or less of each (lower OTEL_TORCH_MODULES_MAX_DEPTH, "
    "name fewer OTEL_TORCH_MODULES_DETAIL_RANKS)"
)


def dropped(sample: Any, number: int) -> Any:
    """Return the same step, before which `number` were dropped."""
    return sample._replace(attributes={**sample.attributes, "torch.step.dropped": number})


def test_files_say_how_many_steps_were_dropped(
    write_traces: Callable[..., Path],
    sample: Callable[..., Any],
    step: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def rank_of(number: int, index: int, lost: int) -> Any:
        rank = sample(f"rank {number}", "rank", 0, 9, (), {"torch.step": index})
        rank.attributes["torch.distributed.rank"] = number
        return dropped(rank, lost) if lost else rank

    def written(name: str, *samples: Any) -> Path:
        return write_traces(*samples).rename(tmp_path / name)

    whole = written("whole", step(0), sample("forward GPT", "forward", 200, 210), step(1, 300))
    one = written("one", step(0), dropped(step(2, 100), 1))
    many = written(
        "many", step(0), dropped(step(3, 100), 2), step(4, 200), dropped(step(9, 300), 4)
    )
    about = {"torch.evaluate.forwards": 2, "torch.step.dropped": 4}
    evaluated = written("evaluated", sample("evaluate", "evaluate", 0, 10, (), about))
    # Each rank drops its own; what the step's span says is said by its rank too.
    of_step = sample(
        "train.step", "step", 0, 10, (rank_of(0, 5, 2), rank_of(1, 5, 3)), {"torch.step": 5}
    )
    ranks = written("ranks", dropped(of_step, 2), rank_of(3, 6, 0))
    about = {"torch.module.fqn": "GPT", "torch.compiled.modules": 36}
    forward = sample("forward GPT", "forward", 0, 5, (), about)
    compiled = written(
        "compiled", sample("train.step", "step", 0, 10, (forward,), {"torch.step": 1})
    )
    empty = tmp_path / "empty"
    empty.touch()
    missing = tmp_path / "missing"

    files = [whole, one, many, evaluated, ranks, compiled, empty, missing]
    assert examine({}, files) == 1
    table, summary = capsys.readouterr().out.split("\n\n")
    assert [
        line.split(None, 1)[1] for line in table.splitlines() if line.startswith("traces ")
    ] == [
        f"{whole}: 2 steps, 0 dropped",
        f"{one}: 2 steps, 1 dropped",
        f"{many}: 4 steps, 6 dropped",
        f"{evaluated}: 0 steps, 4 dropped",
        f"{ranks}: 2 steps, 5 dropped",
        f"{ranks}: damaged",
        f"{compiled}: 1 step, 0 dropped",
        f"{compiled}: GPT is compiled: one span for 36 modules; compile its blocks one by one to see them.",
        f"{empty}",
        f"{missing}",
    ]
    assert summary.splitlines() == [
        "7 things are wrong:",
        f"✗ {one}: 1 step was {FEWER}",
        f"✗ {many}: 6 steps were {FEWER}",
        f"✗ {evaluated}: 4 steps were {FEWER}",
        f"✗ {ranks}: 5 steps were {FEWER}",
        f"✗ {ranks}: rank 0 is missing in 1 of 2 steps (6), rank 1 in 1 (6), rank 3 in 1 (5)",
        f"✗ {empty} is empty: no trace has been written to it yet",
        f"✗ {missing} cannot be read: No such file or directory",
    ]


def test_the_file_by_default_is_the_exporters() -> None:
    assert exporter_check.DEFAULT_FILE == file_exporter._DEFAULT_FILE


def test_neither_torch_nor_the_sdk_is_imported() -> None:
    script = (
        "import os, sys; from otel_torch_modules.cli.main import main; main(['doctor', 'missing']); "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'opentelemetry', 'rich'}))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert output.stdout.splitlines()[-1] == "[]"


def test_it_makes_no_provider_where_a_variable_chooses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "default_tracer_provider")
    assert not any(finding.fault for finding in examine_provider(os.environ))
    monkeypatch.delenv("OTEL_PYTHON_TRACER_PROVIDER")
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
