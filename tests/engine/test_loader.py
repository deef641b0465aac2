"""Loading a model where a compute type doesn't work."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from server.engine.loader import WhisperLoader
from server.errors import ModelUnavailable
from server.options import ModelOptions
from server.whisper.model import Whisper

DEAD = "cuBLAS failed with status CUBLAS_STATUS_NOT_SUPPORTED"


@pytest.fixture
def loader(scripted_model: Path) -> WhisperLoader:
    return WhisperLoader(scripted_model, ModelOptions(device="cpu", threads=1, workers=1, tune_allocator=False))


def let_fail(monkeypatch: pytest.MonkeyPatch, *compute_types: str) -> None:
    """No window can be encoded in these compute types, as int8 can't on some GPUs."""
    encode = Whisper.encode

    def fail(model: Whisper, batch: object) -> None:
        if model.compute_type in compute_types:
            raise RuntimeError(DEAD)
        encode(model, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Whisper, "encode", fail)


def test_a_compute_type_that_fails_gives_way_to_the_next_and_the_log_says_so(
    loader: WhisperLoader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_fail(monkeypatch, "int8")
    with caplog.at_level(logging.INFO):
        loaded = loader.load()
    loaded.probe()
    loaded.model.close()
    assert loaded.facts.compute_type == "float32"
    (line,) = caplog.messages
    assert line.startswith("int8 doesn't work on cpu, using float32 instead: ")
    assert DEAD in line


def test_nothing_is_logged_if_the_best_compute_type_works(
    loader: WhisperLoader, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        loaded = loader.load()
    loaded.model.close()
    assert (loaded.facts.compute_type, caplog.messages) == ("int8", [])


def test_where_none_works_the_model_is_unavailable_for_the_first_reason(
    loader: WhisperLoader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    let_fail(monkeypatch, "int8", "float32")
    with pytest.raises(ModelUnavailable, match=f"fails on cpu with int8: {DEAD}"):
        loader.load()
    assert caplog.messages == []


def test_a_configured_compute_type_has_no_fallback(loader: WhisperLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    let_fail(monkeypatch, "int8")
    with pytest.raises(ModelUnavailable, match=DEAD):
        replace(loader, options=replace(loader.options, compute_type="int8")).load()


def test_a_compute_type_that_does_not_load_gives_way_to_the_next(
    loader: WhisperLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "server.whisper.devices.compute_types", lambda *_: ("float16", "float32")
    )  # no CPU has float16
    loaded = loader.load()
    loaded.model.close()
    assert loaded.facts.compute_type == "float32"
