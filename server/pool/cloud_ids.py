"""Ids of models that clouds host and clients have hard-coded. None is a model here: all mean the default one.

OpenAI's always do. Those under which other clouds host Whisper do so where no installed model has that name, unless
the operator has turned them off.
"""

import re
from collections.abc import Mapping

LISTED = ("whisper-1",)  # to clients that ask which ids there are

# The look ahead comes first: a megabyte of "transcribe" and then no fit would take minutes.
OPENAI = re.compile(r"whisper-1|gpt-(?=[\w.-]*\Z).*transcribe.*", re.ASCII)

# By cloud, in lower case. No pattern repeats anything, so that an id of any length costs no time.
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
    """Whether OpenAI has, or may have, a transcription model of that id; in lower case."""
    return OPENAI.fullmatch(name) is not None


def is_hosted_whisper(name: str) -> bool:
    """Whether another cloud hosts a Whisper model under that id; in lower case."""
    return WHISPER.fullmatch(name) is not None
