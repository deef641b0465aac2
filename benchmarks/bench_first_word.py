"""From a file chosen on the page to its first words in the document, in Chromium without a screen.

python -m benchmarks.bench_first_word
"""

import argparse
import statistics

from benchmarks.bench_page import opened
from tests.browser.conftest import DESK, Tab
from tests.support.bad_inputs import DATA

FILES = ("en_00.wav", "two_minutes.mp3", "ten_minutes.ogg")
WATCH = """() => {
    let began;
    window.took = new Promise(resolve => new MutationObserver((_, observer) => {
        if (!document.querySelector(".reading-word")) return;
        observer.disconnect();
        resolve(performance.now() - began);
    }).observe(document.querySelector("#jobs"), {childList: true, subtree: true}));
    document.querySelector("#files").addEventListener("change", () => began = performance.now(), true);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    rounds = parser.parse_args().rounds
    with opened(DESK) as tab:
        tab.page.on("dialog", lambda dialog: dialog.accept())  # whether to leave what is unfinished
        first_word_ms(tab, FILES[0])  # the browser's first is slower
        for name in FILES:
            took = [first_word_ms(tab, name) for _ in range(rounds)]
            print(f"{name:18} median {statistics.median(took):6.0f} ms   {min(took):.0f} to {max(took):.0f}")


def first_word_ms(tab: Tab, name: str) -> float:
    tab.open()
    tab.page.evaluate(WATCH)
    tab.choose(DATA / name)
    took: float = tab.page.evaluate("window.took")
    tab.page.goto("about:blank")  # which ends the rest
    tab.server.wait_until_idle()
    return took


if __name__ == "__main__":
    main()
