"""The hub: pulls a model's files out of a repository into a folder, whole and verified or not at all.

The only home of huggingface_hub, which knows addresses, headers and errors. The bytes are streamed here: its own
downloader (2.x) begins a large file anew after every stopped process. A pull grows in `<folder>.partial`, which
gets its name when everything is there and matches the hub's sums, so what has the name is a model.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn, TextIO

from huggingface_hub import HfApi, constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's or httpx2's, by version
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
)
from tqdm import tqdm

from server import __version__
from server.errors import ModelUnavailable

RECORD = "source.json"
OPTIONAL = ("preprocessor_config.json",)  # 80 mel bands where a repository has none
WEIGHTS = (".safetensors", ".safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TIMEOUT_S = 15.0
SPARE_BYTES = 64 << 20  # what a pull leaves free on the disk
RETRIES = 4  # in a row, without one new byte
RETRY_WAIT_S = 1.0
PASSING = {408, 429, 500, 502, 503, 504}
HEADERS = {"user-agent": f"sotto/{__version__}"}

logger = logging.getLogger(__name__)

# Or HfApi would ask <endpoint>/api/agent-harnesses first, to tell the hub which tool the process runs in.
constants.HF_HUB_DISABLE_TELEMETRY = True


@dataclass(frozen=True)
class _File:
    """What the hub says of a file: bytes, and the sha256 of a large one (LFS) or git's sha1 of a small one."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class _Plan:
    endpoint: str
    repository: str
    revision: str
    files: tuple[_File, ...]


def pull(
    repository: str,
    files: Sequence[str],
    into: Path,
    *,
    offline: bool = False,
    endpoint: str | None = None,
    progress: TextIO | None = None,
) -> Path:
    """Bring the files of a repository that match the patterns `files` into the folder `into`, and return that.

    Each pattern has to be matched; preprocessor_config.json comes along where there is one. What is whole already
    costs no request. `progress` shows a bar if it is a terminal. `endpoint` is the hub, else HF_ENDPOINT, else
    huggingface.co. HF_TOKEN is sent if set, no stored token. Raises ModelUnavailable: offline, hub unreachable,
    access refused, no such repository, no CTranslate2 model, damaged on the way, no room. The next pull goes on
    where an interrupted one was.
    """
    endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
    if _is_whole(into, files):
        return into
    if offline or constants.HF_HUB_OFFLINE:
        raise ModelUnavailable(_offline(f"{endpoint}/{repository}", files, into))
    with _reserved(into):
        if not _is_whole(into, files):  # another process may have pulled it while this one waited
            plan = _plan(endpoint, repository, files)
            partial = _open_partial(into, plan)
            _check_room(partial, plan)
            _finish(partial, into, plan, _download(partial, plan, progress))
    return into


def _is_whole(folder: Path, patterns: Sequence[str]) -> bool:
    try:
        sizes = {file.name: size for file in folder.iterdir() if (size := file.stat().st_size)}
    except OSError:
        return False
    _, recorded = _record(folder)
    return not _unmatched(sizes, patterns) and all(sizes.get(name) == size for name, size in recorded.items())


