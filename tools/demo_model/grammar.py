"""The sentences of the demo model: a small grammar in English, German and Spanish.

Text is written the way Whisper writes it: capital first letter, full stop or question mark, numbers as words. Knows
which sentences are kept out of training; knows nothing of sound.
"""

import argparse
import hashlib
from collections.abc import Callable
from random import Random

from tools.demo_model.lexicon import (
    CITIES,
    COLORS,
    COUNTED,
    DAYS,
    DEVICES,
    DIGITS,
    DRINKS,
    ENGLISH_EVENTS,
    ENGLISH_FIXED,
    ENGLISH_PLACES,
    EVENTS,
    FAMILY,
    FOOD,
    GERMAN_FIXED,
    GERMAN_HOURS,
    GERMAN_WEATHER,
    HOURS,
    NAMES,
    OBJECTS,
    ONES,
    PLACES,
    ROOMS,
    SPANISH_FIXED,
    SPANISH_HOURS,
    SPANISH_WEATHER,
    TEENS,
    TENS,
    WEATHER,
    WEEKDAYS,
    WHERE,
)

LANGUAGES = ("en", "de", "es")
MIN_KEPT_BACK_WORDS = 4

Translated = tuple[str, str]
"""A sentence and its English translation (the sentence itself where it is English)."""


def number(n: int) -> str:
    """Return 0 to 999 in English words."""
    if n < 10:
        return ONES[n]
    if n < 20:
        return TEENS[n - 10]
    if n < 100:
        tens = TENS[n // 10 - 2]
        return tens if n % 10 == 0 else tens + "-" + ONES[n % 10]
    hundreds = number(n // 100) + " hundred"
    return hundreds if n % 100 == 0 else hundreds + " and " + number(n % 100)


def capitalized(text: str) -> str:
    """Return the text with a capital first letter, behind an opening mark if there is one."""
    first = 1 if text[0] in "¿¡" else 0
    return text[:first] + text[first].upper() + text[first + 1 :]


def digit_sentence(digits: list[int], language: str) -> str:
    """Return a sentence that lists the digits."""
    return capitalized(" ".join(DIGITS[language][digit] for digit in digits) + ".")


def bare_word(word: str) -> str:
    """Return a written word as the vocabulary lists it: lower case, without marks."""
    return word.strip(".,?¿").lower()


def sample(rng: Random, language: str) -> Translated:
    """Return a random sentence of the language and its English translation."""
    if language == "en":
        text = rng.choice(ENGLISH)(rng)
        return text, text
    return _german(rng) if language == "de" else _spanish(rng)


def sample_split(rng: Random, language: str, split: str) -> Translated:
    """Return a random sentence that belongs to the split."""
    while True:
        sentence = sample(rng, language)
        if split_of(sentence[0]) == split:
            return sentence


def split_of(text: str) -> str:
    """Return the part of the data a sentence belongs to: train, dev (evaluation) or held (hidden evaluation).

    It goes by a hash of the text. Short sentences are always training: there are too few to keep any back.
    """
    if len(text.split()) < MIN_KEPT_BACK_WORDS:
        return "train"
    bucket = int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8], 16) % 20
    return "held" if bucket == 0 else "dev" if bucket == 1 else "train"


def _digits(rng: Random, language: str, least: int = 1, most: int = 9) -> Translated:
    count = rng.randint(least, most)
    digits = [rng.randrange(10) for _ in range(count)]
    return digit_sentence(digits, language), digit_sentence(digits, "en")


def _time(rng: Random) -> str:
    hour = number(rng.randint(1, 12))
    kind = rng.random()
    if kind < 0.45:
        return hour
    if kind < 0.6:
        return hour + " o'clock"
    return hour + " " + number(rng.choice([10, 15, 20, 25, 30, 35, 40, 45, 50, 55]))


def _english_digits(rng: Random) -> str:
    return _digits(rng, "en")[0]


