"""A real Chromium without a window, driven by its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_TIME_LIMIT_S = 60.0
# Of keys that write nothing: their codes.
_KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


class Browser:
    """A browser that runs."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Call a method of the protocol and return its answer; what happens until then is in `events`."""
        number = next(self._ids)
        about = {"sessionId": session} if session else {}
        message = {"id": number, "method": method, "params": parameters, **about}
        self._connection.send(json.dumps(message))
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> Any:
        message = json.loads(self._connection.recv(timeout=_TIME_LIMIT_S))
        if "method" in message:
            self.events.append(message)
        return message

    def wait_for(self, method: str, session: str) -> None:
        """Wait until something has happened on a page since it was opened."""
        while not any(
            event["method"] == method and event.get("sessionId") == session for event in self.events
        ):
            self._next()

    def open(self, page: Path, width: int = 1200, height: int = 900) -> Page:
        """Open a file of HTML in a new tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        opened = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            opened.call(f"{domain}.enable")
        opened.resize(width, height)
        opened.call("Page.navigate", url=page.as_uri())
        self.wait_for("Page.loadEventFired", session)
        self.call("Target.activateTarget", targetId=target)
        return opened


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> Any:
        return self._browser.call(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript is, promises awaited; pictures have been drawn by then."""
        script = f"new Promise(requestAnimationFrame).then(() => ({expression}))"
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Let the reader want `light` or `dark`."""
        wanted = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[wanted])

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            about = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
            text = {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def mouse(self, kind: str, x: float, y: float, **about: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **about)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    @property
    def complaints(self) -> list[Any]:
        """What was written to the console, and errors that nothing caught."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self._of(*kinds)]

    @property
    def requests(self) -> list[str]:
        """What the page has asked for."""
        events = self._of("Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in events]

    def _of(self, *methods: str) -> Iterator[Any]:
        for event in self._browser.events:
            if event["method"] in methods and event.get("sessionId") == self._session:
                yield event


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run a browser whose files lie in `folder`."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    assert program, "chromium is not installed: apt-get install chromium"
    command = [
        program,
        "--headless",
        "--no-sandbox",  # which needs rights that containers have not
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={folder}",
        "--remote-debugging-port=0",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        announced = "DevTools listening on "
        url = next(line for line in process.stderr if line.startswith(announced))
        address = url.removeprefix(announced).strip()
        with connect(address, max_size=None, proxy=None, compression=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.communicate(timeout=_TIME_LIMIT_S)
