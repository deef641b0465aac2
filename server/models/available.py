"""The models that requests may name: those configured by the operator and those in the models directory.

Looks at files, and pulls the models that the operator has configured. No client input reaches this module.
"""

import sys
from pathlib import Path

from server.languages import NAMES, of_vocabulary
from server.models import catalog
from server.models.catalog import ModelReference
from server.models.dimensions import Dimensions
from server.models.folder_lock import PARTIAL
from server.models.installed import InstalledModel, default_name, describe, installed
from server.models.known_model import KnownModel
from server.models.search_path import model_folders
from server.settings import Settings
from server.transcript import MAX_WINDOW_S


class AvailableModels:
    """The models that `settings` make available. The first is the default."""

    def __init__(self, settings: Settings) -> None:
        """Find, or pull, the default model and those to preload; raises `ModelUnavailable`."""
        self._models_dir = settings.models_dir
        self._dynamic_context = settings.encoder_window == "auto"
        self._catalog = catalog.of(settings)
        names = (default_name(settings, self._catalog), *settings.preload)
        chosen = (self._found(name, settings) for name in names)
        self.chosen = tuple({known.folder: known for known in chosen}.values())

    def models(self) -> list[KnownModel]:
        """All available models. A name shared by several means the first of them."""
        known = {model.folder: self.refresh(model) for model in self.chosen}
        for each in installed(self._models_dir, self._catalog):
            named_by_path = each.names == (str(each.folder),)  # its name means another model
            if each.folder.is_dir() and not each.folder.name.endswith(PARTIAL) and not named_by_path:
                known.setdefault(each.folder.resolve(), self._known(each, each.names))
        return list(known.values())

    def refresh(self, known: KnownModel) -> KnownModel:
        """The same model, with the current state of its files."""
        found = describe(known.folder, self._models_dir, self._catalog)
        return self._known(found, known.names)

    def stamp(self) -> object:
        """A value that changes when a model, or a file of one, is added or removed."""
        further = [folder for each in self._catalog.elsewhere for folder in model_folders(each)]
        try:
            own = [self._models_dir, *self._models_dir.iterdir()]
        except OSError:  # none, or not ours to read
            own = []
        return {str(folder): _modified_ns(folder) for folder in (*own, *further)}

    def _found(self, name: str, settings: Settings) -> KnownModel:
        found = catalog.resolve(name, self._models_dir, self._catalog)
        folder = (found.folder or self._fetched(found, settings)).resolve()
        each = describe(folder, self._models_dir, self._catalog)
        names = found.model.names if found.model else (found.name,)
        return self._known(each, tuple(names))

    def _fetched(self, found: ModelReference, settings: Settings) -> Path:
        from server.models.sources import FetchOrder, fetch  # heavy, and rarely needed

        return fetch(FetchOrder(found, settings, self._catalog, progress=sys.stderr)).folder

    def _known(self, each: InstalledModel, names: tuple[str, ...]) -> KnownModel:
        dimensions = each.dimensions
        return KnownModel(
            names=names,
            folder=each.folder.resolve(),
            size_bytes=each.size,
            languages=languages_of(dimensions, each.languages),
            window_s=each.model.window_s if each.model else MAX_WINDOW_S,
            mels=dimensions.mels if dimensions else KnownModel.mels,
            dimensions=dimensions,
            dynamic_context=self._dynamic_context and each.model is not None and each.model.dynamic_context,
            created=_created(each.folder),
            demo=each.model is not None and each.model.demo,
            problem=each.problem,
        )


def languages_of(dimensions: Dimensions | None, language: str | None = None) -> tuple[str, ...]:
    """The languages of a model: the single one that the catalog lists for it, else those of its vocabulary."""
    if language in NAMES:
        return (str(language),)
    return of_vocabulary(dimensions.vocabulary) if dimensions else ()


def _modified_ns(folder: Path) -> int:
    """0 where it can't be seen, as with a link to nowhere."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _created(folder: Path) -> int:
    try:
        return int((folder / "model.bin").stat().st_mtime)
    except OSError:
        return 0
