import pytest

from server.system.sizes import Unit, in_words


@pytest.mark.parametrize(
    ("size", "unit", "words"),
    [
        (1_624_555_275, "MB", "1,624.6 MB"),
        (1_624_555_275, "GB", "1.6 GB"),
        (3 << 29, "GiB", "1.5 GiB"),
        (1 << 30, "MiB", "1024 MiB"),
        (0, "MB", "0.0 MB"),
    ],
)
def test_a_size_is_written_in_its_unit(size: int, unit: Unit, words: str) -> None:
    assert in_words(size, unit) == words
