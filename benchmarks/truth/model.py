"""The real model that accuracy is measured with."""

import os
from pathlib import Path

from server import catalog
from server.errors import ModelUnavailable
from server.settings import Settings

FOLDER = "SOTTO_REAL_MODEL"  # environment variable: a model's folder, in place of the one in the models directory
NAME = "base"


def real_model() -> Path:
    """Its folder. Raises `ModelUnavailable` with what to do where it isn't there."""
    if named := os.environ.get(FOLDER):
        catalog.check_folder(Path(named))
        return Path(named)
    found = catalog.resolve(NAME, Settings().models_dir)
    if found.folder is None:
        raise ModelUnavailable(f"The model {NAME} is not on this machine: `sotto models pull {NAME}` gets it")
    return found.folder
