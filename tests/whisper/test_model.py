import copy
import math
import shutil
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import ctranslate2
import numpy as np
import pytest
from faster_whisper import WhisperModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from server.errors import ModelUnavailable
from server.options import FALLBACK_TEMPERATURES, MAX_PROMPT, DecodingOptions, ModelOptions
from server.transcript import SAMPLE_RATE, Window, WindowResult
from server.whisper.decoding import DecodingResult, WindowState
from server.whisper.model import CONTEXT_BUCKETS, Whisper
from tests.conftest import SCRIPTED_END_S, SCRIPTED_TEXT, samples_of, window_of
from tests.support.reference import as_floats, reference_of
from tests.support.scripted import Script, build
from tests.support.stepping import transcribe
from tests.whisper.test_results import raw_words

pytestmark = pytest.mark.numeric

ENGLISH = DecodingOptions(language="en")
WORDS = DecodingOptions(language="en", word_timestamps=True)

NOISE = np.random.default_rng(3).integers(-5_000, 5_000, 3 * SAMPLE_RATE).astype(np.int16)


class WatchedModel:
    """A CTranslate2 model that notes how it is called."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.encoded = 0  # windows
        self.aligned = 0
        self.prompts: list[list[int]] = []
        self.is_multilingual = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, features: Any, **options: Any) -> Any:
        self.encoded += features.shape[0]
        return self._model.encode(features, **options)

    def generate(self, features: Any, prompts: list[list[int]], **options: Any) -> Any:
        self.prompts += prompts
        return self._model.generate(features, prompts, **options)

    def align(self, features: Any, *arguments: Any, **options: Any) -> Any:
        self.aligned += features.shape[0]
        return self._model.align(features, *arguments, **options)


@pytest.fixture
def watched(demo: Whisper, monkeypatch: pytest.MonkeyPatch) -> WatchedModel:
    """The demo model, watched from now on."""
    watched = WatchedModel(demo._ct2)
    monkeypatch.setattr(demo, "_ct2", watched)
    monkeypatch.setattr(demo._model, "model", watched)
    return watched


@pytest.fixture(scope="module")
def reference(demo_model: Path) -> WhisperModel:
    """faster-whisper itself with the demo model."""
    return reference_of(demo_model)


def alone(model: Whisper, window: Window, options: DecodingOptions = ENGLISH) -> WindowResult:
    (result,) = transcribe(model, [(window, options)])
    return result


def text_of(result: WindowResult) -> str:
    return "".join(segment.text for segment in result.segments)


def decoded(
    text: str = "",
    tokens: Sequence[int] = (),
    temperature: float = 0.0,
    measures: Mapping[str, float] = MappingProxyType({}),
) -> DecodingResult:
    """A good decoding, but for the `measures` given."""
    good = {"avg_logprob": -0.2, "compression_ratio": 1.2, "no_speech_prob": 0.1}
    return DecodingResult(tuple(tokens), text, temperature=temperature, **{**good, **measures})


def tokens_of(model: Whisper, *parts: str | float) -> tuple[int, ...]:
    """Tokens of texts and, where a number stands, of timestamps."""
    vocabulary = model._model.hf_tokenizer
    tokens: list[int] = []
    for part in parts:
        tokens += (
            vocabulary.encode(part).ids if isinstance(part, str) else [vocabulary.token_to_id(f"<|{part:.2f}|>")]
        )
    return tuple(tokens)


def returning(answer: DecodingResult, model: Whisper) -> Callable[[Sequence[WindowState]], None]:
    """A `generate` of `model` whose every try is `answer`."""

    def generate(batch: Sequence[WindowState]) -> None:
        for one in batch:
            one.add_attempt(answer)
            if one.options.word_timestamps or one.options.token_logprobs:
                one.align_tokens = model._results.align_tokens(one)

    return generate


# What a window becomes


def test_a_scripted_model_says_its_text_at_its_time(scripted: Whisper) -> None:
    result = alone(scripted, window_of(NOISE))
    (segment,) = result.segments
    assert (segment.text, segment.start, segment.end) == (SCRIPTED_TEXT, 0.0, SCRIPTED_END_S)
    assert segment.tokens == tokens_of(scripted, 0.0, SCRIPTED_TEXT, SCRIPTED_END_S)
    assert (segment.seek, segment.temperature, segment.words) == (0, 0.0, None)
    assert -0.01 < segment.avg_logprob <= 0
    assert (result.language, result.consumed, result.language_probs) == ("en", 3 * SAMPLE_RATE, ())


def test_the_demo_model_transcribes_its_sentences(demo: Whisper, manifest: list[dict[str, Any]]) -> None:
    wanted = [entry for entry in manifest if entry["file"] in {"en_00.wav", "en_12.wav", "es_00.wav", "de_02.wav"}]
    assert len(wanted) == 4
    for entry in wanted:
        result = alone(demo, window_of(entry["file"]), DecodingOptions())
        assert (result.language, text_of(result).strip()) == (entry["language"], entry["text"])


def test_values_are_plain_python(demo: Whisper) -> None:
    (segment,) = alone(demo, window_of("en_00.wav"), replace(WORDS, language=None)).segments
    assert segment.words
    numbers = [segment.start, segment.end, segment.avg_logprob, segment.compression_ratio, segment.no_speech_prob]
    numbers += [each for word in segment.words for each in (word.start, word.end, word.probability)]
    assert {type(number) for number in numbers} == {float}
    assert {type(token) for token in segment.tokens} == {int}


@pytest.mark.parametrize("name", ["silence_10s.wav", "noise_10s.flac"])
def test_silence_and_noise_have_no_segments(demo: Whisper, name: str) -> None:
    window = window_of(name)
    result = alone(demo, window, replace(WORDS, language=None))
    assert result.segments == ()
    assert result.consumed == window.length


def test_words_that_the_model_doubts_and_takes_for_silence_are_dropped(
    scripted: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = {"no_speech_prob": 0.9, "avg_logprob": -1.5}
    answer = decoded(tokens=tokens_of(scripted, 0.0, " Thank you.", 1.0, 1.0), measures=doubtful)
    monkeypatch.setattr(scripted, "generate", returning(answer, scripted))
    assert alone(scripted, window_of(NOISE)) == WindowResult((), "en", 3 * SAMPLE_RATE, silent=True)


def test_words_make_up_their_segment(demo: Whisper) -> None:
    result = alone(demo, window_of("noisy_10db.flac"), WORDS)
    assert len(result.segments) == 2
    for segment in result.segments:
        assert segment.words
        assert "".join(word.word for word in segment.words) == segment.text
        assert (segment.words[0].start, segment.words[-1].end) == (segment.start, segment.end)
        times = [time for word in segment.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(0 < word.probability <= 1 for word in segment.words)


@pytest.mark.parametrize(
    ("parts", "texts", "consumed_s"),
    [
        ((0.0, " Good", 1.0, 1.0), [" Good"], 1.0),
        ((0.0, " Good", 1.0, 1.0, " evening"), [" Good"], 1.0),
        ((0.0, " Good", 1.0, 1.2, " evening", 1.8, 1.8), [" Good", " evening"], 1.8),
        ((0.0, " Good", 1.0, 1.0, " evening", 1.8), [" Good", " evening"], 3.0),
        ((0.0, " Good", 1.0), [" Good"], 3.0),
        ((0.0, " Good"), [" Good"], 3.0),
        ((0.0, " Good", 4.0, 4.0), [" Good"], 3.0),  # never more than there is
        ((0.0, 0.0), [], 0.0),
        ((0.0, " Good", 1.0, 1.0, 2.0, 2.0), [" Good"], 2.0),  # no text, no segment
        ((0.0, " Good", 1.0, 1.0, " evening", 1.0, 1.0), [" Good"], 1.0),  # no duration, no segment
    ],
)
def test_where_the_model_stops_inside_a_window_the_rest_is_not_consumed(
    scripted: Whisper,
    monkeypatch: pytest.MonkeyPatch,
    parts: tuple[str | float, ...],
    texts: list[str],
    consumed_s: float,
) -> None:
    answer = decoded(tokens=tokens_of(scripted, *parts))
    monkeypatch.setattr(scripted, "generate", returning(answer, scripted))
    result = alone(scripted, window_of(NOISE))
    assert [segment.text for segment in result.segments] == texts
    assert result.consumed == consumed_s * SAMPLE_RATE


def test_silence_gives_no_text(tmp_path: Path) -> None:
    model = Whisper(
        build(tmp_path, script=Script("(music) Hello ♪ there [sic]")), ModelOptions(device="cpu", threads=1)
    )
    text = text_of(alone(model, window_of(NOISE)))
    model.close()
    assert "Hello" in text
    assert not set(text) & set("()♪[]")


# Batches


def key_of(model: Whisper, options: DecodingOptions) -> Hashable:
    return model.decode_key(model.start(window_of(NOISE), options))


def batch_of_many_kinds() -> list[tuple[Window, DecodingOptions]]:
    """Languages, tasks, prompts and window lengths all differ; two windows ask for the language."""
    base = DecodingOptions(prompt="Hello there", word_timestamps=True)
    return [
        (window_of("en_00.wav"), replace(base, language="en")),
        (window_of("de_digits_1.wav"), replace(base, language="de", task="translate")),
        (window_of("es_00.wav"), base),
        (window_of("noisy_10db.flac"), replace(base, language="en", word_timestamps=False)),
        (window_of("human_00.wav"), replace(base, prompt="Good evening")),
        (window_of("silence_10s.wav"), replace(base, language="en")),
        (window_of("de_00.wav"), replace(base, language="de")),
    ]


@pytest.mark.parametrize("changes", [{}, {"beam_size": 1}, {"prompt": "", "temperatures": (0.0,)}])
def test_a_window_in_a_batch_is_the_window_alone_bit_for_bit(demo: Whisper, changes: dict[str, Any]) -> None:
    batch = [(window, replace(options, **changes)) for window, options in batch_of_many_kinds()]
    assert len({key_of(demo, options) for _, options in batch}) == 1
    together = transcribe(demo, batch)
    assert together == [alone(demo, window, options) for window, options in batch]
    assert len({text_of(result) for result in together}) >= 6
    assert {result.language for result in together} == {"en", "de", "es"}


def test_windows_of_several_threads_do_not_disturb_each_other(demo: Whisper) -> None:
    batch = batch_of_many_kinds()
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda each: alone(demo, *each), batch))
    assert results == transcribe(demo, batch)


@pytest.mark.parametrize(
    ("changes", "equal"),
    [
        ({"language": "de"}, True),
        ({"language": None}, True),
        ({"task": "translate"}, True),
        ({"word_timestamps": True}, True),
        ({"prompt": "Good evening"}, True),
        ({"prompt": "Good evening and thank you"}, False),
        ({"prompt": ""}, False),
        ({"hotwords": "Anna"}, False),
        ({"beam_size": 1}, False),
        ({"best_of": 1}, False),
        ({"patience": 2.0}, False),
        ({"temperatures": (0.0,)}, True),
        ({"temperatures": (0.4,)}, False),
    ],
)
def test_batch_keys_differ_where_a_batch_must_be_equal(demo: Whisper, changes: dict[str, Any], equal: bool) -> None:
    options = replace(ENGLISH, prompt="Hello there")
    assert (key_of(demo, options) == key_of(demo, replace(options, **changes))) is equal


def test_a_window_is_encoded_once_whatever_is_done_with_it(demo: Whisper, watched: WatchedModel) -> None:
    options = DecodingOptions(word_timestamps=True, logprob_threshold=1.0, temperatures=(0.0, 0.5))
    results = transcribe(demo, [(window_of("en_00.wav"), options), (window_of("es_00.wav"), options)])
    assert [result.language for result in results] == ["en", "es"]
    assert all(result.segments and result.segments[0].words for result in results)
    assert len(watched.prompts) == 4  # two tries for each
    assert watched.encoded == 2


def test_warming_up_runs_the_model(demo: Whisper, watched: WatchedModel) -> None:
    demo.warm_up()
    assert watched.encoded == 1


# Languages


def test_the_demo_model_knows_the_languages_of_its_vocabulary(demo: Whisper) -> None:
    assert len(demo.languages) == 99
    assert {"en", "de", "es"} <= set(demo.languages)
    assert "yue" not in demo.languages


def test_detected_languages_come_best_first_and_add_up(demo: Whisper) -> None:
    probs = alone(demo, window_of("de_00.wav"), DecodingOptions()).language_probs
    assert probs[0][0] == "de"
    assert [p for _, p in probs] == sorted((p for _, p in probs), reverse=True)
    assert sum(p for _, p in probs) == pytest.approx(1.0, abs=1e-3)


def test_a_language_is_detected_among_those_allowed(demo: Whisper) -> None:
    result = alone(demo, window_of("en_00.wav"), DecodingOptions(languages=("fr", "es", "de")))
    assert {code for code, _ in result.language_probs} == {"fr", "es", "de"}
    assert result.language == result.language_probs[0][0] != "en"


def test_where_none_of_the_allowed_languages_is_known_all_are_allowed(demo: Whisper) -> None:
    assert alone(demo, window_of("en_00.wav"), DecodingOptions(languages=("yue",))).language == "en"


def test_a_model_of_english_alone_detects_nothing(demo: Whisper, watched: WatchedModel) -> None:
    watched.is_multilingual = False
    window = window_of("en_00.wav")
    asked, given = transcribe(demo, [(window, DecodingOptions()), (window, ENGLISH)])
    assert (asked.language, asked.language_probs) == ("en", (("en", 1.0),))
    assert (given.language, given.language_probs) == ("en", ())
    assert demo.languages == ("en",)
    assert [len(prompt) for prompt in watched.prompts[:2]] == [1, 1]  # neither language nor task


# Prompts


def numbered_words(count: int) -> str:
    return " ".join(f"word{number}" for number in range(count))


def asked_with(demo: Whisper, watched: WatchedModel, **changes: Any) -> list[int]:
    """The decoder's prompt for these options: the first, for it is decoded without one that leaves no text."""
    options = replace(ENGLISH, temperatures=(0.0,), **changes)
    before = len(watched.prompts)
    assert alone(demo, window_of("en_00.wav"), options).consumed > 0
    return watched.prompts[before]


