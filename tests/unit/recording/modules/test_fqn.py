"""Names of modules, and what else their sites say."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.overrides import TorchFunctionMode

from otel_torch_modules._recording.modules.fqn import ModuleSites
from otel_torch_modules._recording.modules.module_tree import parameter_counts
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._site import Site


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
    sites.bury()
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
    site = sites.root(model)
    assert sites.by_id[id(model)] is site
    assert names(sites) == GPT_NAMES
    prefixes = {key.rpartition(".")[0] for key in model.state_dict()}
    assert prefixes <= {fqn.partition(".")[2] for fqn, _ in names(sites)}


def test_a_site_says_what_the_module_is(sites: ModuleSites) -> None:
    model = GPT()
    sites.open(model)
    assert [
        (site.fqn, site.parameters, site.container, site.compiled_modules, site.recorded)
        for site in sites.by_id.values()
    ] == [
        ("GPT", 46, False, 0, True),
        ("GPT.h", 40, True, 0, True),
        ("GPT.h.0", 20, False, 0, True),
        ("GPT.h.0.mlp", 20, False, 0, True),
        ("GPT.h.0.mlp.c_fc", 12, False, 0, True),
        ("GPT.h.0.mlp.c_proj", 8, False, 0, True),
        ("GPT.h.1", 20, False, 0, True),
        ("GPT.h.1.mlp", 20, False, 0, True),
        ("GPT.h.1.mlp.c_fc", 12, False, 0, True),
        ("GPT.h.1.mlp.c_proj", 8, False, 0, True),
        ("GPT.head", 6, False, 0, True),
    ]
    assert sites.by_id[id(model)].function_name == f"{__name__}.GPT.forward"
    assert sites.by_id[id(model.head)].function_name == "torch.nn.modules.linear.Linear.forward"


def repeated(*modules: nn.Module) -> nn.ModuleList:
    return nn.ModuleList(modules)


@pytest.mark.parametrize(
    ("holder", "patterns"),
    [
        (repeated(Block(), Block()), ["*", "*"]),
        (repeated(Block(), Mlp(), Block()), ["*", "1", "*"]),
        (repeated(Block()), ["0"]),
        (repeated(nn.Linear(1, 1), nn.Linear(1, 1)), ["*", "*"]),
        (nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), ["0", "1", "2"]),
        (nn.Sequential(Mlp(), Mlp(), nn.Linear(1, 1)), ["*", "*", "2"]),
        (nn.ModuleDict({"a": Mlp(), "b": Mlp()}), ["a", "b"]),
        (repeated(checkpoint_wrapper(Block()), checkpoint_wrapper(Block())), ["*", "*"]),
    ],
)
def test_a_pattern_has_a_star_for_the_number_of_what_is_repeated(
    sites: ModuleSites, holder: nn.Module, patterns: list[str]
) -> None:
    model = nn.Module()
    model.inner = holder
    sites.open(model)
    found = [sites.by_id[id(child)].pattern for child in holder.children()]
    assert found == [f"Module.inner.{pattern}" for pattern in patterns]


def test_patterns_go_through_what_is_repeated_and_follow_a_model_that_grows(
    sites: ModuleSites,
) -> None:
    model = GPT()
    sites.open(model)
    assert sites.by_id[id(model.h[1].mlp.c_fc)].pattern == "GPT.h.*.mlp.c_fc"  # type: ignore[union-attr]
    lonely = GPT()
    del lonely.h[1]
    sites.clear()
    sites.open(lonely)
    assert sites.by_id[id(lonely.h[0])].pattern == "GPT.h.0"
    for _ in range(2):
        lonely.h.append(Block())
        sites.open(lonely)
        assert {sites.by_id[id(block)].pattern for block in lonely.h} == {"GPT.h.*"}


def test_what_is_not_recorded_is_asked_by_name_and_class() -> None:
    asked = []

    def recorded(fqn: str, class_name: str) -> bool:
        asked.append((fqn, class_name))
        return class_name != "ReLU"

    sites = ModuleSites(recorded)
    sites.open(nn.Sequential(linear := nn.Linear(1, 1), relu := nn.ReLU()))
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
    sites.open(model)
    assert names(sites) == [
        ("Module", "Module"),
        ("Module.outer", "Sequential"),
        ("Module.outer.0", "Sequential"),
        ("Module.outer.0.0", "Linear"),
    ]


def test_names_are_those_of_the_root_that_is_called(sites: ModuleSites) -> None:
    model = GPT()
    block = model.h[1]
    for _ in range(2):
        assert sites.root(block).fqn == "Block"
        sites.open(block)
        assert sites.by_id[id(block.mlp)].fqn == "Block.mlp"
        assert sites.root(model).fqn == "GPT"
        sites.open(model)
        assert sites.by_id[id(block.mlp)].fqn == "GPT.h.1.mlp"
    assert sorted(names(sites)) == GPT_NAMES


def test_a_module_of_two_roots_has_a_name_from_each(sites: ModuleSites) -> None:
    shared = nn.Linear(1, 1)
    teacher, student = nn.Sequential(shared), nn.ModuleDict({"own": nn.ReLU(), "taught": shared})
    for _ in range(2):
        sites.open(teacher)
        assert sites.by_id[id(shared)].fqn == "Sequential.0"
        sites.open(student)
        assert sites.by_id[id(shared)].fqn == "ModuleDict.taught"


def test_a_wrapper_that_was_called_once_leaves_no_name(sites: ModuleSites) -> None:
    model = GPT()
    for kept in (True, False):
        wrapper = nn.ModuleDict({"inner": model})
        sites.open(wrapper)
        assert sites.by_id[id(model.head)].fqn == "ModuleDict.inner.head"
        if not kept:
            del wrapper
        sites.open(model)
        assert sites.by_id[id(model.head)].fqn == "GPT.head"
        assert sites.by_id[id(model)].fqn == "GPT"


def test_what_a_running_root_has_called_in_another_thread_keeps_its_name(
    sites: ModuleSites,
) -> None:
    model = GPT()
    root = sites.open(model)
    root.callers[1] = OpenLog()
    assert sites.open(model.h[0]) is root
    assert sites.root(model.h[0]).fqn == "GPT.h.0"
    del root.callers[1]
    assert sites.root(model.h[0]).fqn == "Block"


def prefixes(model: nn.Module) -> set[str]:
    """Return what `state_dict` says the modules below are called."""
    return {name for name, _ in model.named_modules() if name}


def seen(sites: ModuleSites, model: nn.Module) -> set[str]:
    """Return what the modules below are called by us."""
    return {
        sites.by_id[id(module)].fqn.partition(".")[2]
        for module in model.modules()
        if module is not model
    }


def take_out(model: nn.Sequential) -> None:
    model[1] = model[1].mlp


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "inserted first": lambda model: model.insert(0, nn.ReLU()),
    "appended": lambda model: model.append(Block()),
    "deleted": lambda model: model.__delitem__(0),
    "deleted and appended": lambda model: (model.__delitem__(0), model.append(nn.ReLU())),
    "two change places": lambda model: model.extend([model.pop(0), model.pop(0)]),
    "replaced": lambda model: model.__setitem__(1, nn.Linear(1, 1)),
    "wrapped in an adapter": lambda model: model.__setitem__(1, nn.ModuleDict({"base": model[1]})),
    "an adapter is taken out": take_out,
    "added to a leaf": lambda model: setattr(model[0], "adapter", nn.Linear(1, 1)),
    "a leaf's is moved": lambda model: setattr(model[0], "moved", model.pop(1)),
    "renamed": lambda model: model._modules.update(last=model._modules.pop("2")),
    "set to None": lambda model: model._modules.update({"1": None}),
    "by the registry": lambda model: model._modules.update({"1": nn.ReLU()}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_names_follow_a_model_that_changes(
    sites: ModuleSites, change: Callable[[nn.Sequential], object]
) -> None:
    model = nn.Sequential(nn.Linear(1, 1), Block(), Block(), nn.ModuleList([Block()]))
    sites.open(model)
    before = {site.fqn: site for site in sites.by_id.values()}
    change(model)
    root = sites.open(model)
    for name, module in model.named_modules():  # new leaves are found when they are called
        if id(module) not in sites.by_id:
            parent = model.get_submodule(name.rpartition(".")[0])
            sites.add(module, sites.by_id[id(parent)])
    assert seen(sites, model) == prefixes(model)
    assert {*root.sites} == {*sites.by_id} == {id(module) for module in model.modules()}
    for site in sites.by_id.values():  # a place that is what it was is the same
        was = before.get(site.fqn, site)
        assert was is site or not was.is_like(site)
    found = dict(root.sites)
    assert sites.open(model).sites == found


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_names_follow_while_the_root_runs_where_a_new_module_is_called(
    sites: ModuleSites, change: Callable[[nn.Sequential], object]
) -> None:
    model = nn.Sequential(nn.Linear(1, 1), Block(), Block(), nn.ModuleList([Block()]))
    caller = sites.root(model)
    change(model)
    new = [module for module in model if module is not None and id(module) not in sites.by_id]
    for module in new:
        sites.add(module, caller)
    if new:
        assert seen(sites, model) >= {name for name, _ in model.named_children()}


def test_a_model_is_looked_at_as_often_as_takes_half_a_percent_of_the_time() -> None:
    time = [0]
    looks = []

    class Watched(nn.Module):
        def __getattribute__(self, name: str) -> object:
            if name == "__dict__":
                time[0] += 10
                looks.append(time[0])
            return super().__getattribute__(name)

    sites = ModuleSites(everything, lambda: time[0])

    class Chain(Watched, nn.Sequential):
        pass

    model = Watched()
    model.child = Chain(*(Chain(Watched()) for _ in range(20)))
    sites.open(model)
    sites.open(model)
    sites.open(model)
    looks.clear()
    for _ in range(10_000):
        time[0] += 100
        sites.open(model)
    assert 490 <= len(looks) <= 530
    assert sites.by_id[id(model.child)].fqn == "Watched.child"
    model.renamed = model._modules.pop("child")
    time[0] += 100_000
    sites.open(model)
    assert sites.by_id[id(model.renamed)].fqn == "Watched.renamed"


def test_a_new_module_is_named_without_a_search_of_the_model(sites: ModuleSites) -> None:
    class Counted(nn.Module):
        looked_at = 0

        def __getattribute__(self, name: str) -> object:
            Counted.looked_at += name == "__dict__"
            return super().__getattribute__(name)

    def make() -> nn.Module:
        expert = Counted()
        expert.up = nn.Linear(1, 1)
        return expert

    model: Any = Counted()
    model.experts = nn.ModuleList(make() for _ in range(500))
    caller = sites.root(model)
    own: Callable[[], nn.Module]
    for new, own in {
        "Counted.experts.500": lambda: model.experts.append(make())[-1],
        "Counted.experts.501": lambda: model.experts.append(make())[-1],
        "Counted.late": lambda: (setattr(model, "late", make()), model.late)[1],
        "Counted": make,
        "ReLU": nn.ReLU,
    }.items():
        module = own()
        Counted.looked_at = 0
        assert sites.add(module, caller).fqn == new
        assert Counted.looked_at < 100
        if new != "ReLU":
            assert sites.by_id[id(module.up)].fqn == f"{new}.up"


def test_strays_of_one_class_that_one_module_calls_share_a_site(sites: ModuleSites) -> None:
    model, other = GPT(), nn.Sequential(nn.Linear(2, 2))
    calls = [
        (caller, make)
        for _ in range(3)
        for caller in (sites.root(model), sites.root(other))
        for make in (nn.ReLU, nn.Tanh, lambda: nn.Linear(2, 3), Mlp)
    ]
    found: dict[int, Site] = {}
    for number, (caller, make) in enumerate(calls):
        module = make()
        found[number] = sites.add(module, caller)
        for name, child in module.named_children():
            assert sites.by_id[id(child)].fqn == f"Mlp.{name}"
    shared = [found[number] for number in range(8)]
    assert len({id(site) for site in shared}) == 8
    assert [found[number] for number in range(8, 24)] == 2 * shared
    assert [site.fqn for site in shared] == 2 * ["ReLU", "Tanh", "Linear", "Mlp"]
    assert [site.parameters for site in shared] == 2 * [0, 0, 9, 20]
    assert sites.add(nn.Linear(3, 3), sites.root(model)).parameters == 12
    del module, child
    assert len(names(sites)) == len(GPT_NAMES) + 2


def test_strays_that_live_on_are_told_apart_from_what_has_their_id_next(sites: ModuleSites) -> None:
    caller = sites.root(model := GPT())
    kept = [Mlp() for _ in range(3)]
    for _ in range(2):
        for stray in kept:
            assert sites.add(stray, caller).fqn == "Mlp"
            assert sites.by_id[id(stray.c_fc)].fqn == "Mlp.c_fc"
    del kept, stray
    assert sorted(names(sites)) == GPT_NAMES
    del model


def test_a_stray_around_what_the_model_holds_leaves_that_its_name(sites: ModuleSites) -> None:
    model = GPT()
    caller = sites.root(model)
    stray = nn.Sequential(*model.h)
    assert sites.add(stray, caller).fqn == "Sequential"
    assert sites.by_id[id(model.h[1])].fqn == "GPT.h.1"


def test_a_root_without_parameters_has_the_site_of_the_one_before_it(sites: ModuleSites) -> None:
    before = sites.root(nn.MSELoss())
    assert sites.root(nn.MSELoss()) is before
    first, second = nn.MSELoss(), nn.MSELoss()
    assert sites.root(first) is before
    assert sites.root(second) is not before
    assert [sites.root(each).fqn for each in (first, second, first)] == 3 * ["MSELoss"]


def test_roots_of_one_class_that_live_at_once_are_told_apart(sites: ModuleSites) -> None:
    student, teacher = GPT(), GPT()
    for _ in range(2):
        assert sites.root(student).fqn == "GPT"
        assert sites.root(teacher).fqn == "GPT_1"
    assert sites.by_id[id(teacher.head)].fqn == "GPT_1.head"
    assert sites.by_id[id(teacher.head)].class_name == "Linear"
    for _ in range(3):  # a number is free again
        del teacher
        teacher = GPT()
        assert sites.root(teacher).fqn == "GPT_1"
    third = nn.DataParallel(GPT())
    assert sites.root(third).fqn == "DataParallel"
    assert sites.by_id[id(third.module)].fqn == "GPT_2"
    assert sites.root(third.module).fqn == "GPT_2"
    assert sites.root(torch.compile(student, backend="eager")).fqn == "GPT"
    del student, teacher, third
    gc.collect()
    other = Mlp()
    assert sites.root(other).fqn == "Mlp"
    assert sites._names._numbers.keys() == {"Mlp"}


class Lit(nn.Module):
    """Calls its parts from methods, as Lightning's modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(2, 2))
        self.net = nn.ModuleDict({"blocks": nn.ModuleList([Block()])})
        self.loss = nn.MSELoss()

    def training_step(self, sites: ModuleSites) -> list[Site]:
        def closure() -> Site:
            return sites.root(self.loss)

        called = [self.enc, self.net.blocks[0], nn.ReLU(), GPT()]
        return [*(sites.root(module) for module in called), closure()]


