"""What holds before anything is done on the page."""

from tests.browser.conftest import PHONE, Opener, Tab


def test_page_opens_without_a_fault(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Choose files").wait_for()
    tab.picture("empty")
    tab.check_access()


def test_page_fits_a_phone(open_tab: Opener) -> None:
    tab = open_tab(viewport=PHONE)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tab.picture("empty-phone")