def task_tokens(demo: Whisper, *names: str) -> list[int]:
    return [demo._model.hf_tokenizer.token_to_id(f"<|{name}|>") for name in names]


def test_without_previous_text_the_prompt_is_the_task(demo: Whisper, watched: WatchedModel) -> None:
    tokens = asked_with(demo, watched, language="de", task="translate", prompt=" \n", hotwords=" ")
    assert tokens == task_tokens(demo, "startoftranscript", "de", "translate")


def test_the_prompt_goes_before_the_task(demo: Whisper, watched: WatchedModel) -> None:
    tokens = asked_with(demo, watched, prompt=" Anna and Tom\n")
    before, after = (
        task_tokens(demo, "startofprev"),
        task_tokens(demo, "startoftranscript", "en", "transcribe"),
    )
    assert tokens == [*before, *tokens_of(demo, " Anna and Tom"), *after]


def test_the_end_of_a_long_prompt_survives(demo: Whisper, watched: WatchedModel) -> None:
    text = numbered_words(1_000)
    tokens = asked_with(demo, watched, prompt=text, hotwords="Anna")
    assert MAX_PROMPT == 223
    assert tokens[1:-3] == [*tokens_of(demo, " Anna"), *tokens_of(demo, f" {text}")[-223:]]
    assert tokens[-3:] == task_tokens(demo, "startoftranscript", "en", "transcribe")