class Trainer:
    """No module."""

    def __init__(self, model: Lit) -> None:
        self.model = model
        self.given = locals()

    def fit(self, sites: ModuleSites) -> list[Site]:
        given = locals()
        found = self.model.training_step(sites)
        assert [*given][:2] == [
            "self",
            "sites",
        ]  # Python 3.10 brings it up to date, where a class has no name yet
        return found


def test_what_a_method_of_a_module_calls_has_its_name_from_there(sites: ModuleSites) -> None:
    model = Lit()
    found = Trainer(model).fit(sites)
    expected = ["Lit.enc", "Lit.net.blocks.0", "ReLU", "GPT", "Lit.loss"]
    assert [site.fqn for site in found] == expected
    assert [site.fqn for site in Lit().training_step(sites)][:2] == [
        "Lit_1.enc",
        "Lit_1.net.blocks.0",
    ]
    assert sites.by_id[id(model.enc[0])].fqn == "Lit.enc.0"
    assert sites.root(model).fqn == "Lit"
    assert sites.root(model.enc).fqn == "Lit.enc"


def test_looking_for_who_called_keeps_nothing_and_changes_nothing(sites: ModuleSites) -> None:
    class Searching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = GPT()

        def step(self) -> None:
            batch = GPT()
            kept = weakref.ref(batch)
            assert sites.root(self.part).fqn == "Searching.part"
            del batch
            assert kept() is None

        def step_that_keeps(self) -> None:
            held = locals()
            assert sites.root(self.part.head).fqn == "Searching.part.head"
            assert held["self"] is self

    Searching().step()
    Searching().step_that_keeps()


