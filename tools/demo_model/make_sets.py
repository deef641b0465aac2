"""Makes the evaluation recordings in many formats, with manifest.jsonl (tests/data/README.md lists its fields).

The splits dev and held share no sentence, no synthetic English voice except pico's, and no human take; the human
speaker kept out of training is in both with different takes. Needs ffmpeg with libmp3lame, libopus, aac, libx264.
"""

import argparse
import json
import subprocess
import tempfile
import wave
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from tools.demo_model.features import SAMPLE_RATE
from tools.demo_model.lexicon import ONES
from tools.demo_model.sound import Spoiler
from tools.demo_model.splits import human_digits
from tools.demo_model.voices import UNHEARD_SPEAKER, Audio, HumanDigits, Sentences, Spoken, Utterance

SEEDS = {"dev": 11, "held": 29}
HUMAN_SHARE = 0.25
ILL_SPELT = (" a orange", " a apple")
LICENCES = {
    "espeak": "generated with espeak-ng (tool: GPL-3.0-or-later; the audio is free)",
    "flite": "generated with flite, CMU voices (BSD-style)",
    "festival": "generated with festival, CMU/CSTR voices (BSD-style)",
    "pico": "generated with SVOX pico (Apache-2.0)",
    "fsdd": "CC BY-SA 4.0, Free Spoken Digit Dataset (Jakobovski et al.), digits joined with pauses",
}
BIT_EXACT = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]

Json = dict[str, Any]


class Format(NamedTuple):
    """A file name's suffix, ffmpeg's arguments and what the manifest says about it."""

    suffix: str
    arguments: str
    note: str = ""


WAV = Format("wav", "-c:a pcm_s16le")
TELEPHONE_WAV = Format("wav", "-ar 8000 -c:a pcm_s16le")
FLAC = Format("flac", "-c:a flac")
OPUS = Format("ogg", "-c:a libopus -b:a 24k")
MP3 = Format("mp3", "-c:a libmp3lame -b:a 48k")
VIDEO_ARGUMENTS = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac -ar 44100 -b:a 64k -shortest"
PLAIN = Format("wav", "-c:a pcm_s16le", "wav 16 kHz mono")
FORMATS = [
    PLAIN,
    Format("wav", "-ar 8000 -c:a pcm_s16le", "wav 8 kHz mono"),
    Format("wav", "-ar 44100 -ac 2 -c:a pcm_s16le", "wav 44.1 kHz stereo"),
    Format("wav", "-c:a pcm_f32le", "wav 16 kHz float"),
    Format("mp3", "-ar 44100 -c:a libmp3lame -b:a 64k", "mp3 64 kbit/s 44.1 kHz"),
    Format("m4a", "-ar 44100 -c:a aac -b:a 64k", "m4a aac 64 kbit/s"),
    Format("ogg", "-c:a libopus -b:a 24k", "ogg opus 24 kbit/s"),
    Format("webm", "-c:a libopus -b:a 24k", "webm opus 24 kbit/s"),
    Format("flac", "-c:a flac", "flac 16 kHz"),
    Format("mp4", VIDEO_ARGUMENTS, "mp4 with a video track"),
]


@dataclass(frozen=True)
class Recording:
    """Samples between -1 and 1 and what is said in them, as the manifest's segments."""

    audio: Audio
    segments: list[Json]


class Writer:
    """Writes files and remembers their manifest lines."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._rows: list[Json] = []

    def write(
        self, stem: str, kind: str, language: str | None, recording: Recording, form: Format, note: str = ""
    ) -> None:
        """Write <stem>.<suffix>; the note is the format's where none is given."""
        name = f"{stem}.{form.suffix}"
        encode(np.clip(recording.audio, -1, 1), self.out / name, form)
        self._rows.append(manifest_row(name, kind, language, recording, note or form.note))

    def finish(self) -> None:
        """Write the manifest."""
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows]
        (self.out / "manifest.jsonl").write_text("".join(lines))
        size = sum(path.stat().st_size for path in self.out.iterdir())
        print(len(self._rows), "files", round(size / 1e6, 2), "MB")


