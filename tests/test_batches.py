"""A window's result does not depend on its neighbours: random batches through the real engine, bit for bit."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine import Engine
from server.job import Limits
from server.options import DecodingOptions
from server.transcript import WindowResult
from server.whisper import Whisper
from tests.conftest import window_of
from tests.fakes import DEADLINE_S
from tests.scripted import build

Asked = tuple[str, DecodingOptions]

BASE = DecodingOptions(temperatures=(0.0,))
FILES = [
    "en_00.wav",
    "en_12.wav",
    "de_digits_1.wav",
    "es_00.wav",
    "human_00.wav",
    "noisy_10db.flac",
    "silence_10s.wav",
]
ASKED = st.builds(
    lambda name, **changes: (name, replace(BASE, **changes)),
    st.sampled_from(FILES),
    language=st.sampled_from([None, "en", "de", "es"]),
    task=st.sampled_from(["transcribe", "translate"]),
    beam_size=st.sampled_from([1, 5]),
    word_timestamps=st.booleans(),
    prompt=st.sampled_from(["", "Hello there", "Good evening"]),
)


class Closable:
    """An engine whose model outlives it."""

    def __init__(self, model: Whisper) -> None:
        self.model = model

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def close(self) -> None:
        """The model is closed by its fixture."""


def through_engine(model: Whisper, batch: list[Asked], limit: int) -> list[WindowResult]:
    engine = Engine(Closable(model), Limits(limit, limit))  # type: ignore[arg-type]  # a Whisper but for `close`
    try:
        futures = [
            engine.submit(window_of(name), options, request=f"r{n % 3}") for n, (name, options) in enumerate(batch)
        ]
        return [future.result(DEADLINE_S) for future in futures]
    finally:
        engine.close()


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whisper]:
    """Random weights: what it says is noise, and as good for comparing as anything."""
    model = Whisper(build(tmp_path_factory.mktemp("random")), device="cpu", threads=1)
    yield model
    model.close()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ASKED, min_size=2, max_size=6), st.integers(2, 6))
def test_any_batch_gives_what_each_window_gives_alone(demo: Whisper, batch: list[Asked], limit: int) -> None:
    together = through_engine(demo, batch, limit)
    assert together == [through_engine(demo, [one], 1)[0] for one in batch]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ASKED, min_size=2, max_size=5))
def test_any_batch_on_random_weights_too(random_model: Whisper, batch: list[Asked]) -> None:
    together = through_engine(random_model, batch, 5)
    assert together == [through_engine(random_model, [one], 1)[0] for one in batch]
