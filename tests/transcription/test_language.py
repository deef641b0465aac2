"""The language of a file: the vote of its first windows, and languages that a model does not know."""

from dataclasses import replace

import pytest

from server.errors import (
    UnknownLanguage,
)
from server.options import DecodingOptions, TranscriptionOptions
from server.transcript import Window
from tests.support.fakes import (
    FakeEngine,
    Outcome,
    eventually,
    make_result,
    peek,
    tone,
    upload,
)
from tests.support.flow import DETECT, ENGLISH, Probs, flow, speaking, texts, unloaded
from tests.support.launches import Engines

pytestmark = pytest.mark.anyio


async def test_a_certain_first_window_decides_for_the_others() -> None:
    engine = FakeEngine(speaking((("es", 0.8), ("en", 0.2)), (("de", 0.9),), (("es", 0.6),)), held=True)
    with flow(engine) as on, upload(tone(4.5)) as source:
        async with on.request(source, DETECT) as transcription:
            await eventually(lambda: len(engine.waiting) == 3)
            await peek()
            assert len(engine.waiting) == 3  # the others wait for its language
            engine.resolve()
            transcript = await transcription.result()
    assert texts(transcript.segments) == [f"w{index}-es" for index in range(5)]
    assert (transcript.language, transcript.language_probability) == ("es", 0.8)
    asked = [(submission.window.index, submission.options.language) for submission in engine.submissions]
    assert sorted(asked[:3]) == [(0, None), (1, None), (2, None)]
    assert sorted(asked[3:]) == [(1, "es"), (3, "es"), (4, "es")]


async def test_the_language_is_known_at_the_first_segment() -> None:
    with flow(FakeEngine(speaking((("de", 0.9),)))) as on, upload(tone(3.5)) as source:
        async with on.request(source, DETECT) as transcription:
            async for _ in transcription:
                assert (transcription.language, transcription.language_probability) == ("de", 0.9)


async def test_uncertain_first_windows_vote_and_outvoted_ones_are_redone() -> None:
    unsure: list[Probs] = [
        (("en", 0.45), ("de", 0.40)),
        (("de", 0.49), ("en", 0.30)),
        (("de", 0.46), ("es", 0.40)),
    ]
    engine = FakeEngine(speaking(*unsure))
    with flow(engine) as on, upload(tone(4.5)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert transcript.language == "de"
    assert transcript.language_probability == pytest.approx((0.40 + 0.49 + 0.46) / 3)
    assert texts(transcript.segments) == [f"w{index}-de" for index in range(5)]
    asked = [(submission.window.index, submission.options.language) for submission in engine.submissions]
    assert sorted(asked[:3]) == [(0, None), (1, None), (2, None)]
    assert sorted(asked[3:]) == [(0, "de"), (3, "de"), (4, "de")]


async def test_the_vote_ends_with_the_first_certain_window() -> None:
    engine = FakeEngine(speaking((("en", 0.4), ("es", 0.3)), (("es", 0.9), ("en", 0.1))))
    with flow(engine) as on, upload(tone(4.5)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert texts(transcript.segments) == [f"w{index}-es" for index in range(5)]
    assert transcript.language_probability == pytest.approx((0.3 + 0.9) / 2)


async def test_windows_without_text_have_no_vote() -> None:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        language = options.language or ("de" if window.index == 0 else "es")
        said = [] if window.index == 0 else [f" w{window.index}-{language}"]
        return make_result(window, *said, language=language, probs=((language, 0.99),))

    with flow(FakeEngine(answer)) as on, upload(tone(3.5)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert transcript.language == "es"
    assert texts(transcript.segments) == ["w1-es", "w2-es", "w3-es"]


@pytest.mark.parametrize("seconds", [0.9, 1.9])
async def test_a_file_with_fewer_windows_than_the_vote_wants_ends(seconds: float) -> None:
    engine = FakeEngine(speaking((("de", 0.3), ("en", 0.2))))
    with flow(engine) as on, upload(tone(seconds)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert transcript.language == "de"
    assert texts(transcript.segments) == [f"w{index}-de" for index in range(len(engine.submissions))]
    assert len(engine.submissions) < 3


async def test_multilingual_asks_for_the_language_of_each_window() -> None:
    engine = FakeEngine(speaking((("es", 0.3),), (("de", 0.9),), (("en", 0.9),)), held=True)
    with flow(engine) as on, upload(tone(2.5)) as source:
        async with on.request(source, replace(DETECT, multilingual=True)) as transcription:
            await eventually(lambda: len(engine.waiting) == 3)  # none waits for another
            engine.resolve()
            transcript = await transcription.result()
    assert texts(transcript.segments) == ["w0-es", "w1-de", "w2-en"]
    assert {submission.options.language for submission in engine.submissions} == {None}
    assert (transcript.language, transcript.language_probability) == ("es", 0.3)


async def test_candidate_languages_reach_the_engine() -> None:
    engine = FakeEngine()
    with flow(engine) as on, upload(tone(0.9)) as source:
        async with on.request(source, replace(DETECT, languages=("de", "en"))) as transcription:
            await transcription.result()
    assert engine.submissions[0].options.languages == ("de", "en")


@pytest.mark.parametrize(
    ("decoding", "param"),
    [
        (replace(ENGLISH, language="fr"), "language"),
        (replace(DETECT, languages=("en", "fr")), "languages"),
        (replace(ENGLISH, language="fr", languages=("fr",)), "languages"),
    ],
)
async def test_a_language_that_the_model_does_not_know_is_refused_at_once(
    decoding: DecodingOptions, param: str
) -> None:
    with flow(FakeEngine()) as on, upload(tone(1)) as source:
        with pytest.raises(UnknownLanguage, match="'fr'") as caught:
            on.pipeline.transcribe(source, TranscriptionOptions(decoding=decoding))
        assert caught.value.param == param
        assert on.media.spooled_bytes == 0


async def test_a_language_unknown_to_the_loaded_model_is_refused() -> None:
    with unloaded(Engines()) as (on, slot), upload(tone(0.5)) as source:
        async with on.request(source, DecodingOptions(language="de")) as transcription:
            with pytest.raises(UnknownLanguage, match="'de'"):
                await transcription.result()
        assert slot.leases == 0
