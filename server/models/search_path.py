"""Folders that hold models, in the layout of the models directory or of a Hugging Face cache.

The models directory has a folder for each model. The cache has `models--owner--name`, with a snapshot for each
downloaded revision and a file for each branch that names its revision. Looks at names only, and writes nothing.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_CACHED = "models--"


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """This user's Hugging Face cache, which other programs fill; it may not exist.

    Derived from the variables that huggingface_hub documents: importing it for this would cost memory in every
    command and in the server.
    """
    if folder := environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    caches = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(environment.get("HF_HOME") or f"{caches}/huggingface").expanduser() / "hub"


def snapshot(folder: Path, repository: str, revision: str | None = None) -> Path | None:
    """A repository's snapshot in a cache: of that revision if it is there, else the latest download."""
    return _snapshot(folder / f"{_CACHED}{repository.replace('/', '--')}", revision)


def model_folders(folder: Path) -> Iterator[Path]:
    """Every subfolder that may hold a model: a plain one, or a snapshot of a cached repository."""
    try:
        children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:  # missing, or not readable for us
        return
    for child in children:
        found = _snapshot(child) if child.name.startswith(_CACHED) else child
        if found:
            yield found


def repository_of(folder: Path) -> str | None:
    """The repository of a snapshot; None for any other folder."""
    cached = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not cached.startswith(_CACHED):
        return None
    owner, _, name = cached.removeprefix(_CACHED).partition("--")
    return f"{owner}/{name}" if name else None


def _snapshot(cached: Path, revision: str | None = None) -> Path | None:
    snapshots = cached / "snapshots"
    try:
        if revision and (snapshots / revision).is_dir():
            return snapshots / revision
        named = [(cached / "refs" / "main").read_text().strip()] if (cached / "refs" / "main").is_file() else []
        newest = sorted(snapshots.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
    except OSError:
        return None
    return next((each for each in (*(snapshots / name for name in named if name), *newest) if each.is_dir()), None)
