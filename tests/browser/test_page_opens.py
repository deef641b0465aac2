"""What holds before anything is done on the page."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Opener, Tab


def test_page_opens_without_a_fault(tab: Tab) -> None:
    expect(tab.page.get_by_label("Server")).to_have_text(re.compile(r"^\s*demo · cpu · (idle|busy)"))
    expect(tab.page.get_by_role("link", name="API")).to_have_attribute("href", "docs")
    tab.picture("empty")
    tab.check_access()


def test_the_page_fits_a_phone(open_tab: Opener) -> None:
    tab = open_tab(viewport=PHONE)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tab.picture("empty-phone")
