"""What a module is given and what it returns may be anything: nothing of the program's is run to look at it, nothing
that goes wrong in looking is an error, and a step's tree is what it would be without the odd thing.
"""

from __future__ import annotations

import logging
import weakref
from array import array
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules import step as manual_step
from otel_torch_modules.testing import capture_spans
from tests.integration.backward.drawing import draw, tree
from tests.support.pytrees import registered

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # torch's, of kinds of tensors that are going or coming

MAKERS: dict[str, Callable[[], Any]] = {}
"""Name -> makes an odd thing that holds no tensor which has a graph."""


def odd(make: Callable[[], Any]) -> Callable[[], Any]:
    """Have `make` among the things that are passed."""
    MAKERS[make.__name__.strip("_").replace("_", " ")] = make
    return make


def raising(*_: Any, **__: Any) -> Any:
    """Stand for code of the program's that tracing has no business to run."""
    raise ZeroDivisionError("the program's own code was run")


@odd
def a_dict_that_holds_itself() -> Any:
    node: dict[str, Any] = {"children": [{}]}
    node["children"][0]["parent"] = node
    return node


@odd
def a_list_that_holds_itself() -> Any:
    held: list[Any] = []
    held.append(held)
    return held


@odd
def an_object_that_holds_itself() -> Any:
    linked = Linked(None)
    linked.rest = linked
    return linked


@dataclass
class Linked:
    rest: Any
    other: Any = None


@odd
def linked_dataclasses() -> Any:
    linked = Linked(None)
    for _ in range(2_000):
        linked = Linked(linked)
    return linked


@odd
def a_deep_tuple() -> Any:
    deep: Any = ()
    for _ in range(2_000):
        deep = (deep,)
    return deep


@odd
def a_wide_and_deep_list() -> Any:
    wide: list[Any] = [0]
    for _ in range(50):
        wide = [wide, wide]  # 2 ** 50 places, two objects a level
    return wide


@odd
def a_dataclass_whose_fields_raise() -> Any:
    @dataclass
    class Lazy:
        first: Any = None
        second: Any = None

        def __getattribute__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

    return Lazy()


@odd
def a_dataclass_whose_field_is_a_property() -> Any:
    @dataclass
    class Lazy:
        first: Any = None

    Lazy.first = property(raising, lambda self, value: None)
    return Lazy()


@odd
def a_dataclass_with_slots_that_are_not_set() -> Any:
    @dataclass(slots=True)
    class Slotted:
        first: Any
        second: Any = field(init=False)

    return Slotted(1)


@odd
def a_dataclass_without_fields_to_find() -> Any:
    @dataclass
    class Broken:
        first: Any = None

    Broken.__dataclass_fields__ = None  # type: ignore[assignment]
    return Broken()


@odd
def a_dead_proxy() -> Any:
    return weakref.proxy(nn.Identity())


@odd
def an_object_whose_class_raises() -> Any:
    return type("Odd", (), {"__class__": property(raising)})()


@odd
def an_object_that_answers_every_question_by_raising() -> Any:
    names = (
        "__getattribute__",
        "__iter__",
        "__len__",
        "__bool__",
        "__eq__",
        "__hash__",
        "__repr__",
    )
    return type("Odd", (), dict.fromkeys(names, raising))()


@odd
def an_object_of_an_odd_metaclass() -> Any:
    names = ("__hash__", "__eq__", "__getattr__", "__instancecheck__", "__subclasscheck__")
    return type("Meta", (type,), dict.fromkeys(names, raising))("Odd", (), {})()


@odd
def an_object_with_torch_function() -> Any:
    return type("Odd", (), {"__torch_function__": classmethod(raising)})()


@odd
def a_registered_pytree_that_raises() -> Any:
    return Raising()


class Raising:
    """Registered as a pytree, and flattens by raising."""


class Endless:
    """Registered as a pytree, and flattens without end."""


@pytest.fixture(autouse=True, scope="module")
def registered_pytrees() -> Iterator[None]:
    def endless(_: Any) -> tuple[Any, None]:
        return iter(int, 1), None

    with registered(Raising, raising, raising), registered(Endless, endless, raising):
        yield


