"""The tensors in what a module is given or returns.

The look is bounded, however much is passed, and runs nothing of the program's: containers are read by the methods of
the builtin class that they derive from, fields of a dataclass where Python keeps them. Only a registered pytree is
flattened by its own function; one that raises holds no tensor.

Where a look met things but no tensor, the next looks at that place in the program are left out: token ids, texts and
options are the same kind of thing at every call. What was empty, or None, is looked at again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from torch import Tensor

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.class_attributes import class_attribute
from otel_torch_modules._recording.torch_private.tensors import (
    pytree_flattener,
    torch_function_modes,
    without_torch_function,
)
from otel_torch_modules._site import Site

MOST_MET = 64
"""So many things one look meets: an argument or the result, and what it holds, outermost first."""

_PLACES = range(MOST_MET)  # of arguments; that of a keyword argument is its name
_PLACES_OF_RESULTS = range(-1, -1 - MOST_MET, -1)
_LOOKS_LEFT_OUT = 127  # after one in vain

_PLAIN = (int, str, float, bytes, type(None), type)
_NOT_KEPT = object()


class Lone:
    """What values are like of which the first is a tensor, and no look into the others is due yet.

    Args:
        number: of them.
        others: where what else is, and of which type.
        again: where the same tensor is: attention gets one thrice.
        idle: where tensors are that no backward goes through: a criterion's target, a mask.
        left: for how many next calls.
    """

    __slots__ = ("again", "idle", "left", "number", "others")

    def __init__(
        self,
        number: int,
        others: list[tuple[int, type]],
        again: list[int],
        idle: list[int],
        left: int,
    ) -> None:
        self.number = number
        self.others = others
        self.again = again
        self.idle = idle
        self.left = left


def tensors(value: Any, most: int = MOST_MET) -> list[Tensor]:
    """Return the tensors in `value`: itself, or below it in containers, dataclasses and registered pytrees.

    Args:
        value: anything that a module takes or returns.
        most: how many things are looked at.
    """
    return _look(value, most)[0]


def lone_tensor(values: tuple[Any, ...], lone: Lone | None, site: Site) -> Any:
    """Return the tensor that is all of `values` that counts, where that is known; else None.

    Args:
        values: the arguments of a call at `site`, or its results.
        lone: what the last were like: things of those types are not looked into.
        site: the place.
    """
    if lone is None or len(values) != lone.number:
        return None
    for place, cls in lone.others:
        if type(values[place]) is not cls:
            return None
    for place in lone.again:
        if values[place] is not values[0]:
            return None
    for place in lone.idle:
        if not _is_idle(values[place]):
            return None
    lone.left -= 1
    if lone.left < 0:
        site.lone_input = site.lone_result = None
        site.looks_left_out.clear()
        return None
    return values[0]


def input_tensors(args: tuple[Any, ...], kwargs: dict[str, Any], site: Site) -> list[Tensor]:
    """Return the tensors in the arguments of a call at `site`."""
    found = _tensors_at(site, zip(_PLACES, args, strict=False))
    if kwargs:
        found += _tensors_at(site, islice(kwargs.items(), MOST_MET))
    if found and args and found[0] is args[0]:
        for tensor in found:
            if tensor is not found[0] and not _is_idle(tensor):
                return found
        places = (*_PLACES[1 : len(args)], *kwargs)
        site.lone_input = _lone(site, (*args[: MOST_MET + 1], *kwargs.values()), places)
    return found


def wants_gradient(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether one of the arguments of a call is a tensor that a backward may bring a gradient."""
    if torch_function_modes():
        return False
    values = (*args[:MOST_MET], *islice(kwargs.values(), MOST_MET))
    for value in values:  # noqa: SIM110 - a generator would be a function more
        if type(value) is Tensor and value.requires_grad:
            return True
    return False


def output_tensors(value: Any, site: Site) -> list[Tensor]:
    """Return the tensors in what a call at `site` returned; each of several results has a place of its own."""
    results = value if type(value) is tuple else (value,)
    found = _tensors_at(site, zip(_PLACES_OF_RESULTS, results, strict=False))
    if len(found) == 1 and len(results) > 1 and found[0] is results[0]:
        places = _PLACES_OF_RESULTS[1 : len(results)]
        site.lone_result = _lone(site, results[: MOST_MET + 1], places)
    return found


