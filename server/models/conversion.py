"""Models in formats other than CTranslate2's: recognized by file names, with advice on converting them."""

import shlex
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

TRANSFORMERS = ("model*.safetensors*", "pytorch_model*.bin*")
ADAPTER = ("adapter_model.*", "adapter_config.json")
OPENAI = ("*.pt",)
WHISPER_CPP = ("ggml-*.bin", "*.gguf")
COPIED = ("tokenizer.json", "preprocessor_config.json")


def advice(files: Collection[str], source: str, output: str, known: Collection[str] = ()) -> str | None:
    """Describe these files and how to convert them to a usable model; None if the format is unknown.

    `source` is their folder or repository, `output` the folder to create; `known` are the catalog's names.
    """
    if matching(files, TRANSFORMERS):
        return (
            f"a model in transformers format, which has to be converted first: {converter(files, source, output)}"
        )
    if checkpoints := matching(files, OPENAI):
        return _of_openai(checkpoints[0], source, output, known)
    if matching(files, WHISPER_CPP):
        return "a model for whisper.cpp, which can't be converted: use a model of the catalog"
    if matching(files, ADAPTER):
        return "an adapter (LoRA) alone: merge it into its base model with peft, then convert that"
    return None


def converter(files: Collection[str], source: str, output: str) -> str:
    """The command that converts a transformers checkpoint with these files."""
    copied = [name for name in COPIED if name in files]
    command = (
        f"ct2-transformers-converter --model {shlex.quote(source)} --output_dir {shlex.quote(output)}"
        f"{' --copy_files ' if copied else ''}{' '.join(copied)} --quantization float16"
    )
    if "tokenizer.json" in files:
        return command
    made = f"T.from_pretrained({source!r}).save_pretrained({output!r})"
    code = f"from transformers import WhisperTokenizerFast as T; {made}"
    return f"{command} && python -c {shlex.quote(code)}"


def matching(files: Collection[str], patterns: Collection[str]) -> list[str]:
    return [name for name in files if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _of_openai(checkpoint: str, source: str, output: str, known: Collection[str]) -> str:
    if (name := PurePosixPath(checkpoint).stem) in known:
        return f"a checkpoint of openai-whisper: use SOTTO_MODEL={name}, its conversion"
    path, between = f"{source}/{checkpoint}", f"{output}-hf"
    return (
        "a checkpoint of openai-whisper, which has to be converted first: "
        f"python -m transformers.models.whisper.convert_openai_to_hf --checkpoint_path {shlex.quote(path)} "
        f"--pytorch_dump_folder_path {shlex.quote(between)} --convert_preprocessor True && "
        f"{converter(COPIED, between, output)}"
    )
