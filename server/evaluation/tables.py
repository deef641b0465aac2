"""Reports of one or several models as text, side by side. The tables are Markdown, aligned for a terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from unicodedata import east_asian_width

from server.evaluation.report import EDGES, WITHIN_S, EvaluationReport, ScoredRecording
from server.evaluation.scoring import Score

WORST = 10  # recordings listed
TEXT_LENGTH = 60  # of a transcript in a cell
NONE = "-"

Cell = Callable[[EvaluationReport], str]
Row = tuple[str, ...]


def tables(reports: Sequence[EvaluationReport]) -> str:
    """The figures of all models, then the recordings that explain them."""
    parts = [_figures(reports), *_worst(reports), *_wrong_languages(reports), *_invented(reports)]
    return "\n\n".join(parts) + "\n"


def _figures(reports: Sequence[EvaluationReport]) -> str:
    rows = (
        *_work(reports),
        *_errors(reports),
        ("invented words", *(_invented_count(report) for report in reports)),
        ("language detected", *(_languages_count(report) for report in reports)),
        *(row for edge in EDGES for row in _times(reports, edge)),
    )
    return _table(("", *(report.model for report in reports)), [row for row in rows if set(row[1:]) != {NONE}])


def _work(reports: Sequence[EvaluationReport]) -> Iterator[Row]:
    yield "recordings", *(_recordings(report) for report in reports)
    yield "audio", *(f"{report.audio_s / 60:.1f} min" for report in reports)
    yield "speed", *(f"{report.speed:.1f} x" if report.wall_s else NONE for report in reports)


def _recordings(report: EvaluationReport) -> str:
    done, failed = len(report.results), len(report.failed)
    return f"{done} of {done + failed}" if failed else f"{done}"


def _errors(reports: Sequence[EvaluationReport]) -> Iterator[Row]:
    yield "word error rate", *(_rate(report.score) for report in reports)
    yield "substituted, deleted, inserted", *(_kinds_of_errors(report.score) for report in reports)
    yield from _groups("language", [report.by_language for report in reports])
    yield from _groups("kind", [report.by_kind for report in reports])


def _groups(title: str, reports: Sequence[Mapping[str, Score]]) -> Iterator[Row]:
    """A row for each of several groups; one group is all there is."""
    names = sorted({name for groups in reports for name in groups})
    if len(names) > 1:
        for name in names:
            yield f"{title} {name or 'not named'}", *(_rate(groups.get(name)) for groups in reports)


def _rate(score: Score | None) -> str:
    return f"{score.percent:.1f} % ({score.errors} of {score.words})" if score and score.words else NONE


def _kinds_of_errors(score: Score) -> str:
    return f"{score.substitutions}, {score.deletions}, {score.insertions}" if score.words else NONE


def _invented_count(report: EvaluationReport) -> str:
    counts = [len(each.invented) for each in report.wordless]
    return f"{sum(counts)} in {sum(map(bool, counts))} of {len(counts)}" if counts else NONE


def _languages_count(report: EvaluationReport) -> str:
    right = [each.is_language_right for each in report.detected]
    return f"{sum(right)} of {len(right)}" if right else NONE


def _times(reports: Sequence[EvaluationReport], edge: str) -> Iterator[Row]:
    found = [report.times.get(edge) for report in reports]
    yield f"{edge}s of words: bias", *(f"{1000 * each.bias_s:+.0f} ms" if each else NONE for each in found)
    yield f"{edge}s of words: median error", *(f"{1000 * each.median_s:.0f} ms" if each else NONE for each in found)
    for place, limit_s in enumerate(WITHIN_S):
        shares = (f"{100 * each.within[place]:.0f} %" if each else NONE for each in found)
        yield f"{edge}s of words: within {1000 * limit_s:.0f} ms", *shares


def _worst(reports: Sequence[EvaluationReport]) -> Iterator[str]:
    """The recordings with the most errors."""

    def row(name: str, results: Sequence[ScoredRecording | None]) -> Row:
        return name, *(
            f"{each.score.errors} of {each.score.words}" if each and each.score else NONE for each in results
        )

    def errors(results: Sequence[ScoredRecording | None]) -> int:
        return max(each.score.errors if each and each.score else 0 for each in results)

    rows = _listed(reports, errors, row)
    if rows:
        yield "Most word errors:"
        yield _table(("recording", *(report.model for report in reports)), rows)


def _wrong_languages(reports: Sequence[EvaluationReport]) -> Iterator[str]:
    """The recordings whose language was detected wrongly."""
    wrong = [{id(each) for each in report.detected if not each.is_language_right} for report in reports]

    def is_wrong(results: Sequence[ScoredRecording | None]) -> int:
        return any(id(each) in ids for each, ids in zip(results, wrong, strict=True))

    def row(name: str, results: Sequence[ScoredRecording | None]) -> Row:
        spoken = next(each.recording.language for each in results if each)
        return name, spoken, *(each.hypothesis.language if each else NONE for each in results)

    if rows := _listed(reports, is_wrong, row):
        yield "Wrong languages:"
        yield _table(("recording", "spoken", *(report.model for report in reports)), rows)


def _invented(reports: Sequence[EvaluationReport]) -> Iterator[str]:
    """The recordings without speech that have words."""

    def words(results: Sequence[ScoredRecording | None]) -> int:
        return max(len(each.invented) if each else 0 for each in results)

    def row(name: str, results: Sequence[ScoredRecording | None]) -> Row:
        return name, *(_quoted(each.hypothesis.text) if each else NONE for each in results)

    if rows := _listed(reports, words, row):
        yield "Words in recordings without speech:"
        yield _table(("recording", *(report.model for report in reports)), rows)


def _listed(
    reports: Sequence[EvaluationReport],
    weight: Callable[[Sequence[ScoredRecording | None]], int],
    row: Callable[[str, Sequence[ScoredRecording | None]], Row],
) -> list[Row]:
    """Rows of the recordings with the greatest weight, none with 0; each is given the results of all models."""
    by_name = [{each.recording.name: each for each in report.results} for report in reports]
    names = dict.fromkeys(name for results in by_name for name in results)
    found = [(name, [results.get(name) for results in by_name]) for name in names]
    heavy = sorted((each for each in found if weight(each[1])), key=lambda each: -weight(each[1]))
    return [row(name, results) for name, results in heavy[:WORST]]


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= TEXT_LENGTH else f"{line[:TEXT_LENGTH]} …") or NONE


def _table(head: Row, rows: Sequence[Row]) -> str:
    cells = [[_printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    rule = [f"{'-' * max(width - 1, 2)}{':' if place else '-'}" for place, width in enumerate(widths)]
    return "\n".join(
        f"| {' | '.join(_padded(cell, width, right=bool(place)) for place, (cell, width) in enumerate(row))} |"
        for row in ([*zip(line, widths, strict=True)] for line in (cells[0], rule, *cells[1:]))
    )


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _columns(cell))
    return space + cell if right else cell + space


def _columns(text: str) -> int:
    """The columns that `text` takes on a terminal."""
    return sum(2 if east_asian_width(each) in "WF" else 1 for each in text)


def _printable(text: str) -> str:
    """On one line, without control characters or the character that separates cells."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text).replace("|", "\\|")
