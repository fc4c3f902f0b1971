"""`tlqa`: one thin door to all of it. Each command is a function below; what it does is done elsewhere.

A command's docstring is its help: the first line stands in `tlqa --help`, lines that begin with "tlqa" are examples.
Nothing heavy is imported before a command needs it, so that `tlqa --help` answers at once. Whatever a user can have
wrong ends as one line on stderr and exit status 2 (Ctrl-C: 130); --debug or TLQA_DEBUG=1 shows the traceback as well.
"""

import difflib
import inspect
import json
import logging
import os
import shlex
import sys
import time
import traceback
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tlqa_jax.errors import UserError
from tlqa_jax.flags import Parser, add_flags, check_writable, read_flags


def quickstart(parser: ArgumentParser):
    """the whole story in minutes: pretrain, fine-tune, answer

    Pretrains a tiny T5 on the bundled tiny world by span corruption, fine-tunes it on questions, scores it beside the
    same model without pretraining, and answers a few questions. Writes report.json and report.html.

    tlqa quickstart
    tlqa quickstart --out runs/second --seed 1
    """
    from tlqa_jax.experiments.quickstart import QuickstartConfig, quickstart

    add_flags(parser, QuickstartConfig)
    return lambda arguments: quickstart(read_flags(arguments, QuickstartConfig))


def pretrain_spans(parser: ArgumentParser):
    """pretrain a T5 by span corruption

    Spans of a text are cut out, the model learns to write them (Raffel et al. 2020). The run directory holds
    config.json, vocabulary.model, checkpoints, metrics.jsonl and curves.png. Stopped? The same command with --resume
    goes on from the newest checkpoint.

    tlqa pretrain-spans --steps 300 --out runs/tiny
    tlqa pretrain-spans --texts corpus.txt.gz --held-out None --vocabulary spiece.model --model small --out runs/small
    """
    from tlqa_jax.training.span_corruption import SpanCorruptionConfig, pretrain

    add_flags(parser, SpanCorruptionConfig)

    def run(arguments: Namespace) -> None:
        path = pretrain(read_flags(arguments, SpanCorruptionConfig))
        next = f"tlqa finetune-qa --start-from {shlex.quote(str(path))} --context-questions …"
        print(f"the run is in {path}; next: {next}")

    return run


def finetune_qa(parser: ArgumentParser):
    """teach a pretrained T5 to answer questions

    Questions are text to text: "question: … context: …" or "question: …" in, the answer out. Held-out questions are
    scored by exact match and F1, and their predictions written. Stopped? The same command with --resume goes on from
    the newest checkpoint.

    tlqa finetune-qa --start-from runs/small --context-questions train-v1.1.json --held-out-context dev-v1.1.json
    tlqa finetune-qa --start-from runs/tiny --closed-book-questions tiny_world:closed_book_train.json
    """
    from tlqa_jax.training.qa import QAConfig, finetune

    add_flags(parser, QAConfig)

    def run(arguments: Namespace) -> None:
        path = finetune(read_flags(arguments, QAConfig))
        print(f"the run is in {path}; next: tlqa answer {shlex.quote(str(path))} --question …")

    return run


def finetune_spans(parser: ArgumentParser):
    """teach a pretrained BERT to point at answers in their contexts

    Contexts longer than the input are read in overlapping windows. The answers to held-out questions are scored and
    written into the run. Stopped? The same command with --resume goes on.

    tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json
    """
    from tlqa_jax.training.extractive_qa import ExtractiveQAConfig, finetune

    add_flags(parser, ExtractiveQAConfig)
    return lambda arguments: print(f"the run is in {finetune(read_flags(arguments, ExtractiveQAConfig))}")


def answer(parser: ArgumentParser):
    """ask a trained model one question, or a file of them

    It answers from the context or, where there is none, from memory.

    tlqa answer runs/quickstart --question "Where was Mira born?" --context "Mira, a clockmaker from Oss, is 40."
    tlqa answer runs/quickstart --file questions.jsonl --out predictions.json
    """
    parser.add_argument("run", metavar="RUN", help="a fine-tuned run, or the directory of a quickstart")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--question", metavar="TEXT", help="one question")
    what.add_argument("--file", metavar="SOURCE", help='many: SQuAD JSON, or rows with "question" (.jsonl, .csv, …)')
    parser.add_argument("--context", metavar="TEXT", help="the passage that answers --question")
    parser.add_argument("--closed-book", action="store_true", help="leave the contexts of --file out")
    parser.add_argument("--out", metavar="FILE", help="write {id: answer} there; else every answer is a line of JSON")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    return lambda arguments: answer_one(arguments) if arguments.file is None else answer_many(arguments)


