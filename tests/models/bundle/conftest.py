"""A model that is exported to a bundle, and the models directory of the other machine."""

import io
from pathlib import Path

import pytest

from server.models import bundle, catalog
from server.models.catalog_file import Catalog
from server.models.installed import InstalledModel, locate
from tests.support.model_folders import pulled

LABEL = "me--small"


NAME = "me/small"


@pytest.fixture(scope="module")
def known() -> Catalog:
    return catalog.load()


@pytest.fixture
def model(tmp_path: Path, known: Catalog) -> InstalledModel:
    pulled(tmp_path / "here" / LABEL)
    return locate(NAME, tmp_path / "here", known)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The models directory of the other machine."""
    return tmp_path / "there"


@pytest.fixture
def content(model: InstalledModel) -> bytes:
    out = io.BytesIO()
    bundle.export(model, out)
    return out.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left_in(folder: Path) -> list[str]:
    """What a refused import has left, its lock aside."""
    return [path.name for path in folder.glob("*") if not path.name.endswith(".lock")] if folder.is_dir() else []


class Interrupted(io.RawIOBase):
    """A bundle whose reader is interrupted half way."""

    def __init__(self, content: bytes, error: BaseException) -> None:
        self._rest = io.BytesIO(content[: len(content) // 2])
        self._error = error

    def read(self, size: int = -1) -> bytes:
        if not (piece := self._rest.read(size)):
            raise self._error
        return piece
