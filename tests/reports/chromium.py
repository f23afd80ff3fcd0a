"""A headless Chromium that a test can click in, told what to do through a pipe (the DevTools protocol): no port, no driver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from select import select
from types import TracebackType
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
_PATIENCE_S = 60.0


class Chromium:
    """One browser with one page. `heard`: what scripts and the browser had to say since the page was opened, dialogs as well."""

    def __init__(self, profile: Path) -> None:
        browser = next((found for name in _NAMES if (found := shutil.which(name))), None)
        if browser is None:
            pytest.skip(f"NOT CHECKED in a browser: none of {', '.join(_NAMES)} is on the PATH")
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        # The protocol's pipes are descriptors 3 and 4 of the browser.
        words = [browser, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        script = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, str(commands), str(answers), *words],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._number, self._rest, self._session = 0, b"", ""
        self._events: list[dict[str, Any]] = []
        self.heard: list[str] = []
        (page,) = [each for each in self._call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to)  # the browser ends with its pipe
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)

    # -- what a reader does ------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Open a page, and wait until it has been loaded and drawn."""
        self.look()
        self.heard, self._events = [], []
        self._call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._read()
        self.settle()

    def settle(self) -> None:
        """Two frames later everything that the scripts began has been painted."""
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))")

    def look(self, *, width: int = 1280, dark: bool = False, media: str = "") -> None:
        """At this width, on a dark screen, or on paper."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of the first element that fits, scrolled into view."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.ask(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.ask(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({place}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        self.ask("new Promise(done => setTimeout(done, 50))")

    def press(self, key: str) -> None:
        """Press a key."""
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    # -- the protocol ------------------------------------------------------------------------------------

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select([self._from], [], [], _PATIENCE_S)
            assert ready, "the browser says nothing any more"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.heard.append(f"console: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            self.heard.append(f"exception: {params['exceptionDetails']['text']}")
        elif method == "Log.entryAdded":
            self.heard.append(f"log: {params['entry']['text']}")
        elif method == "Page.javascriptDialogOpening":
            self.heard.append(f"dialog: {params['message']}")
            self._number += 1
            message = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": False}}
            os.write(self._to, json.dumps(message | {"sessionId": self._session}).encode() + b"\0")
