"""A Whisper model on CTranslate2: a batch of windows in, their segments out.

The home of ctranslate2 and of faster-whisper, some of whose private parts are reused (hence the exact
pin). Knows tensors and tokens; no queue, no request. What must be equal inside a batch: `batch_key`.
"""

from collections.abc import Hashable, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens

from server.audio.mel import frames_of, log_mel, mel_filters, padded
from server.errors import ModelUnavailable
from server.languages import NAMES
from server.options import DecodingOptions
from server.system.machine import usable_cpus
from server.transcript import (
    FRAME_S,
    FRAME_SAMPLES,
    MAX_FRAMES,
    SAMPLE_BYTES,
    SAMPLE_RATE,
    Segment,
    Span,
    Window,
    WindowResult,
)
from server.whisper.decoding import MAX_LENGTH, Decoded, Hearing, Prompt, prompt_of
from server.whisper.devices import compute_types, pick_device
from server.whisper.tokens import token_logprob
from server.whisper.tuning import pick_workers, trim
from server.whisper.words import end_of, joined

Floats = npt.NDArray[np.float32]

MEDIAN_FILTER = 7  # frames; openai/whisper's
MAX_INITIAL_TIMESTAMP = 50  # index of <|1.00|>: a first segment starts within a second
NO_LANGUAGE = "en"  # what the tokenizer needs before a language is known; it decides nothing then
# Frames the encoder may see of a short window: few lengths, so that batches form. Never twice the mel bands (160,
# 256): CTranslate2 would take the encoder's output for features.
CONTEXT_BUCKETS = (1000, 1500, 2000)
CONTEXT_MARGIN = 200
# As faster-whisper's defaults: punctuation that belongs to the word behind it, or to the one before.
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"


class _Aligned:
    """Stands in for the CTranslate2 model where faster-whisper wants it aligned: the result is here already."""

    def __init__(self, alignment: Any) -> None:
        self._alignment = alignment

    def align(self, *_: object, **__: object) -> list[Any]:
        return [self._alignment]


