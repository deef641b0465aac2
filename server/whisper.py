"""A Whisper model on CTranslate2: a batch of windows in, their segments out.

The only home of ctranslate2 and of faster-whisper, some of whose private parts are reused (hence the exact
pin). Knows tensors and tokens; no queue, no request. What must be equal inside a batch: `batch_key`.
"""

import ctypes
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens

from server.errors import ModelUnavailable
from server.languages import NAMES
from server.machine import usable_cpus
from server.mel import frames_of, log_mel, padded
from server.options import DecodingOptions
from server.transcript import FRAME_SAMPLES, Segment, Window, WindowResult, Word

Floats = npt.NDArray[np.float32]

MAX_LENGTH = 448  # tokens the decoder can hold; CTranslate2 lets half of them be new
MAX_PROMPT = MAX_LENGTH // 2 - 1
MAX_INITIAL_TIMESTAMP = 50  # index of <|1.00|>: a first segment starts within a second
NO_LANGUAGE = "en"  # what the tokenizer needs before a language is known; it decides nothing then
# As faster-whisper's defaults: punctuation that belongs to the word behind it, or to the one before.
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # languages written without spaces between words


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoding of one window: its tokens, timestamps among them, and how good they look."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    temperature: float

    def is_silence(self, options: DecodingOptions) -> bool:
        """Whether the model heard no speech and isn't sure of its words either."""
        unsure = self.avg_logprob <= options.logprob_threshold
        return unsure and self.no_speech_prob > options.no_speech_threshold

    def is_repetitive(self, options: DecodingOptions) -> bool:
        return self.compression_ratio > options.compression_ratio_threshold

    def failed(self, options: DecodingOptions) -> bool:
        """Whether to try again at the next temperature."""
        improbable = self.avg_logprob < options.logprob_threshold
        if improbable and self.no_speech_prob > options.no_speech_threshold:
            return False
        return improbable or self.is_repetitive(options)


