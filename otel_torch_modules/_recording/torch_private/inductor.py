"""What looks at Inductor's graphs, and what their nodes say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otel_torch_modules._recording.torch_private.compilation import dynamo_is_there


class InductorPasses:
    """What Inductor lets look at each graph before it is made into kernels, with ours behind what the program has set.

    Checked on 2.13, which takes several; before that one pass is both. Read in 2.6: all have the one setting.

    Args:
        ours: changes a graph of `torch.fx`.
        identifier: says what it does, for the keys of Inductor's caches; to be pickled.
    """

    def __init__(self, ours: Callable[[Any], None], identifier: object) -> None:
        from torch._inductor import config, custom_graph_pass

        self._inductor: Any = config
        self._kinds: Any = custom_graph_pass
        self._ours = self._pass(self._kinds.CustomGraphPass, ours, identifier)
        self._theirs: Any = None
        self._set: Any = None

    @property
    def replayed(self) -> bool:
        """Whether what is made now is captured, to be replayed by the device."""
        return bool(self._inductor.triton.cudagraphs)

    def add(self) -> None:
        """Put ours there, where it is not."""
        found = self._inductor.post_grad_custom_post_pass
        if self._set is not None and found is self._set:
            return
        if isinstance(found, (list, tuple)) and self._ours in found:
            return
        self._theirs = found
        self._set = self._inductor.post_grad_custom_post_pass = self._behind(found)

    def remove(self) -> None:
        """Undo `add`, unless the program has set others since."""
        if self._set is not None and self._inductor.post_grad_custom_post_pass is self._set:
            self._inductor.post_grad_custom_post_pass = self._theirs
        self._set = None

    def _behind(self, theirs: Any) -> Any:
        several = vars(self._kinds).get("get_custom_graph_passes")
        if several is not None:
            return (*several(theirs), self._ours)
        if theirs is None:
            return self._ours
        known = isinstance(theirs, self._kinds.CustomGraphPass) and theirs.uuid()
        aware = vars(self._kinds).get("CustomInferenceAwareGraphPass", ())
        kind = aware if isinstance(theirs, aware) else self._kinds.CustomGraphPass

        def both(graph: Any, *about: Any, **more: Any) -> None:
            theirs(graph, *about, **more)
            self._ours(graph)

        return self._pass(kind, both, (known, self._ours.uuid()) if known else None)

    @staticmethod
    def _pass(kind: Any, call: Callable[..., None], identifier: object) -> Any:
        def run(_: Any, *arguments: Any, **more: Any) -> None:
            call(*arguments, **more)

        return type("MarksAtBorders", (kind,), {"__call__": run, "uuid": lambda _: identifier})()


def inductor_passes(ours: Callable[[Any], None], identifier: object) -> InductorPasses | None:
    """Return Inductor's passes, with `ours` to be added; None while Dynamo is not there."""
    return InductorPasses(ours, identifier) if dynamo_is_there() else None


def modules_of(node: Any) -> Mapping[str, Any] | None:
    """Return the modules in whose forward a `node` of a graph of Inductor's was made, outermost first, as pairs of
    where they are found and their class. Checked on 2.13: the compiled one is found as ``L['self']``, and left out.
    """
    found: Mapping[str, Any] | None = node.meta.get("nn_module_stack")
    return found


def gradient_of(node: Any) -> Mapping[str, Any] | None:
    """Return the same of the node of the forward of which `node` is the gradient."""
    found: Mapping[str, Any] | None = node.meta.get("fwd_nn_module_stack")
    return found


def is_gradient(node: Any) -> bool:
    """Return whether `node` is a gradient with which a backward begins: its graph is that of a backward."""
    return node.op == "placeholder" and "tangents" in node.name