def test_nothing_is_kept_alive_and_nothing_is_left(sites: ModuleSites) -> None:
    model = GPT()
    sites.open(model)
    kept = model.h[0].mlp
    del model
    gc.collect()
    assert names(sites) == GPT_NAMES[3:6]
    del kept
    assert names(sites) == []


def test_a_death_noticed_late_leaves_the_new_owner_of_the_id_alone(sites: ModuleSites) -> None:
    first = nn.ReLU()
    late = sites.root(first).place.module
    sites.clear()
    sites.root(first)
    sites._forget(late)
    assert names(sites) == [("ReLU", "ReLU")]


@pytest.mark.parametrize("make", [nn.MSELoss, lambda: nn.Sequential(nn.Linear(4, 4))])
def test_a_death_in_the_middle_of_a_look_leaves_nothing(
    sites: ModuleSites, make: Callable[[], nn.Module]
) -> None:
    # A collection of garbage may come between any two lines.
    sites.root(dead := make())
    kept = make()
    del dead
    sites._new_root(kept)
    left = names(sites)
    assert sites.root(kept).place.module() is kept
    assert len(left) == len(list(kept.modules()))
    assert sites._roots.keys() == {id(kept)}


def test_strays_that_die_in_the_middle_of_a_look_leave_nothing(sites: ModuleSites) -> None:
    caller = sites.root(model := GPT())
    root = caller.place.module.root
    sites.add(dead := nn.ReLU(), caller)
    kept = nn.ReLU()
    del dead
    root.add_stray(kept, caller.place)
    sites.bury()
    assert set(root.sites) == {id(module) for module in model.modules()} | {id(kept)}
    assert set(sites.by_id) == {id(module) for module in model.modules()}