class Whisper:
    """A loaded model. Calls are thread-safe and release the GIL while they compute."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 0,
        workers: int = 1,
    ) -> None:
        """Load the model in folder `path`, which must be complete: nothing is downloaded.

        `device` is auto, cpu, cuda or cuda:N; `threads` 0 shares the usable CPUs among `workers`.
        Raises `ModelUnavailable` with the cause.
        """
        self.device, index = pick_device(device)
        self.compute_type = pick_compute_type(self.device, index) if compute_type == "auto" else compute_type
        self.workers = workers
        if not (path / "tokenizer.json").is_file():
            raise ModelUnavailable(f"The model in {path} can't be loaded: it has no tokenizer.json")
        try:
            self._model = WhisperModel(
                str(path),
                device=self.device,
                device_index=index,
                compute_type=self.compute_type,
                cpu_threads=threads or max(1, usable_cpus() // workers),
                num_workers=workers,
                local_files_only=True,
            )
            self._ct2: Any = self._model.model
            self._filters: Floats = self._model.feature_extractor.mel_filters
            self._suppressed = get_suppressed_tokens(self._tokenizer(DecodingOptions()), [-1])
        except Exception as error:  # a broken file raises whatever its reader meets, tokenizers a bare Exception
            raise ModelUnavailable(f"The model in {path} can't be loaded: {error}") from error

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes the model knows."""
        if not self._ct2.is_multilingual:
            return ("en",)
        known = self._model.hf_tokenizer
        return tuple(code for code in NAMES if known.token_to_id(f"<|{code}|>") is not None)

    def close(self) -> None:
        """Free the weights. Nothing may be running."""
        self._ct2.unload_model()

    def warm_up(self) -> None:
        """Pay for the first encode and the first decoder step now."""
        silence = np.zeros((self._filters.shape[0], padded(np.zeros((1, 0), np.float32)).shape[1]), np.float32)
        encoded = self.encode([silence])
        if self._ct2.is_multilingual:
            self.detect(encoded)

    def batch_key(self, options: DecodingOptions) -> Hashable:
        """Windows may share a batch if their keys are equal: CTranslate2 wants equal prompt lengths and options.

        Language and task may differ, and so may the prompt's words.
        """
        return (
            len(self._prompt(options)),
            options.beam_size,
            options.best_of,
            options.patience,
            options.temperatures,
        )

    def transcribe(self, batch: Sequence[tuple[Window, DecodingOptions]]) -> list[WindowResult]:
        """Results of windows with equal batch keys, in order. Each equals that of the window alone."""
        windows = [window for window, _ in batch]
        encoded = self.encode([padded(log_mel(window, self._filters)) for window in windows])
        detected = self._detect_where_asked(encoded, [options for _, options in batch])
        asked = [
            replace(options, language=options.language or probs[0][0])
            for (_, options), probs in zip(batch, detected, strict=True)
        ]
        decoded = self.decode(encoded, asked)
        return [self._result(*parts) for parts in zip(windows, asked, encoded, detected, decoded, strict=True)]

    def encode(self, features: Sequence[Floats]) -> list[Floats]:
        """Encoder outputs [1, 1500, d] of features [mels, 3000], on the host.

        One by one on a CPU, where a batch gains nothing and costs memory.
        """
        if self.device == "cpu":
            return [np.asarray(self._ct2.encode(_storage(one[None]))) for one in features]
        rows = np.asarray(self._ct2.encode(_storage(np.stack(features)), to_cpu=True))
        return [rows[i : i + 1] for i in range(len(rows))]

    def detect(self, encoded: Sequence[Floats]) -> list[tuple[tuple[str, float], ...]]:
        """Languages and their probabilities, most probable first, for each encoder output."""
        rows = self._ct2.detect_language(_storage(np.concatenate(encoded)))
        return [tuple((token[2:-2], probability) for token, probability in row) for row in rows]

    def decode(self, encoded: Sequence[Floats], options: Sequence[DecodingOptions]) -> list[Decoded]:
        """The best decoding of each encoder output, with temperature fallback row by row."""
        tries: list[list[Decoded]] = [[] for _ in encoded]
        waiting = list(range(len(encoded)))
        for temperature in options[0].temperatures:
            # A sampled row becomes best_of rows: one window at a time keeps the batch's memory bounded.
            groups = [waiting] if temperature == 0 else [[row] for row in waiting]
            for rows in groups:
                found = self.generate([encoded[r] for r in rows], [options[r] for r in rows], temperature)
                for row, one in zip(rows, found, strict=True):
                    tries[row].append(one)
            waiting = [row for row in waiting if tries[row][-1].failed(options[row])]
            if not waiting:
                break
        return [choose(each, asked) for each, asked in zip(tries, options, strict=True)]

    def generate(
        self, encoded: Sequence[Floats], options: Sequence[DecodingOptions], temperature: float
    ) -> list[Decoded]:
        """One decoding of each encoder output: beam search at temperature 0, else the best of some samples."""
        asked = options[0]
        results = self._ct2.generate(
            _storage(np.concatenate(encoded)),
            [self._prompt(one) for one in options],
            max_length=MAX_LENGTH,
            max_initial_timestamp_index=MAX_INITIAL_TIMESTAMP,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
            **_search(asked, temperature),
        )
        return [self._decoded(result, temperature) for result in results]

    def _decoded(self, result: Any, temperature: float) -> Decoded:
        tokens = tuple(result.sequences_ids[0])
        text = self._tokenizer(DecodingOptions()).decode(list(tokens)).strip()
        return Decoded(
            tokens=tokens,
            text=text,
            # CTranslate2 averages over the tokens, openai/whisper over these and the end of text.
            avg_logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
            compression_ratio=get_compression_ratio(text),
            no_speech_prob=result.no_speech_prob,
            temperature=temperature,
        )

    def _detect_where_asked(
        self, encoded: Sequence[Floats], options: Sequence[DecodingOptions]
    ) -> list[tuple[tuple[str, float], ...]]:
        """Language probabilities of the rows whose options name no language; nothing for the others."""
        rows = [row for row, one in enumerate(options) if one.language is None]
        found: list[tuple[tuple[str, float], ...]] = [() for _ in options]
        if rows and not self._ct2.is_multilingual:
            return [found[r] if options[r].language else (("en", 1.0),) for r in range(len(options))]
        if rows:
            for row, probs in zip(rows, self.detect([encoded[r] for r in rows]), strict=True):
                allowed = options[row].languages
                found[row] = tuple(p for p in probs if not allowed or p[0] in allowed) or probs
        return found

    def _result(
        self,
        window: Window,
        options: DecodingOptions,
        encoded: Floats,
        detected: tuple[tuple[str, float], ...],
        decoded: Decoded,
    ) -> WindowResult:
        language = options.language or NO_LANGUAGE
        if decoded.is_silence(options):
            return WindowResult((), language, window.length, detected)
        frames = frames_of(window)
        tokenizer = self._tokenizer(options)
        phrases, seek, _ = self._model._split_segments_by_timestamps(
            tokenizer=tokenizer,
            tokens=list(decoded.tokens),
            time_offset=0.0,
            segment_size=frames,
            segment_duration=frames / self._model.frames_per_second,
            seek=0,
        )
        if options.word_timestamps:
            self._add_words(phrases, tokenizer, encoded, frames)
        segments = (self._segment(phrase, tokenizer, decoded) for phrase in phrases)
        consumed = window.length if seek >= frames else seek * FRAME_SAMPLES
        # As openai/whisper: what has no text or no duration is no segment.
        kept = tuple(s for s in segments if s.text.strip() and s.start != s.end)
        return WindowResult(kept, language, consumed, detected)

    def _add_words(self, phrases: list[Any], tokenizer: Tokenizer, encoded: Floats, frames: int) -> None:
        """Put words into `phrases`. Every window starts afresh: no state is shared between requests."""
        self._model.add_word_timestamps(
            [phrases], tokenizer, _storage(encoded), frames, PREPENDED, APPENDED, last_speech_timestamp=0.0
        )

    def _segment(self, phrase: Any, tokenizer: Tokenizer, decoded: Decoded) -> Segment:
        words = phrase.get("words")
        return Segment(
            id=0,
            seek=phrase["seek"],
            start=float(phrase["start"]),  # a numpy scalar where words were aligned
            end=float(phrase["end"]),
            text=tokenizer.decode(phrase["tokens"]),
            tokens=tuple(phrase["tokens"]),
            temperature=decoded.temperature,
            avg_logprob=decoded.avg_logprob,
            compression_ratio=decoded.compression_ratio,
            no_speech_prob=decoded.no_speech_prob,
            words=None if words is None else tuple(_words(words, tokenizer.language_code not in UNSPACED)),
        )

    def _tokenizer(self, options: DecodingOptions) -> Tokenizer:
        return Tokenizer(
            self._model.hf_tokenizer,
            self._ct2.is_multilingual,
            task=options.task,
            language=options.language or NO_LANGUAGE,
        )

    def _prompt(self, options: DecodingOptions) -> list[int]:
        """The decoder's prompt: hotwords as far as there is room, the end of the user's prompt, the task."""
        tokenizer = self._tokenizer(options)
        prompt = _text_tokens(tokenizer, options.prompt)
        hotwords = _text_tokens(tokenizer, options.hotwords)
        previous = hotwords[: max(0, MAX_PROMPT - len(prompt))] + prompt[-MAX_PROMPT:]
        tokens: list[int] = self._model.get_prompt(tokenizer, previous)
        return tokens


