"""A headless Chromium that tests drive through its DevTools protocol, over a pair of pipes.

Messages are JSON, each ended by a zero byte (`--remote-debugging-pipe`); nothing is installed.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")


class Tab:
    """A page in a browser, and what it said on its console that is an error."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.rest = b""
        self.last = 0
        self.session: str | None = None
        self.errors: list[str] = []
        self.loaded = False

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and wait for its answer."""
        self.last += 1
        message: dict[str, Any] = {"id": self.last, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path) -> None:
        """Load a page, and wait until all of it is there."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=page.as_uri())
        while not self.loaded:
            self._next()

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key on the keyboard, such as Enter."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text="\r",
                      windowsVirtualKeyCode=13)  # fmt: skip

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            block = os.read(self.reading, 2**16)
            assert block, "the browser has ended"
            self.rest += block
        text, _, self.rest = self.rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, told = message.get("method"), message.get("params", {})
        is_error = (
            method == "Runtime.exceptionThrown"
            or (method == "Runtime.consoleAPICalled" and told["type"] == "error")
            or (method == "Log.entryAdded" and told["entry"]["level"] == "error")
        )
        if is_error:
            self.errors.append(json.dumps(told)[:500])
        self.loaded |= method == "Page.loadEventFired"


@contextmanager
def opened(page: Path, profile: Path) -> Iterator[Tab]:
    """A page in a browser of its own. Skips the test where no Chromium is installed."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium is installed here (Debian: apt-get install chromium)")
    commands, answers = os.pipe(), os.pipe()
    words = shlex.join([program, *FLAGS, f"--user-data-dir={profile}"])
    line = f"exec {words} 3<&{commands[0]} 4>&{answers[1]}"
    process = subprocess.Popen(
        ["bash", "-c", line], pass_fds=(commands[0], answers[1]), stderr=subprocess.DEVNULL
    )
    os.close(commands[0])
    os.close(answers[1])
    try:
        tab = Tab(answers[0], commands[1])
        tab.open(page)
        yield tab
    finally:
        process.terminate()
        process.wait(30)
        os.close(answers[0])
        os.close(commands[1])