def _lone(site: Site, values: tuple[Any, ...], places: Sequence[int | str]) -> Lone | None:
    """Return what is known of calls with such `values`, the first a tensor, the others at `places`."""
    if len(values) > MOST_MET or type(values[0]) is not Tensor:
        return None
    others: list[tuple[int, type]] = []
    again: list[int] = []
    idle: list[int] = []
    least = _LOOKS_LEFT_OUT
    for number, (place, value) in enumerate(zip(places, values[1:], strict=True), start=1):
        if value is values[0]:
            again.append(number)
        elif type(value) is Tensor:
            idle.append(number)
        else:
            others.append((number, type(value)))
            if value is not None:
                least = min(least, site.looks_left_out.get(place, 0))
    return Lone(len(values), others, again, idle, least) if least > 0 else None


def _is_idle(tensor: Any) -> bool:
    """Return whether no node has made `tensor`, nor what it is a view of. Where a mode would see the look: no."""
    return (
        type(tensor) is Tensor
        and not torch_function_modes()
        and not tensor.requires_grad
        and not tensor._is_view()
    )


def _tensors_at(site: Site, placed: Iterable[tuple[int | str, Any]]) -> list[Tensor]:
    """Return the tensors in values, each with its place in calls at `site`."""
    found = []
    looks_left_out = site.looks_left_out
    for place, value in placed:
        if type(value) is Tensor:
            found.append(value)
        elif value is not None:
            left_out = looks_left_out.get(place)
            if left_out and not issubclass(type(value), Tensor):
                looks_left_out[place] = left_out - 1
                continue
            held, met_other = _look(value, MOST_MET)
            if held:
                found += held
            elif met_other:
                looks_left_out[place] = _LOOKS_LEFT_OUT
    return found


def _look(value: Any, most: int) -> tuple[list[Tensor], bool]:
    """Return the tensors in `value`, and whether there is anything in it that is neither tensor, None nor empty."""
    found = []
    met_other = False
    met = [value]
    for thing in met:  # grows meanwhile
        cls = type(thing)  # not `isinstance`, which asks the thing for its `__class__`
        if issubclass(cls, Tensor):
            found.append(thing)
        elif issubclass(cls, _PLAIN):
            met_other = met_other or thing is not None
        else:
            parts = _parts(thing, cls) if len(met) < most else None
            if parts is None:
                met_other = True
            else:
                met.extend(islice(parts, most - len(met)))
    return found, met_other


def _parts(thing: Any, cls: type) -> Iterable[Any] | None:
    """Return what `thing`, of the class `cls`, holds; None where it is nothing that holds things."""
    if issubclass(cls, tuple):
        return tuple.__iter__(thing)
    if issubclass(cls, list):
        return list.__iter__(thing)
    if issubclass(cls, dict):
        return dict.values(thing)
    if issubclass(cls, deque):
        return deque.__iter__(thing)
    try:
        flatten = pytree_flattener(cls)
        if flatten is not None:
            with without_torch_function():
                return list(islice(flatten(thing)[0], MOST_MET))
    except BaseException as error:
        if is_interruption(error):
            raise
        return None
    return _fields(thing, cls)


def _fields(thing: Any, cls: type) -> list[Any] | None:
    """Return the fields of a dataclass as they are in its dictionary and its slots; None for another class."""
    declared = class_attribute(cls, "__dataclass_fields__")
    if type(declared) is not dict:
        return None
    dictionary = class_attribute(cls, "__dict__")
    kept = dictionary.__get__(thing) if type(dictionary) is GetSetDescriptorType else {}
    found = []
    for name in declared:
        value = dict.get(kept, name, _NOT_KEPT)
        slot = class_attribute(cls, name) if value is _NOT_KEPT else None
        if type(slot) is MemberDescriptorType:
            try:
                value = slot.__get__(thing)
            except AttributeError as error:  # has no value yet
                if is_interruption(error):
                    raise
                continue
        if value is not _NOT_KEPT:
            found.append(value)
    return found
