"""From recordings to their texts and exports."""

import json
import re
from pathlib import Path

from playwright.sync_api import Dialog, Locator, expect

from tests.browser.conftest import PHONE, WORDS, Opener, Tab, saved, written
from tests.conftest import DATA

COUNT_ACTIVE = """() => {
    window.most = 0;
    const active = '[data-state="uploading"], [data-state="queued"], [data-state="running"]';
    const count = () => document.querySelectorAll(`article:is(${active})`).length;
    const look = () => window.most = Math.max(window.most, count());
    new MutationObserver(look).observe(document.body, {subtree: true, attributes: true, childList: true});
}"""

RECORD_FIELDS = """() => {
    window.fields = [];
    const append = FormData.prototype.append;
    FormData.prototype.append = function (name, value, ...more) {
        window.fields.push([name, value.name ?? value]);
        append.call(this, name, value, ...more);
    };
}"""


def test_words_come_before_the_end(tab: Tab) -> None:
    tab.drop("two_minutes.mp3")
    running = tab.wait_for("two_minutes.mp3", "running")
    running.get_by_text("Six hundred and four").wait_for()
    assert running.count() == 1, "it had ended when its words came"
    expect(running.get_by_text(re.compile(r"^\d:\d\d of 1:59 · [\d.]+× · \d+ s left$"))).to_be_visible()
    tab.picture("running")
    done = tab.wait_for("two_minutes.mp3", "done")
    expect(done.get_by_text("1:59 · English")).to_be_visible()
    tab.picture("done")
    tab.check_access()


def test_exports_are_what_the_api_answers(tab: Tab) -> None:
    """That is, of the same segments: words, which the page asks for, move the ends of phrases a little."""
    name = "long_pause.flac"  # heard at temperature 0, so the same each time
    tab.drop(name)
    panel = tab.wait_for(name, "done")
    answer = tab.server.transcribe(name, WORDS).json()
    assert json.loads(saved(tab, panel, "JSON")) == answer
    assert saved(tab, panel, "Text") == tab.server.transcribe(name, {"response_format": "text"}).content
    for label, suffix in (("SRT", "srt"), ("VTT", "vtt")):
        assert saved(tab, panel, label).decode() == written(answer["segments"])[suffix]


def test_subtitles_are_shaped_on_request(tab: Tab) -> None:
    tab.page.get_by_text("Options").click()
    tab.page.get_by_label("Characters per line").fill("20")
    tab.drop("de_00.wav")
    panel = tab.wait_for("de_00.wav", "done")
    assert (
        saved(tab, panel, "SRT")
        == tab.server.transcribe("de_00.wav", {"response_format": "srt", "max_line_width": "20"}).content
    )


def test_invalid_cue_times_are_ignored_with_a_message(tab: Tab) -> None:
    tab.page.get_by_text("Options").click()
    tab.page.get_by_label("Longest, s").fill("0.5")  # below what Shortest is where it is not given
    wrong = tab.page.get_by_role("alert").filter(has_text="Shortest, s")
    expect(wrong).to_be_hidden()
    tab.drop("de_00.wav")
    panel = tab.wait_for("de_00.wav", "done")
    half = tab.server.transcribe("de_00.wav", {"response_format": "srt", "max_cue_seconds": "0.5"}).content
    assert saved(tab, panel, "SRT") == half
    tab.page.get_by_label("Shortest, s").fill("2")
    expect(wrong).to_have_text("Shortest, s: Must not exceed the longest, 0.5.")
    tab.picture("options-wrong")
    tab.check_access()
    assert saved(tab, panel, "SRT") == half
    tab.page.get_by_label("Longest, s").fill("")
    expect(wrong).to_be_hidden()


def test_the_menu_says_which_models_are_not_loaded(tab: Tab) -> None:
    states = {"demo": "loaded", "small": "available", "large": "broken"}
    models = [{"id": name, "state": state, "languages": []} for name, state in states.items()]
    tab.page.route("**/v1/models", lambda route: route.fulfill(json={"data": models}))
    tab.page.get_by_text("Options").click()
    menu = tab.page.get_by_label("Model").locator("option")
    expect(menu).to_have_text(["demo (default)", "small (loads on first use)", "large (unavailable)"])
    models.clear()
    tab.page.reload()
    expect(menu).to_have_text(["No models installed"])


def test_a_model_s_other_name_has_its_languages(tab: Tab) -> None:
    own = {"id": "own", "root": "own", "state": "loaded", "languages": ["de"]}
    other = {"id": "other", "root": "own", "state": "loaded"}
    tab.page.route("**/v1/models", lambda route: route.fulfill(json={"data": [own, other]}))
    tab.page.reload()
    tab.page.get_by_text("Options").click()
    tab.page.get_by_label("Model").select_option("other")
    expect(tab.page.get_by_label("Language").locator("option")).to_have_text(["Detect", "German"])


def test_an_edited_word_is_exported_at_its_time(tab: Tab) -> None:
    tab.drop("en_03.wav")
    panel = tab.wait_for("en_03.wav", "done")
    before = saved(tab, panel, "SRT").decode()
    word = panel.locator(".reading-word").first
    old = word.inner_text()
    word.dblclick()
    tab.page.keyboard.type("Gesundheit")
    tab.page.keyboard.press("Enter")
    assert saved(tab, panel, "SRT").decode() == before.replace(old, "Gesundheit", 1)