def _record(folder: Path) -> tuple[str, dict[str, int]]:
    """Revision, and sizes by name, as noted when pulled; empty for a folder that a person filled."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        return record["revision"], {name: file["size"] for name, file in record["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def _unmatched(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    there = list(names)
    return [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in there)]


@contextmanager
def _reserved(into: Path) -> Iterator[None]:
    """Hold the folder: one pull at a time over all processes, the others wait. Names the cause of disk errors."""
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with into.with_name(f".{into.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ModelUnavailable(f"{into.parent} (SOTTO_MODELS_DIR) can't be written: {error}") from error


def _plan(endpoint: str, repository: str, patterns: Sequence[str]) -> _Plan:
    """What to pull, by one request."""
    api = HfApi(endpoint, token=os.environ.get("HF_TOKEN") or False, headers=HEADERS)
    try:
        info = api.model_info(repository, files_metadata=True, timeout=TIMEOUT_S)
    except HTTPError as error:
        _refuse(error, endpoint, repository)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(f"{endpoint} does not answer as a model hub does: {error!r}") from error
    names = [file.rfilename for file in info.siblings or () if "/" not in file.rfilename]
    if lacking := _unmatched(names, patterns):
        raise ModelUnavailable(_unusable(repository, names, lacking))
    files = tuple(
        _File(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or "")
        for file in info.siblings or ()
        if file.rfilename in names and any(fnmatchcase(file.rfilename, each) for each in (*patterns, *OPTIONAL))
    )
    if not info.sha or not all(file.size and file.digest for file in files):
        raise ModelUnavailable(f"{endpoint} tells no revision, sizes or sums for {repository}")
    return _Plan(endpoint, repository, info.sha, files)


def _open_partial(into: Path, plan: _Plan) -> Path:
    """The folder the pull grows in, with what an interrupted one of the same revision left there."""
    if into.is_dir() and any(into.iterdir()) and not (into / RECORD).exists():
        raise ModelUnavailable(f"{into} is incomplete but was not pulled by Sotto: complete it, or remove it")
    partial = into.with_name(f"{into.name}.partial")
    revision, _ = _record(partial)
    if partial.exists() and revision != plan.revision:
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    _write_record(partial, plan, {})
    return partial


def _write_record(folder: Path, plan: _Plan, sums: dict[str, str]) -> None:
    files = {file.name: {"size": file.size, "sha256": sums.get(file.name)} for file in plan.files}
    record = {"repository": plan.repository, "revision": plan.revision, "files": files}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _check_room(partial: Path, plan: _Plan) -> None:
    needed = sum(file.size - _size(partial / file.name) for file in plan.files) + SPARE_BYTES
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise ModelUnavailable(
            f"{plan.repository} needs {_mb(needed)} more in {partial.parent}, which has {_mb(free)} free: "
            "make room, or set SOTTO_MODELS_DIR to another disk"
        )


def _download(partial: Path, plan: _Plan, progress: TextIO | None) -> dict[str, str]:
    """Fetch and verify every file; returns their sha256 by name."""
    total = sum(file.size for file in plan.files)
    logger.info("pulling %s (%s) into %s", plan.repository, _mb(total), partial.parent)
    with tqdm(
        desc=plan.repository,
        total=total,
        initial=sum(_size(partial / file.name) for file in plan.files),
        unit="B",
        unit_scale=True,
        file=progress,
        disable=None if progress else True,  # None: tqdm asks whether it is a terminal
    ) as bar:
        for file in plan.files:
            _fetch(file, plan, partial / file.name, bar)
        return {file.name: _verified(file, plan, partial / file.name) for file in plan.files}


def _fetch(file: _File, plan: _Plan, path: Path, bar: tqdm) -> None:
    """Append to `path` until it has the file's size, over as many connections as that takes."""
    url = hf_hub_url(plan.repository, file.name, revision=plan.revision, endpoint=plan.endpoint)
    fruitless = 0
    while (done := _size(path)) < file.size:
        cause: Exception | None = None
        try:
            with path.open("ab") as out:
                for chunk in _chunks(url, done):
                    bar.update(out.write(chunk))
                out.flush()
                os.fsync(out.fileno())
        except HTTPError as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code not in PASSING:
                _refuse(error, plan.endpoint, plan.repository)
            cause = error
        fruitless = fruitless + 1 if _size(path) == done else 0
        if fruitless > RETRIES:
            raise ModelUnavailable(
                f"{file.name} of {plan.repository} broke off at {_mb(done)} of {_mb(file.size)} "
                f"({cause or 'the hub sends no more'}); the next pull goes on from there"
            ) from cause
        time.sleep(RETRY_WAIT_S * fruitless)


