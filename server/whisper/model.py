"""A Whisper model on CTranslate2: decodes and aligns batches of windows.

Knows ctranslate2, tensors and tokens; no queue, no request. `decode_key` and `align_key`
identify what must be equal inside a batch. `results` turns the tokens into segments.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.transcribe import get_suppressed_tokens

from server.audio.mel import frames_of, log_mel, mel_filters, padded
from server.errors import ModelUnavailable
from server.languages import NAMES
from server.options import DecodingOptions, ModelOptions
from server.system.machine import usable_cpus
from server.transcript import (
    MAX_FRAMES,
    SAMPLE_BYTES,
    SAMPLE_RATE,
    Span,
    Window,
    WindowResult,
)
from server.whisper.decoding import MAX_LENGTH, Prompt, WindowState, prompt_of
from server.whisper.devices import compute_types, pick_device
from server.whisper.results import SegmentBuilder
from server.whisper.tuning import pick_workers, trim

Floats = npt.NDArray[np.float32]

MEDIAN_FILTER = 7  # frames; openai/whisper's
MAX_INITIAL_TIMESTAMP = 50  # index of <|1.00|>: the first segment starts within a second
# Encoder frames for a short window: few distinct lengths, so that batches form. Never twice the mel bands (160,
# 256): CTranslate2 would mistake the encoder's output for features.
CONTEXT_BUCKETS = (1000, 1500, 2000)
CONTEXT_MARGIN = 200


class Whisper:
    """A loaded model. Calls are thread-safe and release the GIL while they compute."""

    def __init__(self, path: Path, options: ModelOptions) -> None:
        """Load the model in folder `path`, which must be complete: nothing is downloaded.

        Without `threads` the usable CPUs are divided among the workers. Raises `ModelUnavailable` with the cause.
        """
        self.device, index = pick_device(options.device)
        wanted = options.compute_type
        self.compute_type = compute_types(self.device, index)[0] if wanted == "auto" else wanted
        self.workers = options.workers or pick_workers(self.device)
        self.threads = options.threads or max(1, usable_cpus() // self.workers)
        self._prompt_bucket = options.prompt_bucket
        self._dynamic_context = options.dynamic_context
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
            self._results = SegmentBuilder(self._model)
            self._text = self._results.text
            self._suppressed = get_suppressed_tokens(self._text, [-1])
        except Exception as error:  # corrupt files raise any error of their readers, tokenizers a bare Exception
            raise ModelUnavailable(f"The model in {path} can't be loaded: {error}") from error

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model knows."""
        if not self._ct2.is_multilingual:
            return ("en",)
        known = self._model.hf_tokenizer
        return tuple(code for code in NAMES if known.token_to_id(f"<|{code}|>") is not None)

    def trim_memory(self) -> None:
        """Release memory that is only cached for the next window."""
        trim()

    def close(self) -> None:
        """Free the weights. No call may be in progress."""
        self._ct2.unload_model()
        trim()

    def warm_up(self, frames: int = MAX_FRAMES) -> None:
        """Encode `frames` and run one decoder step: warms up a new model, or checks that the device works."""
        silence = bytes(SAMPLE_RATE * SAMPLE_BYTES)
        window = Window(0, (Span(0, SAMPLE_RATE),), samples=silence)
        first = [WindowState(window, DecodingOptions(), frames)]
        self.encode(first)
        self.detect(first)

    def decode_key(self, state: WindowState) -> Hashable:
        """Windows can be decoded together if their keys are equal: CTranslate2 needs equal prompt lengths and
        equal search options. Language and task may differ, and so may the words of the prompt."""
        options = state.options
        return (
            state.frames,
            len(state.prompt.tokens),
            state.temperature,
            options.beam_size,
            options.best_of,
            options.patience,
        )

    def align_key(self, state: WindowState) -> Hashable:
        """Windows can be aligned together if their keys are equal: CTranslate2 takes one start sequence."""
        return state.frames, state.options.language, state.options.task

    def start(self, window: Window, options: DecodingOptions) -> WindowState:
        """The initial state of a window."""
        wanted = frames_of(window) + CONTEXT_MARGIN
        buckets = CONTEXT_BUCKETS if self._dynamic_context else ()
        frames = next((frames for frames in buckets if frames >= wanted), MAX_FRAMES)
        return WindowState(window, options, frames, self._prompt(options))

    def encode(self, batch: Sequence[WindowState]) -> None:
        """Compute encoder outputs [1, frames / 2, d] for windows of equal `frames`, on the host."""
        features = np.stack([padded(log_mel(one.window, self._filters), one.frames) for one in batch])
        rows = np.asarray(self._ct2.encode(_storage(features), to_cpu=self.device != "cpu"))
        for row, one in enumerate(batch):
            # Copied if there are several: a view would keep the whole batch alive as long as any of its windows.
            one.encoded = rows[row : row + 1].copy() if len(batch) > 1 else rows

    def detect(self, batch: Sequence[WindowState]) -> None:
        """Detect the language of each window from its encoder output."""
        if not self._ct2.is_multilingual:
            rows = [[("<|en|>", 1.0)] for _ in batch]
        else:
            rows = self._ct2.detect_language(_stacked(batch))
        for one, row in zip(batch, rows, strict=True):
            one.detect([(token[2:-2], probability) for token, probability in row])

    def generate(self, batch: Sequence[WindowState]) -> None:
        """One attempt for windows with equal keys: beam search at temperature 0, else the best sample."""
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
            one.add_attempt(self._results.decoded(result, temperature))
            if one.decoded is not None and (one.options.word_timestamps or one.options.token_logprobs):
                one.align_tokens = self._results.align_tokens(one)

    def align(self, batch: Sequence[WindowState]) -> None:
        """Find the times of the words in windows with one align key, and the probabilities of their tokens."""
        # On a CPU a batch takes up to twice as long as its windows one by one, and the last bits of each window's
        # probabilities would depend on the length of the other texts in the batch.
        for group in [batch] if self.device != "cpu" else [[one] for one in batch]:
            results = self._ct2.align(
                _stacked(group),
                self._results.tokenizer(group[0].options).sot_sequence,
                [list(one.align_tokens) for one in group],
                [frames_of(one.window) for one in group],
                median_filter_width=MEDIAN_FILTER,
            )
            for one, result in zip(group, results, strict=True):
                one.alignment = result

    def result(self, state: WindowState) -> WindowResult:
        """The segments of a decoded window, with words and logprobs if it is aligned for them."""
        return self._results.result(state)

    def _prompt(self, options: DecodingOptions) -> Prompt:
        prompt, hotwords = (self._encoded(text) for text in (options.prompt, options.hotwords))
        return prompt_of(prompt, hotwords, options.previous_tokens, self._prompt_bucket)

    def _encoded(self, text: str) -> list[int]:
        """Tokens of a caller's text. A literal `<|startoftranscript|>` in it must not control the decoder."""
        text = text.strip()
        return [token for token in self._text.encode(f" {text}") if token < self._text.eot] if text else []

    def _start(self, state: WindowState) -> list[int]:
        """The tokens that the decoder starts from: the prompt, if any, and the task."""
        before = state.prompt.tokens
        task = self._results.tokenizer(state.options).sot_sequence
        return [self._text.sot_prev, *before, *task] if before else task


def _search(options: DecodingOptions, temperature: float) -> dict[str, object]:
    if temperature == 0:
        return {"beam_size": options.beam_size, "patience": options.patience}
    # sampling_topk defaults to 1, which is greedy at any temperature; 0 samples from all tokens.
    return {
        "beam_size": 1,
        "num_hypotheses": options.best_of,
        "sampling_topk": 0,
        "sampling_temperature": temperature,
    }


def _stacked(batch: Sequence[WindowState]) -> Any:
    """The encoder outputs of a batch, concatenated."""
    return _storage(np.concatenate([one.encoded for one in batch]) if len(batch) > 1 else batch[0].encoded)


def _storage(array: npt.NDArray[Any]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