def test_hotwords_fill_what_the_prompt_leaves(demo: Whisper, watched: WatchedModel) -> None:
    hotwords, prompt = numbered_words(500), "Anna and Tom"
    tokens = asked_with(demo, watched, prompt=prompt, hotwords=hotwords)
    last = list(tokens_of(demo, f" {prompt}"))
    first = list(tokens_of(demo, f" {hotwords}"))[: 223 - len(last)]
    assert tokens[1:-3] == first + last


def test_hotwords_alone_keep_their_beginning(demo: Whisper, watched: WatchedModel) -> None:
    hotwords = numbered_words(500)
    assert asked_with(demo, watched, hotwords=hotwords)[1:-3] == list(tokens_of(demo, f" {hotwords}"))[:223]


def test_a_hundred_thousand_characters_of_prompt_work(demo: Whisper, watched: WatchedModel) -> None:
    assert len(asked_with(demo, watched, prompt="lamp " * 20_000, hotwords="x" * 100_000)) == 1 + 64 + 223 + 3


CONTROL = "<|startoftranscript|><|de|><|translate|> Anna <|endoftext|><|startofprev|><|0.00|> Tom"


@pytest.mark.parametrize("field", ["prompt", "hotwords"])
def test_control_tokens_in_a_prompt_are_left_out(demo: Whisper, watched: WatchedModel, field: str) -> None:
    tokens = asked_with(demo, watched, **{field: CONTROL})
    end = task_tokens(demo, "endoftext")[0]
    assert all(token < end for token in tokens[1:-3])
    assert demo._model.hf_tokenizer.decode(tokens[1:-3]).split() == ["Anna", "Tom"]


