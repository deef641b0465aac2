"""faster-whisper's words put together again."""

from typing import Any

import pytest

from server.whisper.results import joined


def raw_words(*pieces: str) -> list[dict[str, Any]]:
    """Pieces as faster-whisper gives them: a tenth of a second each, less probable one after the other."""
    return [
        {"word": piece, "start": n / 10, "end": (n + 1) / 10, "probability": 0.9 - n / 10}
        for n, piece in enumerate(pieces)
    ]


@pytest.mark.parametrize(
    ("pieces", "language", "words"),
    [
        ([" twenty", "-three", " cats."], "en", [" twenty-three", " cats."]),
        ([" o", "'", "clock"], "en", [" o'clock"]),
        (["Hello", " there"], "en", ["Hello", " there"]),
        (["你好", "世界"], "zh", ["你好", "世界"]),
        ([" one", "two"], "ja", [" one", "two"]),
        ([], "en", []),
    ],
)
def test_words_split_at_punctuation_are_joined_where_there_are_spaces(
    pieces: list[str], language: str, words: list[str]
) -> None:
    assert [word.word for word in joined(raw_words(*pieces), 0.0, language)] == words


def test_a_joined_word_spans_its_pieces_and_is_as_probable_as_the_least() -> None:
    (word,) = joined(raw_words(" mother", "-in", "-law"), -10.0, "en")
    assert (word.start, word.end, word.probability) == pytest.approx((10.0, 10.3, 0.7))