@odd
def a_registered_pytree_without_end() -> Any:
    return Endless()


def with_own_methods(base: type, *arguments: Any) -> Any:
    """Return an instance of a class of containers all of whose methods raise."""
    names = ("__iter__", "__len__", "__getitem__", "__getattribute__", "__bool__", "__eq__")
    own = dict.fromkeys((*names, "keys", "values", "items", "copy"), raising)
    return type("Own", (base,), own)(*arguments)


@odd
def a_list_of_its_own() -> Any:
    return with_own_methods(list, [1, 2])


@odd
def a_tuple_of_its_own() -> Any:
    return with_own_methods(tuple, (1, 2))


@odd
def a_dict_of_its_own() -> Any:
    return with_own_methods(dict, {"a": 1})


@odd
def an_ordered_dict_of_its_own() -> Any:
    return with_own_methods(OrderedDict, [("a", 1)])


@odd
def a_deque_of_its_own() -> Any:
    return with_own_methods(deque, [1, 2])


@odd
def a_mock() -> Any:
    return Mock()


@odd
def a_magic_mock() -> Any:
    return MagicMock(spec=Tensor)


@odd
def a_user_dict() -> Any:
    return UserDict(a=1)


@odd
def a_generator() -> Any:
    return (1 / 0 for _ in range(2))


@odd
def arrays() -> Any:
    return [
        np.zeros(3),
        np.array([None, [1]], dtype=object),
        array("d", [1.0]),
        b"1",
        memoryview(b""),
    ]


@odd
def classes_and_functions() -> Any:
    return [Linked, Tensor, raising, len, nn.Linear, torch, np]


@odd
def many_integers() -> Any:
    return list(range(50_000))


@odd
def sparse_tensors() -> Any:
    coo = torch.eye(3).to_sparse()
    return [
        coo,
        torch.eye(3).to_sparse_csr(),
        torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
    ]


@odd
def a_nested_tensor() -> Any:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@odd
def a_meta_tensor() -> Any:
    return torch.empty(3, device="meta")


@odd
def a_fake_tensor() -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.empty(3)


@odd
def a_tensor_whose_attributes_raise() -> Any:
    names = ("__getattribute__", "grad_fn", "shape", "dtype", "_is_view", "requires_grad")
    own = {name: raising if name[0] == "_" else property(raising) for name in names}
    return torch.ones(3).as_subclass(type("Own", (Tensor,), own))  # type: ignore[arg-type]


@odd
def a_tensor_whose_function_raises() -> Any:
    own = {"__torch_function__": classmethod(raising)}
    return torch.ones(3).as_subclass(type("Own", (Tensor,), own))  # type: ignore[arg-type]


class Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor, odd: Any, *, more: Any = None) -> Tensor:
        return self.inner(x * 2)


class Returns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor, odd: Any) -> Any:
        return self.inner(x * 2), odd


class HandsOn(nn.Module):
    """Is called with the odd thing alone, and returns it alone."""

    def forward(self, odd: Any) -> Any:
        torch.ones(1, requires_grad=True) * 2  # a node, so that the output is looked at
        return odd


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.takes = Takes()
        self.returns = Returns()
        self.hands_on = HandsOn()

    def forward(self, x: Tensor, odd: Any) -> Tensor:
        x = self.takes(x, odd, more=odd)
        x, returned = self.returns(x, odd)
        assert returned is odd
        assert self.hands_on(odd) is odd
        return x


WHOLE_TREE = tree("""
    train.step
      forward Model ->
        forward takes ->
          forward inner ->
        forward returns ->
          forward inner ->
        forward hands_on
      backward
        backward Model <- forward
          backward returns <- forward
            backward inner <- forward
          backward takes <- forward
            backward inner <- forward
      optimizer.step SGD
""")