def test_clear_forgets_all(sites: ModuleSites) -> None:
    sites.open(model := GPT())
    sites.clear()
    assert sites.by_id == {}
    assert sites.root(model.head).fqn == "Linear"


@pytest.fixture
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo",
        rank=0,
        world_size=1,
        store=torch.distributed.HashStore(),  # type: ignore[attr-defined]
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_ddp(sites: ModuleSites) -> None:
    model = nn.parallel.DistributedDataParallel(GPT())
    sites.open(model)
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
    sites.open(model)
    assert names(sites) == GPT_NAMES
    assert sites.by_id[id(model)].function_name == f"{__name__}.GPT.forward"
    assert sites.by_id[id(model)].parameters == 46


@pytest.mark.usefixtures("process_group")
def test_fsdp1(sites: ModuleSites) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = GPT()
    model.h[0] = FullyShardedDataParallel(model.h[0], device_id=torch.device("cpu"))
    model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    sites.open(model)
    fsdp = "FullyShardedDataParallel"
    assert names(sites) == [
        (fsdp, fsdp),
        *GPT_NAMES[:2],
        ("GPT.h.0", fsdp),
        *GPT_NAMES[2:],
    ]


def test_data_parallel(sites: ModuleSites) -> None:
    model = nn.DataParallel(GPT())
    sites.open(model)
    assert names(sites) == [("DataParallel", "DataParallel"), *GPT_NAMES]


