"""Builds cues of a chosen size from timed words: lines of limited width, broken at pauses and punctuation.

Pure. Splitting words into cues and cues into lines are both solved as the cheapest split of a sequence. A unit
is never split: it is a word or, in languages without spaces, the smallest part that may stand at an edge.
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
LONG_PAUSE_MS = 1000  # a cue does not continue across so much silence

# The quality of a break between two units, from 0 to 1; a pause adds its share of a long one.
SENTENCE, CLAUSE = 1.0, 0.4
SENTENCE_ENDS = frozenset(".!?…。！？｡।؟۔")
CLAUSE_ENDS = frozenset(",;:،؛、，；：､–—")
CLOSING = frozenset("\"'”’»›)]}」』）】》〉")  # may follow punctuation of both kinds

# The cost of a cue: 1, the square of its fill, and these; so cues are few, evenly filled and end at natural
# breaks.
NO_BREAK_COST = 1.5  # ending where there is no natural break
INNER_BREAK_COST = 0.7  # containing a natural break
TOO_SHORT_COST = 2.0  # too short to read
# The cost of a line: a constant that keeps lines few, the square of its width, and this.
LINE = 10.0
NO_BREAK_LINE_COST = 0.3

# Matches all dashes: "--->" with one dash fewer would still contain an arrow. The lookbehind starts at the first
# of them: otherwise a long rule would take quadratic time.
_ARROW = re.compile("(?<!-)--+>")
_PIECE = re.compile(r"\s*\S+")
# Characters besides punctuation that may not begin or end a line: small kana, prolonged sounds, Thai vowels.
_NOT_FIRST = frozenset("ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ々ๆะาำๅ%％‰°")
_NOT_LAST = frozenset("เแโใไ¿¡$￥")


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines to show from `start_ms` to `end_ms`; none is empty or could be parsed as the end or start of a cue."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    text: str  # with the space before it, if any
    start_ms: int
    end_ms: int


def cue_text(text: str) -> str:
    """Return `text` on one line and without `-->`, so that it cannot end its cue or begin another one."""
    # Only line breaks are folded: a narrow or ideographic space inside a line is intended.
    lines = (line.strip() for line in text.splitlines())
    return _ARROW.sub("->", " ".join(line for line in lines if line))


def columns(text: str) -> int:
    """Return the display width of `text`: Chinese, Japanese and Korean characters count two, accents none."""
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def make_cues(transcript: Transcript, options: SubtitleOptions) -> Iterator[Cue]:
    """Yield the cues of `transcript`, in order and without overlap; its segments should have words.

    A cue lasts from its first word to the end of its last; a shorter one is extended to the minimum, but not
    into the next cue or beyond the recording. A word wider than a line gets its own line.
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
    """Yield every word with visible text; none starts before its predecessor."""
    clock_ms = 0
    for segment in segments:
        for text, start, end in _words(segment):
            if shown := cue_text(text):
                start_ms = max(round(start * 1000), clock_ms)
                yield _Unit(f" {shown}" if text[0].isspace() else shown, start_ms, max(round(end * 1000), start_ms))
                clock_ms = start_ms


def _words(segment: Segment) -> Iterator[tuple[str, float, float]]:
    """Yield the words of a segment; without words (only punctuation), spread its text over its time."""
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
    """Join units that may not be separated: without a space between, punctuation stays with its word."""
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
    """Return True if a line may end with `before` and the next begin with `after`."""
    if after[0].isspace():
        return True
    first = unicodedata.category(after[0])
    holds_on = after[0] in _NOT_FIRST or first[0] == "M" or first in ("Pe", "Pf", "Po", "Pd")
    opens = before[-1] in _NOT_LAST or unicodedata.category(before[-1]) in ("Ps", "Pi")
    # Characters of zero width would not fill a line, however many there are.
    return not (holds_on or opens) and columns(after) > 0


def _runs(units: list[_Unit]) -> Iterator[list[_Unit]]:
    """Split the units at long pauses."""
    run: list[_Unit] = []
    for unit in units:
        if run and unit.start_ms - run[-1].end_ms >= LONG_PAUSE_MS:
            yield run
            run = []
        run.append(unit)
    if run:
        yield run


def _cut(units: list[_Unit], options: SubtitleOptions) -> Iterator[list[_Unit]]:
    """Split a run into cues; each fits into its lines and its time, unless it is a single unit."""
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
    """Split units into as few lines as possible, of similar width, preferably at natural breaks."""
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
    """Return the quality of a break between two units, from 0 to 1."""
    text = before.text.rstrip("".join(CLOSING)) or before.text
    mark = SENTENCE if text[-1] in SENTENCE_ENDS else CLAUSE if text[-1] in CLAUSE_ENDS else 0.0
    pause = max(after.start_ms - before.end_ms, 0) / LONG_PAUSE_MS
    return min(mark + pause, SENTENCE)


class _Ruler:
    """Widths of lines made of units, not counting the first space."""

    def __init__(self, units: list[_Unit]) -> None:
        self._spaces = [unit.text[0].isspace() for unit in units]
        self._ends = list(accumulate((columns(unit.text) for unit in units), initial=0))
        self._reach: dict[int, int] = {}

    def width(self, start: int, end: int) -> int:
        return self._ends[end] - self._ends[start] - self._spaces[start]

    def reach(self, start: int, limit: int, lines: int) -> int:
        """Return the end of the units that fit into `lines` lines from `start` on; each line has at least one."""
        if start not in self._reach:
            end = start
            for _ in range(lines):
                if end < len(self._spaces):
                    wide = self._ends[end] + self._spaces[end] + limit
                    end = max(bisect_right(self._ends, wide) - 1, end + 1)
            self._reach[start] = end
        return self._reach[start]


def _cheapest(count: int, cost: Callable[[int, int], float | None]) -> Iterator[tuple[int, int]]:
    """Split `count` items so that the sum of the costs of the parts is minimal; yield (start, end) of each part.

    `cost` returns None for an impossible part, for which every longer part with the same end is impossible too;
    a single item is always possible.
    """
    best = [(0.0, 0)]  # for each prefix: its cost, and the start of its last part
    for end in range(1, count + 1):
        candidates = []
        for start in reversed(range(end)):
            if (part_cost := cost(start, end)) is None:
                break
            candidates.append((best[start][0] + part_cost, start))
        best.append(min(candidates))
    ends = [count]
    while ends[-1]:
        ends.append(best[ends[-1]][1])
    return pairwise(reversed(ends))
