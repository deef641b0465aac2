"""Trains the model: short windows first, then longer ones, at last full 30 s ones. Progress goes by wall time."""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tools.demo_model.checkpoint import Checkpoint
from tools.demo_model.labels import UNKNOWN
from tools.demo_model.model import Demo, Muon
from tools.demo_model.vocabulary import Vocabulary
from tools.demo_model.voices import (
    HUMAN_SPEAKERS,
    TRAINING_TAKES,
    UNHEARD_SPEAKER,
    HumanDigits,
    Sentences,
    phone_names,
)
from tools.demo_model.windows import Batch, Composer

LOG_EVERY_S = 20
SAVE_EVERY_S = 60
HIDDEN_RATE = 0.01
OTHER_RATE = 2e-3
GUIDE_WEIGHT, WORD_WEIGHT, PHONE_WEIGHT = 0.15, 0.5, 0.7
GUIDED_HEADS = 2
"""Heads per layer that are pulled towards the word's true time, in all decoder layers but the first."""

Size = tuple[float, int, bool]
"""Seconds of a window, windows in a batch, whether speech fills them."""
Phase = Callable[[float, Random], Size]


def all_lengths(progress: float, rng: Random) -> Size:
    """Short windows, then longer ones, then mostly 30 s."""
    if progress > 0.68:
        kind = rng.random()
        if kind < 0.55:
            return 30, 4, rng.random() < 0.75
        return (rng.choice([8, 12]), 8, True) if kind < 0.75 else (rng.choice([4, 5, 6]), 16, False)
    if progress > 0.5:
        middling = rng.choice([4, 6, 8, 12, 16, 20])
        return middling, max(4, int(90 / middling)), middling > 6
    short = rng.choice([2.5, 3, 4, 4, 5, 5, 6, 8])
    return short, int(72 / short), short > 5


def full_length(_: float, rng: Random) -> Size:
    """Mostly 30 s from the start."""
    kind = rng.random()
    if kind < 0.6:
        return 30, 4, rng.random() < 0.75
    return (rng.choice([8, 12, 16]), 8, True) if kind < 0.8 else (rng.choice([4, 5, 6]), 16, False)


PHASES: dict[str, Phase] = {"all": all_lengths, "full": full_length}


class Clock:
    """Wall time since the start, as seconds and as a share of the minutes given."""

    def __init__(self, minutes: float) -> None:
        self.seconds_in_all = minutes * 60
        self.start = time.monotonic()

    def elapsed_s(self) -> float:
        return time.monotonic() - self.start

    def progress(self) -> float:
        return self.elapsed_s() / self.seconds_in_all


@dataclass(frozen=True)
class Stream(IterableDataset[Batch]):
    """Endless batches. `easy` is the share of the time over which spoiling grows to full strength."""

    tts: Path
    fsdd: Path
    tokenizer: Path
    vocabulary: Vocabulary
    phase: Phase
    minutes: float
    easy: float
    prompt_share: float
    seed: int

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        composer = self._composer()
        composer.labeller.prompt_share = self.prompt_share
        clock = Clock(self.minutes)
        while True:
            progress = clock.progress()
            seconds, size, fill = self.phase(progress, composer.rng)
            composer.spoiler.hardness = min(1.0, 0.25 + progress / self.easy) if self.easy else 1.0
            yield composer.batch(size, seconds, fill)

    def _composer(self) -> Composer:
        worker = get_worker_info()
        seed = self.seed * 100 + (worker.id if worker else 0)
        speakers = [speaker for speaker in HUMAN_SPEAKERS if speaker != UNHEARD_SPEAKER]
        digits = HumanDigits(self.fsdd, speakers, TRAINING_TAKES)
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        return Composer(Sentences(self.tts, "train"), digits, tokenizer, self.vocabulary, seed)


class Losses(NamedTuple):
    """Of the text, of where heads look, of the frames' words and phonemes; and the share of right tokens."""

    text: Tensor
    guide: Tensor
    words: Tensor
    phones: Tensor
    accuracy: Tensor

    def total(self) -> Tensor:
        aids = GUIDE_WEIGHT * self.guide, WORD_WEIGHT * self.words, PHONE_WEIGHT * self.phones
        return self.text + aids[0] + aids[1] + aids[2]


def losses(model: Demo, batch: Batch, freeze_encoder: bool) -> Losses:
    """Run the model over a batch."""
    # bfloat16 is several times faster than float32 on AVX512-BF16.
    with torch.autocast("cpu", torch.bfloat16):
        with torch.set_grad_enabled(not freeze_encoder):
            encoded, middle = model.encode(batch.mel, batch.offset)
        logits, attention = model.decode(model.look[batch.inputs], encoded)
        words, phones = model.aux(encoded), model.aux_ph(middle)
    logits, targets = logits.float(), model.look[batch.targets]
    scored = batch.weights >= 1
    return Losses(
        _text_loss(logits, targets, batch.weights),
        _guide_loss(attention[1:], batch, encoded.shape[1]),
        _frame_loss(words.float(), batch.words),
        _frame_loss(phones.float(), batch.phones),
        ((logits.argmax(-1) == targets) * scored).sum() / scored.sum(),
    )


def _text_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    flat = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", label_smoothing=0.01)
    return (flat.view_as(weights) * weights).sum() / weights.sum()


def _guide_loss(attention: list[Tensor], batch: Batch, positions: int) -> Tensor:
    spans = batch.spans(torch.arange(positions) + 0.5)
    guided = (batch.last > 0).float() * (batch.weights > 0)
    loss = torch.zeros(())
    for weights in attention:
        inside = (weights[:, :GUIDED_HEADS].float() * spans[:, None]).sum(-1)
        loss = loss - ((inside + 1e-3).log() * guided[:, None]).sum() / (guided.sum() * GUIDED_HEADS + 1e-6)
    return loss


