"""Cues of chosen size, made of words with times: few lines of some width, broken where speech and sense pause.

Pure. Two questions have one answer, the cheapest split of a sequence: which words make a cue, and which of these a
line. A unit is what is never torn: a word, in languages without spaces the least that may stand at an edge.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from server.options import SubtitleOptions
from server.transcript import Segment, Transcript

MIN_CUE_MS = 1  # players and parsers drop a cue that ends where it begins
LONG_PAUSE_MS = 1000  # no cue goes on over so much silence

# What a boundary between two units is worth as a break, from 0 to 1; a pause adds its part of a long one.
SENTENCE, CLAUSE = 1.0, 0.4
SENTENCE_ENDS = frozenset(".!?…。！？｡।؟۔")
CLAUSE_ENDS = frozenset(",;:،؛、，；：､–—")
CLOSING = frozenset("\"'”’»›)]}」』）】》〉")  # may follow either

# What a cue costs: 1, the square of how full it is, and these; so cues are few, evenly filled and whole in sense.
NO_BREAK_COST = 1.5  # ending where there is no break
INNER_BREAK_COST = 0.7  # holding a break inside
TOO_SHORT_COST = 2.0  # no time to read it
# What a line costs: enough that there are as few as can be, the square of its width, and this.
LINE = 10.0
NO_BREAK_LINE_COST = 0.3

# All its dashes: "--->" less one dash would be an arrow still. From the first of them on: else a long rule takes
# quadratic time.
_ARROW = re.compile("(?<!-)--+>")
_PIECE = re.compile(r"\s*\S+")
# Not at the beginning of a line, not at its end: small kana, prolonged sounds and Thai vowels, beside punctuation.
_NOT_FIRST = frozenset("ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ々ๆะาำๅ%％‰°")
_NOT_LAST = frozenset("เแโใไ¿¡$￥")


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines to show from `start_ms` to `end_ms`; none is empty, none ends a cue or begins another."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    text: str  # with the space before it, if there is one
    start_ms: int
    end_ms: int


def cue_text(text: str) -> str:
    """`text` on one line and without `-->`, so that it cannot end its cue or begin another one."""
    # Only line breaks are folded: a narrow or ideographic space inside a line is meant.
    lines = (line.strip() for line in text.splitlines())
    return _ARROW.sub("->", " ".join(line for line in lines if line))


def columns(text: str) -> int:
    """How wide `text` is on a screen: Chinese, Japanese and Korean characters take two columns, accents none."""
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def make_cues(transcript: Transcript, options: SubtitleOptions) -> Iterator[Cue]:
    """The cues of `transcript`, whose segments should have words; they are in order and don't overlap.

    A cue lasts from its first word to the end of its last, longer only if that is less than the minimum and nothing
    is in the way; never beyond the recording. A word wider than a line has a line of its own.
    """
    units = list(_glued(_units(transcript.segments)))
    cues = [cue for run in _runs(units) for cue in _cut(run, options)]
    if not cues:
        return
    limits = [after[0].start_ms for after in cues[1:]]
    limits.append(max(round(transcript.duration_s * 1000), cues[-1][-1].end_ms))
    clock_ms = 0
    for cue, limit_ms in zip(cues, limits, strict=True):
        start_ms = max(cue[0].start_ms, clock_ms)
        end_ms = min(max(cue[-1].end_ms, start_ms + options.min_cue_ms), limit_ms)
        clock_ms = max(end_ms, start_ms + MIN_CUE_MS)
        yield Cue(start_ms, clock_ms, tuple(_lines(cue, options.max_line_width)))


def _units(segments: Iterable[Segment]) -> Iterator[_Unit]:
    """Every word that has something to show, none before the one in front of it."""
    clock_ms = 0
    for segment in segments:
        for text, start, end in _words(segment):
            if shown := cue_text(text):
                start_ms = max(round(start * 1000), clock_ms)
                yield _Unit(f" {shown}" if text[0].isspace() else shown, start_ms, max(round(end * 1000), start_ms))
                clock_ms = start_ms


def _words(segment: Segment) -> Iterator[tuple[str, float, float]]:
    """The words of a segment; of one that has none (nothing but punctuation), its text spread over its time."""
    if segment.words:
        for word in segment.words:
            yield word.word, word.start, word.end
        return
    pieces = _PIECE.findall(segment.text.rstrip())
    reached = list(accumulate(map(len, pieces), initial=0))
    step_s = (segment.end - segment.start) / max(reached[-1], 1)
    for piece, (begin, end) in zip(pieces, pairwise(reached), strict=True):
        yield piece, segment.start + begin * step_s, segment.start + end * step_s


def _glued(units: Iterable[_Unit]) -> Iterator[_Unit]:
    """The units that may stand at an edge: without a space between, punctuation stays with what it belongs to."""
    held: list[_Unit] = []
    for unit in units:
        if held and _may_part(held[-1].text, unit.text):
            yield _joined(held)
            held = []
        held.append(unit)
    if held:
        yield _joined(held)


def _joined(units: list[_Unit]) -> _Unit:
    return _Unit("".join(unit.text for unit in units), units[0].start_ms, max(unit.end_ms for unit in units))


def _may_part(before: str, after: str) -> bool:
    """Whether a line may end with `before` where the next begins with `after`."""
    if after[0].isspace():
        return True
    first = unicodedata.category(after[0])
    holds_on = after[0] in _NOT_FIRST or first[0] == "M" or first in ("Pe", "Pf", "Po", "Pd")
    opens = before[-1] in _NOT_LAST or unicodedata.category(before[-1]) in ("Ps", "Pi")
    # What has no width at all would not fill a line, however many there are.
    return not (holds_on or opens) and columns(after) > 0


def _runs(units: list[_Unit]) -> Iterator[list[_Unit]]:
    """The units between long pauses."""
    run: list[_Unit] = []
    for unit in units:
        if run and unit.start_ms - run[-1].end_ms >= LONG_PAUSE_MS:
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def _cut(units: list[_Unit], options: SubtitleOptions) -> Iterator[list[_Unit]]:
    """The cues of a run: each fits into its lines and its time, unless it is a single unit."""
    ruler = _Ruler(units)
    worth = [_break_score(before, after) for before, after in pairwise(units)] + [SENTENCE]
    worth_before = list(accumulate(worth, initial=0.0))
    room = options.max_line_width * options.max_line_count

    def cost(start: int, end: int) -> float | None:
        time_ms = units[end - 1].end_ms - units[start].start_ms
        fits = end <= ruler.reach(start, options.max_line_width, options.max_line_count)
        if end - start > 1 and not (fits and time_ms <= options.max_cue_ms):
            return None
        fill = min(ruler.width(start, end) / room, 1.0)
        torn = NO_BREAK_COST * (1 - worth[end - 1])
        merged = INNER_BREAK_COST * (worth_before[end - 1] - worth_before[start])
        shown_ms = units[end].start_ms - units[start].start_ms if end < len(units) else options.min_cue_ms
        hurried = TOO_SHORT_COST * max(0.0, 1 - shown_ms / options.min_cue_ms) if options.min_cue_ms else 0.0
        return 1.0 + fill**2 + torn + merged + hurried

    for start, end in _cheapest(len(units), cost):
        yield units[start:end]


def _lines(units: list[_Unit], limit: int) -> Iterator[str]:
    """As few lines as they fit into, of about one width, broken where the sense does."""
    ruler = _Ruler(units)
    worth = [_break_score(before, after) for before, after in pairwise(units)] + [SENTENCE]

    def cost(start: int, end: int) -> float | None:
        width = ruler.width(start, end)
        if end - start > 1 and width > limit:
            return None
        return LINE + min(width / limit, 1.0) ** 2 + NO_BREAK_LINE_COST * (1 - worth[end - 1])

    for start, end in _cheapest(len(units), cost):
        yield cue_text("".join(unit.text for unit in units[start:end]))


def _break_score(before: _Unit, after: _Unit) -> float:
    """How good a place for a break is between two units."""
    text = before.text.rstrip("".join(CLOSING)) or before.text
    mark = SENTENCE if text[-1] in SENTENCE_ENDS else CLAUSE if text[-1] in CLAUSE_ENDS else 0.0
    pause = max(after.start_ms - before.end_ms, 0) / LONG_PAUSE_MS
    return min(mark + pause, SENTENCE)


class _Ruler:
    """Widths of lines made of units, whose first space doesn't count."""

    def __init__(self, units: list[_Unit]) -> None:
        self._spaces = [unit.text[0].isspace() for unit in units]
        self._ends = list(accumulate((columns(unit.text) for unit in units), initial=0))
        self._reach: dict[int, int] = {}

    def width(self, start: int, end: int) -> int:
        return self._ends[end] - self._ends[start] - self._spaces[start]

    def reach(self, start: int, limit: int, lines: int) -> int:
        """One past the last unit that fits into so many lines from `start` on; at least one is in each."""
        if start not in self._reach:
            end = start
            for _ in range(lines):
                if end < len(self._spaces):
                    wide = self._ends[end] + self._spaces[end] + limit
                    end = max(bisect_right(self._ends, wide) - 1, end + 1)
            self._reach[start] = end
        return self._reach[start]


def _cheapest(count: int, cost: Callable[[int, int], float | None]) -> Iterator[tuple[int, int]]:
    """Where to split `count` things so that the costs of the parts, each from a start to an end, are least in sum.

    What a part can't be costs None, and so does every longer one to the same end; one thing alone is always a part.
    """
    best = [(0.0, 0)]  # of the first so many things: what they cost, and where their last part starts
    for end in range(1, count + 1):
        tries = []
        for start in reversed(range(end)):
            if (price := cost(start, end)) is None:
                break
            tries.append((best[start][0] + price, start))
        best.append(min(tries))
    ends = [count]
    while ends[-1]:
        ends.append(best[ends[-1]][1])
    return pairwise(reversed(ends))
