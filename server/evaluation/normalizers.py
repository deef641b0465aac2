"""Whisper's own text normalizers: the only module that imports whisper_normalizer and opencc.

English has one of its own; the basic one serves the other languages, with characters for words in those written
without spaces, and Chinese in simplified characters.
"""

from functools import cache

from opencc import OpenCC
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

CHINESE = frozenset({"zh", "yue"})
BY_CHARACTER = CHINESE | {"ja", "th", "lo", "my"}  # as openai/whisper's paper compares them


def tokens_of(text: str, language: str) -> list[str]:
    """Normalized words, or characters where a language is written without spaces; without brackets and fillers.

    `language` is Whisper's code, or empty.
    """
    if language == "en":
        return str(_english()(text)).split()
    if language in CHINESE:
        text = _simplified().convert(text)
    return str(_basic(language in BY_CHARACTER)(text)).split()


@cache
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


@cache
def _basic(by_character: bool) -> BasicTextNormalizer:
    return BasicTextNormalizer(split_letters=by_character)


@cache
def _simplified() -> OpenCC:
    return OpenCC("t2s")