def _frame_loss(logits: Tensor, labels: Tensor) -> Tensor:
    if not (labels != UNKNOWN).any():
        return logits.sum() * 0
    return F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=UNKNOWN)


class Trainer:
    """The model, its moving average and the optimisers."""

    def __init__(self, model: Demo, rate: float, warm_steps: int, freeze_encoder: bool) -> None:
        self.model = model
        self.warm_steps, self.freeze_encoder = warm_steps, freeze_encoder
        self.steps = 0
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith(("enc.", "dec."))]
        known = {id(p) for p in hidden}
        self.others = [p for p in model.parameters() if id(p) not in known]
        muon = Muon(hidden, lr=HIDDEN_RATE, wd=0.02)
        adam = torch.optim.AdamW(self.others, lr=OTHER_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
        self.optimizers = [(muon, HIDDEN_RATE * rate), (adam, OTHER_RATE * rate)]

    def rate_share(self, progress: float) -> float:
        """Rises over the first steps, falls over the second half of the time."""
        warm = min(1, 0.1 + (self.steps + 1) / self.warm_steps)
        return warm * min(1, max(0.03, (1 - progress) / 0.5))

    def step(self, batch: Batch, rate_share: float) -> Losses:
        for optimizer, rate in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * rate_share
        result = losses(self.model, batch, self.freeze_encoder)
        result.total().backward()
        nn.utils.clip_grad_norm_(self.others, 1.0)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self._update_average()
        self.steps += 1
        return result

    def _update_average(self) -> None:
        keep = min(0.998, (self.steps + 1) / (self.steps + 20))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def save(self, path: Path) -> None:
        Checkpoint(self.average, self.model.cfg, self.model.active, self.model.state_dict()).write(path)


class Log:
    """Prints means of the figures since the last line."""

    def __init__(self) -> None:
        self.windows = 0
        self._figures: list[list[float]] = []

    def add(self, batch: Batch, figures: Losses) -> None:
        self.windows += len(batch.inputs)
        self._figures.append([float(figure.detach()) for figure in figures])

    def line(self, elapsed_s: float, steps: int) -> None:
        count = len(self._figures)
        text, guide, words, phones, accuracy = (sum(column) / count for column in zip(*self._figures, strict=True))
        print(
            f"{elapsed_s:6.0f}s step {steps} windows {self.windows} text {text:.3f} guide {guide / 2:.3f}"
            f" words {words:.3f} phones {phones:.3f} token accuracy {accuracy:.3f}",
            flush=True,
        )
        self._figures.clear()


def run(trainer: Trainer, batches: Iterator[Batch], clock: Clock, path: Path) -> None:
    """Train until the time is up, saving now and then and at the end."""
    log = Log()
    logged_s = saved_s = 0.0
    while (progress := clock.progress()) < 1:
        batch = next(batches)
        log.add(batch, trainer.step(batch, trainer.rate_share(progress)))
        if clock.elapsed_s() - logged_s > LOG_EVERY_S:
            logged_s = clock.elapsed_s()
            log.line(logged_s, trainer.steps)
        if clock.elapsed_s() - saved_s > SAVE_EVERY_S:
            saved_s = clock.elapsed_s()
            trainer.save(path)
    trainer.save(path)
    print("done", trainer.steps, "steps", log.windows, "windows", round(clock.elapsed_s()), "s")


def parsed_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--tts", "--fsdd", "--tokenizer", "--out"):
        parser.add_argument(name, required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--phase", choices=PHASES, default="all", help="all: short windows first; full: 30 s")
    parser.add_argument("--init", type=Path, help="checkpoint to start from")
    parser.add_argument("--init-from", default="ema", choices=["ema", "model"], help="which of its weights")
    parser.add_argument(
        "--easy", type=float, default=0.4, help="share of the time until spoiling is at full strength"
    )
    parser.add_argument("--warm", type=int, default=100, help="steps until the full learning rate")
    parser.add_argument("--lr", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument(
        "--prev", type=float, default=0.15, help="share of windows with previous text in the prompt"
    )
    parser.add_argument("--freeze-encoder", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="processes that compose windows")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--d", type=int, default=128, help="width of the network")
    return parser.parse_args()


def main() -> None:
    """Train, writing OUT/last.pt every minute and at the end."""
    args = parsed_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    vocabulary = Vocabulary.of_grammar(Tokenizer.from_file(str(args.tokenizer)), phone_names(args.tts))
    n_words, n_phones = len(vocabulary.words), len(vocabulary.phones)
    model = Demo(vocabulary.active_ids, d=args.d, n_words=n_words + 1, n_phones=n_phones + 1)
    if args.init:
        model.load_state_dict(Checkpoint.read(args.init).weights(args.init_from), strict=False)
    print(
        sum(p.numel() for p in model.parameters()),
        f"trained parameters; {len(vocabulary.active_ids)} active tokens; {n_words} words",
    )
    stream = Stream(
        args.tts,
        args.fsdd,
        args.tokenizer,
        vocabulary,
        PHASES[args.phase],
        args.minutes,
        args.easy,
        args.prev,
        args.seed,
    )
    batches = iter(DataLoader(stream, batch_size=None, num_workers=args.workers, prefetch_factor=6))
    trainer = Trainer(model, args.lr, args.warm, args.freeze_encoder)
    run(trainer, batches, Clock(args.minutes), args.out / "last.pt")


if __name__ == "__main__":
    main()
