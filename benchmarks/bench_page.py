"""What the page costs a browser while one reads along an hour: milliseconds of its main thread, frame by frame.

Chromium without a screen, 9,000 words and an hour of sound, both made up. A frame is measured from its beginning to
the first message after it was painted; 60 frames a second leave 16.7 ms for each.
"""

import argparse
import os
import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from playwright.sync_api import ViewportSize, sync_playwright

from tests.browser.conftest import DESK, NAMES, PHONE, Tab
from tests.browser.readings import made_up, mount
from tests.support.serving import serving

SEGMENTS = 900
SEGMENT_S = 4.0
HOUR_S = SEGMENTS * SEGMENT_S
TEN_WORDS = "nobody had expected that the letter would come so soon."
FRAMES = 300
FRAME_MS = 16
WAVEFORM_MS = 5000  # until that is drawn

# Each does one frame's worth of what a user does.
ACTIONS = {
    "scroll the text, 20 pixels a frame": "text.scrollTop += 20",
    "scroll the text, a page each frame": "text.scrollTop += text.clientHeight",
    "zoom the timeline": "zoom(frame)",
    "scroll the timeline, zoomed in": "strip.scrollLeft += 20",
    "drag the timeline's scrollbar": "strip.scrollLeft += strip.scrollWidth / 300",
    "seek": "audio.currentTime = (frame * 997) % 3600",
    "search, a letter a frame": "search(frame)",
}
MEASURE = """
frames => new Promise(resolve => {
    const find = selector => document.querySelector(selector);
    const [text, strip, audio] = [find(".reading-text"), find(".reading-scroll"), find("audio")];
    const zoom = frame => {
        const [out, closer] = document.querySelectorAll(".reading-zoom button");
        (frame % 50 < 30 ? closer : out).click();
    };
    const search = frame => {
        const field = find(".reading-search input");
        field.value = "letter would".slice(0, frame % 12 + 1);
        field.dispatchEvent(new Event("input"));
    };
    const costs = [];
    const channel = new MessageChannel();
    let began;
    const step = () => {
        const frame = costs.length;
        began = performance.now();
        ACTION;
        channel.port2.postMessage(null);
    };
    channel.port1.onmessage = () => {
        costs.push(performance.now() - began);
        if (costs.length < frames) requestAnimationFrame(step);
        else resolve(costs);
    };
    requestAnimationFrame(step);
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each action (default: %(default)s)")
    parser.add_argument("--phone", action="store_true", help="360 pixels wide instead of 1100")
    arguments = parser.parse_args()
    with opened(PHONE if arguments.phone else DESK) as tab:
        segments = made_up(SEGMENTS, length_s=SEGMENT_S, words=TEN_WORDS.split())
        mount(tab, segments, length_s=HOUR_S)
        tab.page.wait_for_timeout(WAVEFORM_MS)
        thread = Thread(tab)
        print(f"{len(segments) * 10} words in {elements(tab)} elements; milliseconds a frame:")
        print("| | median | p99 | CPU | over 16 ms |\n| --- | --- | --- | --- | --- |")
        for name, action in ACTIONS.items():
            tab.page.evaluate("document.querySelector('.reading-text').scrollTop = 0")
            before = thread.busy_ms()
            report(name, measured(tab, action, arguments.frames), thread.busy_ms() - before)


@contextmanager
def opened(viewport: dict[str, int]) -> Iterator[Tab]:
    command = next(filter(None, map(shutil.which, NAMES)))
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # as root it has none
    with (
        serving() as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=command, args=sandbox) as browser,
    ):
        yield Tab(browser.new_page(viewport=cast(ViewportSize, viewport)), server).open()


def elements(tab: Tab) -> int:
    return int(tab.page.evaluate("document.querySelectorAll('.reading *').length"))


class Thread:
    """The page's main thread, by its own clock: what other processes take of the machine doesn't count."""

    def __init__(self, tab: Tab) -> None:
        self._session = tab.page.context.new_cdp_session(tab.page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy_ms(self) -> float:
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return float(1000 * next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def measured(tab: Tab, action: str, frames: int) -> list[float]:
    costs: list[float] = tab.page.evaluate(MEASURE.replace("ACTION", action), frames)
    return costs


def report(name: str, costs: list[float], busy_ms: float) -> None:
    ordered = sorted(costs)
    late = sum(cost > FRAME_MS for cost in ordered)
    figures = (statistics.median(ordered), ordered[int(len(ordered) * 0.99)], busy_ms / len(ordered))
    print("| " + " | ".join([name, *(f"{figure:.1f}" for figure in figures), f"{late} of {len(ordered)}"]) + " |")


if __name__ == "__main__":
    main()
