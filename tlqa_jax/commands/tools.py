"""The commands beside the models: vocabularies, and what the machine has."""

import logging
from argparse import ArgumentParser, Namespace

from tlqa_jax.errors import UserError
from tlqa_jax.flags import check_writable


def vocab_train(parser: ArgumentParser):
    """learn a SentencePiece vocabulary from text

    A unigram vocabulary with T5's special ids (pad 0, end 1, unknown 2). The same text gives the same file.

    tlqa vocab train --texts corpus.txt.gz --size 8000 --out spiece.model
    """
    texts = ".txt, .jsonl, .csv (also .gz), tfds:NAME:SPLIT, tiny_world:FILE; several are allowed"
    coverage = "below 1, the rarest characters become unknown; 0.9995 is usual for web text (default: 1.0)"
    parser.add_argument("--texts", metavar="SOURCE", nargs="+", required=True, help=texts)
    parser.add_argument("--size", metavar="INT", type=int, default=8000, help="number of pieces (default: 8000)")
    parser.add_argument("--out", metavar="FILE", required=True, help="the .model file to write")
    parser.add_argument("--character-coverage", metavar="NUMBER", type=float, default=1.0, help=coverage)
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    return run_vocab_train


def run_vocab_train(arguments: Namespace) -> None:
    check_writable(arguments.out, arguments.overwrite)
    if arguments.size < 4:
        raise UserError(f"--size {arguments.size}: three ids are special, so at least 4 are needed")
    if not 0 < arguments.character_coverage <= 1:
        raise UserError(f"--character-coverage {arguments.character_coverage}: it has to be above 0 and at most 1")
    from tlqa_jax.data.sources import open_texts
    from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

    texts = open_texts(arguments.texts, data_dir=arguments.data_dir)
    tokenizer = SentencePieceTokenizer.train(
        texts, arguments.out, arguments.size, character_coverage=arguments.character_coverage
    )
    sentinels = len(tokenizer.sentinels)
    print(f"{arguments.out}: {tokenizer.vocab_size - sentinels} pieces, and {sentinels} sentinels above them")
    print("for example:", " ".join(tokenizer.pieces(next(iter(texts))[:60])))


def devices(parser: ArgumentParser):
    """what JAX sees: devices, memory, whether pmap works, bfloat16 or float32

    Runs a sum over all devices with pmap, and says in which type models compute here.

    tlqa devices
    """
    return show_devices


def show_devices(_: Namespace) -> None:
    from tlqa_jax.training.devices import describe

    logging.getLogger("jax").setLevel(logging.WARNING)  # "a GPU may be present, but …" is wanted here
    print(describe())