def test_a_child_named_module_of_any_other_class_is_a_child(sites: ModuleSites) -> None:
    model = nn.ModuleDict({"module": nn.ReLU()})
    sites.open(model)
    assert names(sites) == [("ModuleDict", "ModuleDict"), ("ModuleDict.module", "ReLU")]


def test_checkpoint_wrapper_in_the_middle(sites: ModuleSites) -> None:
    model = GPT()
    model.h[0] = checkpoint_wrapper(model.h[0])
    sites.open(model)
    assert names(sites) == [*GPT_NAMES[:2], ("GPT.h.0", "CheckpointWrapper"), *GPT_NAMES[2:]]


def test_torch_compile_shows_what_it_wraps(sites: ModuleSites) -> None:
    compiled = torch.compile(GPT(), backend="eager")
    sites.open(compiled)
    assert names(sites) == [("GPT", "GPT"), *GPT_NAMES]
    site = sites.by_id[id(compiled)]
    assert (site.compiled_modules, site.parameters) == (10, 46)
    assert site.function_name == f"{__name__}.GPT.forward"
    assert sites.by_id[id(compiled._orig_mod)].compiled_modules == 0  # type: ignore[attr-defined]


def test_torch_compile_in_the_middle(sites: ModuleSites) -> None:
    model = GPT()
    model.h[0] = torch.compile(model.h[0], backend="eager")
    sites.open(model)
    assert names(sites) == [*GPT_NAMES[:3], ("GPT.h.0", "Block"), *GPT_NAMES[3:]]