def _small_numbers(rng: Random) -> str:
    return capitalized(" ".join(number(rng.randrange(100)) for _ in range(rng.randint(1, 3))) + ".")


def _large_number(rng: Random) -> str:
    return capitalized(number(rng.randint(100, 999)) + ".")


def _english_fixed(rng: Random) -> str:
    return rng.choice(ENGLISH_FIXED)


def _switch(rng: Random) -> str:
    device = rng.choice(DEVICES)
    turn = "Please turn" if rng.random() < 0.3 else "Turn"
    room = rng.choice(ROOMS)[0]
    form = rng.randrange(3)
    state = rng.choice(["on", "off"])
    if form == 0:
        return f"{turn} {state} the {room} {device}."
    if form == 1:
        return f"{turn} the {device} {state}."
    return f"{turn} {state} the {device} in the {room}."


def _timer(rng: Random) -> str:
    clock = rng.choice(["the alarm", "a timer", "the timer"])
    return f"Set {clock} for {number(rng.randint(2, 60))} {rng.choice(['minutes', 'seconds'])}."


def _alarm(rng: Random) -> str:
    return f"Set the alarm for {_time(rng)} in the {rng.choice(['morning', 'evening'])}."


def _call_me(rng: Random) -> str:
    day = rng.choice(["tomorrow", "today", "tonight", "on " + rng.choice(WEEKDAYS)])
    return f"Call me {day} at {_time(rng)}."


def _call(rng: Random) -> str:
    verb = rng.choice(["Please call", "Call", "Send a message to"])
    return f"{verb} {_person(rng, 'my ')}."


def _person(rng: Random, possessive: str) -> str:
    return rng.choice([possessive + rng.choice(FAMILY), rng.choice(NAMES)])


def _event(rng: Random) -> str:
    return f"The {rng.choice(ENGLISH_EVENTS)} {rng.choice(['starts', 'ends'])} at {_time(rng)}."


def _weather(rng: Random) -> str:
    weather = rng.choice(WEATHER)
    when = rng.choice(["today", "tomorrow", "in " + rng.choice(CITIES)[0], "on " + rng.choice(WEEKDAYS)])
    return f"The weather is {weather} {when}."


def _temperature(rng: Random) -> str:
    return f"It is {number(rng.randint(0, 45))} degrees {rng.choice(WHERE)}."


def _weather_pair(rng: Random) -> str:
    return f"It is {rng.choice(WEATHER)} and {rng.choice(WEATHER)} {rng.choice([*WHERE, 'today', 'tomorrow'])}."


def _thing(rng: Random) -> str:
    who = rng.choice(["I", "We", "They"])
    verb = rng.choice(["like", "want", "need", "have"])
    return f"{who} {verb} {rng.choice(['the', 'a', 'this'])} {rng.choice(COLORS)} {rng.choice(OBJECTS)}."


def _name(rng: Random) -> str:
    what = rng.choice(["name", rng.choice(FAMILY) + "'s name"])
    return f"My {what} is {rng.choice(NAMES)}."


def _door(rng: Random) -> str:
    verb = rng.choice(["Open", "Close"])
    what = rng.choice(
        ["door", "window", rng.choice(ROOMS)[0] + " door", rng.choice(ROOMS)[0] + " window"],
    )
    return f"{verb} the {what}."


def _home(rng: Random) -> str:
    return f"{rng.choice(NAMES)} {rng.choice(['lives', 'works'])} in {rng.choice(CITIES)[0]}."


def _count(rng: Random) -> str:
    things = f"{number(rng.randint(2, 99))} {rng.choice(COUNTED)}"
    where = rng.choice(["on the table", "in the garden", "in the house", "at the station", "outside"])
    return f"There are {things} {where}."


def _food(rng: Random) -> str:
    who = rng.choice(["I", "We", "They"])
    verb = rng.choice(["would like", "want", "need"])
    food = rng.choice(FOOD)
    return f"{who} {verb} some {food}{rng.choice(['', ', please', ' and some ' + rng.choice(FOOD)])}."


