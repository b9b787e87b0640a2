"""Names of modules, and what else their sites say."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.overrides import TorchFunctionMode

from otel_torch_modules._recording.fqn import ModuleSites
from otel_torch_modules._recording.module_tree import parameter_counts


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_fc = nn.Linear(2, 4)
        self.c_proj = nn.Linear(4, 2, bias=False)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mlp()


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(2, 2)


def everything(fqn: str, class_name: str) -> bool:
    return True


@pytest.fixture
def sites() -> ModuleSites:
    return ModuleSites(everything)


def names(sites: ModuleSites) -> list[tuple[str, str]]:
    return [(site.fqn, site.class_name) for site in sites.by_id.values()]


GPT_NAMES = [
    ("GPT", "GPT"),
    ("GPT.h", "ModuleList"),
    ("GPT.h.0", "Block"),
    ("GPT.h.0.mlp", "Mlp"),
    ("GPT.h.0.mlp.c_fc", "Linear"),
    ("GPT.h.0.mlp.c_proj", "Linear"),
    ("GPT.h.1", "Block"),
    ("GPT.h.1.mlp", "Mlp"),
    ("GPT.h.1.mlp.c_fc", "Linear"),
    ("GPT.h.1.mlp.c_proj", "Linear"),
    ("GPT.head", "Linear"),
]


def test_names_are_class_rooted_paths(sites: ModuleSites) -> None:
    model = GPT()
    site = sites.add(model)
    assert sites.by_id[id(model)] is site
    assert names(sites) == GPT_NAMES
    prefixes = {key.rpartition(".")[0] for key in model.state_dict()}
    assert prefixes <= {fqn.partition(".")[2] for fqn, _ in names(sites)}


def test_a_site_says_what_the_module_is(sites: ModuleSites) -> None:
    model = GPT()
    sites.add(model)
    assert [
        (site.fqn, site.parameters, site.container, site.compiled, site.recorded)
        for site in sites.by_id.values()
    ] == [
        ("GPT", 46, False, False, True),
        ("GPT.h", 40, True, False, True),
        ("GPT.h.0", 20, False, False, True),
        ("GPT.h.0.mlp", 20, False, False, True),
        ("GPT.h.0.mlp.c_fc", 12, False, False, True),
        ("GPT.h.0.mlp.c_proj", 8, False, False, True),
        ("GPT.h.1", 20, False, False, True),
        ("GPT.h.1.mlp", 20, False, False, True),
        ("GPT.h.1.mlp.c_fc", 12, False, False, True),
        ("GPT.h.1.mlp.c_proj", 8, False, False, True),
        ("GPT.head", 6, False, False, True),
    ]
    assert sites.by_id[id(model)].function_name == f"{__name__}.GPT.forward"
    assert sites.by_id[id(model.head)].function_name == "torch.nn.modules.linear.Linear.forward"


def test_what_is_not_recorded_is_asked_by_name_and_class() -> None:
    asked = []

    def recorded(fqn: str, class_name: str) -> bool:
        asked.append((fqn, class_name))
        return class_name != "ReLU"

    sites = ModuleSites(recorded)
    sites.add(nn.Sequential(linear := nn.Linear(1, 1), relu := nn.ReLU()))
    assert asked == [
        ("Sequential", "Sequential"),
        ("Sequential.0", "Linear"),
        ("Sequential.1", "ReLU"),
    ]
    assert [sites.by_id[id(m)].recorded for m in (linear, relu)] == [True, False]


def test_a_module_reached_by_two_paths_has_the_first(sites: ModuleSites) -> None:
    shared = nn.Linear(1, 1)
    model = nn.Module()
    model.outer = nn.Sequential(nn.Sequential(shared))
    model.direct = shared
    sites.add(model)
    assert names(sites) == [
        ("Module", "Module"),
        ("Module.outer", "Sequential"),
        ("Module.outer.0", "Sequential"),
        ("Module.outer.0.0", "Linear"),
    ]


def test_a_module_called_alone_is_renamed_by_its_root(sites: ModuleSites) -> None:
    model = GPT()
    assert sites.add(model.h[1]).fqn == "Block"
    assert sites.add(model).fqn == "GPT"
    assert sites.by_id[id(model.h[1])].fqn == "GPT.h.1"
    assert sorted(names(sites)) == GPT_NAMES


def test_a_module_of_two_roots_keeps_its_first_name(sites: ModuleSites) -> None:
    shared = nn.Linear(1, 1)
    teacher, student = nn.Sequential(shared), nn.ModuleDict({"own": nn.ReLU(), "taught": shared})
    sites.add(teacher)
    sites.add(student)
    assert names(sites) == [
        ("Sequential", "Sequential"),
        ("Sequential.0", "Linear"),
        ("ModuleDict", "ModuleDict"),
        ("ModuleDict.own", "ReLU"),
    ]


def test_a_root_called_later_takes_over_a_whole_model(sites: ModuleSites) -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    sites.add(model)
    sites.add(nn.ModuleDict({"model": model}))
    assert sites.by_id[id(model)].fqn == "ModuleDict.model"
    assert sites.by_id[id(model[0])].fqn == "ModuleDict.model.0"


def test_a_module_added_later_is_named_by_its_place(sites: ModuleSites) -> None:
    model, other = GPT(), nn.Sequential(nn.ReLU())
    sites.add(other)
    before = sites.add(model)
    model.h.append(Block())
    assert sites.add(model.h[2].mlp).fqn == "GPT.h.2.mlp"
    assert sites.by_id[id(model.h[2])].fqn == "GPT.h.2"
    assert sites.by_id[id(model)] is before
    assert sites.add(nn.Dropout()).fqn == "Dropout"


def test_modules_made_in_every_forward_are_looked_for_only_so_often(sites: ModuleSites) -> None:
    class Counted(nn.Module):
        looked_at = 0

        def __getattribute__(self, name: str) -> object:
            Counted.looked_at += name == "__dict__"
            return super().__getattribute__(name)

    sites.add(model := Counted())
    for _ in range(16):
        assert sites.add(nn.Softmax(dim=-1)).fqn == "Softmax"
    looked_at = Counted.looked_at
    assert sites.add(nn.Softmax(dim=-1)).fqn == "Softmax"
    assert Counted.looked_at == looked_at
    model.softmin = nn.Softmin(dim=-1)
    assert sites.add(model.softmin).fqn == "Counted.softmin"


def test_nothing_is_kept_alive_and_nothing_is_left(sites: ModuleSites) -> None:
    model = GPT()
    sites.add(model)
    kept = model.h[0].mlp
    del model
    gc.collect()
    assert names(sites) == GPT_NAMES[3:6]
    del kept
    assert sites.by_id == {}


def test_a_death_noticed_late_leaves_the_new_owner_of_the_id_alone(sites: ModuleSites) -> None:
    first = nn.ReLU()
    sites.add(first)
    late = sites._entries[id(first)]
    sites.clear()
    sites.add(first)
    sites._forget(late)
    assert names(sites) == [("ReLU", "ReLU")]


def test_clear_forgets_all(sites: ModuleSites) -> None:
    sites.add(model := GPT())
    sites.clear()
    assert sites.by_id == {}
    assert sites.add(model.head).fqn == "Linear"


@pytest.fixture
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", rank=0, world_size=1, store=torch.distributed.HashStore()
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_ddp(sites: ModuleSites) -> None:
    model = nn.parallel.DistributedDataParallel(GPT())
    sites.add(model)
    wrapper = ("DistributedDataParallel", "DistributedDataParallel")
    assert names(sites) == [wrapper, *GPT_NAMES]
    assert sites.by_id[id(model)].parameters == 46


@pytest.mark.usefixtures("process_group")
def test_fully_shard(sites: ModuleSites) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    model = GPT()
    for block in model.h:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert type(model).__name__ == "FSDPGPT"
    sites.add(model)
    assert names(sites) == GPT_NAMES
    assert sites.by_id[id(model)].function_name == f"{__name__}.GPT.forward"
    assert sites.by_id[id(model)].parameters == 46


@pytest.mark.usefixtures("process_group")
def test_fsdp1(sites: ModuleSites) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = GPT()
    model.h[0] = FullyShardedDataParallel(model.h[0], device_id=torch.device("cpu"))
    model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    sites.add(model)
    fsdp = "FullyShardedDataParallel"
    assert names(sites) == [
        (fsdp, fsdp),
        *GPT_NAMES[:2],
        ("GPT.h.0", fsdp),
        *GPT_NAMES[2:],
    ]


def test_data_parallel(sites: ModuleSites) -> None:
    model = nn.DataParallel(GPT())
    sites.add(model)
    assert names(sites) == [("DataParallel", "DataParallel"), *GPT_NAMES]


def test_a_child_named_module_of_any_other_class_is_a_child(sites: ModuleSites) -> None:
    model = nn.ModuleDict({"module": nn.ReLU()})
    sites.add(model)
    assert names(sites) == [("ModuleDict", "ModuleDict"), ("ModuleDict.module", "ReLU")]


def test_checkpoint_wrapper_in_the_middle(sites: ModuleSites) -> None:
    model = GPT()
    model.h[0] = checkpoint_wrapper(model.h[0])
    sites.add(model)
    assert names(sites) == [*GPT_NAMES[:2], ("GPT.h.0", "CheckpointWrapper"), *GPT_NAMES[2:]]


def test_torch_compile_shows_what_it_wraps(sites: ModuleSites) -> None:
    compiled = torch.compile(GPT(), backend="eager")
    sites.add(compiled)
    assert names(sites) == [("GPT", "GPT"), *GPT_NAMES]
    site = sites.by_id[id(compiled)]
    assert (site.compiled, site.parameters) == (True, 46)
    assert site.function_name == f"{__name__}.GPT.forward"
    assert sites.by_id[id(compiled._orig_mod)].compiled is False


def test_torch_compile_in_the_middle(sites: ModuleSites) -> None:
    model = GPT()
    model.h[0] = torch.compile(model.h[0], backend="eager")
    sites.add(model)
    assert names(sites) == [*GPT_NAMES[:3], ("GPT.h.0", "Block"), *GPT_NAMES[3:]]


@pytest.mark.usefixtures("process_group")
def test_torch_compile_around_ddp(sites: ModuleSites) -> None:
    model = torch.compile(nn.parallel.DistributedDataParallel(GPT()), backend="eager")
    sites.add(model)
    wrapper = ("DistributedDataParallel", "DistributedDataParallel")
    assert names(sites) == [wrapper, wrapper, *GPT_NAMES]


def test_compiled_in_place(sites: ModuleSites) -> None:
    model = GPT()
    model.head.compile(backend="eager")
    sites.add(model)
    assert [site.fqn for site in sites.by_id.values() if site.compiled] == ["GPT.head"]


def test_classes_that_do_not_behave(sites: ModuleSites) -> None:
    class Unhashable(nn.Module):
        __hash__ = None

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not to be compared")

        def named_children(self) -> object:
            raise RuntimeError("not to be asked")

        def __bool__(self) -> bool:
            raise RuntimeError("not to be tested")

        def __len__(self) -> int:
            return 0

    class Slotted(nn.Module):
        __slots__ = ("extra",)

    class Unready(nn.Module):
        def __init__(self) -> None:
            pass

    model = Unhashable()
    model.a = Unhashable()
    model.b = Slotted()
    model.c = Unready()
    model.d = None
    sites.add(model)
    sites.add(model)
    assert [site.fqn for site in sites.by_id.values()] == [
        "Unhashable",
        "Unhashable.a",
        "Unhashable.b",
        "Unhashable.c",
    ]


def test_modules_that_hold_each_other(sites: ModuleSites) -> None:
    model, child = nn.Module(), nn.Linear(1, 1)
    model.child, child.up = child, model
    sites.add(model)
    assert [(site.fqn, site.parameters) for site in sites.by_id.values()] == [
        ("Module", 2),
        ("Module.child", 2),
    ]
    child.up = None


def test_scripted_and_symbolically_traced_modules(sites: ModuleSites) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    scripted = torch.jit.script(model)
    sites.add(scripted)
    assert [(site.fqn, site.parameters) for site in sites.by_id.values()] == [
        ("RecursiveScriptModule", 6),
        ("RecursiveScriptModule.0", 6),
        ("RecursiveScriptModule.1", 0),
    ]
    sites.clear()
    traced = torch.fx.symbolic_trace(model)
    sites.add(traced)
    assert names(sites) == [
        ("Sequential", "Sequential"),
        ("Sequential.0", "Linear"),
        ("Sequential.1", "ReLU"),
    ]


def counts(root: nn.Module) -> dict[str, int]:
    found = parameter_counts(root)
    return {name: found[id(module)] for name, module in root.named_modules()}


def expected_counts(root: nn.Module) -> dict[str, int]:
    return {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in root.named_modules()
    }


def test_shared_parameters_and_modules_count_once() -> None:
    tied = nn.Linear(3, 5, bias=False)
    embedding = nn.Embedding(5, 3)
    embedding.weight = tied.weight
    shared = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(3, 3), tied))
    twice = nn.Bilinear(2, 2, 2)
    twice.again = twice.weight
    model = nn.Sequential(
        embedding,
        nn.Sequential(shared, nn.Linear(7, 1)),
        nn.Sequential(nn.Sequential(shared), shared[1]),
        tied,
        twice,
    )
    assert counts(model) == expected_counts(model)
    assert counts(model)[""] == 15 + 6 + 12 + 8 + 10


def test_parameters_without_data() -> None:
    with torch.device("meta"):
        assert parameter_counts(meta := nn.Linear(1_000_000, 1_000_000))[id(meta)] == 10**12 + 10**6
    with torch._subclasses.FakeTensorMode():
        assert counts(nn.Linear(3, 4)) == {"": 16}
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))
    assert counts(model) == {"": 4, "0": 0, "1": 4}


def test_a_deep_model_is_counted_without_recursion() -> None:
    model: nn.Module = nn.Linear(1, 1)
    for _ in range(3000):
        model = nn.Sequential(model)
    assert set(parameter_counts(model).values()) == {2}


def test_the_programs_modes_do_not_see_the_counting(sites: ModuleSites) -> None:
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    class Traced(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            added.append(sites.add(self).parameters)
            return x * 2

    added: list[int] = []
    model = GPT()
    with Watch():
        sites.add(model)
    assert seen == []
    torch.jit.trace(Traced(2, 2), torch.ones(1, 2))
    assert {(type(count), count) for count in added} == {(int, 6)}