@pytest.mark.usefixtures("process_group")
def test_torch_compile_around_ddp(sites: ModuleSites) -> None:
    model = torch.compile(nn.parallel.DistributedDataParallel(GPT()), backend="eager")
    sites.open(model)
    wrapper = ("DistributedDataParallel", "DistributedDataParallel")
    assert names(sites) == [wrapper, wrapper, *GPT_NAMES]


def test_compiled_in_place(sites: ModuleSites) -> None:
    model = GPT()
    model.head.compile(backend="eager")
    model.h[1].compile(backend="eager")
    sites.open(model)
    compiled = {site.fqn: site.compiled_modules for site in sites.by_id.values()}
    assert {fqn: count for fqn, count in compiled.items() if count} == {"GPT.h.1": 4, "GPT.head": 1}


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
    sites.open(model)
    sites.open(model)
    assert [site.fqn for site in sites.by_id.values()] == [
        "Unhashable",
        "Unhashable.a",
        "Unhashable.b",
        "Unhashable.c",
    ]


def test_modules_that_hold_each_other(sites: ModuleSites) -> None:
    model, child = nn.Module(), nn.Linear(1, 1)
    model.child, child.up = child, model
    sites.open(model)
    assert [(site.fqn, site.parameters) for site in sites.by_id.values()] == [
        ("Module", 2),
        ("Module.child", 2),
    ]
    child.up = None


def test_scripted_and_symbolically_traced_modules(sites: ModuleSites) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    scripted = torch.jit.script(model)
    sites.open(scripted)
    assert [(site.fqn, site.parameters) for site in sites.by_id.values()] == [
        ("RecursiveScriptModule", 6),
        ("RecursiveScriptModule.0", 6),
        ("RecursiveScriptModule.1", 0),
    ]
    sites.clear()
    traced = torch.fx.symbolic_trace(model)
    sites.open(traced)
    assert names(sites) == [
        ("Sequential", "Sequential"),
        ("Sequential.0", "Linear"),
        ("Sequential.1", "ReLU"),
    ]


class Loud(str):
    """A name whose class computes what is asked of a text."""

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("of the program")

    __str__ = __format__ = isdecimal = _refuse  # type: ignore[assignment]


class Silent:
    __str__ = __repr__ = __format__ = Loud._refuse  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (7, "7"),
        (None, "None"),
        (True, "True"),
        ((1, 2), "tuple"),
        (Loud("a"), "a"),
        (Silent(), "Silent"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_name_that_is_no_text_is_shown_as_one(
    sites: ModuleSites, name: Any, shown: str, late: bool
) -> None:
    model = nn.Sequential(nn.ReLU())
    top = sites.root(model) if late else None
    model._modules[name] = nn.Linear(2, 2)
    inner = model._modules[name]
    assert inner is not None
    site = sites.add(inner, top) if late else sites.open(model).sites[id(inner)]
    assert site.fqn == f"Sequential.{shown}"


@pytest.mark.parametrize("late", [False, True])
def test_numbers_that_are_no_texts_are_of_what_is_repeated(sites: ModuleSites, late: bool) -> None:
    model = nn.Module()
    top = sites.root(model) if late else None
    model._modules |= {number: nn.Linear(2, 2) for number in range(3)}  # type: ignore[misc]
    linears = [*model.children()]
    patterns = [
        (sites.add(one, top) if late else sites.open(model).sites[id(one)]).pattern
        for one in linears
    ]
    assert patterns == ["Module.*"] * 3


def test_what_is_registered_and_no_module_or_tensor_counts_as_nothing(sites: ModuleSites) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model._modules["0b"] = "no module"  # type: ignore[assignment]
    model[0]._parameters["more"] = 5  # type: ignore[assignment]
    sites.open(model)
    assert [(site.fqn, site.parameters) for site in sites.by_id.values()] == [
        ("Sequential", 6),
        ("Sequential.0", 6),
    ]
    model._modules["1"] = 6  # type: ignore[assignment]
    model._modules["2"] = nn.ReLU()
    assert sites.add(model[-1], sites.by_id[id(model)]).fqn == "Sequential.2"


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
            added.append(sites.root(self).parameters)
            return x * 2

    added: list[int] = []
    model = GPT()
    with Watch():
        sites.open(model)
    assert seen == []
    torch.jit.trace(Traced(2, 2), torch.ones(1, 2))
    assert {(type(count), count) for count in added} == {(int, 6)}
