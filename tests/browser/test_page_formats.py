"""The page's own writer of text against the server's; what it posts for subtitles; its reader of event streams."""

import pytest

from tests.browser.conftest import WORDS, Tab, written
from tests.support.serving import Running

WRITE = """async answers => {
    const {FORMATS} = await import("/assets/formats.js");
    return answers.map(segments => FORMATS.txt.write({segments}));
}"""
READ_AND_RENDER = """async answers => {
    const {Api} = await import("/assets/api.js");
    const {Job} = await import("/assets/job.js");
    const {Reading} = await import("/assets/reading/reading.js");
    const rendered = [];
    for (const {segments, duration} of answers) {
        const job = new Job(new File([], ""), {path: "", fields: [], task: "transcribe"});
        const reading = new Reading(document.createElement("div"), {media: new Blob([]), name: ""});
        for (const segment of segments) reading.add(segment);
        job.doneS = duration;
        const verbose = job.verbose(reading.segments());
        reading.destroy();
        rendered.push(await new Api().render({...verbose, response_format: "srt", max_line_width: 20}));
    }
    return rendered;
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


def test_odd_texts_are_written_as_the_server_writes_them(tab: Tab) -> None:
    cases = [[], *([{"start": 0.0, "end": 1.0, "text": text}] for text in TEXTS)]
    cases.append([{"start": 0.0, "end": 1.0, "text": text} for text in TEXTS])
    assert tab.page.evaluate(WRITE, cases) == [written(case)["txt"] for case in cases]


def test_subtitles_of_what_is_read_on_the_page_are_those_of_the_transcription(tab: Tab, server: Running) -> None:
    names = ("en_00.wav", "de_00.wav", "long_pause.flac")
    shaped = {"response_format": "srt", "max_line_width": "20"}
    answers = [server.transcribe(name, WORDS).json() for name in names]
    assert tab.page.evaluate(READ_AND_RENDER, answers) == [server.transcribe(name, shaped).text for name in names]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_they_are_cut(tab: Tab, size: int) -> None:
    assert tab.page.evaluate(PARSE, [STREAM, size]) == [
        {"type": "sotto.progress", "done_s": 0},
        {"type": "x", "text": "data: \r\n\r\nä 😀"},
        "[DONE]",
    ]
