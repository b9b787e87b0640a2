"""A module as a place in the program."""

from __future__ import annotations

from typing import Any


class Site:
    """A module as a place in the program: what all its calls have in common.

    It holds no reference to the module, so it may outlive it.
    """

    __slots__ = (
        "attributes",
        "class_name",
        "compiled_modules",
        "container",
        "ends_in_function",
        "fqn",
        "function_name",
        "keeps_mode",
        "lone_input",
        "lone_result",
        "looks_left_out",
        "parameters",
        "pattern",
        "place",
        "recorded",
        "wrapper",
    )

    def __init__(
        self,
        fqn: str,
        class_name: str,
        *,
        pattern: str = "",
        function_name: str = "",
        parameters: int = 0,
        container: bool = False,
        compiled_modules: int = 0,
        recorded: bool = True,
        keeps_mode: bool = True,
    ) -> None:
        self.fqn = fqn
        self.class_name = class_name
        self.pattern = pattern or fqn  # with a star for the number of each block that is repeated
        self.function_name = function_name  # of the module's `forward`, with module path
        self.parameters = parameters  # elements, own and below
        self.container = container  # Sequential and the like: no name of their own in labels
        # Of how many modules its calls run compiled code, itself included; 0 where they run none.
        self.compiled_modules = compiled_modules
        self.recorded = recorded
        self.keeps_mode = (
            keeps_mode  # else whether it is in training mode may be computed: see `mode_of`
        )
        self.wrapper: Site | None = None  # below a call of it not recorded, it is the same call
        # Recording's: argument -> of how many next calls.
        self.looks_left_out: dict[int | str, int] = {}
        # Recording's: what its calls are given and return, where but one of these holds tensors.
        self.lone_input: Any = None
        self.lone_result: Any = None
        self.place: Any = None  # recording's: where it is now
        # Recording's: whether its calls end in a Function of Python's that returns a view; None until that was asked.
        self.ends_in_function: bool | None = None
        self.attributes: dict[Any, Any] | None = None  # assembly's: of its calls' spans

    @property
    def _told(self) -> tuple[Any, ...]:
        return (
            self.fqn,
            self.pattern,
            self.class_name,
            self.function_name,
            self.parameters,
            self.container,
            self.compiled_modules,
            self.recorded,
            self.keeps_mode,
            self.wrapper,
        )

    def is_like(self, other: Site) -> bool:
        """Return whether calls of both are told alike."""
        return self._told == other._told

    def __repr__(self) -> str:
        return f"Site({self.fqn!r}, {self.class_name!r})"
