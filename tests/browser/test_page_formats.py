"""The page's own writers of text, SRT and VTT, against `server.formats.render`; its reader of event streams."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from server.formats.render import bare_word
from server.options import SubtitleOptions
from tests.browser.conftest import WORDS, Tab, written
from tests.conftest import RECORDINGS
from tests.support.serving import Running

WRITE = """async answers => {
    const {FORMATS} = await import("/assets/formats.js");
    const kinds = ["txt", "srt", "vtt"];
    return answers.map(segments => Object.fromEntries(kinds.map(kind => [kind, FORMATS[kind].write({segments})])));
}"""
READ_AND_WRITE = """async answers => {
    const {FORMATS} = await import("/assets/formats.js");
    const {Reading} = await import("/assets/reading/reading.js");
    return answers.map(each => {
        const reading = new Reading(document.createElement("div"), {media: new Blob([]), name: ""});
        for (const segment of each) reading.add(segment);
        const segments = reading.segments();
        reading.destroy();
        return Object.fromEntries(["txt", "srt", "vtt"].map(kind => [kind, FORMATS[kind].write({segments})]));
    });
}"""
SHAPE = """async ([answers, shaping]) => {
    const {FORMATS} = await import("/assets/formats.js");
    return answers.map(each => FORMATS.srt.write(each, shaping));
}"""
SHAPINGS = {
    "usual": SubtitleOptions(),
    "narrow": SubtitleOptions(12, 3, 0.0, 2.5),
    "wide": SubtitleOptions(80, 1, 3.0, 20.0),
}
PARSE = """async ([stream, size]) => {
    const {DONE, EventParser} = await import("/assets/sse.js");
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < stream.length; at += size) events.push(...parser.push(stream.slice(at, at + size)));
    return events.map(event => event === DONE ? "[DONE]" : event);
}"""
SPOKEN = [
    " “Well,” she said, “that is all. Is it?” And so (as we know) it went on: nothing, nobody, nowhere; never!",
    " 今天天气很好，我们去公园吧。好的！你想几点去？下午三点怎么样，我在家里等你。",
    " An-extraordinarily-long-word-that-fits-no-line-at-all-however-wide-it-may-be-made-by-anybody, and 50% of it.",
    "   ",
]
STREAM = (
    'data: {"type":"sotto.progress","done_s":0}\r\n\r\n: still working\r\n\r\n'
    'data: {"type":"x","text":"data: \\r\\n\\r\\nä 😀"}\r\n\r\ndata: [DONE]\r\n\r\n'
)
TEXTS = [
    " Hello.",
    "  two  spaces  ",
    " a\nb\r\nc\x0bd\x0ce\x1cf\x1dg\x1eh\x85i\u2028j\u2029k",
    "\u00a0\u2003wide\u3000\u202f",
    "\ufeffmark\ufeff\u200b",
    "\x1fedge\x1f",
    " 1 --> 2 ---> 3 -> 4 --",
    " <b>R&D</b> &amp; > <",
    "",
    "   \n \t",
    " 😀 é",
]


def test_odd_texts_and_times_are_written_as_the_server_writes_them(tab: Tab) -> None:
    times = [(0.0, 0.0), (0.001, 0.0011), (59.999, 60.0), (3599.999, 360_000.5), (1.005, 2.675)]
    cases = [[{"start": start, "end": end, "text": text}] for text in TEXTS for start, end in times]
    cases += [[], [{"start": start, "end": end, "text": " Hi."} for start, end in times]]
    assert tab.page.evaluate(WRITE, cases) == [written(case) for case in cases]


def test_every_recording_is_exported_as_the_server_would(tab: Tab, server: Running) -> None:
    def heard(name: str) -> list[dict[str, Any]]:
        segments: list[dict[str, Any]] = server.transcribe(name, WORDS).json()["segments"]
        return segments

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(heard, RECORDINGS))
    assert tab.page.evaluate(READ_AND_WRITE, answers) == [written(answer) for answer in answers]


@pytest.mark.parametrize("name", SHAPINGS)
def test_subtitles_are_shaped_as_the_server_shapes_them(tab: Tab, server: Running, name: str) -> None:
    options = SHAPINGS[name]
    answers = [
        server.transcribe(each, WORDS).json() for each in ("two_minutes.mp3", "de_00.wav", "long_pause.flac")
    ]
    answers += [{"segments": spoken(text), "duration": 100.0} for text in SPOKEN]
    shaping = {
        "width": options.max_line_width,
        "count": options.max_line_count,
        "minMs": options.min_cue_ms,
        "maxMs": options.max_cue_ms,
    }
    expected = [written(each["segments"], options, each["duration"])["srt"] for each in answers]
    assert tab.page.evaluate(SHAPE, [answers, shaping]) == expected


def spoken(text: str) -> list[dict[str, Any]]:
    """A segment of `text`, a word each 0.4 s; a word of Chinese or Thai is a character."""
    parts = re.findall(r"\s*[^\s\u0e00-\u9fff]+|\s*.", text)
    words = [
        {"word": bare_word(part), "start": round(0.4 * at, 3), "end": round(0.4 * at + 0.3, 3), "probability": 1.0}
        for at, part in enumerate(parts)
    ]
    return [{"start": 0.0, "end": 0.4 * len(parts), "text": text, "words": words, "parts": parts}]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_they_are_cut(tab: Tab, size: int) -> None:
    assert tab.page.evaluate(PARSE, [STREAM, size]) == [
        {"type": "sotto.progress", "done_s": 0},
        {"type": "x", "text": "data: \r\n\r\nä 😀"},
        "[DONE]",
    ]
