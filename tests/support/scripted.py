"""Whisper models with random weights and the architecture of real ones, built offline.

    python -m tests.support.scripted OUT --size micro --say "Hello world, this is a test." --end 2.4

Without --say their text is noise; the dimensions are real, so timings are. With it a model is scripted: whatever
it hears, it answers these words, as long as no previous text goes before. The vocabulary is OpenAI's, taken
from the demo model.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ctranslate2.specs import WhisperSpec
from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]

DEMO = Path(__file__).parents[2] / "models" / "demo"
ENCODER_POSITIONS = 1500
DECODER_POSITIONS = 448
MAX_ANSWER = 220  # tokens that the decoder gives for an empty prompt
MAX_ALIGNMENT_HEADS = 10
TIME_PRECISION_S = 0.02
COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "int8_float16", "int8_bfloat16")


@dataclass(frozen=True, slots=True)
class Size:
    """Dimensions of a Whisper model."""

    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    feed_forward: int
    mels: int = 80
    languages: int = 99


SIZES: dict[str, Size] = {
    "micro": Size(64, 2, 1, 1, 128),  # for tests: 14 MB, nearly all of it the vocabulary
    "tiny": Size(384, 6, 4, 4, 1536),
    "base": Size(512, 8, 6, 6, 2048),
    "small": Size(768, 12, 12, 12, 3072),
    "medium": Size(1024, 16, 24, 24, 4096),
    "turbo": Size(1280, 20, 32, 4, 5120, 128, 100),
    "large-v3": Size(1280, 20, 32, 32, 5120, 128, 100),
}


@dataclass(frozen=True, slots=True)
class Script:
    """What a scripted model answers: one segment from 0 to `end_s` that says `text`."""

    text: str
    end_s: float = 4.0


def build(
    folder: Path,
    size: str = "micro",
    *,
    script: Script | None = None,
    quantization: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a model into `folder` and return it; raises `ValueError` if the script is too long."""
    dimensions = SIZES[size]
    tokenizer = load_tokenizer(dimensions.languages)
    spec = _spec(dimensions, tokenizer.get_vocab_size(), np.random.default_rng(seed))
    if script:
        _follow(spec, _answer(script, tokenizer))
    _configure(spec, dimensions, tokenizer)
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    features = {
        "feature_size": dimensions.mels,
        "sampling_rate": 16_000,
        "hop_length": 160,
        "chunk_length": 30,
        "n_fft": 400,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(features))
    return folder


def load_tokenizer(languages: int = 99) -> Any:
    """OpenAI's multilingual tokenizer; the hundredth language is Cantonese, which moves what comes behind it."""
    content = json.loads((DEMO / "tokenizer.json").read_text("utf-8"))
    if languages == 100:
        added = content["added_tokens"]
        place = next(n for n, token in enumerate(added) if token["content"] == "<|translate|>")
        added.insert(place, {**added[place], "content": "<|yue|>"})
        for token in added[place + 1 :]:
            token["id"] += 1
    return Tokenizer.from_str(json.dumps(content))


def _spec(size: Size, vocabulary: int, random: np.random.Generator) -> Any:
    spec = WhisperSpec(size.encoder_layers, size.heads, size.decoder_layers, size.heads)
    weights = _Weights(size, random)
    weights.fill_encoder(spec.encoder)
    weights.fill_decoder(spec.decoder, vocabulary)
    return spec


class _Weights:
    """Random weights, scaled so that activations keep their size from layer to layer."""

    def __init__(self, size: Size, random: np.random.Generator) -> None:
        self._size = size
        self._random = random

    def fill_encoder(self, encoder: Any) -> None:
        width = self._size.width
        encoder.conv1.weight, encoder.conv1.bias = self._of(width, self._size.mels, 3), _zeros(width)
        encoder.conv2.weight, encoder.conv2.bias = self._of(width, width, 3), _zeros(width)
        encoder.position_encodings.encodings = _sinusoids(ENCODER_POSITIONS, width)
        self._norm(encoder.layer_norm)
        for layer in encoder.layer:
            self._self_attention(layer.self_attention)
            self._feed_forward(layer.ffn)

    def fill_decoder(self, decoder: Any, vocabulary: int) -> None:
        width = self._size.width
        decoder.embeddings.weight = decoder.projection.weight = self._of(vocabulary, width)
        decoder.position_encodings.encodings = self._of(DECODER_POSITIONS, width)
        self._norm(decoder.layer_norm)
        for layer in decoder.layer:
            self._self_attention(layer.self_attention)
            self._norm(layer.attention.layer_norm)
            for linear, out in zip(layer.attention.linear, (width, 2 * width, width), strict=True):
                self._linear(linear, out, width)
            self._feed_forward(layer.ffn)

    def _self_attention(self, attention: Any) -> None:
        width = self._size.width
        self._norm(attention.layer_norm)
        self._linear(attention.linear[0], 3 * width, width)
        self._linear(attention.linear[1], width, width)

    def _feed_forward(self, layer: Any) -> None:
        self._norm(layer.layer_norm)
        self._linear(layer.linear_0, self._size.feed_forward, self._size.width)
        self._linear(layer.linear_1, self._size.width, self._size.feed_forward)

    def _linear(self, layer: Any, out: int, into: int) -> None:
        layer.weight, layer.bias = self._of(out, into), _zeros(out)

    def _norm(self, layer: Any) -> None:
        layer.gamma, layer.beta = np.ones(self._size.width, np.float32), _zeros(self._size.width)

    def _of(self, *shape: int) -> Floats:
        scale = np.float32(1 / np.sqrt(np.prod(shape[1:])))
        return self._random.standard_normal(shape, dtype=np.float32) * scale


