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
        raise UserError("--character-coverage is of --kind sentencepiece; WordPiece keeps the thousand commonest ones")
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


def import_model(parser: ArgumentParser):
    """make a run of a Hugging Face directory

    Of a T5 (1.0, 1.1, Flan) or a BERT. The run holds config.json, the vocabulary and the parameters as the checkpoint
    of step 0. All that starts from a run starts from a Hugging Face directory as well; importing it makes a copy that
    no longer needs it.

    tlqa import google-t5/t5-small --out runs/t5
    tlqa import bert-base-uncased --out runs/bert
    tlqa import bert-base-uncased --architecture BertForPreTraining --out runs/bert
    """
    kind = "read it as this class, not as the one its config.json names"
    parser.add_argument("source", metavar="NAME", help="a Hugging Face directory, or a name on the hub")
    parser.add_argument("--out", metavar="RUN", required=True, help="the run to make")
    parser.add_argument("--architecture", metavar="CLASS", help=kind)
    parser.add_argument("--overwrite", action="store_true", help="delete a run that is already in --out")
    return run_import


def run_import(arguments: Namespace) -> None:
    from tlqa_jax.checkpoints.exchange import import_run

    given = {"architecture": arguments.architecture, "overwrite": arguments.overwrite}
    print(f"the run is in {import_run(arguments.source, arguments.out, **given)}")


def export_model(parser: ArgumentParser):
    """write a run as a Hugging Face directory

    The directory holds config.json, model.safetensors, the vocabulary and the special tokens; Transformers loads it.
    Asked here, it answers as the run does: the lengths and the no-answer threshold come along.

    tlqa export runs/finetuned --out exported
    tlqa export runs/quickstart --out exported
    """
    parser.add_argument("run", metavar="RUN", help="a run of a T5 or a BERT, or a quickstart")
    parser.add_argument("--out", metavar="DIR", required=True, help="the directory to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is already there")
    return run_export


def run_export(arguments: Namespace) -> None:
    from tlqa_jax.checkpoints.exchange import export_run

    print(f"the model is in {export_run(arguments.run, arguments.out, overwrite=arguments.overwrite)}")


def devices(parser: ArgumentParser):
    """what JAX sees: devices, memory, whether pmap works, bfloat16 or float32

    Runs a sum over all devices with pmap, and says in which type models compute here.

    tlqa devices
    """
    return show_devices


def show_devices(_: Namespace) -> None:
    from tlqa_jax.core.devices import describe

    logging.getLogger("jax").setLevel(logging.WARNING)  # "a GPU may be present, but …" is wanted here
    print(describe())
