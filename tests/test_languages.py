import pytest

from server.languages import ALIASES, NAMES, code_of, name_of


def test_the_languages_are_those_of_whisper() -> None:
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    assert set(NAMES) == set(_LANGUAGE_CODES)


@pytest.mark.parametrize("code", NAMES)
def test_a_language_goes_by_its_code_and_by_its_name(code: str) -> None:
    assert code_of(code) == code
    assert code_of(NAMES[code]) == code
    assert name_of(code) == NAMES[code]


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_names_a_known_language_and_shadows_no_code(alias: str) -> None:
    assert code_of(alias) == ALIASES[alias]
    assert ALIASES[alias] in NAMES
    assert alias not in NAMES
    assert alias not in NAMES.values()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("EN", "en"),
        ("German", "de"),
        ("Haitian Creole", "ht"),
        ("pt-BR", "pt"),
        ("zh_Hant_TW", "zh"),
        ("en-", "en"),
        ("haw", "haw"),
        ("yue-HK", "yue"),
        (" fr\n", "fr"),
        ("CASTILIAN", "es"),
    ],
)
def test_callers_write_languages_in_many_ways(asked: str, code: str) -> None:
    assert code_of(asked) == code


@pytest.mark.parametrize("asked", ["", " ", "-", "-en", "xx", "klingon", "eng", "english language", "deutsch"])
def test_a_text_that_is_no_language_gives_none(asked: str) -> None:
    assert code_of(asked) is None


def test_an_unknown_code_stands_for_itself() -> None:
    assert name_of("tlh") == "tlh"
