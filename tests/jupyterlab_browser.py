"""A real JupyterLab in a real browser, for tests: a server of its own, a page, a notebook, and limits on all of it.

Nothing here waits for a fixed time, and nothing waits for ever: every wait has a limit, and when the whole takes too
long its own processes are ended, so that whatever hangs raises.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from playwright.sync_api import Page, sync_playwright

START_SECONDS = 120.0
WAIT_SECONDS = 120.0
WHOLE_SECONDS = 900.0

_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# Ready is more than idle: a cell that is run too early opens a dialog that asks for a kernel.
_READY = """() => {
    const session = window.jupyterapp?.shell?.currentWidget?.sessionContext;
    return !!session?.isReady && session.session?.kernel?.connectionStatus === 'connected';
}"""
_IDLE = """count => {
    const notebook = window.jupyterapp.shell.currentWidget;
    const cells = [...notebook.content.widgets].filter(cell => cell.model.type === 'code');
    return cells.filter(cell => cell.model.executionCount).length >= count
        && notebook.sessionContext.session.kernel.status === 'idle';
}"""

_ACTIVATE = """place => {
    const content = window.jupyterapp.shell.currentWidget.content;
    content.deselectAll();
    content.activeCellIndex = place;
    return content.widgets[place].model.executionCount;
}"""
_RAN = """([place, before]) => {
    const notebook = window.jupyterapp.shell.currentWidget;
    const count = notebook.content.widgets[place].model.executionCount;
    return count && count !== before && notebook.sessionContext.session.kernel.status === 'idle';
}"""


class Lab:
    """A JupyterLab whose files are those of ``folder``; ``environment`` is added to what its kernels see."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._own = folder / ".lab"
        self._token = secrets.token_hex(16)
        self._environment = dict(environment or {})
        self._server: subprocess.Popen[bytes] | None = None
        self._playwright: Any = None
        self._browser: Any = None
        self._before: set[int] = set()
        self._limit = threading.Timer(WHOLE_SECONDS, self._end_processes)
        self.url = ""
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._before = {child.pid for child in psutil.Process().children()}
        self._limit.daemon = True
        self._limit.start()
        try:
            self._start_server()
            self._playwright = sync_playwright().start()
            chromium = shutil.which("chromium")
            self._browser = self._playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._browser is not None:
                self._browser.close()
            if self._playwright is not None:
                self._playwright.stop()
        finally:
            self._limit.cancel()
            self._end_processes()

    def open(self, name: str, *, size: tuple[int, int] = (1280, 900), scale: float = 1.0) -> Notebook:
        """Open a notebook in a page of its own, and wait until its kernel can be used."""
        page = self._browser.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale)
        page.set_default_timeout(WAIT_SECONDS * 1000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        address = f"{self.url}lab/tree/{name}?reset&token={self._token}"
        page.goto(address)
        page.wait_for_function(_READY)
        return Notebook(page, self.folder / name, address)

    def log(self) -> str:
        """Get what the server has said."""
        return (self._own / "server.log").read_text(errors="replace")

    def _start_server(self) -> None:
        places = {
            name: self._own / name.lower()
            for name in (
                "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
                "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR",
            )
        }  # fmt: skip
        for place in places.values():
            place.mkdir(parents=True)
        for plugin, settings in _SETTINGS.items():
            target = places["JUPYTERLAB_SETTINGS_DIR"] / f"{plugin}.jupyterlab-settings"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(settings))
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
            f"--ServerApp.root_dir={self.folder}", f"--IdentityProvider.token={self._token}",
            "--LabApp.expose_app_in_browser=True", "--ContentsManager.allow_hidden=True",
        ]  # fmt: skip
        environment = {**os.environ, **{name: str(place) for name, place in places.items()}, **self._environment}
        with (self._own / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        server, found = self._server, places["JUPYTER_RUNTIME_DIR"] / f"jpserver-{self._server.pid}.json"
        until(lambda: found.exists() or server.poll() is not None, START_SECONDS, self.log)
        until(lambda: server.poll() is not None or _whole(found), START_SECONDS, self.log)
        assert server.poll() is None, self.log()
        self.url = json.loads(found.read_text())["url"]

    def _end_processes(self) -> None:
        """End what was started here, each by its number: the server with its kernels, the browser with its driver."""
        ours = [child for child in psutil.Process().children() if child.pid not in self._before]
        ours = [child for child in ours if child.pid == getattr(self._server, "pid", 0) or _is_driver(child)]
        below = [process for child in ours for process in _below(child)]
        for process in (*ours, *below):
            _send(process.terminate)
        _, left = psutil.wait_procs([*ours, *below], timeout=20)
        for process in left:
            _send(process.kill)
        if self._server is not None:
            self._server.wait(timeout=20)


class Notebook:
    """A notebook that is open in a page."""

    def __init__(self, page: Page, path: Path, address: str) -> None:
        self.page = page
        self.path = path
        self._address = address

    def command(self, name: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Give JupyterLab a command, and don't wait for it: a dialog would have a page wait for ever."""
        told = "([name, given]) => { window.jupyterapp.commands.execute(name, given); return null; }"
        self.page.evaluate(told, [name, dict(arguments or {})])

    def run_all(self, *, count: int) -> None:
        """Run all cells, and wait until ``count`` of them have run and the kernel is idle."""
        self.command("notebook:run-all-cells")
        self.idle(count)

    def run(self, place: int) -> None:
        """Run one cell, counted from 0, whatever has the focus; wait until it has ended and the kernel is idle."""
        before = self.page.evaluate(_ACTIVATE, place)
        self.command("notebook:run-cell")
        self.page.wait_for_function(_RAN, arg=[place, before])

    def start(self, place: int) -> None:
        """Run one cell, counted from 0, and don't wait for it."""
        self.page.evaluate(_ACTIVATE, place)
        self.command("notebook:run-cell")

    def idle(self, count: int) -> None:
        """Wait until ``count`` cells have run and the kernel is idle."""
        self.page.wait_for_function(_IDLE, arg=count)

    def theme(self, name: str) -> None:
        """Change the theme, e.g. to ``JupyterLab Dark``."""
        self.command("apputils:change-theme", {"theme": name})
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)
        self.page.wait_for_function("() => !document.querySelector('#jupyterlab-splash')")

    def reload(self) -> None:
        """Load the page anew, and wait until the kernel, which has gone on, can be used.

        Its address asks for this notebook alone: JupyterLab opens again what other pages have open as well.
        """
        self.page.goto("about:blank")
        self.page.goto(self._address)
        self.page.wait_for_function(_READY)

    def save(self) -> dict[str, Any]:
        """Save, and get what the file holds then."""
        before = self.path.stat().st_mtime_ns
        self.command("docmanager:save")
        until(lambda: self.path.stat().st_mtime_ns != before and _whole(self.path), WAIT_SECONDS, self.path.read_text)
        self.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
        saved: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return saved

    def screenshot(self, target: Path, selector: str | None = None) -> None:
        """Take a picture of the page, or of one element."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if selector is None:
            self.page.screenshot(path=str(target))
        else:
            self.page.locator(selector).first.screenshot(path=str(target))


def until(true: Callable[[], bool], seconds: float, said: Callable[[], str]) -> None:
    """Wait for a condition; what is said when it does not come true is the error."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, said()
        time.sleep(0.05)


def _whole(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _is_driver(process: psutil.Process) -> bool:
    try:
        return "playwright" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _send(signal: Callable[[], None]) -> None:
    try:
        signal()
    except psutil.Error:
        return
