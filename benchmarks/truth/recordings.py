"""Recordings of real people and sounds with what is said in them: a folder with a `manifest.jsonl`.

The folder is no part of the repository. Its own README says what each field of the manifest means.
"""

import os
from pathlib import Path

from server.evaluation import manifest
from server.evaluation.recordings import LabeledRecording

FOLDER = "SOTTO_REAL_AUDIO"  # environment variable: where the folder is
USUAL_FOLDER = Path(__file__).parents[2].parent / "shared" / "audio-real"
MANIFEST = "manifest.jsonl"
GROUPS = ("en", "de", "fr")  # language groups by themselves; all others are one group
OTHER = "other"


def folder() -> Path:
    """Where the recordings are, or should be."""
    return Path(os.environ.get(FOLDER) or USUAL_FOLDER)


def load(folder: Path) -> list[LabeledRecording]:
    """All recordings of a folder, in the manifest's order. Raises OSError where there is no manifest."""
    return manifest.load(folder / MANIFEST)


def group_of(recording: LabeledRecording) -> str:
    """The language group that its errors count in."""
    return recording.language if recording.language in GROUPS else OTHER
