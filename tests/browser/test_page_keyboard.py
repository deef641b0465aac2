"""Everything without a mouse."""

from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.conftest import DATA

FOCUSED = "() => document.activeElement.textContent.trim() || document.activeElement.id"
RING = "() => getComputedStyle(document.activeElement).outlineStyle"


def tab_to(tab: Tab, name: str) -> None:
    """Press Tab until what is called `name` has the focus, which has to be seen."""
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        assert tab.page.evaluate(RING) != "none"
        if tab.page.evaluate(FOCUSED) == name:
            return
    raise AssertionError(f"{name} can't be reached")


def test_a_recording_is_transcribed_and_removed_by_keyboard(tab: Tab) -> None:
    tab_to(tab, "Choose files")
    with tab.page.expect_file_chooser() as chooser:
        tab.page.keyboard.press("Enter")
    chooser.value.set_files(DATA / "en_00.wav")
    tab.wait_for("en_00.wav", "done")
    expect(tab.page.get_by_role("status").filter(has_text="en_00.wav: ")).to_have_count(1)
    tab_to(tab, "SRT")
    with tab.page.expect_download():
        tab.page.keyboard.press("Enter")
    tab_to(tab, "Remove")
    tab.page.keyboard.press("Space")
    expect(tab.page.get_by_role("article")).to_have_count(0)


def test_options_and_microphone(tab: Tab) -> None:
    tab_to(tab, "Record")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("button", name="Stop and transcribe")).to_be_focused()
    tab_to(tab, "Discard")
    tab.page.keyboard.press("Enter")
    tab_to(tab, "Options")
    tab.page.keyboard.press("Enter")
    tab_to(tab, "translate")
    tab.page.keyboard.press("Space")
    expect(tab.page.get_by_label("Translate into English")).to_be_checked()