def _long_number(rng: Random) -> str:
    return f"My {rng.choice(['phone', 'room'])} number is {_digits(rng, 'en', 3, 8)[0].lower()}"


def _where(rng: Random) -> str:
    return f"Where is the {rng.choice(ENGLISH_PLACES)}?"


def _color(rng: Random) -> str:
    thing, color = rng.choice(OBJECTS), rng.choice(COLORS)
    return f"The {thing} is {color}{rng.choice(['', ' and ' + rng.choice(COLORS)])}."


def _whereabouts(rng: Random) -> str:
    who, preposition = _person(rng, "My "), rng.choice(["in", "at"])
    return f"{who} is {preposition} the {rng.choice(ENGLISH_PLACES)} {rng.choice(['today', 'tonight', 'now'])}."


def _question(rng: Random) -> str:
    asked = rng.choice(["How much is", "How big is", "What color is", "Whose is", "How old is"])
    return f"{asked} the {rng.choice(OBJECTS)}?"


def _plan(rng: Random) -> str:
    place, day = rng.choice(ENGLISH_PLACES), rng.choice(WEEKDAYS)
    return f"We go to the {place} on {day} {rng.choice(['morning', 'evening'])}."


def _offer(rng: Random) -> str:
    verb = rng.choice(["Do you have", "Do you want", "Do you like"])
    some = "some " + rng.choice(FOOD)
    return f"{verb} {rng.choice([some, 'a ' + rng.choice(COLORS) + ' ' + rng.choice(OBJECTS)])}?"


Template = Callable[[Random], str]

# A template that stands here more than once is drawn more often.
ENGLISH: list[Template] = [
    *[_english_digits] * 4,
    _small_numbers,
    _large_number,
    *[_english_fixed] * 2,
    *[_switch] * 2,
    _timer,
    _alarm,
    _call_me,
    _call,
    _event,
    _weather,
    _temperature,
    _weather_pair,
    _thing,
    _name,
    _door,
    _home,
    _count,
    _food,
    _long_number,
    _where,
    _color,
    _whereabouts,
    _question,
    _plan,
    _offer,
]


def _german(rng: Random) -> Translated:
    kind = rng.randrange(16)
    if kind < 6:
        return _digits(rng, "de", 1, 8)
    if kind < 8:
        return rng.choice(GERMAN_FIXED)
    return GERMAN[kind - 8](rng, rng.randint(2, 12))


def _german_light(rng: Random, _: int) -> Translated:
    room, on = rng.choice(ROOMS), rng.random() < 0.5
    return (
        f"Schalte das Licht in {room[1]} {'ein' if on else 'aus'}.",
        f"Turn {'on' if on else 'off'} the light in the {room[0]}.",
    )


def _german_weather(rng: Random, _: int) -> Translated:
    weather, day = rng.choice(GERMAN_WEATHER), rng.choice(DAYS)
    return f"Das Wetter ist {day[1]} {weather[1]}.", f"The weather is {weather[0]} {day[0]}."


def _german_event(rng: Random, hour: int) -> Translated:
    event = rng.choice(EVENTS)
    return (
        f"{event[1]} beginnt um {GERMAN_HOURS[hour]} Uhr.",
        f"The {event[0]} starts at {HOURS[hour]} o'clock.",
    )


def _german_where(rng: Random, _: int) -> Translated:
    place = rng.choice(PLACES)
    return f"Wo ist {place[1]}?", f"Where is the {place[0]}?"


def _german_drink(rng: Random, _: int) -> Translated:
    drink, polite = rng.choice(DRINKS), rng.random() < 0.5
    return (
        f"Ich möchte {drink[1]}{', bitte' if polite else ''}.",
        f"I would like some {drink[0]}{', please' if polite else ''}.",
    )


