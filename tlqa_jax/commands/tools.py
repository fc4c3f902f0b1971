"""The commands beside the models: vocabularies, Hugging Face directories, and what the machine has."""

import logging
from argparse import ArgumentParser, Namespace

from tlqa_jax.errors import UserError
from tlqa_jax.flags import check_writable


def vocab_train(parser: ArgumentParser):
    """learn a vocabulary from text: SentencePiece for a T5, WordPiece for a BERT

    SentencePiece: a unigram vocabulary with T5's special ids (pad 0, end 1, unknown 2). WordPiece: a vocab.txt, uncased
    unless --cased; it needs the tokenizers library. The same text gives the same file.

    tlqa vocab train --texts corpus.txt.gz --size 8000 --out spiece.model
    tlqa vocab train --kind wordpiece --texts corpus.txt.gz --size 8000 --out vocab.txt
    """
    texts = ".txt, .jsonl, .csv (also .gz), tfds:NAME:SPLIT, tiny_world:FILE; several are allowed"
    coverage = "sentencepiece: below 1, rare characters become unknown; 0.9995 is usual for web text (default: 1.0)"
    kinds = ("sentencepiece", "wordpiece")
    parser.add_argument("--kind", choices=kinds, default=kinds[0], help="of vocabulary (default: sentencepiece)")
    parser.add_argument("--texts", metavar="SOURCE", nargs="+", required=True, help=texts)
    field = "name of the field of .jsonl, .csv and TFDS rows that holds the text (default: text)"
    parser.add_argument("--text-field", metavar="NAME", default="text", help=field)
    parser.add_argument("--size", metavar="INT", type=int, default=8000, help="number of pieces (default: 8000)")
    parser.add_argument("--out", metavar="FILE", required=True, help="the .model or vocab.txt file to write")
    parser.add_argument("--character-coverage", metavar="NUMBER", type=float, help=coverage)
    parser.add_argument("--cased", action="store_true", help="wordpiece: keep capitals and accents")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    return lambda arguments: (train_wordpiece if arguments.kind == "wordpiece" else train_sentencepiece)(arguments)


def train_wordpiece(arguments: Namespace) -> None:
    check_writable(arguments.out, arguments.overwrite)
    if arguments.character_coverage is not None:
        raise UserError("--character-coverage is of --kind sentencepiece; WordPiece keeps the 1,000 most frequent characters")
    from tlqa_jax.data.sources import open_texts
    from tlqa_jax.text.wordpiece import WordPieceTokenizer

    texts = open_texts(arguments.texts, data_dir=arguments.data_dir, field=arguments.text_field)
    tokenizer = WordPieceTokenizer.train(texts, arguments.out, arguments.size, lowercase=not arguments.cased)
    kind = "cased: use it with --no-lowercase" if arguments.cased else "uncased"
    print(f"{arguments.out}: {tokenizer.vocab_size} pieces, {kind}")
    print("for example:", " ".join(tokenizer.pieces(next(iter(texts))[:60])))


def train_sentencepiece(arguments: Namespace) -> None:
    check_writable(arguments.out, arguments.overwrite)
    coverage = 1.0 if arguments.character_coverage is None else arguments.character_coverage
    if arguments.cased:
        raise UserError("--cased is of --kind wordpiece; SentencePiece always keeps capitals and accents")
    if arguments.size < 4:
        raise UserError(f"--size {arguments.size}: three ids are special, so at least 4 are needed")
    if not 0 < coverage <= 1:
        raise UserError(f"--character-coverage {coverage}: it has to be above 0 and at most 1")
    from tlqa_jax.data.sources import open_texts
    from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

    texts = open_texts(arguments.texts, data_dir=arguments.data_dir, field=arguments.text_field)
    tokenizer = SentencePieceTokenizer.train(texts, arguments.out, arguments.size, character_coverage=coverage)
    sentinels = len(tokenizer.sentinels)
    print(f"{arguments.out}: {tokenizer.vocab_size - sentinels} pieces, and {sentinels} sentinels above them")
    print("for example:", " ".join(tokenizer.pieces(next(iter(texts))[:60])))


def export_model(parser: ArgumentParser):
    """copy a model, without what only training needs, under another name

    A run is a Hugging Face directory, and Transformers opens it as it is. This copies config.json, model.safetensors and
    the vocabulary, without checkpoints and logs, to hand them on; of a name on the hub, to keep them here. A run with
    --train lora:R or adapters:D has small files, which need the model that it started from; --merge writes LoRA merged
    into that model, as a whole one.

    tlqa export runs/finetuned --out my-model
    tlqa export google-t5/t5-small --out t5-small
    tlqa export runs/lora --merge --out my-model
    """
    parser.add_argument("model", metavar="MODEL", help="a run, a quickstart, a Hugging Face directory or a hub name")
    parser.add_argument("--out", metavar="DIR", required=True, help="the directory to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is already there")
    parser.add_argument("--merge", action="store_true", help="write LoRA merged into the whole model")
    return run_export


def run_export(arguments: Namespace) -> None:
    from tlqa_jax.checkpoints.save import copy_pretrained

    out = copy_pretrained(arguments.model, arguments.out, overwrite=arguments.overwrite, merge=arguments.merge)
    print(f"the model is in {out}")


def devices(parser: ArgumentParser):
    """what JAX sees: devices, memory, whether pmap works, bfloat16 or float32

    Runs a sum over all devices with pmap, and says in which type models compute here.

    tlqa devices
    """
    return show_devices


def show_devices(_: Namespace) -> None:
    logging.getLogger("jax").setLevel(logging.WARNING)  # "a GPU may be present, but …" helps here
    print(describe())


def describe() -> str:
    """What JAX sees, in a few lines: the devices and their memory, whether pmap adds over them, the compute type."""
    import jax
    import numpy as np

    from tlqa_jax.core.devices import AXIS, compute_dtype, host_memory

    devices = jax.local_devices()
    lines = [
        f"jax {jax.__version__}, backend {jax.default_backend()}, "
        f"{jax.device_count()} device(s) in {jax.process_count()} process(es)"
    ]
    for device in devices:
        stats = device.memory_stats() or {}
        limit, used = stats.get("bytes_limit"), stats.get("bytes_in_use", 0)
        memory = (
            f"{limit / 2**30:.1f} GiB, {used / 2**30:.1f} in use"
            if limit
            else f"the host's {host_memory() / 2**30:.1f} GiB, shared"
        )
        lines.append(f"  {device.id}: {device.device_kind}, memory: {memory}")
    ones = np.ones(len(devices), np.float32)
    total = float(jax.pmap(lambda x: jax.lax.psum(x, AXIS), axis_name=AXIS)(ones)[0])
    wrong = "" if total == jax.device_count() else ", which is WRONG"
    lines.append(f"pmap: a sum of ones over all devices is {total:.0f}{wrong}")
    lines.append(f"models compute in {np.dtype(compute_dtype()).name}; parameters are float32")
    return "\n".join(lines)


COMMANDS = {"vocab train": vocab_train, "export": export_model, "devices": devices}