def answer_one(arguments: Namespace) -> None:
    for flag in ("out", "closed_book", "data_dir"):
        if getattr(arguments, flag):
            raise UserError(f"--{flag.replace('_', '-')} goes with --file, not with --question")
    from tlqa_jax.asking import ask

    given = ask(arguments.question, arguments.context, arguments.run)
    print(f"{given.text or '(no answer)'}   [probability {given.probability:.2f}]")
    report_cut([given])


def answer_many(arguments: Namespace) -> None:
    if arguments.context is not None:
        raise UserError('--context goes with --question; in --file each row has its own "context"')
    check_writable(arguments.out, arguments.overwrite)
    from tlqa_jax.asking import open_run
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.metrics.squad import write_predictions

    examples = open_questions(arguments.file, data_dir=arguments.data_dir, require_answers=False)
    answers = open_run(arguments.run)(examples, use_context=not arguments.closed_book)
    for example, given in zip(examples, answers) if arguments.out is None else ():
        row = {"id": example.id, "question": example.question, "answer": given.text}
        print(json.dumps(row | {"probability": round(given.probability, 4)}, ensure_ascii=False))
    if arguments.out:
        write_predictions(arguments.out, {example.id: given.text for example, given in zip(examples, answers)})
        print(f"{len(answers)} answers written to {arguments.out}")
    report_cut(answers)


def evaluate(parser: ArgumentParser):
    """score a trained model, or a file of predictions, by exact match and F1

    Every question counts, by the rules of SQuAD's official script. The intervals come from resampling the questions
    (bootstrap, 95%); the loss is that of the first gold answer.

    tlqa evaluate runs/finetuned --questions dev-v1.1.json --predictions predictions.json
    tlqa evaluate predictions.json --questions dev-v1.1.json
    """
    parser.add_argument("run", metavar="RUN", help="a fine-tuned run, a quickstart, or a JSON file {id: answer}")
    questions = "questions with answers: SQuAD JSON, .jsonl, .csv, tfds:squad:validation"
    parser.add_argument("--questions", metavar="SOURCE", required=True, help=questions)
    parser.add_argument("--closed-book", action="store_true", help="leave the contexts out")
    parser.add_argument("--predictions", metavar="FILE", help="write {id: answer} there, for the official script")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --predictions")
    return run_evaluation


def run_evaluation(arguments: Namespace) -> None:
    check_writable(arguments.predictions, arguments.overwrite)
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.metrics import squad

    loss, answers, closed_book = None, [], arguments.closed_book
    if Path(arguments.run).is_file():
        if arguments.predictions or closed_book:
            raise UserError(f"{arguments.run} is a file of predictions: --predictions and --closed-book want a run")
        predictions = squad.read_predictions(arguments.run)
        examples = open_questions(arguments.questions, data_dir=arguments.data_dir)
        if not any(example.id in predictions for example in examples):
            raise UserError(f"{arguments.run} has no prediction for any question of {arguments.questions}")
    else:
        from tlqa_jax.asking import open_run

        run = open_run(arguments.run)
        examples = open_questions(arguments.questions, data_dir=arguments.data_dir)
        answers = run(examples, use_context=not closed_book)
        loss = run.loss(examples, use_context=not closed_book)
        predictions = {example.id: given.text for example, given in zip(examples, answers)}
    score = squad.evaluate(predictions, examples)
    print(f"{arguments.run}: {score.n} questions of {arguments.questions}{', without contexts' * closed_book}")
    for name, mean, each in (
        ("exact match", score.exact_match, score.exact_match_per_example),
        ("F1", score.f1, score.f1_per_example),
    ):
        low, high = squad.bootstrap_interval(each)
        print(f"  {name:<12}{mean:7.2f}   ({low:.2f} to {high:.2f})")
    if loss is not None:
        print(f"  {'loss':<12}{loss:7.3f}   nats per token of the gold answers")
    if score.missing:
        note(f"{score.missing} questions had no prediction and count as wrong")
    report_cut(answers)
    if arguments.predictions:
        squad.write_predictions(arguments.predictions, predictions)
        print(f"predictions written to {arguments.predictions}")


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


