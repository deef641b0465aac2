"""Recording in the browser, from Chromium's fake microphone, which beeps."""

from playwright.sync_api import expect

from tests.browser.conftest import Opener, Tab

LOUDEST = """() => new Promise(resolve => {
    const canvas = document.querySelector("#level");
    const look = () => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, 8).data;
        if (pixels.some(value => value)) resolve(true);
        else requestAnimationFrame(look);
    };
    look();
})"""
NO_MICROPHONE = """Object.defineProperty(navigator, "mediaDevices", {value: {
    getUserMedia: async () => { throw new DOMException("no", "NotAllowedError"); }
}})"""


def test_a_recording_is_transcribed(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Record").click()
    expect(tab.page.get_by_label("Recorded")).to_have_text("0:02")
    assert tab.page.evaluate(LOUDEST), "a beep should reach the top of the picture"
    tab.picture("recording")
    tab.check_access()
    tab.page.get_by_role("button", name="Stop and transcribe").click()
    panel = tab.page.locator('article[data-state="done"]')
    panel.wait_for()
    expect(panel.get_by_role("heading")).to_contain_text("Recording 2")
    expect(panel.locator(".reading-clock")).to_contain_text("/ 0:0")
    expect(tab.page.get_by_role("button", name="Choose files")).to_be_visible()


def test_a_recording_can_be_thrown_away(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Record").click()
    tab.page.get_by_role("button", name="Discard").click()
    expect(tab.page.get_by_role("button", name="Record")).to_be_focused()
    expect(tab.page.get_by_role("article")).to_have_count(0)


def test_a_microphone_that_is_not_allowed_is_told(open_tab: Opener) -> None:
    tab = open_tab()
    tab.page.evaluate(NO_MICROPHONE)
    tab.page.get_by_role("button", name="Record").click()
    expect(tab.page.get_by_text("The browser did not allow the microphone.")).to_be_visible()
    tab.picture("no-microphone")
