"""Types of options, and shell completion of model names."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from server.errors import SottoError, UnknownLanguage
from server.languages import code_of
from server.options import RESPONSE_FORMATS, ResponseFormat
from server.settings import Settings


class Formats(click.ParamType[tuple[ResponseFormat, ...], Any]):
    """Output formats, separated by commas."""

    name = "formats"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[ResponseFormat, ...]:
        if isinstance(value, tuple):
            return value
        known = {str(each): each for each in RESPONSE_FORMATS}
        names = dict.fromkeys(each.strip() for each in value.split(","))
        for name in names:
            if name not in known:
                self.fail(f"{name!r} is not one of {', '.join(known)}.", param, ctx)
        return tuple(known[name] for name in names)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{each}") for each in RESPONSE_FORMATS if each.startswith(last)]


class Counts(click.ParamType[tuple[int, ...], Any]):
    """Positive whole numbers, separated by commas."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        counts = tuple(int(each) if each.strip().isdecimal() else 0 for each in value.split(","))
        if min(counts) < 1:
            self.fail(f"{value!r} is not a list of counts such as 1,4,16.", param, ctx)
        return counts


class Seconds(click.FloatRange):
    """A duration in seconds; unlike click's own range it excludes NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


def language_code(language: str | None) -> str | None:
    """Whisper's code of a language on the command line; None if it is to be detected. Raises `UnknownLanguage`."""
    if language is None or language.lower() == "auto":
        return None
    if (code := code_of(language)) is None:
        raise UnknownLanguage(language)
    return code


def complete_installed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the models on this machine."""
    return _matching(_installed, incomplete)


def complete_known(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the models on this machine and in the catalog."""
    return _matching(_known, incomplete)


def _matching(names: Callable[[], Iterator[str]], incomplete: str) -> list[CompletionItem]:
    """Complete folders if a path was begun, else names; none with invalid settings, which commands report."""
    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="dir")]
    try:
        found = dict.fromkeys(names())
    except (ValueError, SottoError, OSError):
        return []
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def _installed() -> Iterator[str]:
    from server.models import catalog, installed

    settings = Settings()
    for model in installed.installed(settings.models_dir, catalog.of(settings)):
        yield model.name


def _known() -> Iterator[str]:
    from server.models import catalog

    yield from _installed()
    for entry in catalog.of(Settings()).models:
        yield from entry.names


model_option = click.option(
    "--model",
    metavar="NAME",
    shell_complete=complete_known,
    help="catalog name, folder or repository id (SOTTO_MODEL, or the best model installed)",
)