def encode(audio: Audio, path: Path, form: Format) -> None:
    """Write samples in the format; mp4 gets a test picture."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.wav"
        with wave.open(str(plain), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((audio * 32767).astype("<i2").tobytes())
        picture = f"testsrc=size=160x120:rate=5:duration={len(audio) / SAMPLE_RATE:.2f}"
        video = ["-f", "lavfi", "-i", picture] if form.suffix == "mp4" else []
        command = ["ffmpeg", "-v", "error", "-y", *video, "-i", str(plain), *BIT_EXACT]
        subprocess.run([*command, *form.arguments.split(), str(path)], check=True)  # noqa: S603 - a fixed command


def manifest_row(name: str, kind: str, language: str | None, recording: Recording, note: str) -> Json:
    """Return what the manifest says about a file."""
    voices = {segment["voice"] for segment in recording.segments}
    engines = sorted({voice.split(":")[0] for voice in voices})
    row: Json = {
        "file": name,
        "kind": kind,
        "language": language,
        "text": " ".join(segment["text"] for segment in recording.segments),
        "duration": round(len(recording.audio) / SAMPLE_RATE, 3),
        "segments": recording.segments,
        "human": "mixed" if "fsdd" in engines and len(engines) > 1 else engines == ["fsdd"],
        "source": sorted(voices),
        "licence": "; ".join(LICENCES[engine] for engine in engines) or "CC0, generated",
        "note": note,
    }
    if language not in ("en", None):
        row["translation"] = " ".join(segment["translation"] for segment in recording.segments)
    return row


class Studio:
    """Arranges sentences and human digits of a split into recordings; no sentence comes twice while they last."""

    def __init__(self, sentences: Sentences, digits: dict[str, HumanDigits], seed: int) -> None:
        self.rng = Random(seed)  # noqa: S311 - repeatable, not secret
        self.spoiler = Spoiler(self.rng, np.random.default_rng(seed))
        self.speakers = list(digits)
        self._digits = digits
        self._engines = sentences.by_engine
        self._used: Counter[tuple[str, str]] = Counter()

    def engines(self, language: str) -> list[str]:
        return list(self._engines[language])

    def pick(self, language: str, engine: str) -> Spoken:
        """Return the next sentence of the engine."""
        spoken = [item for item in self._engines[language][engine] if not _ill_spelt(item[1])]
        samples, said = spoken[self._used[language, engine] % len(spoken)]
        self._used[language, engine] += 1
        return samples.astype(np.float32), said

    def human(self, count: int | None = None, speaker: str | None = None) -> Spoken:
        """Return digits of a person, three to seven where no number is given."""
        speaker = speaker or self.rng.choice(self.speakers)
        return self._digits[speaker].say(self.rng, count or self.rng.randint(3, 7), speaker)

    def many(self, language: str, seconds: float) -> list[Spoken]:
        """Return utterances for about so long a recording; in English some are human."""
        spoken: list[Spoken] = []
        length_s = 0.0
        while length_s < seconds:
            if language == "en" and self.rng.random() < HUMAN_SHARE:
                spoken.append(self.human())
            else:
                spoken.append(self.pick(language, self.rng.choice(self.engines(language))))
            length_s += len(spoken[-1][0]) / SAMPLE_RATE + 0.75
        return spoken

    def german_digits(self) -> list[Spoken]:
        """Return the German sentences that are digits alone."""
        german = self._engines["de"]
        spoken = german["pico"] + german["espeak"]
        return [(samples.astype(np.float32), said) for samples, said in spoken if _digits_alone(said.english)]

    def record(
        self, spoken: list[Spoken], lead: float = 0.3, gap: tuple[float, float] = (0.25, 1.2), tail: float = 0.4
    ) -> Recording:
        """Return the utterances one after the other, at random levels; silences in seconds."""
        parts, segments = [_silence(lead)], []
        for i, (samples, said) in enumerate(spoken):
            if i:
                parts.append(_silence(self.rng.uniform(*gap)))
            audio = samples / max(1e-9, np.abs(samples).max()) * self.rng.uniform(0.25, 0.8)
            segments.append(_segment(said, sum(map(len, parts)) / SAMPLE_RATE, len(audio) / SAMPLE_RATE))
            parts.append(audio.astype(np.float32))
        parts.append(_silence(tail))
        return Recording(np.concatenate(parts), segments)

    def noisy(self, recording: Recording, snr_db: float) -> Recording:
        """Return the recording, at half its level, with noise at the signal-to-noise ratio."""
        audio = recording.audio
        power = np.sqrt(np.mean(audio[np.abs(audio) > 1e-4] ** 2))
        noise = self.spoiler.noise(len(audio)) * power * 10 ** (-snr_db / 20)
        return Recording((audio + noise) * 0.5, recording.segments)

    def noise(self, seconds: int, level: float) -> Recording:
        return Recording(self.spoiler.noise(seconds * SAMPLE_RATE) * level, [])


def _silence(seconds: float) -> Audio:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def _segment(said: Utterance, start: float, length: float) -> Json:
    segment: Json = {
        "start": round(start, 3),
        "end": round(start + length, 3),
        "text": said.text,
        "voice": said.voice,
    }
    if said.language != "en":
        segment["translation"] = said.english
    if said.words:
        segment["words"] = [
            {"word": word, "start": round(start + first, 3), "end": round(start + last, 3)}
            for word, (first, last) in zip(said.text.split(), said.words, strict=True)
        ]
    return segment


def _ill_spelt(said: Utterance) -> bool:
    return any(part in said.text for part in ILL_SPELT)


def _digits_alone(english: str) -> bool:
    return set(english.lower().strip(".").split()) <= set(ONES)


def make_english(studio: Studio, writer: Writer) -> None:
    engines = studio.engines("en")
    for i in range(20):
        recording = studio.record([studio.pick("en", engines[i % len(engines)])])
        writer.write(f"en_{i:02d}", "synthetic-en", "en", recording, PLAIN if i < 10 else FORMATS[i - 10])


def make_others(studio: Studio, writer: Writer) -> None:
    for language in ("de", "es"):
        for i in range(6):
            recording = studio.record([studio.pick(language, ["espeak", "pico"][i % 2])])
            writer.write(f"{language}_{i:02d}", "synthetic-" + language, language, recording, WAV)


def make_human(studio: Studio, writer: Writer) -> None:
    for i in range(20):
        speaker = studio.speakers[i % len(studio.speakers)]
        recording = studio.record([studio.human(studio.rng.randint(3, 7), speaker)])
        trained = "not in training" if speaker == UNHEARD_SPEAKER else "other takes in training"
        note = f"speaker {speaker} ({trained})"
        writer.write(f"human_{i:02d}", "human-digits", "en", recording, TELEPHONE_WAV, note)


def make_hard(studio: Studio, writer: Writer) -> None:
    """Noise, silences and a low level."""
    engines = studio.engines("en")
    for i, snr_db in enumerate((20, 15, 10)):
        recording = studio.record([studio.pick("en", engines[i % len(engines)]) for _ in range(2)])
        noisy = studio.noisy(recording, snr_db)
        writer.write(f"noisy_{snr_db}db", "noisy", "en", noisy, FLAC, f"noise at {snr_db} dB SNR")
    recording = studio.record([studio.pick("en", engines[0])], lead=5, tail=6)
    writer.write("lead_silence", "silences", "en", recording, FLAC, "5 s of silence before, 6 s after")
    recording = studio.record([studio.pick("en", engines[1])])
    quiet = Recording(recording.audio * 0.02, recording.segments)
    writer.write("quiet", "level", "en", quiet, WAV, "very quiet")
    recording = studio.record([studio.pick("en", engines[1]), studio.pick("en", engines[0])], gap=(8, 8))
    writer.write("long_pause", "silences", "en", recording, FLAC, "8 s pause between two sentences")


def make_long(studio: Studio, writer: Writer) -> None:
    recording = studio.record(studio.many("en", 118))
    writer.write("two_minutes", "long", "en", recording, MP3, "mp3 48 kbit/s")
    recording = studio.record(studio.many("en", 598), gap=(0.25, 1.5))
    writer.write("ten_minutes", "long", "en", recording, OPUS, "ogg opus 24 kbit/s")
    recording = studio.record(studio.many("de", 45))
    writer.write("german_45s", "long-de", "de", recording, MP3)


def make_german_digits(studio: Studio, writer: Writer) -> None:
    for i, spoken in enumerate(studio.german_digits()[:4]):
        recording = studio.record([spoken])
        note = "German digits, for the translate task"
        writer.write(f"de_digits_{i}", "synthetic-de", "de", recording, WAV, note)


def make_speechless(studio: Studio, writer: Writer) -> None:
    silence = Recording(_silence(10), [])
    writer.write("silence_10s", "silence", None, silence, WAV, "digital silence; expected text: empty")
    note = "noise; expected text: empty"
    writer.write("noise_10s", "noise", None, studio.noise(10, 0.05), FLAC, note)
    writer.write("noise_45s", "noise", None, studio.noise(45, 0.02), OPUS, note)


def main() -> None:
    """Make the evaluation recordings of a split."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("--tts", "--fsdd", "--out"):
        parser.add_argument(name, required=True, type=Path)
    parser.add_argument("--split", required=True, choices=SEEDS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    studio = Studio(Sentences(args.tts, args.split), dict(human_digits(args.fsdd, args.split)), SEEDS[args.split])
    writer = Writer(args.out)
    sets = (make_english, make_others, make_human, make_hard, make_long, make_german_digits, make_speechless)
    for make in sets:
        make(studio, writer)
    writer.finish()


if __name__ == "__main__":
    main()
