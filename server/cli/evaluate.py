"""The options of `sotto evaluate`."""

from pathlib import Path

import click

from server.cli.help import Command
from server.cli.parameters import complete_known, language_code
from server.errors import InvalidRequest

ABOUT = """\
Compare transcripts of your own recordings with reference texts: word error rate, words invented
where there is no speech, language detection and word times, of several models side by side.

MANIFEST is a file with a JSON object on each line, a CSV or TSV file with a header, or a directory
whose recordings have a .txt file of the same name beside them."""
EXAMPLES = """\
examples:
  sotto evaluate recordings/                            talk.mp3 and talk.txt, and so on
  sotto evaluate test.jsonl --model base --model small  two models side by side
  sotto evaluate cv-corpus/de/test.tsv --limit 200 --language manifest
                                                        Common Voice, without language detection
  sotto evaluate test.jsonl --words --json result.json  word times too; every transcript and figure
  sotto evaluate test.csv --server http://box:8000      evaluate a running server

a line of a manifest: {"file": "talk.mp3", "text": "Hello everybody.", "language": "en"}
All keys and the normalization of words: docs/accuracy.md, "With your own recordings".

environment, with --server: SOTTO_API_KEY, or else OPENAI_API_KEY, is the API key

exit status: 0 success; 1 some recordings or models failed, with the reasons on standard error;
2 usage error or a wrong manifest; 130 Ctrl-C, after the results so far"""
LIBRARIES = ("rapidfuzz", "whisper_normalizer", "opencc")  # of the extra `evaluate`
OWN = "manifest"


@click.command(cls=Command, help=ABOUT, short_help="measure accuracy on your own recordings", epilog=EXAMPLES)
@click.argument("manifest", type=click.Path(path_type=Path, readable=False), metavar="MANIFEST", help="see above")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_known,
    help="catalog name, folder or repository id, repeatable (SOTTO_MODEL, or the best model installed)",
)
@click.option(
    "--language",
    metavar=f"auto|CODE|{OWN}",
    help=f"auto (default): detect it; {OWN}: give each recording's own",
)
@click.option("--words", is_flag=True, help="align words, and compare their times where the manifest has them")
@click.option("--prompt", default="", metavar="TEXT", help="topic, names or the opening words, for all recordings")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="the first N recordings only")
@click.option(
    "--json",
    "target",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="write every transcript and figure to this file",
)
@click.option("--server", metavar="URL", help="evaluate this server instead")
def evaluate(
    manifest: Path,
    models: tuple[str, ...],
    language: str | None,
    words: bool,
    prompt: str,
    limit: int | None,
    target: Path | None,
    server: str | None,
) -> int:
    try:
        from server.commands.evaluate import EvaluationRequest, evaluate
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in LIBRARIES:
            raise
        raise InvalidRequest("this command needs additional packages: pip install 'sotto[evaluate]'") from error

    own = language is not None and language.lower() == OWN
    return evaluate(
        EvaluationRequest(
            manifest=manifest,
            models=tuple(dict.fromkeys(models)) or ("",),
            language=None if own else language_code(language),
            own_language=own,
            words=words,
            prompt=prompt,
            limit=limit,
            json=target,
            server=server,
        )
    )
