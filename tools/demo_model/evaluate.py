"""Measures a CTranslate2 model directory with faster-whisper: words, language, times of segments and words."""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from faster_whisper import BatchedInferencePipeline, WhisperModel

from tools.demo_model.wer import align, words

NEAR_S = 3
BATCH_SIZE = 4
SHOWN = 300

Json = dict[str, Any]
"""A line of a manifest.jsonl; tests/data/README.md lists the fields."""


@dataclass(frozen=True)
class Options:
    """How to transcribe: `condition` on the previous text; `chunk_s` is the batched pipeline's window length."""

    beam: int
    batched: bool
    vad: bool
    timestamps: bool
    detect: bool
    task: Literal["transcribe", "translate"]
    words: bool
    condition: bool
    chunk_s: int | None


class Listened(NamedTuple):
    """What the model made of a recording."""

    language: str
    language_probability: float
    segments: list[Any]
    seconds: float

    @property
    def text(self) -> str:
        return " ".join(segment.text.strip() for segment in self.segments)


@dataclass
class Figures:
    """Sums over the recordings of one kind; time errors in seconds."""

    files: int = 0
    words: int = 0
    errors: int = 0
    languages: int = 0
    exact: int = 0
    answered: int = 0
    seconds: float = 0.0
    audio_seconds: float = 0.0
    segment_errors: list[float] = field(default_factory=list)
    word_errors: list[float] = field(default_factory=list)

    def add(self, row: Json, reference: str, found: Listened, options: Options) -> None:
        self.files += 1
        self.words += len(words(reference))
        self.errors += align(words(reference), words(found.text)).errors
        self.languages += found.language == row["language"]
        self.exact += found.text == reference
        self.answered += bool(found.text)
        self.seconds += found.seconds
        self.audio_seconds += row["duration"]
        if options.timestamps and options.task == "transcribe":
            self.segment_errors += segment_errors(row["segments"], found.segments)
        if options.words:
            self.word_errors += word_errors(row["segments"], found.segments)

    def line(self, kind: str, detect: bool) -> str:
        rate = 100 * self.errors / max(1, self.words)
        speed = self.seconds / self.audio_seconds
        parts = [
            f"{kind:14s} files {self.files:3d} words {self.words:4d} WER {rate:5.1f}%",
            f"exact {self.exact}/{self.files} non-empty {self.answered} RTF {speed:.3f}",
        ]
        if detect:
            parts.append(f"lang {self.languages}/{self.files}")
        for name, errors in (("seg", self.segment_errors), ("word", self.word_errors)):
            if errors:
                mean = sum(errors) / len(errors)
                parts.append(f"{name}-times ({len(errors)}) mean {mean:.2f} p90 {_quantile(errors, 0.9):.2f} s")
        return " ".join(parts)


def segment_errors(said: list[Json], found: list[Any]) -> list[float]:
    """Return how far off start and end are, for segments whose words are right."""
    errors = []
    for segment in said:
        same = [other for other in found if words(other.text) == words(segment["text"])]
        nearest = min(same, key=lambda other: abs(other.start - segment["start"]), default=None)
        if nearest is not None and abs(nearest.start - segment["start"]) < NEAR_S:
            errors += [abs(nearest.start - segment["start"]), abs(nearest.end - segment["end"])]
    return errors


def word_errors(said: list[Json], found: list[Any]) -> list[float]:
    """Return how far off start and end of right words are; nothing where the manifest lacks times of words."""
    if not all(segment.get("words") for segment in said):
        return []
    real = [word for segment in said for word in segment["words"]]
    found = [word for segment in found for word in segment.words or []]
    matches = align(
        [" ".join(words(word["word"])) for word in real],
        [" ".join(words(word.word)) for word in found],
    ).matches
    pairs = [(real[i], found[j]) for i, j in matches]
    return [error for a, b in pairs for error in (abs(a["start"] - b.start), abs(a["end"] - b.end))]


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.floor(len(values) * share))]


