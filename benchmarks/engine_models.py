"""Whisper models of real dimensions that always answer the same. Offline."""

import json
from pathlib import Path

from tests.support.scripted import DEMO, Script, build

MIN_WORD = 5  # characters: short ones are often parts of others


def model_folder(cache: Path, size: str, *, tokens: int, end_s: float, quantization: str = "int8") -> Path:
    """A model that says `tokens` tokens of text between 0 and `end_s`, built into `cache` unless it is there."""
    folder = cache / f"{size}-{tokens}-{quantization}"
    if not (folder / "preprocessor_config.json").exists():  # which is written last
        build(folder, size, script=Script(words(tokens), end_s), quantization=quantization)
    return folder


def words(count: int) -> str:
    """Different words of one token each: text that repeats itself would be tried again at other temperatures."""
    vocabulary: dict[str, int] = json.loads((DEMO / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    ranked = sorted(vocabulary, key=vocabulary.__getitem__)
    plain = (word[1:] for word in ranked if word.startswith("Ġ") and len(word) > MIN_WORD)
    return " ".join([word for word in plain if word.isascii() and word.islower() and word.isalpha()][:count])
