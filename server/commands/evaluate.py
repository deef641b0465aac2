"""`sotto evaluate`: compares transcripts of one or several models with reference texts."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from server import __version__, logs
from server.commands.files import InputFile, find, write
from server.commands.parallel import Failures, ParallelRun, RecordingJob, transcribe_all
from server.errors import InvalidRequest, ModelUnavailable, RemoteError, one_line
from server.evaluation import manifest
from server.evaluation.recordings import LabeledRecording
from server.evaluation.report import EvaluationReport, ScoredRecording, as_json
from server.evaluation.scoring import Hypothesis
from server.evaluation.tables import tables
from server.options import DecodingOptions, TranscriptionOptions
from server.settings import settings_with
from server.transcript import Transcript

FEW = 3  # failures with the same reason that are listed one by one


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The request of the command line.

    An empty name in `models` is the default model. `language` None is detected, unless `own_language`: then each
    recording's is given. `words` aligns words. `limit` is how many recordings of the manifest count.
    """

    manifest: Path
    models: tuple[str, ...] = ("",)
    language: str | None = None
    own_language: bool = False
    words: bool = False
    prompt: str = ""
    limit: int | None = None
    json: Path | None = None
    server: str | None = None


@dataclass(slots=True, eq=False)
class EvaluationJob(RecordingJob):
    """A recording to be transcribed and scored; `scored` is set once it is."""

    reference: LabeledRecording
    scored: ScoredRecording | None = None


def evaluate(request: EvaluationRequest) -> int:
    """Print the results of all models; failures are reported at the end. Returns an exit status.

    Raises `InvalidManifest`, and OSError if the manifest can't be read or the JSON not written.
    """
    settings = settings_with(model=request.models[0] or None)
    logs.set_up("warning", settings.log_format)
    recordings = list(islice(read(request.manifest), request.limit))
    _check_target(request, recordings)
    evaluation = Evaluation(request, recordings)
    try:
        for model in request.models:
            evaluation.run(model)
    finally:  # after Ctrl-C, with what there is
        try:
            evaluation.show()
        finally:
            evaluation.save()
    return 1 if evaluation.has_failures else 0


def read(path: Path) -> Sequence[LabeledRecording]:
    """The recordings of a manifest, or those of a directory that have a text file beside them."""
    if not path.exists():
        raise InvalidRequest(f"{path}: no such file or directory")
    if not path.is_dir():
        return manifest.load(path)
    found = list(find((path,)))
    for one in found:
        if not isinstance(one, InputFile):
            raise one[1]
    paths = [one.path for one in found if isinstance(one, InputFile)]
    recordings = manifest.beside(path, paths)
    if left := len(paths) - len(recordings):
        print(f"sotto: {left} of {len(paths)} recordings have no .txt file and are skipped", file=sys.stderr)
    return recordings


def _check_target(request: EvaluationRequest, recordings: Sequence[LabeledRecording]) -> None:
    """Raise `InvalidRequest` if the JSON can't be written or would overwrite an input."""
    if target := request.json:
        if target.is_dir():
            raise InvalidRequest(f"--json {target} is a directory")
        if target.resolve() in {request.manifest.resolve(), *(each.path.absolute() for each in recordings)}:
            raise InvalidRequest(f"--json {target} would overwrite an input")


class Evaluation:
    """The work of one command, model by model."""

    def __init__(self, request: EvaluationRequest, recordings: Sequence[LabeledRecording]) -> None:
        self._request = request
        self._recordings = recordings
        self._beam_size = settings_with().beam_size
        self._reports: list[EvaluationReport] = []
        self._failed_models: list[tuple[str, str]] = []

    @property
    def has_failures(self) -> bool:
        return bool(self._failed_models) or any(report.failed for report in self._reports)

    def run(self, model: str) -> None:
        """Transcribe and score all recordings with one model; one that can't be loaded fails alone."""
        request = self._request
        settings = settings_with(model=model or None)
        jobs = [EvaluationJob(InputFile(each.path), self._options(model, each), each) for each in self._recordings]
        failures: Failures = []
        work = ParallelRun(jobs, failures, _score)
        name = model or "default model"
        try:
            used = transcribe_all(work, settings, command="evaluate", server=request.server, model=model)
            name = model or used
        except (ModelUnavailable, RemoteError) as error:
            self._failed_models.append((name, one_line(error)))
        finally:
            self._keep(name, work, failures)

    def _options(self, model: str, recording: LabeledRecording) -> TranscriptionOptions:
        request = self._request
        decoding = DecodingOptions(
            language=(recording.language or None) if request.own_language else request.language,
            prompt=request.prompt,
            beam_size=self._beam_size,
            word_timestamps=request.words,
        )
        return TranscriptionOptions(model=model if request.server else "", decoding=decoding)

    def _keep(self, name: str, work: ParallelRun[EvaluationJob], failures: Failures) -> None:
        """Add a report of what there is, in the manifest's order."""
        reasons = {path: one_line(error).removeprefix(f"{path}: ") for path, error in failures}
        failed = [job for job in work.jobs if job.recording.path in reasons]
        results = tuple(job.scored for job in work.jobs if job.scored)
        detects = not self._request.own_language and self._request.language is None
        if results or failed:
            with_reasons = tuple((job.reference.name, reasons[job.recording.path]) for job in failed)
            self._reports.append(EvaluationReport(name, results, with_reasons, work.spent_s, detects))

    def show(self) -> None:
        """Print tables, and failures on standard error."""
        reports = [report for report in self._reports if report.results]
        if reports:
            sys.stdout.buffer.write(tables(reports).encode("utf-8", "replace"))
            sys.stdout.flush()
        for line in dict.fromkeys(self._complaints()):
            print(f"sotto: {line}", file=sys.stderr)

    def save(self) -> None:
        """Write the JSON, if it is asked for and there is anything."""
        if self._request.json and self._reports:
            content = {"version": __version__, "models": [as_json(report) for report in self._reports]}
            text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
            write(self._request.json, text.encode("utf-8", "replace") + b"\n")

    def _complaints(self) -> Iterator[str]:
        for model, reason in self._failed_models:
            yield f"{model}: {reason}"
        for report in self._reports:
            by_reason: dict[str, list[str]] = {}
            for name, reason in report.failed:
                by_reason.setdefault(reason, []).append(name)
            for reason, names in by_reason.items():
                if len(names) > FEW:
                    yield f"{names[0]} and {len(names) - 1} others: {reason}"
                else:
                    yield from (f"{name}: {reason}" for name in names)


async def _score(job: EvaluationJob, transcript: Transcript) -> None:
    job.scored = await asyncio.to_thread(ScoredRecording.of, job.reference, Hypothesis.of(transcript))