def _german_home(rng: Random, _: int) -> Translated:
    name, city = rng.choice(NAMES), rng.choice(CITIES)
    return f"{name} wohnt in {city[1]}.", f"{name} lives in {city[0]}."


def _german_name(rng: Random, _: int) -> Translated:
    name = rng.choice(NAMES)
    return f"Mein Name ist {name}.", f"My name is {name}."


def _german_call(rng: Random, hour: int) -> Translated:
    day = rng.choice(DAYS)
    return f"Ruf mich {day[1]} um {GERMAN_HOURS[hour]} Uhr an.", f"Call me {day[0]} at {HOURS[hour]} o'clock."


TimedTemplate = Callable[[Random, int], Translated]

GERMAN: list[TimedTemplate] = [
    _german_light,
    _german_weather,
    _german_event,
    _german_where,
    _german_drink,
    _german_home,
    _german_name,
    _german_call,
]


def _spanish(rng: Random) -> Translated:
    kind = rng.randrange(16)
    if kind < 6:
        return _digits(rng, "es", 1, 8)
    if kind < 8:
        return rng.choice(SPANISH_FIXED)
    return SPANISH[kind - 8](rng, rng.randint(2, 12))


def _spanish_light(rng: Random, _: int) -> Translated:
    room, on = rng.choice(ROOMS), rng.random() < 0.5
    return (
        f"{'Enciende' if on else 'Apaga'} la luz en {room[2]}.",
        f"Turn {'on' if on else 'off'} the light in the {room[0]}.",
    )


def _spanish_weather(rng: Random, _: int) -> Translated:
    day, weather = rng.choice(DAYS), rng.choice(SPANISH_WEATHER)
    return f"{capitalized(day[2])} hace {weather[1]}.", f"The weather is {weather[0]} {day[0]}."


def _spanish_event(rng: Random, hour: int) -> Translated:
    event = rng.choice(EVENTS)
    return (
        f"{event[2]} empieza a las {SPANISH_HOURS[hour]}.",
        f"The {event[0]} starts at {HOURS[hour]} o'clock.",
    )


def _spanish_where(rng: Random, _: int) -> Translated:
    place = rng.choice(PLACES)
    return f"¿Dónde está {place[2]}?", f"Where is the {place[0]}?"


def _spanish_drink(rng: Random, _: int) -> Translated:
    drink, polite = rng.choice(DRINKS), rng.random() < 0.5
    return (
        f"Quiero {drink[2]}{', por favor' if polite else ''}.",
        f"I would like some {drink[0]}{', please' if polite else ''}.",
    )


def _spanish_home(rng: Random, _: int) -> Translated:
    name, city = rng.choice(NAMES), rng.choice(CITIES)
    return f"{name} vive en {city[2]}.", f"{name} lives in {city[0]}."


def _spanish_name(rng: Random, _: int) -> Translated:
    name = rng.choice(NAMES)
    return f"Mi nombre es {name}.", f"My name is {name}."


def _spanish_call(rng: Random, hour: int) -> Translated:
    day = rng.choice(DAYS)
    return f"Llámame {day[2]} a las {SPANISH_HOURS[hour]}.", f"Call me {day[0]} at {HOURS[hour]} o'clock."


SPANISH: list[TimedTemplate] = [
    _spanish_light,
    _spanish_weather,
    _spanish_event,
    _spanish_where,
    _spanish_drink,
    _spanish_home,
    _spanish_name,
    _spanish_call,
]


def main() -> None:
    """Print the size of each language's vocabulary and some sentences."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--samples", type=int, default=20_000)
    args = parser.parse_args()
    rng = Random(1)  # noqa: S311 - repeatable, not secret
    for language in LANGUAGES:
        texts = [sample(rng, language)[0] for _ in range(args.samples)]
        words = {bare_word(word) for text in texts for word in text.split()}
        print(language, len(words), "words;", texts[:6])


if __name__ == "__main__":
    main()
