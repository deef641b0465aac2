"""Bytes and log probabilities of tokens, against the tokenizers library."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.whisper.tokens import token_bytes, token_logprob
from tests.support.scripted import load_tokenizer


@pytest.fixture(scope="module")
def vocabulary() -> Any:
    return load_tokenizer()


def entries_of(vocabulary: Any, text: str) -> list[str]:
    entries: list[str] = vocabulary.encode(text, add_special_tokens=False).tokens
    return entries


def test_every_text_token_has_the_bytes_that_the_tokenizer_decodes(vocabulary: Any) -> None:
    for token in range(vocabulary.token_to_id("<|endoftext|>")):
        data = token_bytes(vocabulary.id_to_token(token))
        assert data.decode("utf-8", "replace") == vocabulary.decode([token])


@pytest.mark.parametrize(
    "text",
    [
        " Hello, world!",
        " Grüße aus Köln",
        " 你好世界",
        "今日はいい天気ですね。",
        " สวัสดีครับ",
        " مرحبا بالعالم",
        " नमस्ते दुनिया",
        " 안녕하세요",
        " 😀 👩‍👩‍👧‍👦 🇩🇪",
        " e\u0301 \u00a0\u00ad\u200b",
        "\x00\t\n\x7f\x85",
    ],
)
def test_bytes_of_tokens_joined_are_the_text_in_any_script(vocabulary: Any, text: str) -> None:
    assert b"".join(map(token_bytes, entries_of(vocabulary, text))) == text.encode()


@given(text=st.text())
def test_bytes_of_tokens_joined_are_any_text(vocabulary: Any, text: str) -> None:
    # Control tokens spelt out are no text to the tokenizer.
    assert (
        b"".join(map(token_bytes, entries_of(vocabulary, text.replace("<|", ""))))
        == text.replace("<|", "").encode()
    )


def test_a_part_of_a_character_is_written_as_its_bytes(vocabulary: Any) -> None:
    tokens = [token_logprob(entry, 0.5) for entry in entries_of(vocabulary, " 😀 ok")]
    assert [(one.token, one.bytes) for one in tokens] == [
        (" \\xf0\\x9f\\x98", b" \xf0\x9f\x98"),
        ("\\x80", b"\x80"),
        (" ok", b" ok"),
    ]


def test_an_entry_outside_the_byte_alphabet_is_plain_text() -> None:
    assert token_bytes("two words") == b"two words"


@pytest.mark.parametrize(
    ("probability", "logprob"),
    [
        (1.0, 0.0),
        (1.0000001, 0.0),  # a rounded softmax
        (0.5, math.log(0.5)),
        (1e-45, math.log(1e-45)),
        (0.0, -math.inf),
        (math.nan, -math.inf),
        (math.inf, -math.inf),
    ],
)
def test_logprob_is_the_natural_logarithm_and_never_above_zero(probability: float, logprob: float) -> None:
    assert token_logprob("a", probability).logprob == logprob
