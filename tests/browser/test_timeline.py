"""The strip above the text: where it is clicked the player goes; its waveform; and a whole hour of both."""

import base64
import struct
import wave
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Opener, Tab
from tests.browser.readings import made_up, mount
from tests.browser.test_reading import time_of, wait_until
from tests.support.bad_inputs import DATA

LENGTH_S = 180.0
HOUR_S = 3600.0
LONG_TASK_MS = 2000  # ten times what one might notice
MP3_TAG = 20  # bytes before the first frame
MP3_S = 3313 * 0.036  # its frames
ELEMENTS = 5000  # of an hour: five for each segment, and a page or two of words

# Peaks of a file of tests/data, `copies` of it in one, by what is said to be its length.
PEAKS = """
async ([encoded, copies, length_s]) => {
    const {peaksOf} = await import("/assets/reading/waveform.js");
    const file = Uint8Array.from(atob(encoded), each => each.charCodeAt(0));
    const peaks = await peaksOf(new Blob(Array(copies).fill(file)), length_s, new AbortController().signal);
    return peaks && [...peaks];
}
"""
RECORDED = """
async () => {
    const {Reading} = await import("/assets/reading/reading.js");
    const context = new AudioContext();
    const sound = context.createMediaStreamDestination();
    const tone = new OscillatorNode(context);
    tone.connect(sound);
    tone.start();
    const recorder = new MediaRecorder(sound.stream);
    const chunks = [];
    recorder.addEventListener("dataavailable", event => chunks.push(event.data));
    recorder.start(100);
    await new Promise(resolve => setTimeout(resolve, 2300));
    await new Promise(resolve => { recorder.onstop = resolve; recorder.stop(); });
    await context.close();
    const place = document.body.appendChild(document.createElement("div"));
    window.reading = new Reading(place, {media: new Blob(chunks, {type: recorder.mimeType}), name: "recorded"});
}
"""
# An observer that tells both at once that something was out of sight and that it has come into view.
BUSY = """() => {
    window.left = 0;
    window.IntersectionObserver = class {
        constructor(tell) { this.tell = tell; }
        observe(target) {
            if (target.matches(".reading-timeline")) this.tell([{isIntersecting: false}, {isIntersecting: true}]);
        }
        disconnect() { window.left++; }
    };
}"""
# Whether a hit in this segment is painted.
PAINTED = """
segment => [...CSS.highlights.get("reading-hits")].some(
    hit => hit.startContainer.parentElement.closest(`[data-segment="${segment}"]`))
"""
LEAF_THROUGH = """
async text => {
    for (let top = 0; top < text.scrollHeight; top += text.clientHeight) {
        text.scrollTop = top;
        await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
    }
}
"""


@pytest.fixture
def strip(tab: Tab) -> Locator:
    """The timeline of a reading of three minutes."""
    return mount(tab, made_up(40), length_s=LENGTH_S).get_by_role("slider")


def click_at(strip: Locator, share: float) -> None:
    box = strip.bounding_box()
    assert box
    strip.click(position={"x": share * box["width"], "y": box["height"] / 2})


def test_a_click_and_a_drag_go_there(tab: Tab, strip: Locator) -> None:
    click_at(strip, 0.5)
    assert time_of(tab) == pytest.approx(LENGTH_S / 2, abs=1)
    expect(strip).to_have_attribute("aria-valuetext", "1 minute 30 seconds of 3 minutes")
    box = strip.bounding_box()
    assert box
    tab.page.mouse.move(box["x"] + 10, box["y"] + 10)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 10, steps=5)
    assert time_of(tab) == pytest.approx(LENGTH_S * 0.75, abs=1)
    tab.page.mouse.up()


def test_its_keys_move_in_steps(tab: Tab, strip: Locator) -> None:
    strip.focus()
    for key, seconds in (("ArrowRight", 5), ("PageUp", 35), ("ArrowDown", 30), ("Home", 0), ("End", LENGTH_S)):
        strip.press(key)
        assert time_of(tab) == pytest.approx(seconds, abs=0.1)
    expect(strip).to_have_attribute("aria-valuemax", "180.0")


def test_zooming_keeps_the_playhead_and_the_canvas_as_wide_as_its_window(tab: Tab, strip: Locator) -> None:
    track = tab.page.locator(".reading-scroll")
    width = track.evaluate("track => track.scrollWidth")
    click_at(strip, 0.5)
    zoom_in = tab.page.get_by_role("button", name="Zoom in")
    for _ in range(4):
        zoom_in.click()
    assert track.evaluate("track => track.scrollWidth") > 4 * width
    expect(tab.page.locator(".reading-playhead")).to_be_in_viewport()
    box = strip.bounding_box()
    assert box
    assert box["width"] == pytest.approx(width, abs=2)
    click_at(strip, 0.5)
    assert time_of(tab) == pytest.approx(LENGTH_S / 2, abs=1)
    strip.hover()
    tab.page.keyboard.down("Control")
    for _ in range(12):
        tab.page.mouse.wheel(0, 100)
    tab.page.keyboard.up("Control")
    expect(tab.page.get_by_role("button", name="Zoom out")).to_be_disabled()
    assert track.evaluate("track => track.scrollWidth") == width


