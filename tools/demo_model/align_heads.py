"""Which cross-attention heads follow the speech: for each head the share of a token's attention within its word's
true span, and how far the attention's centre is off."""

import argparse
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tools.demo_model.checkpoint import Checkpoint
from tools.demo_model.features import TOKENS_PER_SECOND
from tools.demo_model.model import Demo
from tools.demo_model.tok import EOT
from tools.demo_model.vocabulary import Vocabulary
from tools.demo_model.voices import HUMAN_SPEAKERS, UNHEARD_TAKES, HumanDigits, Sentences
from tools.demo_model.windows import Batch, Composer

BATCHES = 6
BATCH_SIZE = 4
WINDOW_S = 30
SEED = 7
MIN_SHARE = 0.5
MAX_BEHIND_BEST = 0.2

Head = tuple[int, int]
"""Decoder layer and head."""


def measure(model: Demo, composer: Composer) -> tuple[Tensor, Tensor]:
    """Return, by layer and head, the mean share inside the word and the mean error of the centre in seconds."""
    batches = (composer.batch(BATCH_SIZE, WINDOW_S, offsets=False) for _ in range(BATCHES))
    with torch.no_grad():
        inside, error = zip(*(_measure_batch(model, batch) for batch in batches), strict=True)
    return torch.cat(inside).mean(0), torch.cat(error).mean(0) / TOKENS_PER_SECOND


def _measure_batch(model: Demo, batch: Batch) -> tuple[Tensor, Tensor]:
    """The figures of each token with a span: tokens, layers, heads."""
    encoded, _ = model.encode(batch.mel, batch.offset)
    attention = torch.stack(model.decode(model.look[batch.inputs], encoded)[1], 1)
    positions = torch.arange(attention.shape[-1]) + 0.5
    chosen = (batch.last > 0) & (batch.targets < EOT)
    inside = (attention * batch.spans(positions)[:, None, None]).sum(-1).permute(0, 3, 1, 2)
    centres = (attention * positions).sum(-1).permute(0, 3, 1, 2)
    middles = (batch.first + batch.last) / 2
    return inside[chosen], (centres - middles[..., None, None]).abs()[chosen]


def best_heads(inside: Tensor) -> list[Head]:
    """Return the heads whose attention is mostly inside the word, at least two."""
    ranked = ranked_heads(inside)
    bar = max(MIN_SHARE, float(inside.max()) - MAX_BEHIND_BEST)
    return sorted([head for head in ranked if inside[head] > bar] or ranked[:2])


def ranked_heads(inside: Tensor) -> list[Head]:
    layers, heads = inside.shape
    every = [(layer, head) for layer in range(layers) for head in range(heads)]
    return sorted(every, key=lambda head: (float(inside[head]), head), reverse=True)


def main() -> None:
    """Measure the heads and write the best ones to OUT, for export.py."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("--ckpt", "--tts", "--fsdd", "--tokenizer", "--out"):
        parser.add_argument(name, required=True, type=Path)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    digits = HumanDigits(args.fsdd, HUMAN_SPEAKERS, UNHEARD_TAKES)
    vocabulary = Vocabulary.of_grammar(tokenizer, phones=[])
    composer = Composer(Sentences(args.tts, "dev"), digits, tokenizer, vocabulary, SEED)
    inside, error = measure(Checkpoint.read(args.ckpt).network().eval(), composer)
    for layer, head in ranked_heads(inside):
        share, off_s = float(inside[layer, head]), float(error[layer, head])
        print(
            f"layer {layer} head {head}: {share:.2f} of the attention inside the word, centre off by {off_s:.2f} s"
        )
    best = best_heads(inside)
    args.out.write_text(json.dumps(best))
    print("alignment heads:", best)


if __name__ == "__main__":
    main()
