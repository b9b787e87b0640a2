"""Where the borders of modules lie in the graph of a compiled region.

Inductor's graph after autograd is flat: what a node was made in stands in its metadata, of a backward's node by which
forward it is the gradient of. Nodes of one module follow each other; where the next one's begin there is a border, and
what the first has made and the second reads is there in full when it is crossed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import translate
from itertools import groupby, pairwise
from operator import getitem
from typing import Any, Final, NamedTuple

from torch import Tensor
from torch.fx import Graph, Node

from otel_torch_modules._recording.torch_private.inductor import (
    gradient_of,
    is_gradient,
    modules_of,
)

OUTSIDE: Final = ""  # the place of what is in none of the chosen modules

# A graph with more is made of modules that take turns: to part them would cost more than it shows.
_MOST: Final = 512

_ROOT: Final = re.compile(r"^[LG]\['[^']*'\]")
_ITEM: Final = re.compile(r"\['?([^']*?)'?\]")
_WITHOUT_A_PLACE: Final = ("placeholder", "output", "get_attr")


class Crossing(NamedTuple):
    """A border, from one module to the next."""

    node: Node  # makes what crosses it
    ends: str  # the path of the module that is left; OUTSIDE for none
    begins: str  # the path of the one that is entered


class Chosen:
    """The modules whose borders are wanted.

    Args:
        globs: over names as spans have them; what is before the first dot stands for the compiled module, whatever its
            name.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        below = (glob.partition(".")[2] or glob for glob in globs)
        self._pattern = re.compile("|".join(map(translate, below)))

    def place_of(self, stack: Mapping[str, Any] | None) -> str | None:
        """Return the path of the outermost chosen module of a node's `stack`, below the one that was compiled.

        OUTSIDE where none is chosen, None where nothing is known of the node.
        """
        if not stack:
            return None
        paths = (_path(entry[0]) for entry in stack.values())
        return next((path for path in paths if path and self._pattern.match(path)), OUTSIDE)


def is_backward(graph: Graph) -> bool:
    """Return whether it is that of a backward."""
    return bool(_tangents(graph))


def borders(graph: Graph, chosen: Chosen) -> list[Crossing]:
    """Return those of the chosen modules, in the order in which they are crossed; none where they are too many."""
    tangents = _tangents(graph)
    places = _places_in_backward(graph, chosen, tangents) if tangents else _places(graph, chosen)
    runs = [(place, [*nodes]) for place, nodes in groupby(places, places.__getitem__)]
    found = [border for border in _between(runs) if border.node.op not in _WITHOUT_A_PLACE]
    return found if len(found) <= _MOST else []


def _between(runs: list[tuple[str, list[Node]]]) -> Iterator[Crossing]:
    for (ends, nodes), (begins, following) in pairwise([*runs, (OUTSIDE, [])]):
        if ends != begins:
            node = _crossing(nodes, following)
            if node is not None:
                yield Crossing(node, ends, begins)


def _crossing(nodes: list[Node], following: list[Node]) -> Node | None:
    """Return what makes the tensor that crosses a border: the largest, of those that are read right behind it first."""
    inside, behind = set(nodes), set(following)
    best: tuple[bool, int, int] | None = None
    found = None
    for number, node in enumerate(nodes):
        if not isinstance(node.meta.get("val"), Tensor) or all(
            user in inside for user in node.users
        ):
            continue
        rank = (any(user in behind for user in node.users), _size(node), number)
        if best is None or rank > best:
            best, found = rank, node
    return None if found is None else _owner(found)


def _size(node: Node) -> int:
    size = node.meta["val"].numel()
    return size if type(size) is int else 0  # to compare a symbol would make it a number


def _owner(node: Node) -> Node:
    """Return what made the memory that `node` gives: it may be a view."""
    while _is_view(node):
        node = node.all_input_nodes[0]
    return node


def _is_view(node: Node) -> bool:
    if node.target is getitem:
        return _is_view(node.all_input_nodes[0])
    returns = getattr(getattr(node.target, "_schema", None), "returns", ())
    return bool(node.all_input_nodes) and any(one.alias_info is not None for one in returns)


def _places(graph: Graph, chosen: Chosen) -> dict[Node, str]:
    found = {}
    for node in graph.nodes:
        place = chosen.place_of(modules_of(node))
        if place is not None and node.op not in _WITHOUT_A_PLACE:
            found[node] = place
    return found


def _places_in_backward(graph: Graph, chosen: Chosen, tangents: set[Node]) -> dict[Node, str]:
    """Return the places of the nodes that are made of gradients: what is computed again of the forward is not there."""
    found: dict[Node, str] = {}
    flows = tangents
    numbers: dict[Node, int] = {}
    for number, node in enumerate(graph.nodes):
        numbers[node] = number
        if node.op in _WITHOUT_A_PLACE or not any(one in flows for one in node.all_input_nodes):
            continue
        flows.add(node)
        place = chosen.place_of(gradient_of(node) or modules_of(node))
        if place is None:  # a sum of gradients is of what it sums, at last
            known = [one for one in node.all_input_nodes if one in found]
            place = found[max(known, key=numbers.__getitem__)] if known else OUTSIDE
        found[node] = place
    return found


def _tangents(graph: Graph) -> set[Node]:
    return {node for node in graph.nodes if is_gradient(node)}


def _path(source: str) -> str:
    """Return the path of a module below the compiled one: of ``L['self']._modules['h'][0]`` that is ``h.0``."""
    below = _ITEM.sub(r".\1", _ROOT.sub("", source)).replace("._modules", "")
    return below.replace("._orig_mod", "").strip(".")