def test_control_tokens_in_a_prompt_do_not_fail_its_neighbours(demo: Whisper) -> None:
    bad = replace(ENGLISH, prompt="<|startoftranscript|> Anna Anna")
    others = [replace(ENGLISH, prompt="Anna " * count) for count in range(1, 9)]
    (good,) = [options for options in others if key_of(demo, options) == key_of(demo, bad)]
    window = window_of("en_00.wav")
    assert transcribe(demo, [(window, bad), (window, good)])[1] == alone(demo, window, good)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hotwords": "Anna"},
        {"hotwords": numbered_words(20), "prompt": "Anna and Tom"},
        {"hotwords": numbered_words(20), "prompt": numbered_words(500)},
        {"hotwords": numbered_words(500)},
        {"hotwords": "Anna", "prompt": "Tom", "previous_tokens": tuple(range(1000, 1300))},
        {"hotwords": numbered_words(20), "previous_tokens": tuple(range(1000, 1100))},
    ],
)
def test_prompts_equal_those_of_faster_whisper(
    demo: Whisper, watched: WatchedModel, reference: WhisperModel, changes: dict[str, Any]
) -> None:
    tokens = asked_with(demo, watched, **changes)
    options = replace(ENGLISH, **changes)
    previous = [*(tokens_of(demo, f" {options.prompt}") if options.prompt else ()), *options.previous_tokens]
    assert tokens == reference.get_prompt(demo._text, previous, hotwords=options.hotwords or None)


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, ()),
        ({"prompt": "Anna and Tom"}, (" Anna and Tom",)),
        ({"prompt": "Anna", "hotwords": "Tom"}, (" Tom", " Anna")),
        ({"prompt": "Anna", "previous_tokens": tuple(range(1000, 1100))}, (" Anna",)),
    ],
)
@pytest.mark.parametrize("name", ["en_00.wav", "silence_10s.wav"])
def test_prompt_tokens_are_the_callers(
    demo: Whisper, name: str, changes: dict[str, Any], counted: tuple[str, ...]
) -> None:
    result = alone(demo, window_of(name), replace(ENGLISH, **changes))
    assert result.prompt_tokens == len(tokens_of(demo, *counted))


# Fallback

# Thresholds: compression ratio 2.4, logprob -1.0, no speech 0.6; those of short texts are in test_decoding.py.
TABLE = DecodingOptions(doubted_tokens=0)


@pytest.mark.parametrize(
    ("measures", "failed", "silence"),
    [
        ({}, False, False),
        ({"compression_ratio": 2.4}, False, False),
        ({"compression_ratio": 2.5}, True, False),
        ({"avg_logprob": -1.0}, False, False),
        ({"avg_logprob": -1.1}, True, False),
        ({"no_speech_prob": 0.9}, False, False),  # sure of its words
        ({"no_speech_prob": 0.6, "avg_logprob": -1.1}, True, False),
        ({"no_speech_prob": 0.7, "avg_logprob": -1.1}, False, True),
        ({"no_speech_prob": 0.7, "avg_logprob": -1.0}, False, True),
        ({"no_speech_prob": 0.7, "avg_logprob": -1.1, "compression_ratio": 2.5}, False, True),
        ({"no_speech_prob": 0.7, "compression_ratio": 2.5}, True, False),
    ],
)
def test_a_decoding_fails_or_is_silence(measures: dict[str, float], failed: bool, silence: bool) -> None:
    one = decoded(measures=measures)
    assert one.failed(TABLE) is failed
    assert one.is_silence(TABLE) is silence