def _chunks(url: str, done: int) -> Iterator[bytes]:
    """The file's bytes from `done` on."""
    headers = {**HEADERS, "accept-encoding": "identity"}  # an offset into a compressed body would mean nothing
    if done:
        headers["range"] = f"bytes={done}-"
    if token := os.environ.get("HF_TOKEN"):
        headers["authorization"] = f"Bearer {token}"  # httpx drops it where the hub redirects to another host
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True) as response:
        hf_raise_for_status(response)
        skip = 0 if response.status_code == 206 else done  # 200: the range was ignored
        for chunk in response.iter_bytes():
            yield chunk[skip:]
            skip = max(0, skip - len(chunk))


def _verified(file: _File, plan: _Plan, path: Path) -> str:
    """The file's sha256; where it is not what the hub described, removes it and raises ModelUnavailable."""
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    digest = sha256 if len(file.digest) == len(sha256) else _git_sha1(path)
    if (_size(path), digest) != (file.size, file.digest):
        complaint = f"{_size(path)} bytes, {digest}, instead of {file.size} bytes, {file.digest}"
        path.unlink()
        raise ModelUnavailable(f"{file.name} of {plan.repository} arrived damaged and was removed: {complaint}")
    return sha256


def _git_sha1(path: Path) -> str:
    """The name git has for a file; the hub tells it for small files instead of a sha256."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _finish(partial: Path, into: Path, plan: _Plan, sums: dict[str, str]) -> None:
    _write_record(partial, plan, sums)
    if into.exists():
        shutil.rmtree(into)  # empty or a damaged pull, see _open_partial
    partial.rename(into)
    logger.info("pulled %s at revision %s into %s", plan.repository, plan.revision, into)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _refuse(error: Exception, endpoint: str, repository: str) -> NoReturn:
    """Say what an answer, or that there was none, means for the operator."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        text = f"is gated: accept its conditions at {endpoint}/{repository} and set HF_TOKEN to your token"
    elif status in (401, 404):  # 401: the hub's answer for what does not exist, too
        text = f"does not exist at {endpoint}, or is private: check the name, or set HF_TOKEN to a token for it"
    elif status == 403:
        text = f"may not be read (403 from {endpoint}): HF_TOKEN must hold a token for it"
    elif status is not None:
        text = f"can't be pulled now, {endpoint} answers {status}: try again later"
    else:
        text = (
            f"is not on this machine, and {endpoint} can't be reached: {error or type(error).__name__}. "
            "Behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT; by hand: models/README.md"
        )
    raise ModelUnavailable(f"{repository} {text}") from error


def _unusable(repository: str, names: list[str], lacking: list[str]) -> str:
    owner, _, name = repository.rpartition("/")
    if "model.bin" in names or not any(file.endswith(WEIGHTS) for file in names):
        return f"{repository} holds no CTranslate2 conversion of a model: it lacks {_spelled(lacking)}"
    known = f"use SOTTO_MODEL={name.removeprefix('whisper-')}, its conversion (most are Systran/faster-{name})"
    return (
        f"{repository} is in transformers format: {known if owner == 'openai' else 'look for its conversion'}, or "
        f"convert it: ct2-transformers-converter --model {repository} --output_dir {name}-ct2 "
        "--copy_files tokenizer.json preprocessor_config.json --quantization float16"
    )


def _offline(page: str, patterns: Sequence[str], into: Path) -> str:
    files = [*patterns, *(f"{name} (if there is one)" for name in OPTIONAL if name not in patterns)]
    return (
        f"{into} is missing or incomplete, and SOTTO_OFFLINE (or HF_HUB_OFFLINE) forbids to pull it. Place there, "
        f"from {page}: {_spelled(files)}. Or set SOTTO_MODEL to a directory that has these files."
    )


def _spelled(patterns: list[str]) -> str:
    return ", ".join(patterns).replace("vocabulary.*", "vocabulary.json or vocabulary.txt")
