import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.engine import process
from server.engine.loader import ModelFacts
from server.engine.messages import ExitReason, FromChild, Heartbeat, Ready, Result, WindowFailed, encode
from server.engine.supervisor import SupervisedEngine
from server.engine.validation import MAX_MESSAGE_BYTES, InvalidEngineMessage, decode
from server.stats import Durations, EngineStats
from server.transcript import Segment, TokenLogprob, WindowResult, Word
from tests.support.fakes import wait_until
from tests.support.hosted import QUICK, FakeLoader

FACTS = ModelFacts(("en", "de"), 80, "cpu", "int8", 0.25, "CTranslate2", 1 << 40)
SEGMENT = Segment(
    id=0,
    seek=0,
    start=0.1,
    end=2.0,
    text=' "Grüße", \u4f60\u597d\n\u2028',
    tokens=(50364, 1, 2),
    temperature=0.2,
    avg_logprob=-1 / 3,
    compression_ratio=1.1,
    no_speech_prob=1e-300,
    words=(Word(" Gr", 0.1, 0.2, 0.9),),
    text_tokens=2,
    logprobs=(TokenLogprob("\ufffd", -0.1, b"\xe4\xbd"), TokenLogprob("", 0.0, b"")),
)
RESULT = WindowResult((SEGMENT,), "en", 480_000, (("en", 0.9), ("de", 0.1)), words_end=1.5, ran_s=0.5)
STATS = EngineStats(
    1, 2, 3, 4, 5, {"bulk": 3}, {"interactive": 0.5}, {4: 2, 8: 1}, waits=Durations().plus(3), state="broken"
)


@pytest.mark.parametrize(
    "message",
    [
        Ready(FACTS, 8, 4096),
        Heartbeat(STATS, (1, 2), ("mine", "other")),
        Heartbeat(EngineStats(0, 0, 0, 0, 0)),
        Result(7, RESULT),
        Result(8, WindowResult((), "en", 0, silent=True)),
        WindowFailed(9, "RuntimeError: no", unavailable=True),
        ExitReason("The model can't be loaded."),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_sent_arrives_as_it_was(message: FromChild) -> None:
    arrived = decode(encode(message))
    assert arrived == message
    assert repr(arrived) == repr(message)  # also what does not count for equality


def test_numbers_of_numpy_arrive_as_python_s() -> None:
    (sent,) = RESULT.segments
    numbers = Result(1, WindowResult((), "en", int(np.int64(9)), (("en", np.float32(0.5)),)))  # type: ignore[arg-type]
    arrived = decode(encode(numbers))
    assert isinstance(arrived, Result)
    assert arrived.result.language_probs == (("en", 0.5),)
    assert type(arrived.result.language_probs[0][1]) is float
    assert sent.start == 0.1


def test_a_reason_that_is_not_unicode_arrives_all_the_same() -> None:
    assert decode(encode(ExitReason("in /models/\udcff"))) == ExitReason("in /models/?")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "an unknown kind"),
        (b"Start {}", "an unknown kind"),
        (b"Submit {}", "an unknown kind"),
        (pickle.dumps(["Ready"]), "an unknown kind"),
        (b"Result", "Result"),
        (b"Result null", "Result 0"),
        (b"Result {}", "Result 0.number: missing"),
        (b'Result {"number":"1","result":null}', "Result 0.number: int_type"),
        (b'Result {"number":1,"result":{"segments":[{"id":0}],"language":"en","consumed":0}}', "missing"),
        (b'Heartbeat {"stats":{"queued":1.5,"running":0,"done":0,"failed":0,"batches":0}}', "int"),
        (b'Heartbeat {"stats":{"queued":0,"running":0,"done":0,"failed":0,"batches":0,"state":"fine"}}', "literal"),
        (b'ExitReason {"reason":["a"]}', "string_type"),
        (b'ExitReason {"reason":"a"}, {"reason":"b"}', "ExitReason : too_long"),
        (b'ExitReason {"reason":"a"', "json_invalid"),
        (b"ExitReason " + b"[" * 99_999, "json_invalid"),
        (encode(Ready(FACTS, 1 << 40, 1)), "limits"),
        (encode(Ready(FACTS, 1, 0)), "limits"),
    ],
)
def test_anything_else_is_refused_and_not_repeated(data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidEngineMessage, match=complaint) as caught:
        decode(data)
    assert len(str(caught.value)) < 100


class Exploit:
    """What unpickling it does, as a process that was taken over would like it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "sends", ["a pickle", "Result {}", "Result " + "x" * MAX_MESSAGE_BYTES], ids=["pickle", "kind", "length"]
)
def test_an_engine_that_is_taken_over_is_ended_and_nothing_of_it_runs_here(
    sends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touched = tmp_path / "touched"
    data = pickle.dumps(Exploit(touched)) if sends == "a pickle" else sends.encode()
    (tmp_path / "sends").write_bytes(data)
    monkeypatch.setattr(process, "MODULE", "tests.support.stub_engine")
    caplog.set_level(logging.ERROR)
    engine = SupervisedEngine(FakeLoader(tmp_path), "fake", patience=QUICK)
    try:
        engine.facts()
        wait_until(lambda: "the engine process of fake ended" in caplog.text)
        wait_until(lambda: engine.stats().restarts > 1)
    finally:
        engine.close()
    assert not touched.exists()
    if len(data) <= MAX_MESSAGE_BYTES:
        assert "it sent what no engine sends" in caplog.text
