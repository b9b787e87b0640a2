"""Makes a site of a module: what all of its calls have in common."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from otel_torch_modules._recording.class_attributes import class_name, full_name
from otel_torch_modules._recording.dynamo import made_by_compiler
from otel_torch_modules._recording.modules.mode import keeps_mode
from otel_torch_modules._recording.modules.module_names import shown, shown_class
from otel_torch_modules._recording.modules.module_tree import LISTS, module_count
from otel_torch_modules._recording.torch_private.modules import runs_compiled_code
from otel_torch_modules._site import Site
from otel_torch_modules._texts import encodable


def new_site(
    module: nn.Module,
    fqn: str,
    pattern: str,
    parameters: int,
    records: Callable[[str, str], bool],
    wrapper: Site | None,
) -> Site:
    """Return a site for `module`.

    Args:
        module: which it is.
        fqn: its name.
        pattern: the same, with a star for each number of what is repeated.
        parameters: their elements, own and below.
        records: told a name and a class name, whether calls of that module are recorded.
        wrapper: the site of what `torch.compile` has wrapped it in, whose call and its own are one.
    """
    cls, inner = shown_class(module), shown(module)
    name = class_name(cls)
    recorded = records(fqn, name) and not made_by_compiler(module)
    site = Site(
        encodable(fqn),
        name,
        pattern=encodable(pattern),
        function_name=encodable(f"{full_name(cls)}.forward"),
        parameters=parameters,
        container=issubclass(type(inner), (nn.Sequential, *LISTS)),
        compiled_modules=module_count(inner)
        if inner is not module or runs_compiled_code(module)
        else 0,
        recorded=recorded and wrapper is None,
        keeps_mode=keeps_mode(module),
    )
    if recorded:
        site.wrapper = wrapper
    return site