def test_it_is_drawn_as_fine_as_the_screen(open_tab: Opener) -> None:
    tab = open_tab(device_scale_factor=2)
    strip = mount(tab, made_up(40), length_s=LENGTH_S).get_by_role("slider")
    assert strip.evaluate("canvas => canvas.width / canvas.clientWidth") == 2


def test_peaks_of_a_long_mp3_stand_where_its_sounds_are(tab: Tab) -> None:
    frames = base64.b64encode((DATA / "two_minutes.mp3").read_bytes()[MP3_TAG:]).decode()
    first = tab.page.evaluate(PEAKS, [frames, 1, MP3_S])
    many = tab.page.evaluate(PEAKS, [frames, 6, 6 * MP3_S])  # too long to be decoded at once
    assert max(first) > 60
    for copy in range(6):
        begin = round(copy * MP3_S * 100)
        assert agreement(first, many[begin : begin + len(first)]) > 0.95


def test_peaks_of_a_wav_are_read_from_it(tab: Tab, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as file:
        file.setparams((2, 2, 22_050, 0, "NONE", ""))
        for level in (0, 16_384, -32_768, 0):
            file.writeframes(struct.pack("<hh", level, 0) * 22_050)
    encoded = base64.b64encode((tmp_path / "stereo.wav").read_bytes()).decode()
    peaks = tab.page.evaluate(PEAKS, [encoded, 1, 4.0])
    assert [set(peaks[second * 100 + 1 : second * 100 + 99]) for second in range(4)] == [{0}, {128}, {255}, {0}]


def agreement(first: list[int], second: list[int]) -> float:
    """The share of tenths of a second that are loud, or not, in both."""
    loud = [[max(peaks[at : at + 10]) > 25 for at in range(0, 11_900, 10)] for peaks in (first, second)]
    return sum(one == other for one, other in zip(loud[0], loud[1], strict=True)) / len(loud[0])


def test_a_long_file_that_cannot_be_taken_apart_has_no_peaks(tab: Tab) -> None:
    assert tab.page.evaluate(PEAKS, [base64.b64encode(b"no sound").decode(), 1000, HOUR_S]) is None


def test_a_recorders_file_has_its_length_though_it_does_not_say_so(tab: Tab) -> None:
    tab.page.evaluate(RECORDED)
    expect(tab.page.locator(".reading-clock")).to_have_text("0:00 / 0:02")


def test_audio_not_transcribed_yet_is_dimmed_and_its_length_the_servers(tab: Tab, strip: Locator) -> None:
    picture = (
        "canvas => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(canvas.toDataURL()))))"
    )
    tab.page.evaluate("reading.progress({done: 90, total: 180})")
    veiled = strip.evaluate(picture)
    tab.page.evaluate("reading.finish()")
    assert strip.evaluate(picture) != veiled


def test_an_hour_is_few_elements_and_holds_up_nothing(tab: Tab) -> None:
    tab.page.evaluate(
        """() => {
            window.longest = 0;
            const note = list => list.getEntries().forEach(each => longest = Math.max(longest, each.duration));
            new PerformanceObserver(note).observe({type: "longtask"});
        }"""
    )
    reading = mount(tab, made_up(900, length_s=4.0), length_s=1.0, told_s=HOUR_S)
    text = reading.locator(".reading-text")
    text.evaluate(LEAF_THROUGH)
    expect(reading.locator('[data-segment="899"] .reading-word').first).to_be_in_viewport()
    assert tab.page.evaluate("document.querySelectorAll('.reading *').length") < ELEMENTS
    reading.get_by_role("searchbox").fill("letter")
    expect(reading.get_by_label("Matches")).to_have_text("1 of 900")
    tab.page.keyboard.press("Shift+Enter")
    expect(reading.locator('[data-segment="899"] .reading-word').first).to_be_in_viewport()
    text.evaluate("text => text.scrollTop = text.scrollHeight / 2")
    wait_until(tab, lambda: bool(tab.page.evaluate(PAINTED, 450)))
    assert tab.page.evaluate("longest") < LONG_TASK_MS


def test_a_recording_that_comes_into_view_of_a_busy_page_is_seen(tab: Tab) -> None:
    tab.page.evaluate(BUSY)
    mount(tab, [], length_s=9)
    assert tab.page.evaluate("left") == 1
