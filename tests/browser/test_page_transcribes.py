"""From a recording to its text and its exports."""

from tests.browser.conftest import Tab


def test_words_come_before_the_end(tab: Tab) -> None:
    tab.drop("two_minutes.mp3")
    tab.wait_for("two_minutes.mp3", "running").get_by_text("hundred and four").first.wait_for()
    tab.picture("running")
    assert tab.job("two_minutes.mp3").get_attribute("data-state") == "running"
    tab.wait_for("two_minutes.mp3", "done")
    tab.picture("done")
    tab.check_access()
