"""The Hugging Face hub: pulls a model's files from a repository into a folder, whole and verified or not at all.

The only module that imports huggingface_hub, which knows addresses, headers and errors. The bytes are streamed
here: its own downloader (2.x) restarts a large file after every interrupted process. A pull grows in
`<folder>.partial`, which is renamed once every file is there and matches the hub's checksums, so a folder of that
name is a model.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn, TextIO

from huggingface_hub import HfApi, constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's or httpx2's, by version
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    RevisionNotFoundError,
)

from server import __version__
from server.errors import PullFailed, RepositoryNotFound, UnsupportedModel
from server.models import manifest
from server.models.catalog_file import NO_PINS, OPTIONAL, spelled
from server.models.conversion import TRANSFORMERS, advice, matching
from server.models.folder_lock import PARTIAL, check_disk_space, check_replaceable, locked, settle
from server.models.manifest import FileInfo, Manifest, is_whole, size_of, unmatched
from server.models.progress import Progress, Report, bar, both, ignore
from server.system.sizes import in_words

TIMEOUT_S = 15.0
RETRIES = 4  # in a row, without any new byte
RETRY_WAIT_S = 1.0
PASSING = {408, 429, 500, 502, 503, 504}
SHA256_DIGITS = 64
HEADERS = {"user-agent": f"sotto/{__version__}"}

logger = logging.getLogger(__name__)

# It logs every URL it requests, and those of the hub's storage are signed.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpx2").setLevel(logging.WARNING)

# Else HfApi would first request <endpoint>/api/agent-harnesses, to report which tool the process runs in.
constants.HF_HUB_DISABLE_TELEMETRY = True


@dataclass(frozen=True)
class _File:
    """A file's size in bytes, and the sha256 of a pinned or large one (LFS) or git's sha1 of a small one."""

    name: str
    size: int
    digest: str

    @property
    def sha256(self) -> str | None:
        return self.digest if len(self.digest) == SHA256_DIGITS else None


@dataclass(frozen=True)
class _Plan:
    endpoint: str
    repository: str
    revision: str
    files: tuple[_File, ...]
    source = "hub"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def expected(self) -> dict[str, FileInfo]:
        """The files as they have to arrive; without a sha256 for those of which the hub gives git's sha1."""
        return {file.name: FileInfo(file.size, file.sha256) for file in self.files}

    def record(self, files: Mapping[str, FileInfo]) -> Manifest:
        return Manifest(self.repository, self.revision, files, self.source)


def pull(
    repository: str,
    files: Sequence[str],
    into: Path,
    *,
    revision: str | None = None,
    pinned: Mapping[str, FileInfo] = NO_PINS,
    latest: bool = False,
    offline: bool = False,
    endpoint: str | None = None,
    progress: TextIO | None = None,
    report: Report = ignore,
) -> Path:
    """Pull the files of a repository that match the patterns `files` into the folder `into`, and return that.

    Each pattern must match; preprocessor_config.json is included if there is one. The files are those of
    `revision`, if the repository has it, and must match `pinned`, whatever the hub says of them. `latest`
    takes the newest revision instead, checked against the hub's own checksums, and replaces an older one. A
    complete folder causes no request. `progress` shows a bar if it is a terminal; `report` is also called, and
    aborts the pull by raising. `endpoint` is the hub, else HF_ENDPOINT, else huggingface.co. HF_TOKEN is sent if
    set, but no stored token. Raises a ModelUnavailable: offline, hub unreachable, access refused, no repository,
    no CTranslate2 model, files that don't match their pins, corrupted download, disk full. The next pull resumes an
    interrupted one.
    """
    endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
    if not latest and is_whole(into, files):
        return into
    if offline or constants.HF_HUB_OFFLINE:
        raise PullFailed(_offline(f"{endpoint}/{repository}", files, into))
    with locked(into):
        if latest or not is_whole(into, files):  # another process may have pulled it meanwhile
            plan = _plan(endpoint, repository, files, *((None, NO_PINS) if latest else (revision, pinned)))
            if latest and is_whole(into, files) and manifest.read(into).revision == plan.revision:
                return into
            partial = _open_partial(into, plan)
            check_disk_space(
                partial.parent, plan.size - sum(size_of(partial / file.name) for file in plan.files), repository
            )
            logger.info("pulling %s (%s) into %s", repository, in_words(plan.size, "MB"), into.parent)
            with bar(progress) as draw:
                sums = _download(partial, plan, both(draw, report))
            _finish(partial, into, plan, sums)
    return into