@pytest.mark.parametrize(
    ("tries", "chosen"),
    [
        ([{}], 0),
        ([{"avg_logprob": -1.1}, {"avg_logprob": -0.9}], 1),
        ([{"compression_ratio": 3.0, "avg_logprob": -0.1}, {"avg_logprob": -0.9}], 1),
        ([{"avg_logprob": -1.1}, {"avg_logprob": -1.5}], 0),
        ([{"avg_logprob": -1.5}, {"avg_logprob": -1.1}, {"avg_logprob": -1.2}], 1),
        # Repetition is worse than doubt ...
        ([{"avg_logprob": -0.1, "compression_ratio": 3.0}, {"avg_logprob": -1.1}], 1),
        # ... but where all repeat themselves, the surest is taken.
        ([{"avg_logprob": -0.3, "compression_ratio": 3.0}, {"avg_logprob": -0.5, "compression_ratio": 2.5}], 0),
    ],
)
def test_the_best_attempt_is_chosen(tries: list[dict[str, float]], chosen: int) -> None:
    ladder = [decoded(str(n), temperature=n / 5, measures=measures) for n, measures in enumerate(tries)]
    state = WindowState(window_of(NOISE), replace(TABLE, temperatures=tuple(one.temperature for one in ladder)))
    for one in ladder:
        state.add_attempt(one)
    best = state.decoded
    assert best
    assert best.text == str(chosen)
    assert best.temperature == ladder[-1].temperature


class ScriptedGenerator:
    """A CTranslate2 model whose outcome at each temperature a test tells."""

    def __init__(self, outcomes: dict[float, Any]) -> None:
        self._outcomes = outcomes
        self.is_multilingual = True

    def generate(self, features: Any, prompts: list[Any], *, sampling_temperature: float = 0.0, **_: Any) -> Any:
        return [self._outcomes[sampling_temperature] for _ in prompts]


REPETITIVE, PLAIN = " to to" * 40, " Good evening"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from([-0.5, -0.99, -1.01, -3.0]), st.sampled_from([0.5, 0.7]), st.booleans()),
        min_size=1,
        max_size=6,
    )
)
def test_fallback_does_what_faster_whisper_does(demo: Whisper, attempts: list[tuple[float, float, bool]]) -> None:
    ladder = FALLBACK_TEMPERATURES[: len(attempts)]
    outcomes = {}
    for temperature, (logprob, no_speech_prob, repetitive) in zip(ladder, attempts, strict=True):
        tokens = list(tokens_of(demo, 0.0, REPETITIVE if repetitive else PLAIN, 1.0 + temperature))
        score = logprob * (len(tokens) + 1) / len(tokens)
        outcomes[temperature] = SimpleNamespace(
            sequences_ids=[tokens], scores=[score], no_speech_prob=no_speech_prob
        )
    model, theirs = copy.copy(demo), copy.copy(demo._model)
    model._ct2 = theirs.model = ScriptedGenerator(outcomes)
    options = replace(ENGLISH, temperatures=ladder, doubted_tokens=0)  # a rule of ours alone
    state = WindowState(window_of(NOISE), options, encoded=np.zeros((1, 1500, 128), np.float32))
    while state.decoded is None:
        model.generate([state])
    ours = state.decoded
    result, avg_logprob, temperature, compression_ratio = theirs.generate_with_fallback(
        None, [], model._results.tokenizer(options), faster_whisper_defaults(temperatures=ladder)
    )
    assert ours.tokens == tuple(result.sequences_ids[0])
    assert ours.avg_logprob == pytest.approx(avg_logprob)
    assert (ours.temperature, ours.compression_ratio) == (temperature, compression_ratio)
    assert ours.no_speech_prob == result.no_speech_prob


def faster_whisper_defaults(temperatures: Sequence[float]) -> SimpleNamespace:
    """faster-whisper's decoding options as its `transcribe` has them by default."""
    return SimpleNamespace(
        temperatures=temperatures,
        max_initial_timestamp=1.0,
        max_new_tokens=None,
        best_of=5,
        beam_size=5,
        patience=1,
        length_penalty=1,
        repetition_penalty=1,
        no_repeat_ngram_size=0,
        suppress_blank=True,
        suppress_tokens=[],
        compression_ratio_threshold=2.4,
        log_prob_threshold=-1.0,
        no_speech_threshold=0.6,
    )


def test_if_every_attempt_fails_the_best_has_the_last_temperature(demo: Whisper) -> None:
    window = window_of("en_00.wav")
    expected = alone(demo, window)
    result = alone(demo, window, replace(ENGLISH, logprob_threshold=1.0))
    assert {segment.temperature for segment in result.segments} == {1.0}
    assert result.segments[0].avg_logprob >= expected.segments[0].avg_logprob
    assert text_of(result) == text_of(expected)


@pytest.fixture(scope="module")
def noisy(demo: Whisper) -> WindowState:
    """A recording that the model is not sure of, encoded."""
    state = demo.start(window_of("noisy_10db.flac"), ENGLISH)
    demo.encode([state])
    return state


def samples_drawn(
    demo: Whisper, encoded: WindowState, best_of: int, count: int, temperature: float = 1.0
) -> list[DecodingResult]:
    options = replace(ENGLISH, best_of=best_of, temperatures=(temperature,))
    states = [replace(encoded, options=options, attempts=[], decoded=None) for _ in range(count)]
    for state in states:
        demo.generate([state])
    return [state.attempts[-1] for state in states]


