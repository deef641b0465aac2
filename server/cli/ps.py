"""`sotto ps`: the models that a running server has in memory, and how busy each is."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import click

from server.cli.help import Command
from server.errors import InvalidRequest, RemoteError
from server.settings import Settings
from server.system.sizes import in_words

HEAD = ("MODEL", "STATE", "DEVICE", "TYPE", "MEMORY", "REQUESTS", "QUEUE", "LAST USE", "UNLOADS IN")
ABOUT = """\
Show the models that a running server has in memory. MEMORY is the RAM that their processes use;
QUEUE counts windows of audio, of up to 30 s each, that are waiting or running."""
KEY = "environment: SOTTO_API_KEY, or else OPENAI_API_KEY, is the API key"


@click.command(cls=Command, help=ABOUT, short_help="show the models that a running server has loaded", epilog=KEY)
@click.option(
    "--server", metavar="URL", help="the server's address (http://127.0.0.1:8000; SOTTO_HOST, SOTTO_PORT)"
)
@click.option("--json", "as_json", is_flag=True, help="all details, machine-readable")
def ps(server: str | None, as_json: bool) -> int:
    answer = asyncio.run(_ask(server or _address(Settings())))
    print(json.dumps(answer, indent=2) if as_json else "\n".join(_table(answer["models"], answer["time"])))
    return 0


def _address(settings: Settings) -> str:
    if not settings.port:
        raise InvalidRequest("SOTTO_PORT is 0, which means any port: give the server's address with --server")
    return settings.url()


async def _ask(url: str) -> dict[str, Any]:
    from server.commands.client import Client  # heavy

    async with Client(url) as client:
        answer = await client.get("/api/ps")
    try:
        status: dict[str, Any] = answer.json()
        list(_table(status["models"], status["time"]))
    except (ValueError, LookupError, TypeError) as error:
        raise RemoteError(f"{url} does not respond like a Sotto server") from error
    return status


def _table(models: list[dict[str, Any]], now_s: float) -> Iterator[str]:
    """Yield the heading and a line per model, in columns."""
    lines = [HEAD, *(_row(model, now_s) for model in models)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
    yield from (f"{model['id']}: {model['reason']}" for model in models if model["reason"])


def _row(model: dict[str, Any], now_s: float) -> tuple[str, ...]:
    last, expires = model["last_used"], model["expires_at"]
    return (
        model["id"],
        model["state"],
        model["device"] or "-",
        model["compute_type"] or "-",
        in_words(model["memory_bytes"], "MB") if model["memory_bytes"] else "-",
        str(model["requests"]),
        str(model["queued_windows"] + model["running_windows"]),
        "never" if last is None else f"{_span(now_s - last)} ago",
        "in use" if model["requests"] else "never" if expires is None else _span(expires - now_s),
    )


def _span(seconds: float) -> str:
    """Format a duration in its largest unit."""
    whole = max(0, round(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
