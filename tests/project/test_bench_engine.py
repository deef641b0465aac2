"""That engines are compared as they come: each contender's process is set up before its libraries are loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench_engine import Contender, same_texts
from benchmarks.engine_models import model_folder

ROOT = Path(__file__).parents[2]


def test_a_contender_loads_no_inference_library_before_its_process_is_set_up() -> None:
    libraries = "{'ctranslate2', 'faster_whisper', 'tokenizers'}"
    program = f"import sys, benchmarks.engine_contenders; print(*{libraries} & {{*sys.modules}})"
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "\n"


@pytest.mark.slow
def test_contenders_say_the_same_of_the_same_clips(tmp_path: Path) -> None:
    model = model_folder(tmp_path, "micro", tokens=16, end_s=4.4)
    clips = {"count": 2, "seconds": 5.0, "beam": 5}
    with Contender("stock", model, 1) as stock, Contender("ours", model, 1) as ours:
        same_texts([stock("burst", **clips)], [ours("burst", **clips)], [ours("by_hand", **clips)])
        stages = ours("memory", count=2)["mb"]
    assert stages["bare"] < stages["imported"] < stages["loaded"] <= stages["peak"]
