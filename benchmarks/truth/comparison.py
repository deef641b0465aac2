"""Our transcripts and stock's of the same recordings, scored side by side."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.truth.transcribers import Run, is_decodable, transcribe_ours, transcribe_stock
from server.evaluation.recordings import LabeledRecording
from server.evaluation.scoring import Hypothesis, Score, TimeError, invented_words, score, time_errors


@dataclass(frozen=True, slots=True)
class Pair:
    """One recording with what both made of it."""

    recording: LabeledRecording
    ours: Hypothesis
    stock: Hypothesis

    @property
    def scores(self) -> "Scores":
        """Word errors against the reference, which the recording must have."""
        return Scores(score(self.recording, self.ours), score(self.recording, self.stock))

    @property
    def invented(self) -> tuple[int, int]:
        """How many words ours and stock put where there is no speech."""
        return len(invented_words(self.ours.text)), len(invented_words(self.stock.text))


@dataclass(frozen=True, slots=True)
class Scores:
    """Word errors of both over the same words."""

    ours: Score
    stock: Score

    @property
    def excess(self) -> float:
        """Points of word error rate by which ours is above stock's; negative where it is better."""
        return self.ours.percent - self.stock.percent

    @property
    def lost(self) -> int:
        """Words by which ours is worse."""
        return self.ours.errors - self.stock.errors


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs of one run, what either took, and the recordings that our decoder refuses."""

    pairs: tuple[Pair, ...]
    ours: Run
    stock: Run
    refused: tuple[LabeledRecording, ...] = ()

    @property
    def scored(self) -> list[Pair]:
        """Those with a reference."""
        return [pair for pair in self.pairs if pair.recording.references]

    @property
    def wordless(self) -> list[Pair]:
        """Those without speech."""
        return [pair for pair in self.pairs if pair.recording.is_wordless]

    @property
    def invented_by_ours_alone(self) -> list[Pair]:
        """Those where we invent words and stock does not."""
        return [pair for pair in self.wordless if pair.invented[0] and not pair.invented[1]]

    @property
    def worse(self) -> list[Pair]:
        """Those where ours has more word errors than stock, the worst first."""
        lost = [pair for pair in self.scored if pair.scores.lost > 0]
        return sorted(lost, key=lambda pair: (-pair.scores.lost, pair.recording.name))

    @property
    def detected(self) -> list[Pair]:
        """Recordings of speech whose language is known: detection is right or wrong there."""
        return [pair for pair in self.pairs if pair.recording.language and not pair.recording.is_wordless]

    @property
    def languages_right(self) -> tuple[int, int]:
        """In how many of these ours and stock detect the language."""
        ours = sum(pair.ours.language == pair.recording.language for pair in self.detected)
        return ours, sum(pair.stock.language == pair.recording.language for pair in self.detected)

    def by(self, key: Callable[[LabeledRecording], str]) -> dict[str, Scores]:
        """Word errors of the recordings of each key, in the order of first appearance."""
        groups: dict[str, list[Pair]] = {}
        for pair in self.scored:
            groups.setdefault(key(pair.recording), []).append(pair)
        return {name: total(pairs) for name, pairs in groups.items()}

    def time_errors(self) -> tuple[list[TimeError], list[TimeError]]:
        """Errors of word times, of ours and of stock's, over all reference alignments."""
        aligned = [pair for pair in self.pairs if pair.recording.words]
        ours = [error for pair in aligned for error in time_errors(pair.recording, pair.ours.words)]
        stock = [error for pair in aligned for error in time_errors(pair.recording, pair.stock.words)]
        return ours, stock


def total(pairs: Iterable[Pair]) -> Scores:
    """Errors and words summed, so that a long recording counts for more than a short one."""
    scores = [pair.scores for pair in pairs]
    ours = sum((each.ours for each in scores), Score())
    return Scores(ours, sum((each.stock for each in scores), Score()))


def compare(model: Path, recordings: Sequence[LabeledRecording]) -> Comparison:
    """Transcribe all with both, ours first. Minutes to a quarter of an hour. Raises `ModelUnavailable`."""
    taken = [recording for recording in recordings if is_decodable(recording)]
    ours, stock = transcribe_ours(model, taken), transcribe_stock(model, taken)
    pairs = tuple(Pair(each, ours.hypotheses[each.name], stock.hypotheses[each.name]) for each in taken)
    return Comparison(pairs, ours, stock, tuple(each for each in recordings if each not in taken))
