"""How right transcripts of real recordings are, beside faster-whisper as it is: the figures of docs/accuracy.md.

    python -m benchmarks.bench_truth                     all recordings, to standard output
    python -m benchmarks.bench_truth --write             into docs/accuracy.md too
    python -m benchmarks.bench_truth --only en_jfk.flac  what both make of it, word for word

The recordings are no part of the repository: SOTTO_REAL_AUDIO names their folder. The model is `base`, as `sotto
models pull base` gets it, or the folder that SOTTO_REAL_MODEL names.
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks.truth import recordings
from benchmarks.truth.comparison import Comparison, compare
from benchmarks.truth.model import real_model
from benchmarks.truth.tables import tables
from server.errors import ModelUnavailable

DOCUMENT = Path(__file__).parents[1] / "docs" / "accuracy.md"
FIGURES = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def write(figures: str, document: Path) -> None:
    """Put `figures` into `document` in place of those between its marks. Raises ValueError where it has none."""
    text, count = FIGURES.subn(lambda _: f"\n{figures}\n", document.read_text(encoding="utf-8"))
    if count != 1:
        raise ValueError(f"{document} has no place for figures")
    document.write_text(text, encoding="utf-8")


def _texts(comparison: Comparison) -> str:
    """What was said and what both made of it, one below the other."""
    return "\n\n".join(
        f"{pair.recording.name}\n  said   {' / '.join(pair.recording.references)}\n"
        f"  ours   [{pair.ours.language}] {pair.ours.text}\n  stock  [{pair.stock.language}] {pair.stock.text}"
        for pair in comparison.pairs
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures accuracy on real recordings beside faster-whisper.")
    parser.add_argument("--only", nargs="+", metavar="FILE", help="these recordings, with their texts")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/accuracy.md")
    args = parser.parse_args()
    folder = recordings.folder()
    try:
        chosen = [each for each in recordings.load(folder) if not args.only or each.name in args.only]
        comparison = compare(real_model(), chosen)
    except (OSError, ModelUnavailable) as error:
        print(f"bench_truth: {error}; {recordings.FOLDER} names the recordings' folder", file=sys.stderr)
        return 1
    if args.only:
        print(_texts(comparison))
        return 0
    print(tables(comparison))
    if args.write:
        write(tables(comparison), DOCUMENT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
