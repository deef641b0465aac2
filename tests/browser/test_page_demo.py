"""The first contact: a model that knows little says so, and a sample needs no file."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from server.models.catalog import SAMPLE_TEXT
from tests.browser.conftest import PHONE, Opener, Tab
from tests.support.serving import serving

WARNING = "Demo model: it only knows digits and a few sentences. For real speech: sotto models pull base"


def warning_of(tab: Tab) -> Locator:
    return tab.page.get_by_text(WARNING)


def test_the_page_warns_of_the_demo_model(tab: Tab) -> None:
    warning = warning_of(tab)
    expect(warning).to_be_visible()
    notice, source = warning.bounding_box(), tab.page.locator("#source").bounding_box()
    assert notice
    assert source
    assert notice["y"] + notice["height"] <= source["y"]
    expect(tab.page.locator("#model option").first).to_have_attribute("title", WARNING)
    tab.picture("demo")
    tab.check_access()


def test_warning_follows_the_model_that_is_chosen(tab: Tab) -> None:
    own = {"id": "own", "state": "loaded", "languages": []}
    models = [own, own | {"id": "little", "demo": True}]
    tab.page.route("**/v1/models", lambda route: route.fulfill(json={"data": models}))
    tab.page.reload()
    expect(tab.page.locator("#model option")).to_have_text(["own (default)", "little"])
    expect(warning_of(tab)).to_be_hidden()
    tab.page.get_by_text("Options").click()
    tab.page.get_by_label("Model").select_option("little")
    expect(warning_of(tab)).to_be_visible()
    tab.page.get_by_label("Model").select_option("")
    expect(warning_of(tab)).to_be_hidden()


def test_beside_another_default_model_there_is_no_demo(open_tab: Opener, scripted_model: Path) -> None:
    with serving(model=scripted_model) as server:
        tab = open_tab(server)
        expect(tab.page.locator("#model option")).to_have_text(["scripted (default)"])
        expect(warning_of(tab)).to_be_hidden()


@pytest.mark.parametrize("viewport", [None, PHONE])
def test_a_sample_is_transcribed_by_one_click(open_tab: Opener, viewport: dict[str, int] | None) -> None:
    tab = open_tab(**({"viewport": viewport} if viewport else {}))
    button = tab.page.get_by_role("button", name="Try a sample")
    button.click()
    panel = tab.wait_for("sample.wav", "done")
    expect(panel.locator(".reading")).to_contain_text(re.compile(re.escape(SAMPLE_TEXT)))
    expect(tab.page.get_by_role("article")).to_have_count(1)
    expect(button).to_be_hidden()
    expect(tab.page.get_by_role("button", name="Choose files")).to_be_focused()
    panel.get_by_role("button", name="Remove").click()
    expect(button).to_be_visible()


def test_a_sample_that_fails_to_load_is_reported_and_can_be_retried(tab: Tab) -> None:
    tab.expect_fault("Failed to load resource")
    tab.page.route("**/sample.wav", lambda route: route.abort())
    tab.page.get_by_role("button", name="Try a sample").click()
    expect(tab.page.get_by_text("The sample could not be loaded.")).to_be_visible()
    tab.page.unroute("**/sample.wav")
    tab.page.get_by_role("button", name="Try a sample").click()
    tab.wait_for("sample.wav", "done")
    expect(tab.page.get_by_text("The sample could not be loaded.")).to_be_hidden()