def test_a_temperature_above_zero_really_samples(demo: Whisper, noisy: WindowState) -> None:
    assert len({one.tokens for one in samples_drawn(demo, noisy, 1, 10)}) > 5
    assert len({one.tokens for one in samples_drawn(demo, noisy, 1, 3, temperature=0.0)}) == 1


def test_the_best_of_several_samples_is_taken(demo: Whisper, noisy: WindowState) -> None:
    # -0.58 against -1.10, five standard deviations apart
    best = [one.avg_logprob for one in samples_drawn(demo, noisy, 5, 10)]
    any_one = [one.avg_logprob for one in samples_drawn(demo, noisy, 1, 30)]
    assert np.mean(best) > np.mean(any_one)


# Against faster-whisper itself

CLIPS = """
    en_00.wav en_03.wav en_11.wav en_14.mp3 en_17.webm human_00.wav human_05.wav noisy_10db.flac quiet.wav
    lead_silence.flac long_pause.flac silence_10s.wav noise_10s.flac
""".split()


def test_every_clip_is_a_single_window() -> None:
    assert all(len(samples_of(name)) < 30 * SAMPLE_RATE for name in CLIPS)


def theirs(reference: WhisperModel, name: str, **options: Any) -> tuple[list[Any], str]:
    """faster-whisper's segments of the first window."""
    samples = as_floats(samples_of(name))
    segments, info = reference.transcribe(samples, temperature=0.0, condition_on_previous_text=False, **options)
    return [segment for segment in segments if segment.seek == 0], info.language


def assert_equal_to(result: WindowResult, segments: list[Any]) -> None:
    assert [(s.text, s.tokens) for s in result.segments] == [(s.text, tuple(s.tokens)) for s in segments]
    for ours, other in zip(result.segments, segments, strict=True):
        assert (ours.start, ours.end, ours.seek) == (other.start, other.end, other.seek)
        assert (ours.temperature, ours.compression_ratio) == (other.temperature, other.compression_ratio)
        assert ours.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        assert ours.no_speech_prob == pytest.approx(other.no_speech_prob, abs=1e-4)


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_gives_the_text_of_faster_whisper(demo: Whisper, reference: WhisperModel, name: str) -> None:
    expected, language = theirs(reference, name)
    result = alone(demo, window_of(name), DecodingOptions(temperatures=(0.0,)))
    assert_equal_to(result, expected)
    assert result.language == language


@pytest.mark.parametrize("name", ["en_00.wav", "en_17.webm", "de_00.wav", "human_05.wav"])
def test_speech_becomes_the_same_text_with_its_own_spectrogram(demo: Whisper, demo_model: Path, name: str) -> None:
    untouched = WhisperModel(str(demo_model), device="cpu", compute_type="int8", cpu_threads=1)
    expected, language = theirs(untouched, name)
    result = alone(demo, window_of(name), DecodingOptions(temperatures=(0.0,)))
    assert ([segment.text for segment in result.segments], result.language) == (
        [segment.text for segment in expected],
        language,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("de_digits_1.wav", {"language": "de", "task": "translate"}),
        ("noisy_10db.flac", {"language": "en", "beam_size": 1}),  # five beams hear something else
        ("en_05.wav", {"language": "en", "beam_size": 3, "patience": 2.0}),
    ],
)
def test_options_mean_what_they_mean_to_faster_whisper(
    demo: Whisper, reference: WhisperModel, name: str, options: dict[str, Any]
) -> None:
    expected, _ = theirs(reference, name, **options)
    assert_equal_to(alone(demo, window_of(name), DecodingOptions(temperatures=(0.0,), **options)), expected)


def test_a_prompt_means_what_it_means_to_faster_whisper(demo: Whisper, reference: WhisperModel) -> None:
    prompt = "Hello there. Thank you very much."
    expected, _ = theirs(reference, "en_00.wav", language="en", initial_prompt=prompt)
    assert_equal_to(alone(demo, window_of("en_00.wav"), replace(ENGLISH, prompt=prompt)), expected)


@pytest.mark.parametrize("name", ["en_00.wav", "human_00.wav", "noisy_10db.flac", "es_00.wav", "long_pause.flac"])
def test_words_are_those_of_faster_whisper_joined(demo: Whisper, reference: WhisperModel, name: str) -> None:
    expected, _ = theirs(reference, name, word_timestamps=True)
    result = alone(demo, window_of(name), DecodingOptions(temperatures=(0.0,), word_timestamps=True))
    assert_equal_to(result, expected)
    for ours, other in zip(result.segments, expected, strict=True):
        begun = [word for word in other.words if word.word.startswith(" ")]
        ends = [other.words[other.words.index(word) - 1].end for word in begun[1:]] + [other.words[-1].end]
        found = [(word.start, word.end) for word in ours.words or ()]
        assert found == [(word.start, end) for word, end in zip(begun, ends, strict=True)]


# Words


@pytest.mark.parametrize(
    ("parts", "end"),
    [
        ((0.72,), 100.72),  # nothing but a time: it ends there all the same
        ((0.0, " Good", 1.0, 1.0, 2.0, 2.0), None),
    ],
)
def test_the_end_of_the_last_word_uses_the_clock_of_the_options(
    scripted: Whisper, monkeypatch: pytest.MonkeyPatch, parts: tuple[str | float, ...], end: float | None
) -> None:
    answer = decoded(tokens=tokens_of(scripted, *parts))
    monkeypatch.setattr(scripted, "generate", returning(answer, scripted))
    options = replace(WORDS, clock_s=100.0)
    result = alone(scripted, window_of(NOISE), options)
    ends = [100.0 + word.end for segment in result.segments for word in segment.words or ()]
    assert result.open_ended
    assert result.words_end == pytest.approx(end or ends[-1])
    assert alone(scripted, window_of(NOISE), replace(options, word_timestamps=False)).words_end is None