class Listener:
    """A model with its options."""

    def __init__(self, folder: Path, compute: str, threads: int, options: Options) -> None:
        self.options = options
        model = WhisperModel(str(folder), device="cpu", compute_type=compute, cpu_threads=threads)
        self._pipeline = BatchedInferencePipeline(model) if options.batched else model

    def transcribe(self, audio: Any, language: str | None) -> Listened:
        """Return what is heard in a file or in samples. `language` is ignored where it is to be detected."""
        options = self.options
        started = time.monotonic()
        segments, info = self._pipeline.transcribe(
            audio,
            beam_size=options.beam,
            vad_filter=options.vad or options.batched,
            language=None if options.detect else language or "en",
            task=options.task,
            without_timestamps=not options.timestamps,
            word_timestamps=options.words,
            **self._kind_options(),
        )
        listed = list(segments)
        return Listened(info.language, info.language_probability, listed, time.monotonic() - started)

    def _kind_options(self) -> Json:
        if self.options.batched:
            return {"batch_size": BATCH_SIZE, "chunk_length": self.options.chunk_s}
        return {"condition_on_previous_text": self.options.condition}


def manifest_rows(folder: Path) -> Iterator[Json]:
    """Yield the lines of the folder's manifest, each with the path of its recording as `audio`."""
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        row: Json = json.loads(line)
        yield row | {"audio": str(folder / row["file"])}


def evaluate(listener: Listener, rows: Iterable[Json], show: bool) -> dict[str, Figures]:
    """Transcribe every recording and return the figures by kind. `show` prints what is not exactly right."""
    translate = listener.options.task == "translate"
    figures: defaultdict[str, Figures] = defaultdict(Figures)
    for row in rows:
        if translate and not row.get("translation"):
            continue
        reference: str = row["translation"] if translate else row["text"]
        found = listener.transcribe(row["audio"], row["language"])
        figures[row["kind"]].add(row, reference, found, listener.options)
        if show and found.text != reference:
            print(f"{row.get('file', row['kind'])}: {found.language} {found.language_probability:.2f}")
            print(f"   ref {reference[:SHOWN]}\n   hyp {found.text[:SHOWN]}")
    return figures


def parsed_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument(
        "audio", type=Path, help="recordings with manifest.jsonl; with --pool the output of gen_tts.py"
    )
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--kinds", help="only these kinds, separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compute", default="int8")
    parser.add_argument("--batched", action="store_true", help="faster-whisper's batched pipeline, with its VAD")
    parser.add_argument("--chunk", type=int, help="window length of the batched pipeline, in seconds")
    parser.add_argument("--vad", action="store_true")
    parser.add_argument("--notimestamps", action="store_true")
    parser.add_argument("--detect", action="store_true", help="detect the language instead of giving it")
    parser.add_argument("--translate", action="store_true")
    parser.add_argument("--words", action="store_true", help="word times, too")
    parser.add_argument("--cond", action="store_true", help="condition on the previous text")
    parser.add_argument("--show", action="store_true", help="print what is not exactly right")
    parser.add_argument(
        "--pool", choices=["dev", "held"], help="measure on all sentences of the split and human digits"
    )
    parser.add_argument("--fsdd", type=Path, help="the Free Spoken Digit Dataset, for --pool")
    return parser.parse_args()


def main() -> None:
    """Measure a model directory on recordings and print one line per kind."""
    args = parsed_args()
    options = Options(
        beam=args.beam,
        batched=args.batched,
        vad=args.vad,
        timestamps=not args.notimestamps,
        detect=args.detect,
        task="translate" if args.translate else "transcribe",
        words=args.words,
        condition=args.cond,
        chunk_s=args.chunk,
    )
    rows = _pool_rows(args) if args.pool else manifest_rows(args.audio)
    if args.kinds:
        rows = (row for row in rows if row["kind"] in args.kinds.split(","))
    figures = evaluate(Listener(args.model, args.compute, args.threads, options), rows, args.show)
    for kind in sorted(figures):
        print(figures[kind].line(kind, args.detect), flush=True)


def _pool_rows(args: argparse.Namespace) -> Iterator[Json]:
    # Imported here because measuring recordings needs neither torch nor scipy.
    from tools.demo_model.pool import rows

    return rows(args.audio, args.fsdd, args.pool)


if __name__ == "__main__":
    main()
