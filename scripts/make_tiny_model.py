# SPDX-License-Identifier: Apache-2.0
"""Make tiny model folders for tests: random weights, and a real byte-level BPE tokenizer.

Usage: python make_tiny_model.py OUT [--arch NAME] [--seed N]
       python make_tiny_model.py FOLDER --each [NAME...]     (FOLDER/tiny-NAME; default: all)

Some 3 million parameters, 4 layers, context 16,384, float32. The same seed gives the same weights
on every machine; the tokenizer is trained on the standard library's sources. A folder that is there
is left as it is, with --each only if it was made by the same recipe; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from tiny_architectures import ARCHITECTURES
from tiny_vision_model import VISION, save_vision_model

VOCABULARY = 2048
KINDS = [*ARCHITECTURES, VISION]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def save_tokenizer(out: Path) -> int:
    """Train and write the tokenizer; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|bos|>", "<|eos|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = sorted(Path(os.__file__).parent.glob("*.py"))[:60]
    tokenizer.train([str(source) for source in sources], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        model_max_length=16384,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(out)
    return int(tokenizer.get_vocab_size())


def save_model(out: Path, arch: str, seed: int, vocab_size: int) -> None:
    """Write config and random weights, wide enough that greedy output varies."""
    import torch
    import transformers

    if arch == VISION:
        save_vision_model(out, seed)
        return
    architecture = ARCHITECTURES[arch]
    config = getattr(transformers, architecture.config)(**architecture.settings(vocab_size))
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    factors = {
        "q_proj.weight": architecture.sharpness,
        "k_proj.weight": architecture.sharpness,
        "embed_tokens.weight": architecture.embedding,
    }
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(factors.get(".".join(name.split(".")[-2:]), 1))
    model.save_pretrained(out)


def make(out: Path, arch: str, seed: int) -> None:
    """Make a folder; it appears in one step."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=out.parent) as name:
        folder = Path(name) / "model"
        save_model(folder, arch, seed, save_tokenizer(folder))
        (folder / "recipe").write_text(recipe(arch, seed), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)


def recipe(arch: str, seed: int) -> str:
    """Say what a folder is made by."""
    return f"{ARCHITECTURES.get(arch, arch)} {seed}"


def make_each(folder: Path, kinds: list[str], seed: int) -> None:
    """Make a folder of every kind named, unless one of the same recipe is there."""
    for kind in kinds:
        out = folder / f"tiny-{kind}"
        made_by = out / "recipe"
        if not made_by.exists() or made_by.read_text(encoding="utf-8") != recipe(kind, seed):
            make(out, kind, seed)
        print(f"{out}: ready", flush=True)


def main() -> None:
    """Make what is asked for unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arch", choices=KINDS, default="llama")
    parser.add_argument("--each", nargs="*", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    if arguments.each is not None:
        make_each(out, arguments.each or KINDS, arguments.seed)
        return
    if not (out / "config.json").exists():
        make(out, arguments.arch, arguments.seed)
    print(f"{out}: ready")


if __name__ == "__main__":
    main()
