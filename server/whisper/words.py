"""Words as faster-whisper finds them, made ours: in window time, and whole. Pure; knows no model."""

from collections.abc import Iterable, Sequence
from typing import Any

from server.transcript import Word

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # languages written without spaces between words


def joined(raw: Iterable[dict[str, Any]], clock_s: float, language: str) -> tuple[Word, ...]:
    """faster-whisper's words, less the time `clock_s` before the window. It splits at punctuation; where a language
    has spaces, "twenty" and "-three" are one again."""
    words: list[Word] = []
    for one in raw:
        start, end = float(one["start"]) - clock_s, float(one["end"]) - clock_s
        word = Word(one["word"], start, end, float(one["probability"]))
        if words and language not in UNSPACED and not word.word.startswith(" "):
            begun = words.pop()
            probability = min(begun.probability, word.probability)
            word = Word(begun.word + word.word, begun.start, word.end, probability)
        words.append(word)
    return tuple(words)


def end_of(phrases: Sequence[Any]) -> float:
    """When the last word ends, or else the last phrase; as faster-whisper, also of a phrase that is no segment."""
    ends = [word["end"] for phrase in phrases for word in phrase.get("words", ())]
    return float(ends[-1] if ends else phrases[-1]["end"])