COMMANDS = {
    "quickstart": quickstart,
    "pretrain-spans": pretrain_spans,
    "finetune-qa": finetune_qa,
    "finetune-spans": finetune_spans,
    "answer": answer,
    "evaluate": evaluate,
    "vocab train": vocab_train,
    "devices": devices,
}


# --- small things the commands share


def note(text: str) -> None:
    sys.stdout.flush()
    print(f"note: {text}", file=sys.stderr)


def report_cut(answers: Sequence) -> None:
    cut = sum(given.context_cut for given in answers)
    if cut:
        note(f"{cut} of {len(answers)} contexts were too long for the model and lost their ends")


# --- from the words of the command line to a command


def overview() -> str:
    commands = "\n".join(f"  {name:<16}{inspect.getdoc(command).splitlines()[0]}" for name, command in COMMANDS.items())
    return (
        "usage: tlqa COMMAND [flags]\n\n"
        "Transfer learning for question answering: T5 from scratch in JAX.\n\n"
        f"commands:\n{commands}\n\n"
        "`tlqa COMMAND --help` shows a command's flags and examples; start with `tlqa quickstart`.\n"
        "--debug (or TLQA_DEBUG=1) shows the traceback of an error, --version the version."
    )


def split_command(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The command's name and the rest of the line."""
    for words in (2, 1):
        if " ".join(argv[:words]) in COMMANDS:
            return " ".join(argv[:words]), list(argv[words:])
    if argv[0] == "vocab":
        raise UserError("`tlqa vocab` has one command: tlqa vocab train (see tlqa vocab train --help)")
    near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
    raise UserError(f"there is no command {argv[0]!r}{f': did you mean {near[0]}?' if near else ''} (see tlqa --help)")


def parse(name: str, rest: Sequence[str]):
    """(what to run, the parsed flags) of a command."""
    parser = Parser(f"tlqa {name}", inspect.getdoc(COMMANDS[name]))
    run = COMMANDS[name](parser)
    return run, parser.parse_args(rest)


def run(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
    elif argv[0] == "--version":
        from importlib.metadata import version

        print(f"tlqa {version('tlqa-jax')}")
    else:
        command, arguments = parse(*split_command(argv))
        command(arguments)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point: run the command and exit with its status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv or os.environ.get("TLQA_DEBUG", "0") not in ("", "0")
    argv = [argument for argument in argv if argument != "--debug"]
    if not debug:
        quiet_libraries()
    started, status = time.time(), 0
    try:
        run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = fail(interrupted(argv, started), debug, 130)
    except BrokenPipeError:  # `tlqa … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        status = fail(str(error), debug)
    except OSError as error:
        status = fail(f"{error.filename or 'the system'}: {error.strerror or error}", debug)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and not isinstance(error, MemoryError):
            raise  # a defect of ours: the traceback is what is wanted
        status = fail("out of memory: try a smaller --batch-size, or more slices with --accumulate", debug)
    sys.exit(status)


def quiet_libraries() -> None:
    """What absl, Orbax and XLA log is for their developers."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for name in ("absl", "jax", "orbax", "grain"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def fail(message: str, debug: bool, status: int = 2) -> int:
    if debug:
        traceback.print_exc()
    sys.stdout.flush()
    print(f"tlqa: {' '.join(message.split())}", file=sys.stderr)
    return status


def interrupted(argv: Sequence[str], started: float) -> str:
    """What to say after Ctrl-C: how to go on, where there is something to go on with."""
    try:
        name, rest = split_command(argv)
        arguments = vars(parse(name, rest)[1])
    except (UserError, IndexError):
        return "stopped"
    record = Path(arguments.get("out") or "") / "config.json"
    begun = record.is_file() and (record.stat().st_mtime >= started or arguments.get("resume"))
    if not begun or "overwrite" not in arguments:
        return "stopped"
    how, flag = (
        ("go on from the newest checkpoint", "--resume") if "resume" in arguments else ("begin again", "--overwrite")
    )
    rest = [argument for argument in rest if argument not in ("--overwrite", "--resume")]
    return f"stopped; to {how}: tlqa {name} {shlex.join([*rest, flag])}"


if __name__ == "__main__":
    main()
