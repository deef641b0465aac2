"""Turns a checkpoint into a model directory: by way of transformers' Whisper to CTranslate2's format."""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from tools.demo_model.checkpoint import Checkpoint
from tools.demo_model.labels import MAX_INITIAL_TIMESTAMP
from tools.demo_model.model import N_AUDIO_CTX, N_TEXT_CTX
from tools.demo_model.tok import (
    EOT,
    LANGUAGE_IDS,
    N_VOCAB,
    NO_SPEECH,
    NO_TIMESTAMPS,
    SOT,
    SOT_LM,
    SOT_PREV,
    TRANSCRIBE,
    TRANSLATE,
)

SPACE = 220
CONTROL_TOKENS = [TRANSLATE, TRANSCRIBE, SOT_LM, SOT_PREV, NO_SPEECH, SOT]
BOUNDARY_TOKENS: dict[str, Any] = {
    "bos_token_id": EOT,
    "eos_token_id": EOT,
    "pad_token_id": EOT,
    "decoder_start_token_id": SOT,
}
COPIED = ["tokenizer.json", "preprocessor_config.json"]
TOKENIZER_CONFIG = {
    "tokenizer_class": "WhisperTokenizerFast",
    "model_max_length": N_TEXT_CTX,
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}

Heads = list[list[int]]


def non_speech_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of symbols that are never spoken, as openai/whisper's tokenizer lists them."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    symbols = list('"#()*+/:;<=>@[\\]^_`{|}~「」『』')
    symbols += "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split()
    notes = set("♩♪♫♬♭♮♯")
    tokens = {encode(" -")[0], encode(" '")[0]}
    for symbol in symbols + list(notes):
        for ids in (encode(symbol), encode(" " + symbol)):
            if len(ids) == 1 or symbol in notes:
                tokens.add(ids[0])
    return sorted(tokens)


def whisper(checkpoint: Checkpoint, raw: bool) -> WhisperForConditionalGeneration:
    """Return the checkpoint's network as transformers' Whisper."""
    model = WhisperForConditionalGeneration(_config(checkpoint.cfg))
    state = checkpoint.network("model" if raw else "ema").whisper_state()
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise ValueError(f"weights missing: {missing}; unexpected: {unexpected}")
    return model


def _config(cfg: dict[str, int]) -> WhisperConfig:
    width, heads = cfg["d"], cfg["heads"]
    return WhisperConfig(
        vocab_size=N_VOCAB,
        num_mel_bins=cfg["mels"],
        d_model=width,
        encoder_layers=cfg["enc_layers"],
        decoder_layers=cfg["dec_layers"],
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_source_positions=N_AUDIO_CTX,
        max_target_positions=N_TEXT_CTX,
        **BOUNDARY_TOKENS,
    )


def generation_config(tokenizer: Tokenizer, heads: Heads) -> GenerationConfig:
    """Return the token rules that the converter takes over."""
    return GenerationConfig(
        is_multilingual=True,
        no_timestamps_token_id=NO_TIMESTAMPS,
        max_initial_timestamp_index=MAX_INITIAL_TIMESTAMP,
        max_length=N_TEXT_CTX,
        return_timestamps=False,
        prev_sot_token_id=SOT_PREV,
        suppress_tokens=sorted(non_speech_tokens(tokenizer) + CONTROL_TOKENS),
        begin_suppress_tokens=[SPACE, EOT],
        alignment_heads=heads,
        lang_to_id={f"<|{language}|>": token for language, token in LANGUAGE_IDS.items()},
        task_to_id={"transcribe": TRANSCRIBE, "translate": TRANSLATE},
        **BOUNDARY_TOKENS,
    )


def save_transformers(model: WhisperForConditionalGeneration, tokenizer: Path, out: Path) -> None:
    """Write the directory that transformers and the converter read."""
    model.save_pretrained(out)
    shutil.copy(tokenizer, out / "tokenizer.json")
    WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).save_pretrained(out)
    (out / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))


def main() -> None:
    """Write a checkpoint as a model directory for CTranslate2, or with --quantization hf for transformers."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("--ckpt", "--tokenizer", "--out"):
        parser.add_argument(name, required=True, type=Path)
    parser.add_argument("--quantization", default="int8", help="int8, float32, float16, ...; hf: do not convert")
    parser.add_argument("--heads", type=Path, help="what align_heads.py wrote; else the first two of later layers")
    parser.add_argument("--raw", action="store_true", help="the last weights instead of their moving average")
    args = parser.parse_args()
    checkpoint = Checkpoint.read(args.ckpt)
    later_layers = range(1, checkpoint.cfg["dec_layers"])
    heads = json.loads(args.heads.read_text()) if args.heads else [[i, j] for i in later_layers for j in (0, 1)]
    model = whisper(checkpoint, args.raw)
    model.generation_config = generation_config(Tokenizer.from_file(str(args.tokenizer)), heads)
    if args.quantization == "hf":
        save_transformers(model, args.tokenizer, args.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_transformers(model, args.tokenizer, Path(folder))
        quantization = None if args.quantization == "float32" else args.quantization
        TransformersConverter(folder, copy_files=COPIED).convert(
            str(args.out), quantization=quantization, force=True
        )
    _print_summary(args.out)


def _print_summary(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        print(path.name, path.stat().st_size)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    print({name: value if len(str(value)) < 80 else f"{len(value)} entries" for name, value in config.items()})


if __name__ == "__main__":
    main()
