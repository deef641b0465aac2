"""The figures of one model over the recordings of a manifest: values only, `tables` and `as_json` show them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Self

from server.evaluation.recordings import LabeledRecording
from server.evaluation.scoring import Hypothesis, Score, TimeError, invented_words, score, time_errors

WITHIN_S = (0.05, 0.1, 0.15)
EDGES = ("start", "end")  # of words


@dataclass(frozen=True, slots=True)
class ScoredRecording:
    """A recording and what a model made of it. `score` is None without a reference."""

    recording: LabeledRecording
    hypothesis: Hypothesis
    score: Score | None = None
    invented: tuple[str, ...] = ()
    time_errors: tuple[TimeError, ...] = ()

    @classmethod
    def of(cls, recording: LabeledRecording, hypothesis: Hypothesis) -> Self:
        return cls(
            recording,
            hypothesis,
            score(recording, hypothesis) if recording.references else None,
            tuple(invented_words(hypothesis.text)) if recording.is_wordless else (),
            tuple(time_errors(recording, hypothesis.words)) if recording.words and hypothesis.words else (),
        )

    @property
    def is_language_right(self) -> bool:
        return self.hypothesis.language == self.recording.language


@dataclass(frozen=True, slots=True)
class TimeAccuracy:
    """How far starts or ends of words are off, s: the median of signed errors, the median of their sizes, and the
    share of words within each of `WITHIN_S`."""

    words: int
    bias_s: float
    median_s: float
    within: tuple[float, ...]

    @classmethod
    def of(cls, errors: Sequence[float]) -> Self:
        """Of at least one error."""
        sizes = [abs(error) for error in errors]
        within = (sum(size <= limit for size in sizes) / len(sizes) for limit in WITHIN_S)
        return cls(len(errors), median(errors), median(sizes), tuple(within))


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """All results of a model, in the manifest's order. `failed`: reasons, by the names of recordings.

    `detects` is False if the model was given the languages. `wall_s` is the time that the work took.
    """

    model: str
    results: tuple[ScoredRecording, ...]
    failed: tuple[tuple[str, str], ...] = ()
    wall_s: float = 0.0
    detects: bool = True

    @property
    def audio_s(self) -> float:
        return sum(each.hypothesis.duration_s for each in self.results)

    @property
    def speed(self) -> float:
        """Seconds of audio per second of work; NaN if that is unknown."""
        return self.audio_s / self.wall_s if self.wall_s else math.nan

    @property
    def score(self) -> Score:
        """Errors and words summed, so that a long recording counts for more than a short one."""
        return total(each.score for each in self.results)

    @property
    def by_language(self) -> dict[str, Score]:
        return self._by(lambda recording: recording.language)

    @property
    def by_kind(self) -> dict[str, Score]:
        return self._by(lambda recording: recording.kind)

    @property
    def wordless(self) -> list[ScoredRecording]:
        """Those without speech."""
        return [each for each in self.results if each.recording.is_wordless]

    @property
    def detected(self) -> list[ScoredRecording]:
        """Those of speech whose language the manifest names and the model had to detect."""
        known = (each for each in self.results if each.recording.language and not each.recording.is_wordless)
        return list(known) if self.detects else []

    @property
    def times(self) -> dict[str, TimeAccuracy]:
        """Accuracy of the starts and of the ends of words; empty without any to compare."""
        errors = [error for each in self.results for error in each.time_errors]
        return {edge: TimeAccuracy.of([getattr(error, edge) for error in errors]) for edge in EDGES if errors}

    def _by(self, key: Callable[[LabeledRecording], str]) -> dict[str, Score]:
        """Word errors of the recordings of each key, in the order of keys."""
        groups: dict[str, list[Score]] = {}
        for each in self.results:
            if each.score:
                groups.setdefault(key(each.recording), []).append(each.score)
        return {name: total(groups[name]) for name in sorted(groups)}


def total(scores: Iterable[Score | None]) -> Score:
    return sum((score for score in scores if score), Score())


def as_json(report: EvaluationReport) -> dict[str, Any]:
    """Everything, in plain values; rates that are undefined are null."""
    return {
        "model": report.model,
        "audio_s": round(report.audio_s, 3),
        "wall_s": round(report.wall_s, 3),
        **_score(report.score),
        "languages": {name: _score(score) for name, score in report.by_language.items()},
        "kinds": {name: _score(score) for name, score in report.by_kind.items()},
        "invented_words": sum(len(each.invented) for each in report.wordless),
        "wordless_recordings": len(report.wordless),
        "languages_right": sum(each.is_language_right for each in report.detected),
        "languages_detected": len(report.detected),
        "word_times": {edge: asdict(accuracy) for edge, accuracy in report.times.items()},
        "recordings": [_result(each) for each in report.results],
        "failed": [{"file": name, "reason": reason} for name, reason in report.failed],
    }


def _score(score: Score) -> dict[str, Any]:
    rate = score.errors / score.words if score.words else None
    return {"word_error_rate": rate, "errors": score.errors, **asdict(score)}


def _result(result: ScoredRecording) -> dict[str, Any]:
    recording, hypothesis = result.recording, result.hypothesis
    return {
        "file": recording.name,
        "kind": recording.kind,
        "language": recording.language or None,
        "references": recording.references,
        "hypothesis": hypothesis.text,
        "hypothesis_language": hypothesis.language,
        "duration_s": round(hypothesis.duration_s, 3),
        **(_score(result.score) if result.score else {}),
        "is_wordless": recording.is_wordless,
        "invented": result.invented,
        "timed_words": [asdict(word) for word in hypothesis.words],
        "time_errors": [asdict(error) for error in result.time_errors],
    }
