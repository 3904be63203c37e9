"""A headless Chromium, driven over a pair of pipes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_START = 'exec "$@" 3<&{} 4>&{}'
_SECONDS = 60


class Browser:
    """A window of a browser; what it complains of is kept.

    Parameters
    ----------
    profile
        A new folder.
    width, height
        Of the window, pixels.
    """

    def __init__(self, profile, width, height=900):
        self.profile, self.width, self.height = profile, width, height
        self.number, self.session, self.complaints, self.buffer = 0, None, [], b""

    def __enter__(self):
        reads, self.to = os.pipe()
        self.come, writes = os.pipe()
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            f"--user-data-dir={self.profile}", "about:blank",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            ["bash", "-c", _START.format(reads, writes), "bash", *command],
            pass_fds=(reads, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reads)
        os.close(writes)
        targets = self.call("Target.getTargets")["targetInfos"]
        (page,) = (of["targetId"] for of in targets if of["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=self.width, height=self.height,
            deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.come)

    def call(self, method, **parameters):
        """Return the result of a call of the protocol of Chromium."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self.number:
                assert "error" not in said, said
                return said["result"]

    def _next(self):
        while b"\0" not in self.buffer:
            came = os.read(self.come, 1 << 16)
            assert came, "the browser has ended"
            self.buffer += came
        first, self.buffer = self.buffer.split(b"\0", 1)
        said = json.loads(first)
        method, of = said.get("method"), said.get("params", {})
        failed = method in ("Runtime.exceptionThrown", "Log.entryAdded")
        if failed or (method == "Runtime.consoleAPICalled" and of["type"] == "error"):
            self.complaints.append(of)
        return said

    def open(self, address):
        """Go to a page."""
        self.call("Page.navigate", url=address)

    def value(self, expression):
        """Return the value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression):
        """Wait until an expression is true."""
        end = time.monotonic() + _SECONDS
        while not self.value(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.05)
