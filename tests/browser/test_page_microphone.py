"""Recording in the browser, from Chromium's fake microphone, which beeps."""

from playwright.sync_api import Dialog, expect

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

KEEP_STREAMS = """() => {
    window.streams = [];
    const media = navigator.mediaDevices;
    const ask = media.getUserMedia.bind(media);
    media.getUserMedia = async wanted => {
        const stream = await ask(wanted);
        streams.push(stream);
        return stream;
    };
}"""
LIVE = "streams.flatMap(each => each.getTracks()).filter(each => each.readyState === 'live').length"
NO_RECORDER = """() => {
    window.MediaRecorder = class {
        static isTypeSupported() { return true; }
        constructor() { throw new DOMException("no encoder", "NotSupportedError"); }
    };
}"""


def test_a_recording_is_transcribed(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Record").click()
    expect(tab.page.get_by_role("timer", name="Recorded")).to_have_text("0:02")
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


def test_a_denied_microphone_is_reported(open_tab: Opener) -> None:
    tab = open_tab()
    tab.page.evaluate(NO_MICROPHONE)
    tab.page.get_by_role("button", name="Record").click()
    expect(tab.page.get_by_text("The browser denied access to the microphone.")).to_be_visible()
    tab.picture("no-microphone")


def click_twice(tab: Tab, button: str) -> None:
    """Faster than the page can answer."""
    tab.page.evaluate("id => { for (let i = 0; i < 2; i++) document.getElementById(id).click(); }", button)


def test_clicking_twice_opens_one_microphone_and_makes_one_recording(tab: Tab) -> None:
    tab.page.evaluate(KEEP_STREAMS)
    click_twice(tab, "record")
    expect(tab.page.get_by_role("timer", name="Recorded")).to_have_text("0:01")
    click_twice(tab, "stop")
    tab.page.locator('article[data-state="done"]').wait_for()
    expect(tab.page.get_by_role("article")).to_have_count(1)
    assert tab.page.evaluate("streams.length") == 1
    assert tab.page.evaluate(LIVE) == 0


def test_audio_recorded_before_the_microphone_was_lost_is_kept(tab: Tab) -> None:
    tab.page.evaluate(KEEP_STREAMS)
    tab.page.get_by_role("button", name="Record").click()
    expect(tab.page.get_by_role("timer", name="Recorded")).to_have_text("0:02")
    tab.page.evaluate("streams[0].getTracks().forEach(each => each.stop())")
    expect(tab.page.get_by_role("timer", name="Recorded")).to_have_text("0:03")
    tab.page.get_by_role("button", name="Stop and transcribe").click()
    tab.page.locator('article[data-state="done"]').wait_for()


def test_a_browser_that_cannot_record_lets_go_of_the_microphone(tab: Tab) -> None:
    tab.page.evaluate(KEEP_STREAMS)
    tab.page.evaluate(NO_RECORDER)
    tab.page.get_by_role("button", name="Record").click()
    expect(tab.page.get_by_text("The microphone could not be used: no encoder")).to_be_visible()
    assert tab.page.evaluate(LIVE) == 0


def test_leaving_while_it_records_is_asked_about(tab: Tab) -> None:
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    tab.page.on("dialog", leave)
    tab.page.get_by_role("button", name="Record").click()
    expect(tab.page.get_by_role("button", name="Discard")).to_be_visible()
    tab.page.reload()
    assert asked == ["beforeunload"]