def _plan(
    endpoint: str, repository: str, patterns: Sequence[str], revision: str | None, pinned: Mapping[str, FileInfo]
) -> _Plan:
    """The files to pull, from one request; from two if the repository no longer has the revision."""
    info = _info(endpoint, repository, revision)
    names = [file.rfilename for file in info.siblings or () if manifest.is_plain(file.rfilename)]
    if missing_files := unmatched(names, patterns):
        raise UnsupportedModel(_unusable(repository, names, missing_files))
    files = tuple(
        _planned(file, repository, pinned.get(file.rfilename))
        for file in info.siblings or ()
        if file.rfilename in names and any(fnmatchcase(file.rfilename, each) for each in (*patterns, *OPTIONAL))
    )
    if not info.sha or not all(file.size and file.digest for file in files):
        raise PullFailed(f"{endpoint} reports no revision, sizes or checksums for {repository}")
    return _Plan(endpoint, repository, info.sha, files)


def _info(endpoint: str, repository: str, revision: str | None) -> Any:
    """The hub's description of a repository at that revision; at the newest if it doesn't have that."""
    api = HfApi(endpoint, token=os.environ.get("HF_TOKEN") or False, headers=HEADERS)
    try:
        return api.model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
    except RevisionNotFoundError as error:
        if revision is None:
            _refuse(error, endpoint, repository)
        return _info(endpoint, repository, None)  # a mirror of the repository may have other commits
    except HTTPError as error:
        _refuse(error, endpoint, repository)
    except (ValueError, KeyError, TypeError) as error:
        raise PullFailed(f"{endpoint} does not respond like a model hub: {error!r}") from error


def _planned(file: Any, repository: str, pin: FileInfo | None) -> _File:
    """One file as described by the hub and pinned by the catalog; raises PullFailed if they differ."""
    listed = _File(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id or "")
    if pin is None:
        return listed
    pinned = _File(file.rfilename, pin.size, pin.sha256 or "")
    if listed.size != pinned.size or (file.lfs and listed.digest != pinned.digest):
        raise PullFailed(
            f"{file.rfilename} of {repository} differs from the file in Sotto's catalog: {listed.size} bytes, "
            f"{listed.digest}, instead of {pinned.size} bytes, {pinned.digest}. To use the hub's newest revision "
            "anyway: sotto models pull --latest"
        )
    return pinned


def _open_partial(into: Path, plan: _Plan) -> Path:
    """The folder the pull grows in, with the files of an interrupted one that this one can go on with."""
    check_replaceable(into)
    partial = into.with_name(into.name + PARTIAL)
    partial.mkdir(exist_ok=True)
    before = manifest.read(partial)
    for path in partial.iterdir():
        if path.name != manifest.NAME and not path.is_dir() and not _is_resumable(path.name, before, plan):
            path.unlink()
    plan.record(plan.expected).write(partial)
    return partial


def _is_resumable(name: str, before: Manifest, plan: _Plan) -> bool:
    """Whether a file begun by an earlier pull is to have the same content now.

    The sha256 decides, so a pull goes on at a mirror, whose revisions are its own; without one, the revision.
    """
    old, new = before.files.get(name), plan.expected.get(name)
    if old is None or new is None or old.size != new.size:
        return False
    if old.sha256 and new.sha256:
        return old.sha256 == new.sha256
    return before.revision == plan.revision


def _download(partial: Path, plan: _Plan, report: Report) -> dict[str, str]:
    """Fetch and verify every file; returns their sha256 by name."""
    now = Progress(plan.repository, sum(size_of(partial / file.name) for file in plan.files), plan.size)

    def advance(**changes: Any) -> None:
        nonlocal now
        now = replace(now, **changes)
        report(now)

    for file in plan.files:
        advance(file=file.name)
        _fetch(file, plan, partial / file.name, lambda size: advance(done=now.done + size))
    sums = {}
    for file in plan.files:
        advance(file=file.name, state="verifying")
        sums[file.name] = _verified(file, plan, partial / file.name)
    return sums


