"""The hundred languages of Whisper: code, English name, and accepted aliases.

Source: openai/whisper, tokenizer.py; the names are what `verbose_json` reports.
"""

NAMES: dict[str, str] = dict(
    entry.split(" ", 1)
    for entry in (
        "af afrikaans, am amharic, ar arabic, as assamese, az azerbaijani, ba bashkir, be belarusian, "
        "bg bulgarian, bn bengali, bo tibetan, br breton, bs bosnian, ca catalan, cs czech, cy welsh, "
        "da danish, de german, el greek, en english, es spanish, et estonian, eu basque, fa persian, "
        "fi finnish, fo faroese, fr french, gl galician, gu gujarati, ha hausa, haw hawaiian, he hebrew, "
        "hi hindi, hr croatian, ht haitian creole, hu hungarian, hy armenian, id indonesian, is icelandic, "
        "it italian, ja japanese, jw javanese, ka georgian, kk kazakh, km khmer, kn kannada, ko korean, "
        "la latin, lb luxembourgish, ln lingala, lo lao, lt lithuanian, lv latvian, mg malagasy, mi maori, "
        "mk macedonian, ml malayalam, mn mongolian, mr marathi, ms malay, mt maltese, my myanmar, ne nepali, "
        "nl dutch, nn nynorsk, no norwegian, oc occitan, pa punjabi, pl polish, ps pashto, pt portuguese, "
        "ro romanian, ru russian, sa sanskrit, sd sindhi, si sinhala, sk slovak, sl slovenian, sn shona, "
        "so somali, sq albanian, sr serbian, su sundanese, sv swedish, sw swahili, ta tamil, te telugu, "
        "tg tajik, th thai, tk turkmen, tl tagalog, tr turkish, tt tatar, uk ukrainian, ur urdu, uz uzbek, "
        "vi vietnamese, yi yiddish, yo yoruba, yue cantonese, zh chinese"
    ).split(", ")
)

ALIASES: dict[str, str] = {
    "burmese": "my",
    "castilian": "es",
    "flemish": "nl",
    "haitian": "ht",
    "jv": "jw",
    "letzeburgesch": "lb",
    "mandarin": "zh",
    "moldavian": "ro",
    "moldovan": "ro",
    "panjabi": "pa",
    "pushto": "ps",
    "sinhalese": "si",
    "valencian": "ca",
}

_CODES: dict[str, str] = {name: code for code, name in NAMES.items()} | {code: code for code in NAMES} | ALIASES


def code_of(language: str) -> str | None:
    """Whisper's code for a code, an English name or a tag (`pt-BR`), case-insensitive; None if unknown."""
    wanted = language.strip().lower().replace("_", "-")
    return _CODES.get(wanted) or _CODES.get(wanted.partition("-")[0])


def name_of(code: str) -> str:
    """Full English name in lower case, as `verbose_json` reports it; an unknown code is returned unchanged."""
    return NAMES.get(code, code)


_NEWEST = ("yue",)  # only in vocabularies since large-v3
_BY_VOCABULARY = {51_864: ("en",), 51_865: tuple(code for code in NAMES if code not in _NEWEST)}


def of_vocabulary(size: int) -> tuple[str, ...]:
    """The codes that a Whisper model with a vocabulary of `size` tokens knows."""
    return _BY_VOCABULARY.get(size, tuple(NAMES))
