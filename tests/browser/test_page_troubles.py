"""What can go wrong: keys, files that are none, a full server, one that goes and comes back; and cancelling."""

import json
import re
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Dialog, expect

from tests.browser.conftest import Opener, Tab, saved
from tests.conftest import DATA
from tests.support.serving import serving
from tests.support.wire import Connection

KEY = "page-key-0123456789abcdef"
RESOURCE = "Failed to load resource"


def test_cancelling_frees_the_server(tab: Tab) -> None:
    tab.drop("ten_minutes.ogg")
    panel = tab.wait_for("ten_minutes.ogg", "running")
    panel.get_by_text("One").first.wait_for()
    tab.check_access()
    panel.get_by_role("button", name="Cancel").click()
    cancelled = tab.wait_for("ten_minutes.ogg", "cancelled")
    tab.server.wait_until_idle()
    expect(cancelled.get_by_role("button", name="SRT")).to_be_visible()
    expect(cancelled.get_by_role("button", name="Remove")).to_be_focused()
    tab.picture("cancelled")
    tab.check_access()
    cancelled.get_by_role("button", name="Remove").click()
    expect(tab.page.get_by_role("article")).to_have_count(0)
    expect(tab.page.get_by_role("button", name="Choose files")).to_be_focused()


def test_a_file_that_is_no_recording(tab: Tab, tmp_path: Path) -> None:
    tab.expect_fault(f"{RESOURCE}.* 400")
    file = tmp_path / "notes.mp3"
    file.write_bytes(b"These are notes, and no sound. " * 100)
    tab.choose(file)
    panel = tab.wait_for("notes.mp3", "failed")
    expect(panel.locator(".message")).to_have_text(re.compile(r"Invalid file|could not be decoded|not supported"))
    tab.picture("bad-file")
    tab.check_access()


def test_the_page_asks_for_a_key_where_one_is_needed(open_tab: Opener) -> None:
    with serving(api_keys=KEY) as server:
        tab = open_tab(server)
        tab.expect_fault(f"{RESOURCE}.* 401")
        ask = tab.page.get_by_label("Key", exact=True)
        expect(tab.page.get_by_text("This server requires an API key.")).to_be_visible()
        tab.picture("no-key")
        tab.check_access()
        tab.drop("en_00.wav")
        tab.wait_for("en_00.wav", "locked")
        ask.fill("wrong")
        ask.press("Enter")
        expect(tab.page.get_by_text("The server rejected this key.")).to_be_visible()
        tab.picture("wrong-key")
        tab.check_access()
        ask.fill(KEY)
        ask.press("Enter")
        tab.wait_for("en_00.wav", "done")
        expect(ask).to_be_hidden()
        expect(tab.page.get_by_role("button", name="Choose files")).to_be_focused()
        assert KEY not in tab.page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        tab.page.reload()
        expect(ask).to_be_visible()
        tab.page.get_by_label("Remember it in this browser").check()
        ask.fill(KEY)
        ask.press("Enter")
        expect(ask).to_be_hidden()
        tab.page.reload()
        expect(tab.page.get_by_label("Model")).to_contain_text("demo (default)")
        expect(ask).to_be_hidden()


def test_removing_one_moves_the_focus_to_what_can_be_done_with_the_next(tab: Tab, tmp_path: Path) -> None:
    tab.expect_fault(f"{RESOURCE}.* 400")
    files = [tmp_path / "first.mp3", tmp_path / "second.mp3"]
    for file in files:
        file.write_bytes(b"no sound")
    tab.choose(*files)
    for file in files:
        tab.wait_for(file.name, "failed")
    tab.job("first.mp3").get_by_role("button", name="Remove").press("Enter")
    expect(tab.job("second.mp3").get_by_role("button", name="Try again")).to_be_focused()


def test_remembered_options_survive_a_page_without_models(tab: Tab) -> None:
    tab.expect_fault(f"{RESOURCE}.* 503")
    tab.page.get_by_text("Options").click()
    tab.page.get_by_label("Language spoken").select_option(label="German")
    tab.page.route("**/v1/models", lambda route: route.fulfill(status=503, json={"error": {"message": "Full."}}))
    tab.page.reload()
    tab.page.get_by_text("Options").click()
    tab.page.get_by_label("Context").fill("Hamburg")
    tab.page.unroute("**/v1/models")
    tab.page.reload()
    expect(tab.page.get_by_label("Model")).to_contain_text("demo (default)")
    expect(tab.page.get_by_label("Context")).to_have_value("Hamburg")
    expect(tab.page.get_by_label("Language spoken")).to_have_value("de")


@pytest.mark.parametrize(("limit", "status"), [("max_requests", 503), ("max_requests_per_client", 429)])
def test_a_full_server_is_waited_for(open_tab: Opener, limit: str, status: int) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving(**{limit: 1}))
        tab = open_tab(server)
        tab.expect_fault(f"{RESOURCE}.* {status}")
        with Connection(server.base_url) as other:
            other.send_head({"Content-Length": "100000"})
            other.send(b"-")
            tab.drop("en_00.wav")
            panel = tab.wait_for("en_00.wav", "refused")
            expect(panel.locator(".state")).to_have_text(re.compile(r"^Retrying in \d+ s$"))
            expect(panel.locator(".message")).to_have_text(re.compile(r"(\(SOTTO_MAX_REQUESTS\)|Limit: 1)\.$"))
            tab.picture(f"refused-{status}")
            tab.check_access()
        tab.wait_for("en_00.wav", "done")