def _fetch(file: _File, plan: _Plan, path: Path, count: Callable[[int], None]) -> None:
    """Append to `path` until it has the file's size, over as many connections as needed."""
    url = hf_hub_url(plan.repository, file.name, revision=plan.revision, endpoint=plan.endpoint)
    failed_attempts = 0
    while (done := size_of(path)) < file.size:
        cause: Exception | None = None
        try:
            with path.open("ab") as out:
                for chunk in _chunks(url, done):
                    count(out.write(chunk))
                    if out.tell() > file.size:
                        break  # larger than announced: stop before the disk fills; the checksum will fail
                out.flush()
                os.fsync(out.fileno())
        except HTTPError as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code not in PASSING:
                _refuse(error, plan.endpoint, plan.repository)
            cause = error
        failed_attempts = failed_attempts + 1 if size_of(path) == done else 0
        if failed_attempts > RETRIES:
            raise PullFailed(
                f"the download of {file.name} of {plan.repository} broke off at {in_words(done, 'MB')} of "
                f"{in_words(file.size, 'MB')} "
                f"({cause or 'the hub sent no more'}); the next pull resumes there"
            ) from cause
        time.sleep(RETRY_WAIT_S * failed_attempts)


def _chunks(url: str, done: int) -> Iterator[bytes]:
    """The file's bytes from offset `done` on."""
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
    """The file's sha256; on a mismatch with the hub's, removes the file and raises ModelUnavailable."""
    sha256 = manifest.sha256_of(path)
    digest = sha256 if file.sha256 else _git_sha1(path)
    if (size_of(path), digest) != (file.size, file.digest):
        difference = f"{size_of(path)} bytes, {digest}, instead of {file.size} bytes, {file.digest}"
        path.unlink()
        raise PullFailed(f"{file.name} of {plan.repository} arrived damaged and was removed: {difference}")
    return sha256


def _git_sha1(path: Path) -> str:
    """The git blob id of a file, which the hub reports for small files instead of a sha256."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _finish(partial: Path, into: Path, plan: _Plan, sums: dict[str, str]) -> None:
    plan.record({file.name: FileInfo(file.size, sums[file.name]) for file in plan.files}).write(partial)
    settle(partial, into)
    logger.info("pulled %s at revision %s into %s", plan.repository, plan.revision, into)


def _refuse(error: Exception, endpoint: str, repository: str) -> NoReturn:
    """Raise an error that explains the hub's answer, or its absence, to the operator."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        text = f"is gated: accept its conditions at {endpoint}/{repository} and set HF_TOKEN to your token"
    elif status in (401, 404):  # 401 is also the hub's answer for a missing repository
        text = f"does not exist at {endpoint}, or is private: check the name, or set HF_TOKEN to a token for it"
        raise RepositoryNotFound(f"{repository} {text}") from error
    elif status == 403:
        text = f"is forbidden (403 from {endpoint}): set HF_TOKEN to a token that may read it"
    elif status is not None:
        text = f"can't be pulled now, {endpoint} answered {status}: try again later"
    else:
        text = (
            f"is not on this machine, and {endpoint} can't be reached: {error or type(error).__name__}. "
            "Set HTTPS_PROXY behind a proxy, HF_ENDPOINT for a mirror; to place the files by hand: models/README.md"
        )
    raise PullFailed(f"{repository} {text}") from error


def _unusable(repository: str, names: list[str], missing_files: list[str]) -> str:
    owner, _, name = repository.rpartition("/")
    if owner == "openai" and matching(names, TRANSFORMERS):
        known = name.removeprefix("whisper-")
        return f"{repository} is in transformers format: use SOTTO_MODEL={known}, its conversion"
    if "model.bin" not in names and (hint := advice(names, repository, f"{name}-ct2")):
        return f"{repository} holds {hint}"
    return f"{repository} holds no CTranslate2 conversion of a model: it lacks {spelled(missing_files)}"


def _offline(page: str, patterns: Sequence[str], into: Path) -> str:
    files = [*patterns, *(f"{name} (if there is one)" for name in OPTIONAL if name not in patterns)]
    return (
        f"{into} is missing or incomplete, and SOTTO_OFFLINE (or HF_HUB_OFFLINE) forbids downloading it. Place "
        f"there, from {page}: {spelled(files)}. Or set SOTTO_MODEL to a directory that has these files."
    )
