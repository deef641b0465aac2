"""A comparison as Markdown: the figures of docs/accuracy.md."""

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.truth.comparison import Comparison, Scores
from benchmarks.truth.recordings import GROUPS, OTHER, group_of
from server.evaluation.report import WITHIN_S, TimeAccuracy

NAMES = {"en": "English", "de": "German", "fr": "French", OTHER: "other"}


def tables(comparison: Comparison) -> str:
    """All tables, each under its heading."""
    parts = (_totals, _word_errors, _invented, _languages, _times, _worse)
    return "\n\n".join("\n".join(part(comparison)) for part in parts) + "\n"


def _totals(comparison: Comparison) -> Iterator[str]:
    minutes = sum(pair.ours.duration_s for pair in comparison.pairs) / 60
    yield f"{len(comparison.pairs)} recordings, {minutes:.1f} minutes, {len(comparison.scored)} with a reference."
    if comparison.refused:
        yield f"Not decoded, so given to neither: {', '.join(each.name for each in comparison.refused)}."
    yield ""
    yield from _table(
        ("", "Sotto", "faster-whisper"),
        [
            ("wall time", f"{comparison.ours.wall_s:.0f} s", f"{comparison.stock.wall_s:.0f} s"),
            ("CPU time", f"{comparison.ours.cpu_s:.0f} s", f"{comparison.stock.cpu_s:.0f} s"),
        ],
    )


def _word_errors(comparison: Comparison) -> Iterator[str]:
    yield "### Word error rate"
    yield ""
    groups = comparison.by(group_of)
    kinds = comparison.by(lambda recording: recording.kind)
    rows = [_scores_row("**all**", *comparison.by(lambda _: "").values())]
    rows += [_scores_row(NAMES[group], groups[group]) for group in (*GROUPS, OTHER) if group in groups]
    rows += [_scores_row(f"`{kind}`", kinds[kind]) for kind in sorted(kinds)]
    yield from _table(("", "words", "Sotto", "faster-whisper", "difference, points"), rows)


def _scores_row(name: str, scores: Scores) -> tuple[str, ...]:
    ours, stock = scores.ours, scores.stock
    return (
        name,
        str(ours.words),
        f"{ours.percent:.1f} % ({ours.errors})",
        f"{stock.percent:.1f} % ({stock.errors})",
        f"{scores.excess:+.1f}",
    )


def _invented(comparison: Comparison) -> Iterator[str]:
    yield "### Invented words"
    yield ""
    wordless = comparison.wordless
    ours, stock = ([pair.invented[side] for pair in wordless] for side in (0, 1))
    yield (
        f"In {len(wordless)} recordings of noise, music and silence: Sotto {sum(ours)} words in "
        f"{sum(map(bool, ours))} recordings, faster-whisper {sum(stock)} in {sum(map(bool, stock))}."
    )
    if noisy := [pair for pair in wordless if any(pair.invented)]:
        yield ""
        rows = [(f"`{pair.recording.name}`", _quoted(pair.ours.text), _quoted(pair.stock.text)) for pair in noisy]
        yield from _table(("recording", "Sotto", "faster-whisper"), rows)


def _languages(comparison: Comparison) -> Iterator[str]:
    yield "### Language detection"
    yield ""
    ours, stock = comparison.languages_right
    total = len(comparison.detected)
    yield f"Right in {ours} of {total} recordings with Sotto, in {stock} with faster-whisper."
    wrong = [
        (f"`{pair.recording.name}`", pair.recording.language, pair.ours.language, pair.stock.language)
        for pair in comparison.detected
        if {pair.ours.language, pair.stock.language} != {pair.recording.language}
    ]
    if wrong:
        yield ""
        yield from _table(("recording", "spoken", "Sotto", "faster-whisper"), wrong)


def _times(comparison: Comparison) -> Iterator[str]:
    yield "### Word times"
    yield ""
    ours, stock = comparison.time_errors()
    yield f"{len(ours)} words matched by Sotto, {len(stock)} by faster-whisper. Bias: the median of signed errors."
    yield ""
    headings = ("", "bias", "median error", *(f"within {1000 * s:.0f} ms" for s in WITHIN_S))
    rows = [
        _times_row(f"{edge} of words, {name}", [getattr(error, edge) for error in errors])
        for edge in ("start", "end")
        for name, errors in (("Sotto", ours), ("faster-whisper", stock))
    ]
    yield from _table(headings, rows)


def _times_row(name: str, errors: Sequence[float]) -> tuple[str, ...]:
    accuracy = TimeAccuracy.of(errors)
    within = (f"{100 * share:.0f} %" for share in accuracy.within)
    return (name, f"{1000 * accuracy.bias_s:+.0f} ms", f"{1000 * accuracy.median_s:.0f} ms", *within)


def _worse(comparison: Comparison) -> Iterator[str]:
    yield "### Recordings with more word errors than faster-whisper's"
    yield ""
    rows = [
        (f"`{pair.recording.name}`", str(s.ours.words), str(s.ours.errors), str(s.stock.errors), f"+{s.lost}")
        for pair in comparison.worse
        if (s := pair.scores)
    ]
    yield from _table(("recording", "words", "errors, Sotto", "errors, faster-whisper", ""), rows)


def _quoted(text: str, length: int = 60) -> str:
    """A transcript in a table's cell, cut to `length` characters."""
    text = text if len(text) <= length else f"{text[:length]} …"
    return text.replace("|", "\\|") or "–"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (headings, ["---"] * len(headings), *rows):
        yield f"| {' | '.join(row)} |"