def choose(tries: Sequence[Decoded], options: DecodingOptions) -> Decoded:
    """The last try if it is good; if all failed, the most probable of those that don't repeat themselves.

    As faster-whisper does, that one then reports the last temperature.
    """
    if not tries[-1].failed(options):
        return tries[-1]
    candidates = [one for one in tries if not one.is_repetitive(options)] or tries
    best = max(candidates, key=lambda one: one.avg_logprob)
    return replace(best, temperature=tries[-1].temperature)


def pick_device(asked: str) -> tuple[str, int]:
    """CTranslate2's device name and index for auto, cpu, cuda or cuda:N."""
    if asked != "cpu":
        preload_cublas()
    if asked == "auto":
        asked = "cuda" if ctranslate2.get_cuda_device_count() > 0 else "cpu"
    name, _, index = asked.partition(":")
    if name == "cuda" and ctranslate2.get_cuda_device_count() <= int(index or 0):
        raise ModelUnavailable(
            f"SOTTO_DEVICE={asked}: CTranslate2 sees {ctranslate2.get_cuda_device_count()} CUDA devices"
        )
    return name, int(index or 0)


def pick_compute_type(device: str, index: int) -> str:
    """int8 on a CPU, float16 on a GPU that has it, else whatever CTranslate2 would do by itself."""
    wanted = "int8" if device == "cpu" else "float16"
    supported = ctranslate2.get_supported_compute_types(device, index)
    return wanted if wanted in supported else "default"


def preload_cublas() -> bool:
    """Load cuBLAS from its wheel (extra `cuda`), which the dynamic linker doesn't search; False if absent.

    CTranslate2 opens libcublas.so.12 by name on first use and then finds it loaded.
    """
    spec = find_spec("nvidia.cublas") if find_spec("nvidia") else None
    for folder in spec.submodule_search_locations or () if spec else ():
        for name in ("libcublasLt.so.12", "libcublas.so.12"):
            library = Path(folder) / "lib" / name
            if not library.is_file():
                return False
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        return True
    return False


def _search(options: DecodingOptions, temperature: float) -> dict[str, object]:
    if temperature == 0:
        return {"beam_size": options.beam_size, "patience": options.patience}
    # sampling_topk defaults to 1, which is greedy whatever the temperature; 0 samples from all tokens.
    return {
        "beam_size": 1,
        "num_hypotheses": options.best_of,
        "sampling_topk": 0,
        "sampling_temperature": temperature,
    }


def _text_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a caller's text. A `<|startoftranscript|>` spelt out in it must not steer the decoder."""
    text = text.strip()
    return [token for token in tokenizer.encode(f" {text}") if token < tokenizer.eot] if text else []


def _words(raw: Iterable[dict[str, Any]], spaced: bool) -> list[Word]:
    """faster-whisper's words. It splits at punctuation; where `spaced`, "twenty" and "-three" are one again."""
    words: list[Word] = []
    for one in raw:
        word = Word(one["word"], float(one["start"]), float(one["end"]), float(one["probability"]))
        if spaced and words and not word.word.startswith(" "):
            begun = words.pop()
            probability = min(begun.probability, word.probability)
            word = Word(begun.word + word.word, begun.start, word.end, probability)
        words.append(word)
    return words


def _storage(array: npt.NDArray[Any]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