@pytest.mark.parametrize(("language", "words"), [("en", 1), ("zh", 2)])
def test_words_are_joined_by_the_language_that_is_written(
    scripted: Whisper, monkeypatch: pytest.MonkeyPatch, language: str, words: int
) -> None:
    answer = decoded(tokens=tokens_of(scripted, 0.0, " twenty", "-three", 2.4))
    monkeypatch.setattr(scripted, "generate", returning(answer, scripted))
    monkeypatch.setattr(scripted, "align", lambda batch: setattr(batch[0], "alignment", "known"))
    pieces = raw_words(" twenty", "-three")

    def add_words(segments: list[list[dict[str, Any]]], *_: Any, **__: Any) -> None:
        segments[0][0]["words"] = pieces

    monkeypatch.setattr(scripted._model, "add_word_timestamps", add_words)
    (segment,) = alone(scripted, window_of(NOISE), replace(WORDS, language=language)).segments
    assert len(segment.words or ()) == words


# Logprobs

LOGPROBS = replace(ENGLISH, token_logprobs=True)


def assert_accounted(result: WindowResult, end_of_text: int) -> None:
    """Every text token of every segment has its logprob, and their bytes are the text."""
    assert result.segments
    for segment in result.segments:
        assert segment.logprobs is not None
        assert len(segment.logprobs) == segment.text_tokens == sum(token < end_of_text for token in segment.tokens)
        assert b"".join(each.bytes for each in segment.logprobs) == segment.text.encode()
        assert all(-100 < each.logprob <= 0 for each in segment.logprobs)
        assert {type(each.logprob) for each in segment.logprobs} == {float}


@pytest.mark.parametrize("name", ["en_00.wav", "noisy_10db.flac", "human_00.wav", "es_00.wav"])
@pytest.mark.parametrize("words", [False, True])
def test_every_text_token_has_its_logprob(demo: Whisper, name: str, words: bool) -> None:
    options = DecodingOptions(token_logprobs=True, word_timestamps=words)
    result = alone(demo, window_of(name), options)
    assert_accounted(result, demo._text.eot)
    without = [replace(segment, logprobs=None) for segment in result.segments]
    assert without == list(alone(demo, window_of(name), replace(options, token_logprobs=False)).segments)


def test_logprobs_and_words_have_the_same_probabilities(demo: Whisper) -> None:
    (segment,) = alone(demo, window_of("en_00.wav"), replace(LOGPROBS, word_timestamps=True)).segments
    first = (segment.logprobs or ())[0]
    word = (segment.words or ())[0]
    assert first.token == word.word
    assert math.exp(first.logprob) == pytest.approx(word.probability)


@pytest.mark.parametrize("text", [" 你好，世界", " Grüße 😀 aus Köln", " สวัสดีครับ", " नमस्ते"])
def test_bytes_make_up_texts_of_any_script(tmp_path: Path, text: str) -> None:
    model = Whisper(build(tmp_path, script=Script(text)), ModelOptions(device="cpu", threads=1))
    result = alone(model, window_of(NOISE), LOGPROBS)
    model.close()
    assert text_of(result) == text
    assert_accounted(result, model._text.eot)