def losses(odd_thing: Any) -> list[float]:
    """Make three steps and return what came of them."""
    torch.manual_seed(0)
    model = Model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for _ in range(3):
        loss = model(torch.randn(2, 4), odd_thing).square().sum()
        loss.backward()
        sgd.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("record_shapes", [False, True], ids=["", "shapes"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_odd_things_are_handed_through(
    make: Callable[[], Any], record_shapes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    odd_thing = make()
    expected = losses(odd_thing)
    with capture_spans(Config(record_shapes=record_shapes)) as captured:
        traced = losses(odd_thing)
    assert traced == expected
    assert draw(captured) == "\n".join(3 * [WHOLE_TREE])
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


PHASES = tree("""
    train.step
      forward Model ->
      backward
        backward Model <- forward
      optimizer.step SGD
""")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_roots_that_are_recorded_alone_hand_odd_things_through(
    make: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with capture_spans(Config(detail_ranks="1")) as captured:
        losses(make())
    assert draw(captured) == "\n".join(3 * [PHASES])
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


class Second(nn.Module):
    """Is given a view that nobody may ask for its node any more, and does not use it."""

    def forward(self, view: Tensor, y: Tensor) -> Tensor:
        return y + 1


class Alone(nn.Module):
    def forward(self, view: Tensor) -> Tensor:
        return torch.ones(1, requires_grad=True) + 1


class GivesBack(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, y: Tensor) -> Any:
        view, *_ = y.unbind(-1)
        y.mul_(2)
        return self.wrap(view)


class ChangesWhatItSplit(nn.Module):
    def __init__(self, split: Callable[[Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)
        self.split = split
        self.second = Second()
        self.alone = Alone()
        self.gives_back = GivesBack(lambda view: view)
        self.gives_back_two = GivesBack(lambda view: (view, None))

    def forward(self, x: Tensor, _: Any) -> Tensor:
        y = self.lin(x)
        view = self.split(y)[0]
        y.mul_(2)
        self.alone(view)
        self.gives_back(y.clone())
        self.gives_back_two(y.clone())
        return self.second(view, y)


@pytest.mark.parametrize(
    "split",
    [
        pytest.param(lambda y: y.split(4, -1), id="split"),
        pytest.param(lambda y: y.chunk(2, -1), id="chunk"),
        pytest.param(lambda y: y.unbind(-1), id="unbind"),
    ],
)
def test_views_that_have_no_node_any_more(
    split: Callable[[Tensor], Sequence[Tensor]], caplog: pytest.LogCaptureFixture
) -> None:
    model = ChangesWhatItSplit(split)
    with capture_spans() as captured:
        for _ in range(3):
            model.zero_grad()
            with manual_step():
                model(torch.randn(2, 8), None).sum().backward()
    whole = tree("""
        train.step
          forward ChangesWhatItSplit ->
            forward lin ->
            forward alone ->
            forward gives_back ->
            forward gives_back_two ->
            forward second ->
          backward
            backward ChangesWhatItSplit <- forward
              backward second <- forward
              backward lin <- forward
    """)
    assert draw(captured) == "\n".join(3 * [whole])
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


class Counted:
    """Registered as a pytree that counts how often it is flattened."""

    flattened = 0


def test_what_held_no_tensor_is_seldom_looked_at_again() -> None:
    def flatten(_: Any) -> tuple[list[Any], None]:
        Counted.flattened += 1
        return [1, 2], None

    model = nn.Sequential(HandsOn())
    with registered(Counted, flatten, raising), capture_spans(), manual_step():
        for _ in range(100):
            model(Counted())
    assert Counted.flattened == 4  # once as input and once as output of each of two modules


def test_what_was_empty_is_looked_at_again() -> None:
    class Fills(nn.Module):
        """Appends to the list that it is given, as dense blocks do."""

        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 4)

        def forward(self, x: Tensor, before: list[Any]) -> Tensor:
            return self.lin(x + sum(before))

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.block = Fills()

        def forward(self, x: Tensor) -> Tensor:
            self.block(x, [])
            self.block(x, [None][1:])
            return self.block(x, [self.stem(x)])

    model = Dense()
    with capture_spans() as captured:
        model(torch.randn(2, 4)).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Dense ->
            forward block ->
              forward lin ->
            forward block#1 ->
              forward lin ->
            forward stem ->
            forward block#2 ->
              forward lin ->
          backward
            backward Dense <- forward
              backward block#2 <- forward
                backward lin <- forward
              backward stem <- forward
    """)
