"""The language of a file: the vote of its first windows; and checks that a model knows a requested language."""

from server.errors import UnknownLanguage
from server.options import DecodingOptions
from server.pool.served_model import ServedModel
from server.transcript import WindowResult

LANGUAGE_WINDOWS = 3  # that may vote when the first one is uncertain
LANGUAGE_CERTAIN = 0.5  # probability from which a single window decides
UNKNOWN_LANGUAGE = "en"  # reported if there is no speech


def check_language(decoding: DecodingOptions, model: ServedModel) -> None:
    for language in decoding.languages or [decoding.language]:
        if language is not None and language not in model.known.languages:
            raise UnknownLanguage(language, param="languages" if decoding.languages else "language")


def is_certain(result: WindowResult) -> bool:
    return bool(result.segments) and result.language_probs[0][1] >= LANGUAGE_CERTAIN


def vote(results: list[WindowResult]) -> tuple[str, float | None]:
    """The language with the best mean probability over the windows that have text, up to the first
    certain one."""
    voters = [result for result in results if result.segments] or results
    certain = next((number for number, result in enumerate(voters) if is_certain(result)), len(voters))
    voters = voters[: certain + 1]
    if not voters:
        return UNKNOWN_LANGUAGE, None
    sums: dict[str, float] = {}
    for result in voters:
        for language, probability in result.language_probs:
            sums[language] = sums.get(language, 0.0) + probability
    best = max(sums, key=lambda language: sums[language])
    return best, sums[best] / len(voters)