def test_logprobs_of_a_window_in_several_segments_stay_with_their_text(
    scripted: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (0.0, " Good", 1.0, 1.0, " lost", 1.0, 1.0, " evening, Anna", 1.8, 1.8, " unfinished")
    answer = decoded(tokens=tokens_of(scripted, *parts))
    monkeypatch.setattr(scripted, "generate", returning(answer, scripted))
    result = alone(scripted, window_of(NOISE), LOGPROBS)
    texts = ["".join(each.token for each in segment.logprobs or ()) for segment in result.segments]
    assert texts == [segment.text for segment in result.segments] == [" Good", " evening, Anna"]


def test_logprobs_are_of_text_tokens_alone_given_those_before_and_no_prompt(demo: Whisper) -> None:
    window, options = window_of("en_00.wav"), replace(LOGPROBS, temperatures=(0.0,))
    (plain,) = alone(demo, window, options).segments
    (prompted,) = alone(demo, window, replace(options, prompt="Hello there.", hotwords="Anna")).segments
    assert prompted.text == plain.text
    assert prompted.avg_logprob != plain.avg_logprob
    assert prompted.logprobs == plain.logprobs

    tokenizer, state = demo._results.tokenizer(options), demo.start(window, options)
    demo.encode([state])
    start = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
    features = ctranslate2.StorageView.from_array(state.encoded)
    (answer,) = demo._ct2.generate(
        features, [start], beam_size=1, suppress_blank=False, suppress_tokens=[], return_logits_vocab=True
    )
    logits = np.asarray(answer.logits[0][0], np.float64)[: tokenizer.eot]
    expected = logits[plain.tokens[1]] - np.logaddexp.reduce(logits)
    assert (plain.logprobs or ())[0].logprob == pytest.approx(expected, abs=1e-3)


def test_windows_are_aligned_for_words_or_logprobs_only_and_together(demo: Whisper, watched: WatchedModel) -> None:
    window = window_of("en_00.wav")
    alone(demo, window)
    assert watched.aligned == 0
    kinds = [ENGLISH, LOGPROBS, WORDS, replace(LOGPROBS, word_timestamps=True)]
    together = transcribe(demo, [(window, options) for options in kinds])
    assert watched.aligned == 3
    assert [(s.words is not None, s.logprobs is not None) for one in together for s in one.segments] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
    assert together == [alone(demo, window, options) for options in kinds]


def test_text_tokens_are_counted_without_being_asked_for(demo: Whisper) -> None:
    (segment,) = alone(demo, window_of("en_00.wav")).segments
    assert segment.text_tokens == len(segment.tokens) - 2 == 9
    assert segment.logprobs is None


# Broken models


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut_weights(folder: Path) -> None:
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content[: len(content) // 2])


def take_another_tokenizer(folder: Path) -> None:
    Tokenizer(models.BPE()).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(shutil.rmtree, id="no folder"),
        pytest.param(remove("model.bin"), id="no weights"),
        pytest.param(remove("vocabulary.json"), id="no vocabulary"),
        pytest.param(remove("tokenizer.json"), id="no tokenizer"),
        pytest.param(write("model.bin", b"<html>404</html>"), id="weights are a web page"),
        pytest.param(write("model.bin", b""), id="weights are empty"),
        pytest.param(cut_weights, id="weights are cut"),
        pytest.param(write("tokenizer.json", b"{"), id="tokenizer is cut"),
        pytest.param(take_another_tokenizer, id="tokenizer of another model"),
        pytest.param(write("vocabulary.json", b"["), id="vocabulary is cut"),
        pytest.param(write("config.json", b"{"), id="config is cut"),
        pytest.param(write("preprocessor_config.json", b"[]"), id="preprocessor is no object"),
    ],
)
def test_a_broken_model_is_unavailable(
    scripted_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("tried to download")

    monkeypatch.setattr("faster_whisper.transcribe.download_model", download)
    monkeypatch.setattr("tokenizers.Tokenizer.from_pretrained", download)
    folder = tmp_path / "model"
    shutil.copytree(scripted_model, folder)
    spoil(folder)
    with pytest.raises(ModelUnavailable) as refused:
        Whisper(folder, ModelOptions(device="cpu", threads=1))
    assert str(folder) in refused.value.message
    assert "download" not in refused.value.message


# Short encoder windows


@pytest.fixture(scope="module")
def dynamic(demo_model: Path) -> Iterator[Whisper]:
    """The demo model, which was trained for it, seeing no more than a window needs."""
    model = Whisper(demo_model, ModelOptions(device="cpu", threads=1, dynamic_context=True))
    yield model
    model.close()


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [(1.0, 1000), (8.0, 1000), (8.1, 1500), (13.0, 1500), (18.0, 2000), (18.5, 3000), (30.0, 3000)],
)
def test_the_encoder_sees_a_window_and_two_seconds_more(dynamic: Whisper, seconds: float, frames: int) -> None:
    window = window_of(np.zeros(int(seconds * SAMPLE_RATE), np.int16))
    assert dynamic.start(window, ENGLISH).frames == frames


def test_no_length_is_twice_a_number_of_mel_bands() -> None:
    assert not {160, 256} & set(CONTEXT_BUCKETS)


def test_other_models_see_thirty_seconds(demo: Whisper) -> None:
    assert demo.start(window_of("en_00.wav"), ENGLISH).frames == 3000


@pytest.mark.parametrize("name", ["en_00.wav", "human_09.wav", "es_00.wav"])
def test_short_encoder_windows_give_the_same_words(demo: Whisper, dynamic: Whisper, name: str) -> None:
    options = DecodingOptions(word_timestamps=True)
    assert text_of(alone(dynamic, window_of(name), options)) == text_of(alone(demo, window_of(name), options))


def test_a_failed_short_encoder_window_is_decoded_again_in_full(dynamic: Whisper, demo: Whisper) -> None:
    strict = replace(ENGLISH, logprob_threshold=1.0, temperatures=(0.0,))  # nothing is ever good enough
    assert alone(dynamic, window_of("en_00.wav"), strict) == alone(demo, window_of("en_00.wav"), strict)


# Previous text


def test_previous_text_goes_behind_the_users_prompt(demo: Whisper, watched: WatchedModel) -> None:
    said = tokens_of(demo, " Good evening")
    tokens = asked_with(demo, watched, prompt="Anna", previous_tokens=said)
    assert tokens[1:-3] == [*tokens_of(demo, " Anna"), *said]


def test_previous_text_is_cut_to_the_bucket_and_the_users_prompt_never(demo_model: Path) -> None:
    model = Whisper(demo_model, ModelOptions(device="cpu", threads=1, prompt_bucket=16))
    options = replace(ENGLISH, prompt="Anna and Tom", previous_tokens=tuple(range(1000, 1050)))
    prompt = model.start(window_of(NOISE), options).prompt
    model.close()
    assert prompt.tokens == (*tokens_of(model, " Anna and Tom"), *range(1002, 1050))
