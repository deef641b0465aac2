"""The page in a real Chromium, before a real server with the bundled model.

A `Tab` fails its test for what no page of ours may do: an error on the console (a breach of the policy is one), an
exception, a request to another host. Pictures of it go to `artifacts/page`.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, sync_playwright

from server.formats.render import render
from server.options import ResponseFormat, TranscriptionOptions
from server.transcript import Segment, Transcript
from tests.support.bad_inputs import DATA
from tests.support.lacking import lacking
from tests.support.serving import ROOT, Running, serving

PICTURES = ROOT / "artifacts" / "page"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1100, "height": 800}
WAIT_S = 60.0
KINDS: dict[str, ResponseFormat] = {"txt": "text", "srt": "srt", "vtt": "vtt"}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WORDS: dict[str, str | list[str]] = {
    "response_format": "verbose_json",
    "timestamp_granularities[]": ["word"],
    "response_dialect": "nested",
}
SERIOUS = {"serious", "critical"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


class Tab:
    """A page of the server in a browser, and what went wrong in it."""

    def __init__(self, page: Page, server: Running) -> None:
        self.page = page
        self.server = server
        self.faults: list[str] = []
        self._expected: list[str] = []
        page.set_default_timeout(WAIT_S * 1000)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("request", self._on_request)
        page.on("filechooser", lambda _: None)  # who asks for it only when it is about to open comes too late

    def open(self, path: str = "/") -> "Tab":
        self.page.goto(f"{self.server.base_url}{path}")
        return self

    def expect_fault(self, pattern: str) -> None:
        """Say that this test provokes what the browser reports as an error: a refused request, a server gone."""
        self._expected.append(pattern)

    def drop(self, *names: str) -> None:
        """Drop files of tests/data somewhere on the page."""
        files = [{"name": name, "bytes": list((DATA / name).read_bytes())} for name in names]
        self.page.evaluate(
            """files => {
                const transfer = new DataTransfer();
                for (const {name, bytes} of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
                for (const type of ["dragenter", "dragover", "drop"])
                    document.querySelector("main").dispatchEvent(
                        new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
            }""",
            files,
        )

    def choose(self, *files: Path) -> None:
        """Choose files in the browser's own dialogue."""
        self.page.set_input_files("#files", files)

    def job(self, name: str) -> Locator:
        """The panel of a recording."""
        return self.page.locator("article", has=self.page.get_by_role("heading", name=name, exact=True))

    def wait_for(self, name: str, state: str) -> Locator:
        """The panel of a recording, once it is in `state`."""
        found = self.page.locator(f'article[data-state="{state}"]', has=self.page.get_by_role("heading", name=name))
        found.first.wait_for()
        return found.first

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        for theme in THEMES:
            self.page.emulate_media(color_scheme=theme)
            self.page.screenshot(path=PICTURES / f"{name}-{theme}.png", full_page=True, animations="disabled")

    def check_access(self) -> None:
        """Fail for what axe finds serious, in both themes."""
        for theme in THEMES:
            self.page.emulate_media(color_scheme=theme)
            found = Axe().run(self.page).response["violations"]
            serious = [
                f"{theme}: {each['id']}: {node['target']} {node['failureSummary']}"
                for each in found
                for node in each["nodes"]
                if each["impact"] in SERIOUS
            ]
            assert serious == []

    def check(self) -> None:
        """Fail for every fault that no test said it would provoke."""
        unexpected = [
            fault for fault in self.faults if not any(re.search(pattern, fault) for pattern in self._expected)
        ]
        assert unexpected == []

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.server.base_url}/", "blob:", "data:")):
            self.faults.append(f"request to another host: {request.url}")


@pytest.fixture(scope="module")  # while Playwright's loop runs, no other can: tests of other modules have theirs
def browser() -> Iterator[Browser]:
    command = next(filter(None, map(shutil.which, NAMES)), None)
    if not command:
        lacking("Chromium is not installed (Debian: apt-get install chromium)")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # as root it has none
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=command, args=[*FLAGS, *sandbox])
        yield running
        running.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


Opener = Callable[..., Tab]


@pytest.fixture
def open_tab(browser: Browser, server: Running) -> Iterator[Opener]:
    """Opens the page of a server, `server` unless another is given; checks each tab for faults at the end."""
    with ExitStack() as stack:

        def open_one(of: Running = server, **options: Any) -> Tab:
            context: BrowserContext = browser.new_context(**{"viewport": DESK, **options})
            stack.callback(context.close)
            tab = Tab(context.new_page(), of)
            tabs.append(tab)
            return tab.open()

        tabs: list[Tab] = []
        yield open_one
        for tab in tabs:
            tab.check()


@pytest.fixture
def tab(open_tab: Opener) -> Tab:
    """The page, just opened."""
    return open_tab()


def saved(tab: Tab, panel: Locator, label: str) -> bytes:
    """What a click on a button of the group "Save as" gives."""
    with tab.page.expect_download() as download:
        panel.get_by_role("button", name=label, exact=True).click()
    return Path(download.value.path()).read_bytes()


def written(segments: list[dict[str, Any]]) -> dict[str, str]:
    """What the server writes of `segments` of verbose_json as text, SRT and VTT, by suffix."""
    values = (
        Segment(number, 0, each["start"], each["end"], each["text"], (), 0.0, 0.0, 1.0, 0.0)
        for number, each in enumerate(segments)
    )
    transcript = Transcript("transcribe", "en", 1.0, 0.0, tuple(values))
    options = TranscriptionOptions()
    return {
        suffix: render(transcript, replace(options, response_format=kind))[1].decode()
        for suffix, kind in KINDS.items()
    }
