"""The page's own writers of text, SRT and VTT, against `server.formats`; its reader of event streams."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.browser.conftest import Tab, written
from tests.conftest import RECORDINGS
from tests.serving import Running

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
PARSE = """async ([stream, size]) => {
    const {DONE, EventParser} = await import("/assets/sse.js");
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < stream.length; at += size) events.push(...parser.push(stream.slice(at, at + size)));
    return events.map(event => event === DONE ? "[DONE]" : event);
}"""
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
        fields = {"response_format": "verbose_json", "response_dialect": "nested"}
        answer = server.transcribe(name, {**fields, "timestamp_granularities[]": ["word"]})
        segments: list[dict[str, Any]] = answer.json()["segments"]
        return segments

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(heard, RECORDINGS))
    assert tab.page.evaluate(READ_AND_WRITE, answers) == [written(answer) for answer in answers]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_they_are_cut(tab: Tab, size: int) -> None:
    assert tab.page.evaluate(PARSE, [STREAM, size]) == [
        {"type": "sotto.progress", "done_s": 0},
        {"type": "x", "text": "data: \r\n\r\nä 😀"},
        "[DONE]",
    ]
