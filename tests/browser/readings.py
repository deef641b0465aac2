"""A `Reading` on the page without a transcription: text and sound that a test has made up."""

from typing import Any

from playwright.sync_api import Locator

from tests.browser.conftest import Tab

WORDS = "It was a quiet morning, and nobody had expected the letter so soon.".split()
Segment = dict[str, Any]

# Sound: a tone while there is speech, by `pattern` seconds on and half as many off.
MOUNT = """
async ([segments, length_s, told_s]) => {
    const {Reading} = await import("/assets/reading/reading.js");
    const rate = 8000;
    const file = new DataView(new ArrayBuffer(44 + length_s * rate * 2));
    const text = (at, name) => [...name].forEach((each, i) => file.setUint8(at + i, each.charCodeAt(0)));
    text(0, "RIFF"); file.setUint32(4, file.byteLength - 8, true); text(8, "WAVEfmt ");
    file.setUint32(16, 16, true); file.setUint16(20, 1, true); file.setUint16(22, 1, true);
    file.setUint32(24, rate, true); file.setUint32(28, 2 * rate, true);
    file.setUint16(32, 2, true); file.setUint16(34, 16, true);
    text(36, "data"); file.setUint32(40, length_s * rate * 2, true);
    for (let i = 0; i < length_s * rate; i++) {
        const loud = i / rate % 4.5 < 4 ? 0.3 + 0.7 * Math.abs(Math.sin(i / rate * 5)) : 0;
        file.setInt16(44 + 2 * i, 9000 * loud * Math.sin(i * 0.3), true);
    }
    const main = document.querySelector("main");
    for (const each of main.children) each.hidden = true; // still there: the page goes on using it
    const place = document.createElement("div");
    main.prepend(place);
    window.reading = new Reading(place, {media: new Blob([file]), name: "made up"});
    window.changes = 0;
    reading.addEventListener("change", () => window.changes++);
    for (const each of segments) reading.add(each);
    reading.setDuration(told_s ?? length_s);
    reading.finish();
    const audio = place.querySelector("audio");
    if (!audio.readyState) await new Promise(resolve => audio.addEventListener("loadedmetadata", resolve));
}
"""


def made_up(count: int, *, length_s: float = 4.5, words: list[str] = WORDS) -> list[Segment]:
    """`count` segments of the same words, one after another; the fifth word of each is uncertain."""
    return [_segment(number, number * length_s, length_s - 0.5, words) for number in range(count)]


def _segment(number: int, start: float, length_s: float, words: list[str]) -> Segment:
    step = length_s / len(words)
    timed = [
        {
            "word": word,
            "start": round(start + at * step, 3),
            "end": round(start + (at + 1) * step, 3),
            "probability": 0.31 if at == 4 else 0.97,
        }
        for at, word in enumerate(words)
    ]
    return {
        "type": "sotto.segment",
        "id": number,
        "seek": 0,
        "start": round(start, 3),
        "end": round(start + length_s, 3),
        "text": " " + " ".join(words),
        "tokens": [1, 2, 3],
        "temperature": 0.0,
        "avg_logprob": -0.2,
        "compression_ratio": 1.2,
        "no_speech_prob": 0.01,
        "words": timed,
    }


def mount(tab: Tab, segments: list[Segment], *, length_s: float, told_s: float | None = None) -> Locator:
    """The reading, alone on the page, once its recording can be played."""
    tab.page.evaluate(MOUNT, [segments, length_s, told_s])
    return tab.page.locator(".reading")
