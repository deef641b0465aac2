"""Whisper's multilingual tokenizer: the ids of its special tokens, and tokenizer.json from the published ranks.

The ranks, multilingual.tiktoken, come with the openai-whisper source package (MIT).
"""

import argparse
import base64
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

LANGUAGES = """
    en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la
    mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be
    tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su
""".split()
EOT = 50257
SOT = EOT + 1
LANGUAGE_IDS = {language: SOT + 1 + i for i, language in enumerate(LANGUAGES)}
TRANSLATE, TRANSCRIBE, SOT_LM, SOT_PREV, NO_SPEECH, NO_TIMESTAMPS = range(50358, 50364)
TIMESTAMP_BEGIN = 50364
N_TIMESTAMPS = 1501
N_VOCAB = TIMESTAMP_BEGIN + N_TIMESTAMPS
SPECIALS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{language}|>" for language in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
UNRANKED = 1 << 30
PROBES = [
    " Turn on the kitchen light.",
    " Heute ist es schön, fünf Grüße!",
    " ¿Dónde está? 日本",
    "<|startoftranscript|><|de|><|1.00|> hi<|30.00|>",
]

Json = dict[str, Any]


def read_ranks(path: Path) -> dict[bytes, int]:
    """Return the rank of each byte sequence of a .tiktoken file."""
    ranks = {}
    for line in path.read_text().splitlines():
        encoded, rank = line.rsplit(" ", 1)
        ranks[base64.b64decode(encoded) if encoded != "=" else b""] = int(rank)
    return ranks


def build(ranks: dict[bytes, int]) -> Json:
    """Return the contents of tokenizer.json."""
    letters = _byte_letters()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    pairs = [_last_merge(token, rank, ranks) for token, rank in by_rank if len(token) > 1]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(),
        "normalizer": None,
        "pre_tokenizer": _byte_level(add_prefix_space=False),
        "post_processor": None,
        "decoder": _byte_level(add_prefix_space=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {spelled(token): rank for token, rank in ranks.items()},
            "merges": [[spelled(left), spelled(right)] for left, right in pairs],
        },
    }


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _last_merge(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Replay byte pair encoding with the lower ranks only; what is left are the two parts of the token's merge."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        best, i = min((ranks.get(parts[i] + parts[i + 1], UNRANKED), i) for i in range(len(parts) - 1))
        if best >= rank:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    if len(parts) != 2:
        raise ValueError(f"no merge of two parts gives {token!r}")
    return parts[0], parts[1]


def _added_tokens() -> list[Json]:
    specials = [_added(EOT + i, content, special=True) for i, content in enumerate(SPECIALS)]
    times = [_added(TIMESTAMP_BEGIN + i, f"<|{i * 0.02:.2f}|>", special=False) for i in range(N_TIMESTAMPS)]
    return specials + times


def _added(token: int, content: str, *, special: bool) -> Json:
    return {
        "id": token,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _byte_level(*, add_prefix_space: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}


def main() -> None:
    """Write tokenizer.json from multilingual.tiktoken, and show how it reads some text."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("ranks", type=Path, metavar="multilingual.tiktoken")
    parser.add_argument("out", type=Path, metavar="tokenizer.json")
    args = parser.parse_args()
    with args.out.open("w") as file:
        json.dump(build(read_ranks(args.ranks)), file, ensure_ascii=False)
    tokenizer = Tokenizer.from_file(str(args.out))
    if tokenizer.get_vocab_size() != N_VOCAB:
        raise SystemExit(f"{tokenizer.get_vocab_size()} tokens instead of {N_VOCAB}")
    for text in PROBES:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        print(ids, tokenizer.decode(ids, skip_special_tokens=False))


if __name__ == "__main__":
    main()
