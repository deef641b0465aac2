import struct
from pathlib import Path

import pytest

from server.models.dimensions import PARAMETER_BYTES, Dimensions, read_dimensions, read_shapes

# As `sum(p.numel() for p in model.parameters())` says of OpenAI's checkpoints in transformers.
CHECKPOINTS = {
    "tiny": (Dimensions(384, 4, 4, 80, 51865), 37_760_640),
    "base": (Dimensions(512, 6, 6, 80, 51865), 72_593_920),
    "small": (Dimensions(768, 12, 12, 80, 51865), 241_734_912),
    "medium": (Dimensions(1024, 24, 24, 80, 51865), 763_857_920),
    "large-v2": (Dimensions(1280, 32, 32, 80, 51865), 1_543_304_960),
    "large-v3": (Dimensions(1280, 32, 32, 128, 51866), 1_543_490_560),
    "large-v3-turbo": (Dimensions(1280, 32, 4, 128, 51866), 808_878_080),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_parameter_count_follows_from_the_dimensions(name: str) -> None:
    dimensions, parameters = CHECKPOINTS[name]
    assert dimensions.parameters == parameters


def test_dimensions_are_read_from_a_model(scripted_model: Path, demo_model: Path) -> None:
    assert read_dimensions(scripted_model / "model.bin") == Dimensions(64, 1, 1, 80, 51865)
    demo = read_dimensions(demo_model / "model.bin")
    assert demo is not None
    assert demo.parameters == pytest.approx(8.55e6, rel=0.01)  # its card says 8.6 million


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"version https://git-lfs.github.com/spec/v1\n",
        struct.pack("<I", 6),
        struct.pack("<IH12sII", 6, 12, b"WhisperSpec\0", 3, 0),
        struct.pack("<IH12sII", 6, 12, b"WhisperSpec\0", 3, 0xFFFFFFFF),
        struct.pack("<IH2sII", 6, 2, b"\xff\0", 3, 0),
    ],
)
def test_a_model_that_is_no_whisper_has_no_dimensions(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    assert read_dimensions(tmp_path / "model.bin") is None
    assert read_dimensions(tmp_path / "missing.bin") is None


def test_a_truncated_model_has_no_shapes(tmp_path: Path, demo_model: Path) -> None:
    (tmp_path / "model.bin").write_bytes((demo_model / "model.bin").read_bytes()[:1000])
    assert read_shapes(tmp_path / "model.bin") == ("", {})


# Measured on a CPU (VmHWM after a batch that was decoded to its last token): see docs/performance.md.
@pytest.mark.parametrize(
    ("name", "compute_type", "batch", "measured"),
    [("tiny", "int8", 8, 625e6), ("base", "int8", 8, 956e6), ("base", "float32", 4, 783e6)],
)
def test_memory_is_estimated_as_it_was_measured(name: str, compute_type: str, batch: int, measured: float) -> None:
    estimate = CHECKPOINTS[name][0].estimated_bytes(compute_type, batch=batch)
    assert measured * 0.95 < estimate < measured * 1.2


def test_memory_grows_with_precision_batch_and_device() -> None:
    dimensions, parameters = CHECKPOINTS["large-v3"]
    for device in ("cpu", "cuda"):
        assert all(dimensions.estimated_bytes(kind, device) > parameters for kind in PARAMETER_BYTES)
        assert dimensions.estimated_bytes("int8", device) < dimensions.estimated_bytes("float32", device)
        one, eight = (dimensions.estimated_bytes("int8", device, batch=batch) for batch in (1, 8))
        assert one < eight
    assert dimensions.estimated_bytes("float16", "cuda", batch=1) == pytest.approx(4.0e9, rel=0.02)
