"""A headless Chromium, driven over a pipe of its own (the DevTools protocol: JSON, ended by a zero byte)."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60.0  #: seconds for one answer
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-quic"),
)


def program() -> str | None:
    """The browser that `make test` has found, or Debian's; None for none."""
    return os.environ.get("VGUARD_TEST_BROWSER") or shutil.which("chromium")


class Browser:
    """One page of it."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._numbers = itertools.count(1)
        self._read = b""
        self.complaints: list[str] = []  #: what its console got, and what was refused or thrown
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    _session: dict[str, str] = {}  # noqa: RUF012  (until there is one)

    def open(self, url: str, width: int, height: int, dark: bool = False) -> None:
        """Show a page in a window of that size (CSS pixels)."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=url)
        while self.evaluate("document.readyState + location.href") != f"complete{url}":
            self._receive()

    def evaluate(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """What it shows, as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._back], [], [], end - time.monotonic())
            assert ready, "the browser does not answer"
            data = os.read(self._back, 1 << 20)
            assert data, "the browser has ended"
            self._read += data
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") in (
            *("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"),
        ):
            self.complaints.append(json.dumps(message["params"]))
        return message


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start one with a profile of its own in `folder`, and end it with all its processes."""
    path = program()
    assert path
    their_read, to = os.pipe()
    back, their_write = os.pipe()
    start = f'exec 3<&{their_read} 4>&{their_write}; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", start, "bash", path, *_FLAGS, f"--user-data-dir={folder}"],
        pass_fds=(their_read, their_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HOME": str(folder)},
    )
    os.close(their_read)
    os.close(their_write)
    try:
        yield Browser(to, back)
    finally:
        os.close(to)
        os.close(back)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
