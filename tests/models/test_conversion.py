import shlex

import pytest

from server.models.conversion import advice

CHECKPOINT = ["config.json", "model.safetensors", "vocab.json", "merges.txt"]


def commands_of(advised: str | None) -> list[list[str]]:
    """The commands in an advice, as a shell would split them."""
    assert advised is not None
    commands: list[list[str]] = [[]]
    for word in shlex.split(advised.partition(": ")[2]):
        commands[-1].append(word)
        if word == "&&":
            commands[-1].pop()
            commands.append([])
    return commands


def test_a_checkpoint_of_transformers_is_converted_by_one_command() -> None:
    files = [*CHECKPOINT, "tokenizer.json", "preprocessor_config.json"]
    assert commands_of(advice(files, "/my models/clinic", "/my models/clinic-ct2")) == [
        shlex.split(
            "ct2-transformers-converter --model '/my models/clinic' --output_dir '/my models/clinic-ct2' "
            "--copy_files tokenizer.json preprocessor_config.json --quantization float16"
        )
    ]


def test_lacking_tokenizer_is_made_after_the_conversion() -> None:
    convert, python = commands_of(advice(CHECKPOINT, "it's", "out"))
    assert convert == shlex.split(
        'ct2-transformers-converter --model "it\'s" --output_dir out --quantization float16'
    )
    assert python[:2] == ["python", "-c"]
    compile(python[2], "command", "exec")
    assert """T.from_pretrained("it's").save_pretrained('out')""" in python[2]


def test_a_fine_tuned_openai_checkpoint_takes_one_more_step() -> None:
    advised = advice(["tuned.pt"], "/models", "/models/tuned", known=["tiny"])
    first, second = commands_of(advised)
    assert first[:3] == ["python", "-m", "transformers.models.whisper.convert_openai_to_hf"]
    assert first[first.index("--checkpoint_path") + 1] == "/models/tuned.pt"
    between = first[first.index("--pytorch_dump_folder_path") + 1]
    assert second[second.index("--model") + 1] == between
    assert second[second.index("--output_dir") + 1] == "/models/tuned"


@pytest.mark.parametrize(
    ("files", "advised"),
    [
        (["large-v3.pt"], "use SOTTO_MODEL=large-v3"),
        (["ggml-large-v3-q5_0.bin"], "whisper.cpp"),
        (["model.gguf"], "whisper.cpp"),
        (["adapter_config.json", "adapter_model.safetensors"], "an adapter"),
        (["model-00001-of-00002.safetensors", "adapter_config.json"], "transformers format"),
    ],
)
def test_other_formats_are_recognised(files: list[str], advised: str) -> None:
    assert advised in (advice(files, "in", "out", known=["large-v3"]) or "")


def test_unknown_files_get_no_advice() -> None:
    assert advice(["config.json", "model.bin", "notes.txt"], "in", "out") is None
