"""One comparison of Sotto with faster-whisper on recordings of real people, made once and looked at by every test.

Neither the recordings nor the model are part of the repository: without them these tests are skipped; in CI they
fail.
"""

import pytest

from benchmarks.truth import recordings
from benchmarks.truth.comparison import Comparison, compare
from benchmarks.truth.model import real_model
from server.errors import ModelUnavailable
from tests.support.missing_tools import skip_outside_ci


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    folder = recordings.folder()
    if not (folder / recordings.MANIFEST).is_file():
        skip_outside_ci(f"there are no real recordings in {folder}; {recordings.FOLDER} names their folder")
    try:
        return compare(real_model(), recordings.load(folder))
    except ModelUnavailable as error:
        skip_outside_ci(str(error))