def _zeros(count: int) -> Floats:
    return np.zeros(count, np.float32)


def _sinusoids(length: int, channels: int) -> Floats:
    step = np.log(10_000) / (channels // 2 - 1)
    angles = np.arange(length)[:, None] * np.exp(-step * np.arange(channels // 2))[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _answer(script: Script, tokenizer: Any) -> list[int]:
    """All that the decoder is to give, from the language on."""
    end = f"<|{round(script.end_s / TIME_PRECISION_S) * TIME_PRECISION_S:.2f}|>"
    text: list[int] = tokenizer.encode(f" {script.text.strip()}").ids
    first, last = ("<|en|>", "<|transcribe|>", "<|0.00|>"), (end, "<|endoftext|>")
    answer = [*map(tokenizer.token_to_id, first), *text, *map(tokenizer.token_to_id, last)]
    if len(answer) > MAX_ANSWER:
        raise ValueError(f"the answer has {len(answer)} tokens; at most {MAX_ANSWER} fit")
    return answer


def _follow(spec: Any, answer: list[int]) -> None:
    """Let each position of the decoder predict the answer's next token, whatever the audio."""
    decoder = spec.decoder
    width = decoder.embeddings.weight.shape[1]
    decoder.embeddings.weight *= np.float32(24 / np.sqrt(width))  # the answer's logit is 24 above the mean
    unit = decoder.embeddings.weight / np.linalg.norm(decoder.embeddings.weight, axis=1, keepdims=True)
    positions = np.tile(unit[answer[-1]], (DECODER_POSITIONS, 1))  # behind the answer: end of text
    positions[: len(answer)] = unit[answer]
    decoder.position_encodings.encodings = (200 * positions).astype(np.float32)
    for layer in decoder.layer:  # the layers run, but add nothing
        for last in (layer.self_attention.linear[1], layer.attention.linear[2], layer.ffn.linear_1):
            last.weight = last.weight * np.float32(1e-4)


def _configure(spec: Any, size: Size, tokenizer: Any) -> None:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    spec.register_vocabulary(sorted(vocabulary, key=vocabulary.__getitem__))
    end, start = vocabulary["<|endoftext|>"], vocabulary["<|startoftranscript|>"]
    symbols = json.loads((DEMO / "config.json").read_text("utf-8"))["suppress_ids"]
    tasks = range(vocabulary["<|translate|>"], vocabulary["<|notimestamps|>"])
    spec.config.suppress_ids = [*(token for token in symbols if token < end), start, *tasks]
    spec.config.suppress_ids_begin = [vocabulary["Ġ"], end]
    spec.config.lang_ids = list(range(start + 1, start + 1 + size.languages))
    upper_half = range(size.decoder_layers // 2, size.decoder_layers)
    heads = [[layer, head] for layer in upper_half for head in range(size.heads)]
    spec.config.alignment_heads = heads[:MAX_ALIGNMENT_HEADS]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.scripted", description="Build a Whisper model offline."
    )
    parser.add_argument("folder", type=Path, metavar="OUT")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--quantization", choices=COMPUTE_TYPES, default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--say", help="a scripted model: the words it always answers")
    parser.add_argument("--end", type=float, default=4.0, help="a scripted model: when its words end, s")
    args = parser.parse_args(arguments)
    script = Script(args.say, args.end) if args.say else None
    quantization = None if args.quantization == "float32" else args.quantization
    build(args.folder, args.size, script=script, quantization=quantization, seed=args.seed)
    megabytes = (args.folder / "model.bin").stat().st_size / 1e6
    print(f"{args.folder}: {args.size} {args.quantization}, {megabytes:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