def test_a_recording_larger_than_the_server_takes(open_tab: Opener) -> None:
    with serving(max_upload_mb=1) as server:
        tab = open_tab(server)
        tab.expect_fault(f"{RESOURCE}.*(413|ERR_)")
        tab.choose(DATA / "ten_minutes.ogg")
        panel = tab.wait_for("ten_minutes.ogg", "failed")
        expect(panel.locator(".message")).not_to_be_empty()
        tab.picture("too-large")


def test_a_server_that_goes_and_comes_back(open_tab: Opener) -> None:
    with serving(grace_seconds=0) as server:
        port = urlsplit(server.base_url).port
        tab = open_tab(server)
        tab.expect_fault(f"{RESOURCE}.*(ERR_|503)")
        tab.drop("ten_minutes.ogg")
        tab.wait_for("ten_minutes.ogg", "running").locator(".reading-word").first.wait_for()
        server.ask_to_stop()
        tab.wait_for("ten_minutes.ogg", "lost")
        expect(tab.page.get_by_text("The server does not respond.")).to_be_visible()
        tab.picture("gone")
        tab.check_access()
        server.wait_for_end()  # a second signal would end it at once
    with serving(port=port):
        running = tab.wait_for("ten_minutes.ogg", "running")
        expect(tab.page.get_by_text("The server does not respond.")).to_be_hidden()
        running.locator(".reading-word").first.wait_for()
        tab.picture("back")
        running.get_by_role("button", name="Cancel").click()
        tab.wait_for("ten_minutes.ogg", "cancelled")
        tab.page.goto("about:blank")


def test_text_and_json_are_saved_without_the_server_and_subtitles_once_it_is_back(open_tab: Opener) -> None:
    with serving(grace_seconds=0) as server:
        port = urlsplit(server.base_url).port
        tab = open_tab(server)
        tab.expect_fault(f"{RESOURCE}.*(ERR_|503)")
        tab.drop("en_00.wav")
        panel = tab.wait_for("en_00.wav", "done")
        text = server.transcribe("en_00.wav", {"response_format": "text"}).content
        subtitles = saved(tab, panel, "SRT")
        server.ask_to_stop()
        server.wait_for_end()
    panel.get_by_role("button", name="SRT", exact=True).click()
    complaint = panel.get_by_role("alert")
    expect(complaint).to_have_text(
        "SRT was not saved: The server does not respond. Text and JSON can be saved without the server."
    )
    expect(tab.page.locator("#gone")).to_be_visible()
    tab.picture("not-saved")
    tab.check_access()
    assert saved(tab, panel, "Text") == text
    expect(complaint).to_be_hidden()
    assert json.loads(saved(tab, panel, "JSON"))["text"] == text.decode().strip()
    with serving(port=port):
        expect(tab.page.locator("#gone")).to_be_hidden()
        assert saved(tab, panel, "SRT") == subtitles
        tab.page.goto("about:blank")


def test_edits_that_could_not_be_saved_are_asked_about(tab: Tab) -> None:
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    tab.page.on("dialog", leave)
    tab.expect_fault(f"{RESOURCE}.* 413")
    refusal = {"error": {"message": "Too large."}}
    tab.page.route("**/render", lambda route: route.fulfill(status=413, json=refusal))
    tab.drop("en_03.wav")
    panel = tab.wait_for("en_03.wav", "done")
    panel.locator(".reading-word").first.dblclick()
    tab.page.keyboard.type("Other")
    tab.page.keyboard.press("Enter")
    panel.get_by_role("button", name="VTT", exact=True).click()
    expect(panel.get_by_role("alert")).to_contain_text("VTT was not saved: Too large.")
    tab.page.reload()
    assert asked == ["beforeunload"]


def test_a_key_that_was_changed_is_asked_for_when_subtitles_are_saved(open_tab: Opener) -> None:
    with serving(api_keys=KEY) as server:
        tab = open_tab(server)
        tab.expect_fault(f"{RESOURCE}.* 401")
        field = tab.page.locator("#key-value")
        field.fill(KEY)
        field.press("Enter")
        expect(field).to_be_hidden()
        tab.drop("en_00.wav")
        panel = tab.wait_for("en_00.wav", "done")
        subtitles = server.transcribe("en_00.wav", {"response_format": "srt"}, key=KEY)
        assert saved(tab, panel, "SRT").count(b"-->") == subtitles.text.count("-->")
        refusal = {"error": {"message": "Incorrect API key provided."}}
        tab.page.route("**/render", lambda route: route.fulfill(status=401, json=refusal))
        panel.get_by_role("button", name="SRT", exact=True).click()
        expect(panel.get_by_role("alert")).to_contain_text("Incorrect API key provided.")
        expect(field).to_be_focused()
