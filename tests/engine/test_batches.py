"""A window's result does not depend on its neighbours: random batches through the real engine, bit for bit."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine.engine import Engine
from server.engine.limits import BatchLimits
from server.options import DecodingOptions, ModelOptions
from server.transcript import CONTEXT_SAMPLES, MAX_WINDOW_S, SAMPLE_RATE, Window, WindowResult
from server.whisper.model import Whisper
from tests.conftest import RECORDINGS, samples_of, window_of
from tests.support.fakes import DEADLINE_S
from tests.support.scripted import build

pytestmark = pytest.mark.numeric

Asked = tuple[str, int, DecodingOptions]  # a recording and at which hundredth of it the window lies

MAX_SAMPLES = int(MAX_WINDOW_S * SAMPLE_RATE)
BASE = DecodingOptions(temperatures=(0.0,))
QUICK = [
    "en_00.wav",
    "en_12.wav",
    "de_digits_1.wav",
    "es_00.wav",
    "human_00.wav",
    "noisy_10db.flac",
    "silence_10s.wav",
]
OPTIONS = st.builds(
    lambda **changes: replace(BASE, **changes),
    language=st.sampled_from([None, "en", "de", "es"]),
    task=st.sampled_from(["transcribe", "translate"]),
    beam_size=st.sampled_from([1, 5]),
    word_timestamps=st.booleans(),
    token_logprobs=st.booleans(),
    prompt=st.sampled_from(["", "Hello there", "Good evening"]),
)


def asked_of(names: list[str], most: int) -> st.SearchStrategy[list[Asked]]:
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 100), OPTIONS), min_size=2, max_size=most)


def window_in(name: str, percent: int) -> Window:
    """At most 30 s of a recording."""
    samples = samples_of(name)
    length = min(len(samples), MAX_SAMPLES)
    start = (len(samples) - length) * percent // 100
    return window_of(samples, start, start + length, context=CONTEXT_SAMPLES)


class Closable:
    """An engine whose model outlives it."""

    def __init__(self, model: Whisper) -> None:
        self.model = model

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def close(self) -> None:
        """The model is closed by its fixture."""


def through_engine(model: Whisper, batch: list[Asked], limit: int) -> list[WindowResult]:
    engine = Engine(Closable(model), BatchLimits(limit, limit))  # type: ignore[arg-type]  # a Whisper but for `close`
    try:
        futures = [
            engine.submit(window_in(name, percent), options, request=f"r{n % 3}")
            for n, (name, percent, options) in enumerate(batch)
        ]
        return [future.result(DEADLINE_S) for future in futures]
    finally:
        engine.close()


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whisper]:
    """Random weights: what it says is noise, and as good for comparing as anything."""
    model = Whisper(build(tmp_path_factory.mktemp("random")), ModelOptions(device="cpu", threads=1))
    yield model
    model.close()


def assert_alike(model: Whisper, batch: list[Asked], limit: int) -> None:
    together = through_engine(model, batch, limit)
    assert together == [through_engine(model, [one], 1)[0] for one in batch]


def examples(count: int) -> settings:
    return settings(
        max_examples=count, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )


@examples(8)
@given(asked_of(QUICK, 6), st.integers(2, 6))
def test_any_batch_gives_what_each_window_gives_alone(demo: Whisper, batch: list[Asked], limit: int) -> None:
    assert_alike(demo, batch, limit)


@examples(5)
@given(asked_of(QUICK, 5))
def test_any_batch_on_random_weights_gives_the_same_results(random_model: Whisper, batch: list[Asked]) -> None:
    assert_alike(random_model, batch, 5)


@pytest.mark.slow
@examples(15)
@given(asked_of(RECORDINGS, 8), st.integers(2, 8))
def test_any_batch_of_any_recordings_gives_the_same_results(demo: Whisper, batch: list[Asked], limit: int) -> None:
    assert_alike(demo, batch, limit)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(9))
def test_every_recording_is_the_same_among_others(demo: Whisper, first: int) -> None:
    options = replace(BASE, word_timestamps=True, token_logprobs=True)
    assert_alike(demo, [(name, 30, options) for name in RECORDINGS[first::9]], 8)
