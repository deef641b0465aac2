"""Tokens of a byte-level vocabulary (GPT-2's and Whisper's): their bytes, a readable form, their log probability.

Pure functions of a vocabulary's entries; knows no model and no tokenizer.
"""

import math

from server.transcript import TokenLogprob


def _alphabet() -> dict[str, int]:
    """The characters that represent bytes: printable Latin-1 ones for themselves, others for the rest."""
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _alphabet()


def token_bytes(entry: str) -> bytes:
    """The UTF-8 bytes of a vocabulary entry, which may begin or end inside a character."""
    try:
        return bytes([_BYTE_OF[char] for char in entry])
    except KeyError:  # added to the vocabulary as plain text
        return entry.encode()


def token_logprob(entry: str, probability: float) -> TokenLogprob:
    """A vocabulary entry with the logarithm of its probability: minus infinity if that is 0 or unknown.

    Bytes of a character that the token contains only in part are written as `\\xf0\\x9f`, as in OpenAI's chat
    completions.
    """
    data = token_bytes(entry)
    computed = 0.0 < probability < math.inf
    logprob = min(math.log(probability), 0.0) if computed else -math.inf
    return TokenLogprob(data.decode("utf-8", "backslashreplace"), logprob, data)
