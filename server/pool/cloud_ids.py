"""Model ids of cloud services that clients have hard-coded. None is a model here: all mean the default one.

OpenAI's always do. Ids under which other clouds host Whisper do so unless an installed model has that name, or
the operator has turned them off.
"""

import re
from collections.abc import Mapping

LISTED = ("whisper-1",)  # shown to clients that list models

# The lookahead comes first: a megabyte of "transcribe" without a match would otherwise take minutes.
OPENAI = re.compile(r"whisper-1|gpt-(?=[\w.-]*\Z).*transcribe.*", re.ASCII)

# By cloud, in lower case. No pattern repeats anything, so matching is fast for ids of any length.
WHISPER_HOSTS: Mapping[str, str] = {
    "Groq, OVHcloud, SambaNova, Scaleway": r"(?:distil-)?whisper-large(?:-v[123])?(?:-turbo|-en)?",
    "Azure, by the name and the version that it proposes": r"whisper(?:-001)?",
    "DeepInfra, Hugging Face, Replicate, Together": (
        r"openai/whisper(?:-1|-(?:timestamped-)?(?:tiny|base|small|medium|large(?:-v[123])?(?:-turbo)?)(?:[.-]en)?)?"
        r"|distil-whisper/distil-(?:small\.en|medium\.en|large-v(?:2|3|3\.5))"
    ),
    "Fireworks": r"(?:accounts/fireworks/models/)?whisper-v3(?:-large)?(?:-turbo)?",
    "Cloudflare": r"@cf/openai/whisper(?:-tiny-en|-large-v3-turbo)?",
}
WHISPER = re.compile("|".join(WHISPER_HOSTS.values()), re.ASCII)


def is_openai(name: str) -> bool:
    """True if OpenAI has, or may have, a transcription model with that id; in lower case."""
    return OPENAI.fullmatch(name) is not None


def is_hosted_whisper(name: str) -> bool:
    """True if another cloud hosts a Whisper model under that id; in lower case."""
    return WHISPER.fullmatch(name) is not None
