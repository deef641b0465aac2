"""Which human recordings belong to which evaluation split; no take is in both, and none is in training."""

from collections.abc import Iterator
from pathlib import Path

from tools.demo_model.voices import UNHEARD_SPEAKER, UNHEARD_TAKES, HumanDigits

UNHEARD_SPEAKER_TAKES = {"dev": range(0, 25), "held": range(25, 50)}
OTHER_SPEAKERS = {"dev": ("george", "jackson", "nicolas"), "held": ("lucas", "yweweler")}


def human_digits(fsdd: Path, split: str) -> Iterator[tuple[str, HumanDigits]]:
    """Yield each speaker's name and takes; the speaker kept out of training comes first."""
    yield UNHEARD_SPEAKER, HumanDigits(fsdd, [UNHEARD_SPEAKER], UNHEARD_SPEAKER_TAKES[split])
    for speaker in OTHER_SPEAKERS[split]:
        yield speaker, HumanDigits(fsdd, [speaker], UNHEARD_TAKES)
