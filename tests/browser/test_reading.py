"""Reading along: hearing and reading, search, edits, the keyboard."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import PHONE, Opener, Tab
from tests.browser.readings import Segment, made_up, mount

COUNT = 40
LENGTH_S = 180.0

Mounted = tuple[Tab, Locator]


@pytest.fixture
def mounted(tab: Tab) -> Mounted:
    """A reading of three minutes, and the tab that it is in."""
    return tab, mount(tab, made_up(COUNT), length_s=LENGTH_S)


def word(reading: Locator, segment: int, at: int) -> Locator:
    return reading.locator(f'[data-segment="{segment}"] .reading-word').nth(at)


def time_of(tab: Tab) -> float:
    return float(tab.page.evaluate("document.querySelector('audio').currentTime"))


def segments(tab: Tab) -> list[Segment]:
    found: list[Segment] = tab.page.evaluate("reading.segments()")
    return found


def wait_until(tab: Tab, holds: Callable[[], bool]) -> None:
    """Polled from here: the page's policy forbids Playwright's own waiting for an expression."""
    for _ in range(600):
        if holds():
            return
        tab.page.wait_for_timeout(50)
    raise AssertionError("it never came to hold")


def test_a_click_on_a_word_jumps_there(mounted: Mounted) -> None:
    tab, reading = mounted
    word(reading, 2, 6).click()
    assert time_of(tab) == pytest.approx(made_up(3)[2]["words"][6]["start"], abs=0.01)
    expect(reading.locator(".is-now")).to_have_text("nobody")


def test_a_click_on_a_time_jumps_to_its_segment(mounted: Mounted) -> None:
    tab, reading = mounted
    reading.locator(".reading-time").nth(3).click()
    assert time_of(tab) == pytest.approx(13.5, abs=0.01)


def test_words_are_lit_as_they_are_spoken(mounted: Mounted) -> None:
    tab, reading = mounted
    reading.get_by_role("button", name="Play", exact=True).click()
    lit: list[str] = tab.page.evaluate(
        """() => new Promise(resolve => {
            const lit = [];
            const look = () => {
                const now = document.querySelector(".is-now");
                if (now && lit.at(-1) !== now.textContent) lit.push(now.textContent);
                if (lit.length < 6) requestAnimationFrame(look);
                else resolve(lit);
            };
            look();
        })"""
    )
    assert lit == ["It", "was", "a", "quiet", "morning,", "and"]
    expect(reading.locator("[data-segment='0']")).to_have_attribute("aria-current", "true")
    reading.get_by_role("button", name="Pause").click()
    expect(reading.get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_nothing_is_lit_in_a_pause(mounted: Mounted) -> None:
    tab, reading = mounted
    tab.page.evaluate("document.querySelector('audio').currentTime = 4.3")
    expect(reading.locator(".reading-clock")).to_contain_text("0:04 /")
    expect(reading.locator(".is-now")).to_have_count(0)


def test_a_segment_without_words_is_highlighted_and_played_whole(tab: Tab) -> None:
    bare = [{key: value for key, value in each.items() if key != "words"} for each in made_up(3)]
    reading = mount(tab, bare, length_s=20)
    reading.locator(".reading-word").nth(1).click()
    assert time_of(tab) == pytest.approx(4.5, abs=0.01)
    expect(reading.locator(".is-now")).to_have_text(bare[1]["text"].strip())


def test_uncertain_words_are_underlined_and_say_how_uncertain(mounted: Mounted) -> None:
    _, reading = mounted
    doubtful = word(reading, 0, 4)
    expect(doubtful).to_have_attribute("title", "Uncertain: 31 %")
    expect(doubtful).to_have_css("text-decoration-line", "underline")
    expect(word(reading, 0, 3)).not_to_have_attribute("title", "")


def test_speed_and_steps(mounted: Mounted) -> None:
    tab, reading = mounted
    reading.get_by_label("Speed").select_option("1.5")
    assert tab.page.evaluate("document.querySelector('audio').playbackRate") == 1.5
    reading.get_by_role("button", name="Forward 5 seconds").click()
    reading.get_by_role("button", name="Forward 5 seconds").click()
    reading.get_by_role("button", name="Back 5 seconds").click()
    assert time_of(tab) == pytest.approx(5, abs=0.01)


def test_the_text_scrolls_along_until_the_user_scrolls(mounted: Mounted) -> None:
    tab, reading = mounted
    text = reading.locator(".reading-text")
    tab.page.evaluate("document.querySelector('audio').currentTime = 150")
    reading.get_by_role("button", name="Play", exact=True).click()
    expect(word(reading, 33, 8)).to_be_in_viewport()
    text.hover()
    tab.page.mouse.wheel(0, -100_000)
    follow = reading.get_by_role("button", name="Scroll along")
    expect(follow).to_be_visible()
    wait_until(tab, lambda: text.evaluate("text => text.scrollTop") == 0)
    before = time_of(tab)
    wait_until(tab, lambda: time_of(tab) > before + 1)
    assert text.evaluate("text => text.scrollTop") == 0
    follow.click()
    expect(reading.locator(".is-now")).to_be_in_viewport()
    expect(follow).to_be_hidden()
    tab.page.mouse.wheel(0, -100_000)
    expect(follow).to_be_visible()
    reading.locator(".reading-time").first.click()
    expect(follow).to_be_hidden()


def test_a_jump_in_a_pause_stays_where_one_clicked(mounted: Mounted) -> None:
    tab, reading = mounted
    text = reading.locator(".reading-text")
    tab.page.evaluate("document.querySelector('audio').currentTime = 150")
    reading.get_by_role("button", name="Play", exact=True).click()
    expect(word(reading, 33, 8)).to_be_in_viewport()
    reading.get_by_role("button", name="Pause").click()
    text.hover()
    tab.page.mouse.wheel(0, -100_000)
    wait_until(tab, lambda: text.evaluate("text => text.scrollTop") == 0)
    reading.locator(".reading-time").nth(1).click()
    tab.page.wait_for_timeout(100)  # nothing tells that nothing scrolls
    assert text.evaluate("text => text.scrollTop") == 0


def test_new_words_are_shown_until_the_reader_looks_elsewhere(mounted: Mounted) -> None:
    tab, reading = mounted
    text = reading.locator(".reading-text")
    newest = reading.locator(f"[data-segment='{COUNT - 1}']")
    hear = "reading.progress({done: 100, total: 180})"
    expect(newest).not_to_be_in_viewport()
    tab.page.evaluate(hear)
    expect(newest).to_be_in_viewport()
    text.hover()
    tab.page.mouse.wheel(0, -100_000)
    wait_until(tab, lambda: text.evaluate("text => text.scrollTop") == 0)
    tab.page.evaluate(hear)
    assert text.evaluate("text => text.scrollTop") == 0
    reading.get_by_role("button", name="Scroll along").click()
    expect(newest).to_be_in_viewport()
    tab.page.mouse.wheel(0, -100_000)
    wait_until(tab, lambda: text.evaluate("text => text.scrollTop") == 0)
    word(reading, 0, 2).click()
    tab.page.evaluate(hear)
    expect(word(reading, 0, 2)).to_be_in_viewport()


def test_search_counts_goes_on_and_paints(mounted: Mounted) -> None:
    tab, reading = mounted
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("QUIET  morning")
    count = reading.get_by_label("Matches")
    expect(count).to_have_text(f"1 of {COUNT}")
    tab.page.keyboard.press("Shift+Enter")
    expect(count).to_have_text(f"{COUNT} of {COUNT}")
    expect(word(reading, COUNT - 1, 3)).to_be_in_viewport()
    painted = "[...CSS.highlights.get('reading-hit')].map(range => range.toString())"
    wait_until(tab, lambda: bool(tab.page.evaluate(painted) == ["quiet morning"]))
    tab.page.keyboard.press("Enter")
    expect(count).to_have_text(f"1 of {COUNT}")
    tab.page.keyboard.press("Escape")
    expect(count).to_be_hidden()
    assert tab.page.evaluate("CSS.highlights.get('reading-hits').size") == 0
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("no such (words")
    expect(count).to_have_text("None")


def edit(reading: Locator, at: Locator, text: str) -> None:
    at.dblclick()
    reading.get_by_role("textbox").fill(text)
    reading.get_by_role("textbox").press("Enter")


def test_an_edited_word_keeps_its_times_and_is_exported(mounted: Mounted) -> None:
    tab, reading = mounted
    heard = made_up(COUNT)
    edit(reading, word(reading, 1, 4), "evening,")
    expect(word(reading, 1, 4)).to_have_text("evening,")
    expect(word(reading, 1, 4)).not_to_have_attribute("data-uncertain", "")
    changed = segments(tab)[1]
    assert changed["text"] == heard[1]["text"].replace("morning", "evening")
    assert changed["words"][4] == heard[1]["words"][4] | {"word": "evening,", "probability": 1}
    assert changed["tokens"] == []
    assert segments(tab)[0] == {key: value for key, value in heard[0].items() if key != "type"}
    assert tab.page.evaluate("changes") == 1


def test_an_emptied_word_is_deleted_and_comes_back_by_undo(mounted: Mounted) -> None:
    tab, reading = mounted
    undo = reading.get_by_role("button", name="Undo")
    expect(undo).to_be_disabled()
    edit(reading, word(reading, 0, 2), "")
    assert segments(tab)[0]["text"].startswith(" It was quiet morning,")
    assert [each["word"] for each in segments(tab)[0]["words"]][:4] == ["It", "was", "quiet", "morning,"]
    undo.click()
    assert segments(tab)[0]["text"] == made_up(1)[0]["text"]
    expect(undo).to_be_disabled()
    tab.page.keyboard.press("Control+y")
    assert segments(tab)[0]["text"].startswith(" It was quiet morning,")


def test_a_segment_emptied_of_its_words_is_not_exported(tab: Tab) -> None:
    reading = mount(tab, made_up(2, words=["One."]), length_s=9)
    edit(reading, word(reading, 0, 0), "")
    assert [each["id"] for each in segments(tab)] == [1]
    expect(reading.locator("[data-segment='0']")).to_be_hidden()
    edit(reading, word(reading, 1, 0), "")
    assert segments(tab) == []
    reading.get_by_role("button", name="Undo").click()
    assert [each["id"] for each in segments(tab)] == [1]
    expect(word(reading, 1, 0)).to_be_focused()


def test_arrows_go_the_way_that_the_text_is_written(tab: Tab) -> None:
    reading = mount(tab, made_up(1, words=["שלום", "לכל", "העולם."]), length_s=9)
    word(reading, 0, 0).click()
    tab.page.keyboard.press("ArrowLeft")
    expect(word(reading, 0, 1)).to_be_focused()


def test_escape_drops_an_edit_and_tab_goes_on_to_the_next_word(mounted: Mounted) -> None:
    tab, reading = mounted
    word(reading, 0, 0).dblclick()
    tab.page.keyboard.type("Nobody")
    tab.page.keyboard.press("Escape")
    assert segments(tab)[0]["text"] == made_up(1)[0]["text"]
    expect(word(reading, 0, 0)).to_be_focused()
    tab.page.keyboard.press("F2")
    tab.page.keyboard.type("That")
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.type("is")
    tab.page.keyboard.press("Enter")
    assert segments(tab)[0]["text"].startswith(" That is a quiet")


def test_a_click_on_another_word_keeps_the_edit_and_jumps(mounted: Mounted) -> None:
    tab, reading = mounted
    word(reading, 0, 0).dblclick()
    tab.page.keyboard.type("That")
    word(reading, 0, 5).click()
    expect(word(reading, 0, 5)).to_be_focused()
    assert time_of(tab) == pytest.approx(made_up(1)[0]["words"][5]["start"], abs=0.01)
    assert segments(tab)[0]["text"].startswith(" That was")


def test_all_of_it_by_keyboard_alone(mounted: Mounted) -> None:
    tab, reading = mounted
    press = tab.page.keyboard.press
    press("k")
    expect(reading.get_by_role("button", name="Pause")).to_be_visible()
    press("Space")
    expect(reading.get_by_role("button", name="Play", exact=True)).to_be_visible()
    tab.page.evaluate("document.querySelector('audio').currentTime = 0")
    press("ArrowRight")
    press("l")
    press("ArrowLeft")
    assert time_of(tab) == pytest.approx(5, abs=0.01)
    stops = 0
    while not reading.locator(".reading-word:focus").count():
        press("Tab")
        stops += 1
        assert stops < 20, "the text is one tab stop, a few behind the page's top"
    press("ArrowRight")
    press("ArrowRight")
    press("ArrowDown")
    expect(word(reading, 1, 0)).to_be_focused()
    press("End")
    press("Enter")
    assert time_of(tab) == pytest.approx(made_up(2)[1]["words"][-1]["start"], abs=0.01)
    press("u")
    expect(word(reading, 2, 4)).to_be_focused()
    press("Shift+U")
    expect(word(reading, 1, 4)).to_be_focused()
    press("Tab")
    expect(reading.locator(".reading-word:focus")).to_have_count(0)
    press("?")
    expect(reading.get_by_text("play from this word")).to_be_visible()


def test_keys_that_are_typed_are_text(mounted: Mounted) -> None:
    tab, reading = mounted
    reading.get_by_role("searchbox").fill("")
    tab.page.keyboard.type("jk l")
    assert time_of(tab) == 0
    expect(reading.get_by_role("searchbox")).to_have_value("jk l")


def test_one_recording_plays_at_a_time_and_destroy_leaves_nothing(mounted: Mounted) -> None:
    tab, reading = mounted
    reading.get_by_role("button", name="Play", exact=True).click()
    tab.page.evaluate("document.body.append(Object.assign(document.createElement('audio'), {id: 'other'}))")
    tab.page.evaluate("document.getElementById('other').dispatchEvent(new Event('play'))")
    expect(reading.get_by_role("button", name="Play", exact=True)).to_be_visible()
    tab.page.evaluate("reading.destroy()")
    expect(reading).to_have_count(0)


def test_a_file_that_cannot_be_played_is_read_all_the_same(tab: Tab) -> None:
    tab.page.evaluate(
        """async segments => {
            const {Reading} = await import("/assets/reading/reading.js");
            const place = document.body.appendChild(document.createElement("div"));
            window.reading = new Reading(place, {media: new Blob(["not audio"]), name: "broken"});
            segments.forEach(each => reading.add(each));
            reading.setDuration(20);
        }""",
        made_up(4),
    )
    reading = tab.page.locator(".reading")
    expect(reading.get_by_text("can’t play the file")).to_be_visible()
    expect(reading.get_by_role("button", name="Play", exact=True)).to_be_disabled()
    edit(reading, word(reading, 0, 0), "That")
    assert segments(tab)[0]["text"].startswith(" That was")


def test_axe_finds_nothing_serious_and_a_phone_holds_it(open_tab: Opener) -> None:
    for picture, options in PICTURES.items():
        tab = open_tab(**options)
        reading = mount(tab, made_up(COUNT), length_s=LENGTH_S)
        word(reading, 1, 5).click()
        reading.get_by_role("searchbox").fill("letter")
        expect(reading.get_by_label("Matches")).to_be_visible()
        width = options.get("viewport", {}).get("width", 10_000)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
        tab.picture(picture)
        tab.check_access()


PICTURES: dict[str, dict[str, Any]] = {
    "reading": {},
    "reading-dark": {"color_scheme": "dark"},
    "reading-phone": {"viewport": PHONE},
}
