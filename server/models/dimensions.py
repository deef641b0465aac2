"""The dimensions of a Whisper model, from CTranslate2's model.bin or the catalog, and figures derived from them:
parameters, bytes on disk and (estimated) in memory.

Nothing here loads a model: of a file of gigabytes, only the names and shapes of its variables are read.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SPEC = "WhisperSpec"
BINARY_VERSION = 6  # of every conversion of Whisper so far
MAX_VARIABLES = 100_000
AUDIO_POSITIONS, TEXT_POSITIONS = 1500, 448
HEAD_WIDTH = 64  # in every Whisper model
CONVERTED_BYTES = 2  # per parameter on the hub: conversions there are in float16
OTHER_FILES_BYTES = 3_000_000  # tokenizer and vocabulary: 2.7 MB before large-v3, 3.6 MB since
PARAMETER_BYTES = {
    "int8": 1,
    "int8_float32": 1,
    "int8_float16": 1,
    "int8_bfloat16": 1,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
}
HALF_PRECISION = ("int8_float16", "int8_bfloat16", "float16", "bfloat16")  # compute types with 2 bytes per value
RUNTIME_BYTES = {"cpu": 220_000_000, "cuda": 300_000_000}  # Python, libraries, buffers; CUDA's context


@dataclass(frozen=True)
class Dimensions:
    """The sizes that distinguish Whisper models, as openai/whisper's `ModelDimensions`."""

    width: int
    encoder_layers: int
    decoder_layers: int
    mels: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Number of parameters in the checkpoint's tensors, the embedding counted once."""
        d = self.width
        encoder = 3 * d * (self.mels + d) + 2 * d + AUDIO_POSITIONS * d + self.encoder_layers * 12 * d * (d + 1)
        decoder = (self.vocabulary + TEXT_POSITIONS) * d + self.decoder_layers * d * (16 * d + 17)
        return encoder + decoder + 4 * d

    @property
    def download_bytes(self) -> int:
        """Approximate size of a float16 conversion on the hub, with tokenizer and vocabulary."""
        return self.parameters * CONVERTED_BYTES + OTHER_FILES_BYTES

    def estimated_bytes(self, compute_type: str, device: str = "cpu", *, batch: int = 8, beam_size: int = 5) -> int:
        """An estimate of the memory of the loaded model while it decodes `batch` windows of 30 s.

        Weights, plus per window the decoder's keys and values (for the encoder's output, and for half its text in
        every beam) and the encoder's attention scores, twice; a CPU encodes one window at a time. Loading briefly
        needs more: file and weights at once.
        """
        number = 2 if compute_type in HALF_PRECISION else 4
        keys = 2 * self.decoder_layers * self.width * (AUDIO_POSITIONS + beam_size * TEXT_POSITIONS // 2)
        scores = 2 * (self.width // HEAD_WIDTH) * AUDIO_POSITIONS**2
        encoded = batch if device == "cuda" else 1
        weights = self.parameters * PARAMETER_BYTES[compute_type]
        return weights + number * (batch * keys + encoded * scores) + RUNTIME_BYTES[device]


def read_shapes(path: Path) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The model kind in a model.bin and the shapes of its variables by name; ("", {}) if it is no model."""
    try:
        with path.open("rb") as file:
            (version,) = _unpack(file, "I")
            if version != BINARY_VERSION:
                return "", {}
            spec = _text(file)
            _revision, count = _unpack(file, "II")
            return spec, dict(_variable(file) for _ in range(min(count, MAX_VARIABLES)))
    except (OSError, struct.error, UnicodeDecodeError):
        return "", {}


def read_dimensions(path: Path) -> Dimensions | None:
    """Dimensions of the Whisper model in a model.bin; None if the file holds none."""
    spec, shapes = read_shapes(path)
    try:
        width, mels, _ = shapes["encoder/conv1/weight"]
        vocabulary, _ = shapes["decoder/embeddings/weight"]
    except (KeyError, ValueError):
        return None
    encoder, decoder = (_layers(shapes, side) for side in ("encoder", "decoder"))
    return Dimensions(width, encoder, decoder, mels, vocabulary) if spec == SPEC else None


def _layers(shapes: dict[str, tuple[int, ...]], side: str) -> int:
    return len({name.split("/")[1] for name in shapes if name.startswith(f"{side}/layer_")} - {"layer_norm"})


def _variable(file: BinaryIO) -> tuple[str, tuple[int, ...]]:
    name = _text(file)
    (rank,) = _unpack(file, "B")
    shape = _unpack(file, f"{rank}I")
    _kind, size = _unpack(file, "BI")
    file.seek(size, 1)
    return name, shape


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "H")
    return file.read(length).rstrip(b"\0").decode()


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))
