"""festival through its program: one Scheme script speaks all sentences and writes down the times."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.demo_model.speech import Speech, match_words, radio_phones, read_wav

SCRIPT = """\
(voice_{voice})
(Parameter.set 'Duration_Stretch {stretch})
(set! u (utt.synth (Utterance Text "{text}")))
(utt.save.wave u "{stem}.wav" 'riff)
(set! f (fopen "{stem}.words" "w"))
(mapcar (lambda (w) (format f "%s %f %f\\n" (item.name w)
    (item.feat w "R:SylStructure.daughter1.daughter1.R:Segment.segment_start")
    (item.feat w "R:SylStructure.daughtern.daughtern.R:Segment.end")))
  (utt.relation.items u 'Word))
(fclose f)
(set! f (fopen "{stem}.phones" "w"))
(mapcar (lambda (s) (format f "%s %f\\n" (item.name s) (item.feat s "end"))) (utt.relation.items u 'Segment))
(fclose f)
"""


def say_all(texts: list[str], voice: str, stretches: list[float]) -> Iterator[Speech]:
    """Speak each text with a voice such as kal_diphone, slower by its stretch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "all.scm"
        script.write_text(
            "".join(
                SCRIPT.format(voice=voice, stretch=stretch, text=text, stem=folder / str(i))
                for i, (text, stretch) in enumerate(zip(texts, stretches, strict=True))
            )
        )
        command = ["festival", "-b", str(script)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - a fixed command
        for i, text in enumerate(texts):
            yield _read(text, folder / str(i))


def _read(text: str, stem: Path) -> Speech:
    words = [(name, float(start), float(end)) for name, start, end in _rows(stem.with_suffix(".words"))]
    phones = radio_phones((name, float(end)) for name, end in _rows(stem.with_suffix(".phones")))
    return Speech(read_wav(stem.with_suffix(".wav")), match_words(text, words), phones).trimmed()


def _rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]
