"""A function or method of torch's with something around it, the exact undo, and how an error of ours stays ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from typing import Any, Protocol

Function = Callable[..., Any]


def guarded(
    function: Callable[..., None], where: str, fail: Callable[[str], bool]
) -> Callable[..., None]:
    """Return `function` so that an error of ours in it costs a record, and no more.

    Args:
        function: of ours.
        where: names the place.
        fail: see `Recorder.fail`.
    """

    def call(*arguments: Any) -> None:
        try:
            function(*arguments)
        except BaseException:
            if fail(where):
                raise

    return call


class Wrapped:
    """Puts something around a function that is found by one name in one place or several.

    Args:
        name: of the function.
        wrap: returns what is called in the place of the function that it is given.
        owners: the classes or modules that have it by that name, the same in all.
    """

    def __init__(self, name: str, wrap: Callable[[Function], Function], *owners: object) -> None:
        self._owners = owners
        self.name = name
        self._wrap = wrap
        self.original: Function | None = None
        self.wrapper: Function | None = None
        """What is called in the place of `original`, while it is installed."""

    def install(self) -> None:
        """Put it around."""
        self.original = original = getattr(self._owners[0], self.name)
        around = self._wrap(original)

        @wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return (original if self.wrapper is None else around)(*args, **kwargs)

        self.wrapper = wrapper
        for owner in self._owners:  # one for all: pickle looks a function up by its name
            setattr(owner, self.name, wrapper)

    def uninstall(self) -> None:
        """Undo `install`. Where somebody has wrapped the wrapper since, it stays and only passes calls on."""
        if self.wrapper is not None:
            for owner in self._owners:
                if vars(owner).get(self.name) is self.wrapper:
                    setattr(owner, self.name, self.original)
        self.wrapper = None


class Installed(Protocol):
    """What is put on and taken off."""

    def uninstall(self) -> None:
        """Take it off."""


def uninstall_all(parts: Iterable[Installed]) -> None:
    """Take each of `parts` off, the last first, whatever another raises."""
    with ExitStack() as undo:
        for part in parts:
            undo.callback(part.uninstall)
