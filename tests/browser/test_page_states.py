"""What a panel says of a recording, event by event, without a server."""

from typing import Any

import pytest

from tests.browser.conftest import Tab

TELL = """async steps => {
    const {Job} = await import("/assets/job.js");
    const {Card} = await import("/assets/card.js");
    let on;
    const api = {transcribe: (path, file, fields, handlers) => { on = handlers; return () => {}; }};
    const file = new File([new Uint8Array(1500)], "speech.wav");
    const job = new Job(file, {path: "", fields: [], task: "transcribe"});
    const card = new Card(job, {folded: false, shaping: () => ({})});
    return steps.map(([what, value]) => {
        if (what === "start") job.start(api);
        else on[what](value);
        return [job.state, card.says];
    });
}"""
AGAIN = """async () => {
    const {Job} = await import("/assets/job.js");
    const {Card} = await import("/assets/card.js");
    let on;
    const api = {transcribe: (path, file, fields, handlers) => { on = handlers; return () => {}; }};
    const job = new Job(new File([], "speech.wav"), {path: "", fields: [], task: "transcribe"});
    const card = new Card(job, {folded: false, shaping: () => ({})});
    document.querySelector("main").append(card.element);
    job.start(api);
    on.event({type: "sotto.segment", id: 0, start: 0, end: 1, text: " Hello."});
    card.unsaved = true;
    job.cancel();
    card.againButton.focus();
    card.againButton.click();
    const focused = document.activeElement.textContent;
    job.start(api);
    return {focused, hidden: card.body.hidden, unsaved: card.unsaved};
}"""
BROKEN = {"kind": "lost", "message": "The connection to the server was lost."}
Step = tuple[str, Any]


def progress(done_s: float, before: int, **more: Any) -> Step:
    return "event", {"type": "sotto.progress", "done_s": done_s, "queue_position": before, **more}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("start", 0)], ["uploading", "Sending · 0 % of 1.5 kB"]),
        ([("start", 0), ("sent", 0.5)], ["uploading", "Sending · 50 % of 1.5 kB"]),
        ([("start", 0), ("sent", 1)], ["queued", "Reading the file"]),
        ([("start", 0), ("sent", 1), progress(0, 3, total_hint_s=60)], ["queued", "3 ahead in the queue"]),
        ([("start", 0), ("sent", 1), progress(0, 0, total_hint_s=60)], ["running", "0:00 of 1:00"]),
        ([("start", 0), progress(10, 2), progress(20, 0, total_hint_s=60)], ["running", "0:20 of 1:00"]),
        ([("start", 0), ("sent", 1), progress(0, 0)], ["running", "0:00"]),
        (
            [("start", 0), progress(75.2, 0, language="de"), ("end", {"kind": "done"})],
            ["done", "1:15 · German · No speech found"],
        ),
        ([("start", 0), ("end", {"kind": "refused", "retryS": 0})], ["refused", "Retrying in 0 s"]),
        ([("start", 0), ("end", {"kind": "locked"})], ["locked", "Waiting for a key"]),
        ([("start", 0), ("end", BROKEN)], ["lost", "Resumes when the server is back"]),
        ([("start", 0), ("end", BROKEN)] * 3, ["failed", "Not transcribed"]),
    ],
)
def test_each_state_says_what_is_known(tab: Tab, steps: list[Step], expected: list[str]) -> None:
    assert tab.page.evaluate(TELL, steps)[-1] == expected


def test_a_retried_job_starts_empty_and_keeps_the_focus(tab: Tab) -> None:
    assert tab.page.evaluate(AGAIN) == {"focused": "Cancel", "hidden": True, "unsaved": False}
