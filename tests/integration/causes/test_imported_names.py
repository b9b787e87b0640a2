"""What is wrapped of torch's functions is wrapped by every name that the program has for it, and nothing is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint
from torch import distributed

from otel_torch_modules._recording import wrapped
from otel_torch_modules.testing import capture_spans
from tests.support.caused import train

OWNERS = [
    torch,
    torch.serialization,
    torch.nn.utils,
    torch.nn.utils.clip_grad,
    distributed,
    distributed.distributed_c10d,
    distributed.checkpoint,
    distributed.checkpoint.state_dict_saver,
    distributed.checkpoint.state_dict_loader,
]
KNOWN = {
    "async_save",
    "clip_grad_norm_",
    "clip_grad_value_",
    "destroy_process_group",
    "load",
    "save",
}


@pytest.fixture
def program() -> Iterator[ModuleType]:
    """A module of the program's."""
    module = ModuleType("a_program")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def functions() -> dict[str, FunctionType]:
    """Return those functions of these modules, by where they are."""
    return {
        f"{owner.__name__}.{name}": value
        for owner in OWNERS
        for name, value in vars(owner).items()
        if name in KNOWN
    }


def wrapped_by_us() -> set[str]:
    """Return the names of all that we have wrapped there: Dynamo wraps some too, where it is first used."""
    return {
        name
        for owner in OWNERS
        for name, value in vars(owner).items()
        if type(value) is FunctionType and value.__code__.co_filename == wrapped.__file__
    }


def import_by_name(names: dict[str, Any], found: dict[str, FunctionType], prefix: str) -> None:
    """Have names for each, as ``from … import … as …`` does."""
    for path, function in found.items():
        names[prefix + path] = function


def test_all_are_wrapped_by_their_own_name_and_as_they_were_afterwards(program: ModuleType) -> None:
    untraced = functions()
    for path, function in untraced.items():
        name = path.rpartition(".")[2]
        vars(program)[name] = function
        with capture_spans():
            train()
            assert wrapped_by_us() == KNOWN
            assert vars(program)[name] is functions()[path] is not function
        assert vars(program)[name] is function
    assert functions() == untraced


def test_in_the_main_module_by_whatever_name(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    untraced = functions()
    import_by_name(vars(main), untraced, "early ")
    with capture_spans():
        train()
        traced = functions()
        import_by_name(vars(main), traced, "late ")
        for path, function in traced.items():
            assert vars(main)[f"early {path}"] is function
    for path, function in untraced.items():
        assert vars(main)[f"early {path}"] is vars(main)[f"late {path}"] is function


def test_one_imported_while_it_was_traced_is_torchs_own_again(program: ModuleType) -> None:
    with capture_spans():
        vars(program)["save"] = torch.save
    assert vars(program)["save"] is torch.save
    assert not hasattr(torch.save, "__wrapped__")


def test_what_somebody_has_put_around_ours_stays_and_passes_on(program: ModuleType) -> None:
    calls: list[str] = []
    original = torch.save
    with capture_spans():
        ours = torch.save

        def theirs(*args: Any, **kwargs: Any) -> None:
            calls.append("theirs")
            ours(*args, **kwargs)

        torch.save = theirs
        vars(program)["save"] = theirs
    stayed = torch.save
    torch.save = original
    assert vars(program)["save"] is stayed is theirs
    theirs({}, BytesIO())
    assert calls == ["theirs"]