class Whisper:
    """A loaded model. Calls are thread-safe and release the GIL while they compute."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 0,
        workers: int = 0,
        prompt_bucket: int = 1,
        dynamic_context: bool = False,
    ) -> None:
        """Load the model in folder `path`, which must be complete: nothing is downloaded.

        `device` is auto, cpu, cuda or cuda:N; `workers` 0 is what suits it, `threads` 0 shares the usable CPUs
        among them. Previous text is cut to a multiple of `prompt_bucket` tokens. `dynamic_context` lets the encoder
        see less than 30 s where a window is shorter: for models that were trained for it.
        Raises `ModelUnavailable` with the cause.
        """
        self.device, index = pick_device(device)
        self.compute_type = compute_types(self.device, index)[0] if compute_type == "auto" else compute_type
        self.workers = workers or pick_workers(self.device)
        self.threads = threads or max(1, usable_cpus() // self.workers)
        self._prompt_bucket = prompt_bucket
        self._dynamic_context = dynamic_context
        if not (path / "tokenizer.json").is_file():
            raise ModelUnavailable(f"The model in {path} can't be loaded: it has no tokenizer.json")
        try:
            self._model = WhisperModel(
                str(path),
                device=self.device,
                device_index=index,
                compute_type=self.compute_type,
                cpu_threads=self.threads,
                num_workers=self.workers,
                local_files_only=True,
            )
            self._ct2: Any = self._model.model
            self.mels: int = len(self._model.feature_extractor.mel_filters)
            self._filters = mel_filters(self.mels)
            self._text = self._tokenizer(DecodingOptions())  # for text alone, of any language
            self._suppressed = get_suppressed_tokens(self._text, [-1])
        except Exception as error:  # a broken file raises whatever its reader meets, tokenizers a bare Exception
            raise ModelUnavailable(f"The model in {path} can't be loaded: {error}") from error

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes the model knows."""
        if not self._ct2.is_multilingual:
            return ("en",)
        known = self._model.hf_tokenizer
        return tuple(code for code in NAMES if known.token_to_id(f"<|{code}|>") is not None)

    def rest(self) -> None:
        """Give back memory that is only kept for the next window."""
        trim()

    def close(self) -> None:
        """Free the weights. Nothing may be running."""
        self._ct2.unload_model()
        trim()

    def warm_up(self, frames: int = MAX_FRAMES) -> None:
        """One encode of `frames` and one decoder step: pays for the first ones, or shows that the device works."""
        silence = bytes(SAMPLE_RATE * SAMPLE_BYTES)
        window = Window(0, (Span(0, SAMPLE_RATE),), samples=silence)
        first = [Hearing(window, DecodingOptions(), frames)]
        self.encode(first)
        self.detect(first)

    def decode_key(self, hearing: Hearing) -> Hashable:
        """Windows may be decoded together if their keys are equal: CTranslate2 wants equal prompt lengths and
        equal search options. Language and task may differ, and so may the prompt's words."""
        options = hearing.options
        return (
            hearing.frames,
            len(hearing.prompt.tokens),
            hearing.temperature,
            options.beam_size,
            options.best_of,
            options.patience,
        )

    def align_key(self, hearing: Hearing) -> Hashable:
        """Windows may be aligned together if their keys are equal: CTranslate2 takes one start sequence."""
        return hearing.frames, hearing.options.language, hearing.options.task

    def hear(self, window: Window, options: DecodingOptions) -> Hearing:
        """A window at the beginning of its way."""
        wanted = frames_of(window) + CONTEXT_MARGIN
        buckets = CONTEXT_BUCKETS if self._dynamic_context else ()
        frames = next((frames for frames in buckets if frames >= wanted), MAX_FRAMES)
        return Hearing(window, options, frames, self._prompt(options))

    def encode(self, batch: Sequence[Hearing]) -> None:
        """Give windows of equal `frames` their encoder outputs [1, frames / 2, d], on the host."""
        features = np.stack([padded(log_mel(one.window, self._filters), one.frames) for one in batch])
        rows = np.asarray(self._ct2.encode(_storage(features), to_cpu=self.device != "cpu"))
        for row, one in enumerate(batch):
            # A copy where they are several: a view would keep the whole batch alive with its last member.
            one.encoded = rows[row : row + 1].copy() if len(batch) > 1 else rows

    def detect(self, batch: Sequence[Hearing]) -> None:
        """Decide the language of each window by its encoder output."""
        if not self._ct2.is_multilingual:
            rows = [[("<|en|>", 1.0)] for _ in batch]
        else:
            rows = self._ct2.detect_language(_stacked(batch))
        for one, row in zip(batch, rows, strict=True):
            one.detect([(token[2:-2], probability) for token, probability in row])

    def generate(self, batch: Sequence[Hearing]) -> None:
        """One try for windows with one decode key: beam search at temperature 0, else the best of some samples."""
        first = batch[0]
        results = self._ct2.generate(
            _stacked(batch),
            [self._start(one) for one in batch],
            max_length=MAX_LENGTH,
            max_initial_timestamp_index=MAX_INITIAL_TIMESTAMP,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
            **_search(first.options, first.temperature),
        )
        temperature = first.temperature
        for one, result in zip(batch, results, strict=True):
            one.add(self._decoded(result, temperature))
            if one.decoded is not None and (one.options.word_timestamps or one.options.token_logprobs):
                one.words_of = self._words_of(one)

    def align(self, batch: Sequence[Hearing]) -> None:
        """Find where the words of windows with one align key are heard, and how probable their tokens are."""
        # On a CPU a batch takes up to twice as long as its windows one by one, and the last bits of each window's
        # probabilities would depend on how long its neighbours' texts are.
        for group in [batch] if self.device != "cpu" else [[one] for one in batch]:
            results = self._ct2.align(
                _stacked(group),
                self._tokenizer(group[0].options).sot_sequence,
                [list(one.words_of) for one in group],
                [frames_of(one.window) for one in group],
                median_filter_width=MEDIAN_FILTER,
            )
            for one, result in zip(group, results, strict=True):
                one.alignment = result

    def result(self, hearing: Hearing) -> WindowResult:
        """The segments of a decoded window, with words and logprobs where it is aligned for them."""
        window, decoded, options = hearing.window, hearing.decoded, hearing.options
        result = WindowResult(
            (),
            options.language or NO_LANGUAGE,
            window.length,
            hearing.language_probs,
            prompt_tokens=hearing.prompt.own,
        )
        if decoded is None or decoded.is_silence(options):
            return replace(result, silent=True)
        tokenizer = self._tokenizer(options)
        phrases, seek, closed = self._phrases(hearing, tokenizer)
        if hearing.alignment is not None and options.word_timestamps:
            self._add_words(phrases, tokenizer, hearing)
        if hearing.alignment is not None and options.token_logprobs:
            self._add_logprobs(phrases, hearing)
        segments = (self._segment(phrase, tokenizer, decoded, options) for phrase in phrases)
        return replace(
            result,
            # As openai/whisper: what has no text or no duration is no segment.
            segments=tuple(s for s in segments if s.text.strip() and s.start != s.end),
            consumed=window.length if seek >= frames_of(window) else seek * FRAME_SAMPLES,
            open_ended=not closed,
            temperature=decoded.temperature,
            words_end=end_of(phrases) if options.word_timestamps else None,
        )

    def _decoded(self, result: Any, temperature: float) -> Decoded:
        tokens = tuple(result.sequences_ids[0])
        text = self._text.decode(list(tokens)).strip()
        return Decoded(
            tokens=tokens,
            text=text,
            # CTranslate2 averages over the tokens, openai/whisper over these and the end of text.
            avg_logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
            compression_ratio=get_compression_ratio(text),
            no_speech_prob=result.no_speech_prob,
            temperature=temperature,
        )

    def _words_of(self, hearing: Hearing) -> tuple[int, ...]:
        """The text tokens of the phrases that will be reported: the model may stop inside the window."""
        if hearing.decoded is None or hearing.decoded.is_silence(hearing.options):
            return ()
        phrases, _, _ = self._phrases(hearing, self._tokenizer(hearing.options))
        return tuple(token for phrase in phrases for token in self._text_tokens(phrase))

    def _text_tokens(self, phrase: Any) -> list[int]:
        """A phrase's tokens but for its timestamps."""
        return [token for token in phrase["tokens"] if token < self._text.eot]

    def _phrases(self, hearing: Hearing, tokenizer: Tokenizer) -> tuple[list[Any], int, bool]:
        """faster-whisper's segments between timestamps, by the clock of the options; the frame of the window up
        to which they reach; and whether the last of them is complete."""
        frames = frames_of(hearing.window)
        clock = round(hearing.options.clock_s / FRAME_S)
        phrases, seek, closed = self._model._split_segments_by_timestamps(
            tokenizer=tokenizer,
            tokens=list(hearing.decoded.tokens if hearing.decoded else ()),
            time_offset=hearing.options.clock_s,
            segment_size=frames,
            segment_duration=frames * FRAME_S,
            seek=clock,
        )
        return phrases, seek - clock, closed

    def _add_words(self, phrases: list[Any], tokenizer: Tokenizer, hearing: Hearing) -> None:
        """Put words into `phrases`. What goes from window to window comes with the options, never by the model."""
        model = copy(self._model)
        model.model = _Aligned(hearing.alignment)
        model.add_word_timestamps(
            [phrases],
            tokenizer,
            None,
            frames_of(hearing.window),
            PREPENDED,
            APPENDED,
            last_speech_timestamp=hearing.options.last_speech_s,
        )

    def _add_logprobs(self, phrases: list[Any], hearing: Hearing) -> None:
        """Put into `phrases` how probable each text token is, given the sound and the text tokens before it."""
        entry_of = self._model.hf_tokenizer.id_to_token
        probabilities = hearing.alignment.text_token_probs
        scored = (
            token_logprob(entry_of(token) or "", probability)
            for token, probability in zip(hearing.words_of, probabilities, strict=True)
        )
        for phrase in phrases:
            phrase["logprobs"] = tuple(islice(scored, len(self._text_tokens(phrase))))

    def _segment(self, phrase: Any, tokenizer: Tokenizer, decoded: Decoded, options: DecodingOptions) -> Segment:
        # A phrase of nothing but punctuation gets no words from faster-whisper: an empty list then.
        words = phrase.get("words", [] if options.word_timestamps else None)
        return Segment(
            id=0,
            seek=0,
            start=float(phrase["start"]) - options.clock_s,  # a numpy scalar where words were aligned
            end=float(phrase["end"]) - options.clock_s,
            text=tokenizer.decode(phrase["tokens"]),
            tokens=tuple(phrase["tokens"]),
            temperature=decoded.temperature,
            avg_logprob=decoded.avg_logprob,
            compression_ratio=decoded.compression_ratio,
            no_speech_prob=decoded.no_speech_prob,
            words=None if words is None else joined(words, options.clock_s, tokenizer.language_code),
            text_tokens=len(self._text_tokens(phrase)),
            logprobs=phrase.get("logprobs"),
        )

    def _tokenizer(self, options: DecodingOptions) -> Tokenizer:
        return Tokenizer(
            self._model.hf_tokenizer,
            self._ct2.is_multilingual,
            task=options.task,
            language=options.language or NO_LANGUAGE,
        )

    def _prompt(self, options: DecodingOptions) -> Prompt:
        prompt, hotwords = (self._encoded(text) for text in (options.prompt, options.hotwords))
        return prompt_of(prompt, hotwords, options.previous_tokens, self._prompt_bucket)

    def _encoded(self, text: str) -> list[int]:
        """Tokens of a caller's text. A `<|startoftranscript|>` spelt out in it must not steer the decoder."""
        text = text.strip()
        return [token for token in self._text.encode(f" {text}") if token < self._text.eot] if text else []

    def _start(self, hearing: Hearing) -> list[int]:
        """What the decoder goes on from: the prompt, if any, and the task."""
        before = hearing.prompt.tokens
        task = self._tokenizer(hearing.options).sot_sequence
        return [self._text.sot_prev, *before, *task] if before else task


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


def _stacked(batch: Sequence[Hearing]) -> Any:
    """The encoder outputs of a batch as one."""
    return _storage(np.concatenate([one.encoded for one in batch]) if len(batch) > 1 else batch[0].encoded)


def _storage(array: npt.NDArray[Any]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
