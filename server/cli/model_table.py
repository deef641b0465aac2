"""The table of `sotto models list`, and its rows, which are also its JSON."""

from pathlib import Path
from typing import Any

from server.languages import NAMES, of_vocabulary
from server.models.catalog_file import CatalogEntry
from server.models.dimensions import PARAMETER_BYTES, RUNTIME_BYTES, Dimensions
from server.models.installed import InstalledModel
from server.system.sizes import in_words


def make_row(here: InstalledModel | None, entry: CatalogEntry | None, default: Path | None) -> dict[str, Any]:
    """Return all fields of a model that is installed, in the catalog, or both."""
    known = here.dimensions if here else entry and entry.dimensions
    about = entry or CatalogEntry("", Path())  # not in the catalog: the defaults
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
    """Return the one language of the catalog's entry or vocabulary, "multilingual", or None if neither is known."""
    if named in NAMES:
        return named
    codes = of_vocabulary(dimensions.vocabulary) if dimensions else ()
    return "multilingual" if len(codes) > 1 else next(iter(codes), named)


def _estimates(dimensions: Dimensions) -> dict[str, dict[str, int]]:
    """Return the estimated memory of a loaded model, in bytes, by device and compute type."""
    return {
        device: {kind: dimensions.estimated_bytes(kind, device) for kind in PARAMETER_BYTES}
        for device in RUNTIME_BYTES
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one line per model."""
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
    print("\nCPU, GPU: estimated memory while transcribing (int8 on CPU, float16 on GPU). * default.")
    if all(row["installed"] for row in rows):
        print("To see all models of the catalog: sotto models list --all")


def _state(row: dict[str, Any]) -> str:
    if not row["installed"]:
        return f"not installed: sotto models pull {row['name']}"
    if row["problem"]:
        return str(row["problem"])
    return "bundled" if row["bundled"] else row["repository"] or "local"
