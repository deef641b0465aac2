"""What the model can say: the words and tokens of the grammar, and the synthesisers' phonemes."""

from dataclasses import dataclass
from random import Random
from typing import Self

from tokenizers import Tokenizer

from tools.demo_model.grammar import LANGUAGES, bare_word, sample
from tools.demo_model.tok import (
    EOT,
    LANGUAGE_IDS,
    NO_SPEECH,
    NO_TIMESTAMPS,
    SOT,
    SOT_PREV,
    TRANSCRIBE,
    TRANSLATE,
)

SAMPLES = 60_000
SPECIAL_IDS = [
    EOT,
    SOT,
    *(LANGUAGE_IDS[language] for language in LANGUAGES),
    TRANSLATE,
    TRANSCRIBE,
    SOT_PREV,
    NO_SPEECH,
    NO_TIMESTAMPS,
]


@dataclass(frozen=True)
class Vocabulary:
    """Words are written "en:word"; `text_ids` are the tokens that occur in the grammar's sentences."""

    words: list[str]
    text_ids: list[int]
    phones: list[str]

    @classmethod
    def of_grammar(cls, tokenizer: Tokenizer, phones: list[str]) -> Self:
        """Collect what a large sample of sentences uses."""
        rng = Random(5)  # noqa: S311 - repeatable, not secret
        words: set[str] = set()
        written: set[str] = set()
        for language in LANGUAGES:
            for _ in range(SAMPLES):
                text, english = sample(rng, language)
                words.update(f"{language}:{bare_word(word)}" for word in text.split())
                written.update(" " + word for word in text.split() + english.split())
        ids = {token for word in written for token in tokenizer.encode(word, add_special_tokens=False).ids}
        return cls(sorted(words), sorted(ids), phones)

    @property
    def active_ids(self) -> list[int]:
        """Tokens with a trained embedding row, timestamps apart."""
        return self.text_ids + SPECIAL_IDS
