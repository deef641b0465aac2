import io

from server.models.progress import Progress, bar, both


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_how_far_it_is_on_a_terminal() -> None:
    terminal = Terminal()
    with bar(terminal) as report:
        report(Progress("tiny", 50, 200))
        report(Progress("tiny", 200, 200))
    assert "tiny: 100%" in terminal.getvalue().splitlines()[-1]


def test_no_bar_elsewhere() -> None:
    file = io.StringIO()
    for stream in (file, None):
        with bar(stream) as report:
            report(Progress("tiny", 50, 200))
    assert file.getvalue() == ""


def test_both_reports_are_called() -> None:
    first: list[Progress] = []
    second: list[Progress] = []
    both(first.append, second.append)(Progress("tiny", 1, 2))
    assert first == second == [Progress("tiny", 1, 2)]