def test_leaving_with_edits_that_are_not_saved_is_asked_about(tab: Tab) -> None:
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    def edit() -> Locator:
        tab.drop("en_03.wav")
        panel = tab.wait_for("en_03.wav", "done")
        panel.locator(".reading-word").first.dblclick()
        tab.page.keyboard.type("Other")
        tab.page.keyboard.press("Enter")
        return panel

    tab.page.on("dialog", leave)
    saved(tab, edit(), "VTT")
    tab.page.reload()
    assert asked == []
    edit()
    tab.page.reload()
    assert asked == ["beforeunload"]


def test_text_is_copied(open_tab: Opener) -> None:
    tab = open_tab(permissions=["clipboard-read", "clipboard-write"])
    tab.drop("en_00.wav")
    tab.wait_for("en_00.wav", "done").get_by_role("button", name="Copy text").click()
    expect(tab.page.get_by_role("button", name="Copied")).to_be_visible()
    copied = tab.page.evaluate("navigator.clipboard.readText()")
    assert copied == tab.server.transcribe("en_00.wav").json()["text"]


def test_text_is_copied_without_a_clipboard_of_the_browser(tab: Tab) -> None:
    tab.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    tab.drop("en_00.wav")
    tab.wait_for("en_00.wav", "done").get_by_role("button", name="Copy text").press("Enter")
    expect(tab.page.get_by_role("button", name="Copied")).to_be_focused()


def test_several_are_sent_two_at_a_time_and_stay_in_order(tab: Tab) -> None:
    tab.page.evaluate(COUNT_ACTIVE)
    names = ["long_pause.flac", "en_00.wav", "de_00.wav", "es_00.wav"]
    tab.choose(*(DATA / name for name in names))
    tab.picture("several")
    for name in names:
        tab.wait_for(name, "done")
    assert tab.page.get_by_role("article").get_by_role("heading").all_inner_texts() == names
    tab.picture("several-done")
    panel = tab.job("de_00.wav")
    expect(panel.locator(".reading")).to_be_hidden()  # of several, each opens by its name
    panel.get_by_role("button", name="de_00.wav").click()
    expect(panel.locator(".reading-word").first).to_be_visible()
    panel.get_by_role("button", name="Play", exact=True).click()
    expect(panel.get_by_role("button", name="Pause")).to_be_visible()
    panel.get_by_role("button", name="de_00.wav").click()
    assert panel.locator("audio").evaluate("audio => audio.paused")
    assert tab.page.evaluate("window.most") == 2


def test_more_than_the_page_takes_are_refused_in_words(tab: Tab, tmp_path: Path) -> None:
    tab.expect_fault("400")
    files = [tmp_path / f"{number}.wav" for number in range(101)]
    for file in files:
        file.write_bytes(b"no sound")
    tab.choose(*files)
    expect(tab.page.get_by_text("At most 100 recordings can wait at a time.")).to_be_visible()
    expect(tab.page.get_by_role("article")).to_have_count(100)


def test_a_recording_without_speech(tab: Tab) -> None:
    tab.drop("silence_10s.wav")
    expect(tab.wait_for("silence_10s.wav", "done").get_by_text("0:10 · No speech found")).to_be_visible()
    tab.picture("nobody-speaks")
    tab.page.keyboard.press("Space")  # the player is not shown
    assert tab.page.evaluate("document.querySelector('audio').paused")


def test_options_travel_and_are_remembered(tab: Tab) -> None:
    tab.page.get_by_text("Options").click()
    tab.page.get_by_label("Language spoken").select_option(label="German")
    tab.page.get_by_label("Expected words").fill("Hamburg")
    tab.page.get_by_label("Translate into English").check()
    tab.picture("options")
    tab.check_access()
    tab.page.evaluate(RECORD_FIELDS)
    tab.drop("de_digits_0.wav")
    panel = tab.wait_for("de_digits_0.wav", "done")
    assert tab.page.evaluate("window.fields") == [
        ["model", "whisper-1"],
        ["language", "de"],
        ["hotwords", "Hamburg"],
        ["stream", "true"],
        ["response_format", "verbose_json"],
        ["response_dialect", "nested"],
        ["timestamp_granularities[]", "word"],
        ["stream_events[]", "segments"],
        ["stream_events[]", "progress"],
        ["file", "de_digits_0.wav"],
    ]
    assert json.loads(saved(tab, panel, "JSON"))["task"] == "translate"
    tab.page.reload()
    expect(tab.page.locator("summary", has_text="Options")).to_have_text(
        "Options German · expected words · into English"
    )
    expect(tab.page.get_by_label("Expected words")).to_have_value("Hamburg")


def test_everything_fits_a_phone_in_the_dark(open_tab: Opener) -> None:
    tab = open_tab(viewport=PHONE)
    tab.page.get_by_text("Options").click()
    tab.drop("long_pause.flac")
    tab.wait_for("long_pause.flac", "done")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tab.picture("done-phone")
