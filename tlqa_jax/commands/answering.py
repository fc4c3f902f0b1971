"""The commands that use a trained model: answer, classify, fill-mask, neighbors."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from tlqa_jax.commands.generating import (
    FILE,
    add_generation_flags,
    as_json,
    check_texts_or_file,
    flags_given,
    generation_config,
    note,
    print_pieces,
    read_texts,
)
from tlqa_jax.errors import UserError
from tlqa_jax.flags import check_writable

RUN = "a fine-tuned run, a Hugging Face directory, a hub name"
THRESHOLD = (
    "no answer if the no-answer score is above it (of a T5: -log of the answer's probability); default: the run's own "
    "threshold, if it has one"
)
QUESTIONS_AT_ONCE = 512  # questions answered before their answers are printed


def answer(parser: ArgumentParser):
    """answer one question, or a file of them, with a trained model

    A T5 generates its answer, from the context or, without one, from memory. A BERT finds it in the context. A context
    longer than the model's input is read through several windows.

    tlqa answer runs/quickstart --question "Where was Mira born?" --context "Mira, a clockmaker from Oss, is 40."
    tlqa answer runs/quickstart --file questions.jsonl --out predictions.json --num-beams 4
    """
    parser.add_argument("run", metavar="RUN", help=f"{RUN}, or the directory of a quickstart")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--question", metavar="TEXT", help="one question")
    what.add_argument("--file", metavar="SOURCE", help='many: SQuAD JSON, or rows with "question" (.jsonl, .csv, …)')
    parser.add_argument("--context", metavar="TEXT", help="the passage that answers --question")
    parser.add_argument("--closed-book", action="store_true", help="leave the contexts of --file out")
    parser.add_argument("--out", metavar="FILE", help="write {id: answer} there (default: print lines of JSON)")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    parser.add_argument("--threshold", metavar="NUMBER", type=float, help=THRESHOLD)
    n_best = "for a BERT: each line of --file also has the INT best answers, with their places"
    parser.add_argument("--n-best", metavar="INT", type=int, help=n_best)
    parser.add_argument("--probabilities", action="store_true", help="for a T5: show the probability of each piece")
    add_generation_flags(parser)
    return lambda arguments: answer_one(arguments) if arguments.file is None else answer_many(arguments)


def answer_one(arguments: Namespace) -> None:
    if flags := flags_given(arguments, ("out", "closed_book", "data_dir", "n_best")):
        raise UserError(f"{flags} goes with --file, not with --question")
    settings = vars(generation_config(arguments))
    from tlqa_jax.inference.predictors import ask

    given = ask(arguments.question, arguments.context, arguments.run, threshold=arguments.threshold, **settings)
    print(f"{given.text or '(no answer)'}   [probability {given.probability:.2f}]")
    if arguments.probabilities:
        print_pieces(getattr(given, "pieces", ()), getattr(given, "token_probabilities", ()))
    report_cut([given])


def answer_many(arguments: Namespace) -> None:
    if arguments.context is not None:
        raise UserError('--context goes with --question; in --file each row has its own "context"')
    check_writable(arguments.out, arguments.overwrite)
    if arguments.out is not None and arguments.n_best is not None:
        raise UserError("--n-best is for the lines that are printed without --out")
    config = generation_config(arguments)
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.inference.predictors import open_model
    from tlqa_jax.metrics.squad import write_predictions

    how = dict(generation=config, threshold=arguments.threshold, use_context=not arguments.closed_book)
    examples = open_questions(arguments.file, data_dir=arguments.data_dir, require_answers=False)
    model, answers = open_model(arguments.run, to="answer"), []
    check_n_best(arguments, model)
    # a sample depends on a question's place among those that are answered with it
    for group in [examples] if config.samples else question_groups(examples):
        answers += (found := model(group, **how))
        for example, given in zip(group, found) if arguments.out is None else ():
            row = {"id": example.id, "question": example.question, "answer": given.text}
            row["probability"] = round(given.probability, 4)
            if arguments.probabilities and hasattr(given, "pieces"):
                row["pieces"] = [[piece, round(p, 4)] for piece, p in zip(given.pieces, given.token_probabilities)]
            if arguments.n_best:
                row["n_best"] = [
                    {"answer": one.text, "start": one.start, "probability": round(one.probability, 4)}
                    for one in given.n_best[: arguments.n_best]
                ]
            print(as_json(row))
        sys.stdout.flush()
    if arguments.out:
        write_predictions(arguments.out, {example.id: given.text for example, given in zip(examples, answers)})
        print(f"{len(answers)} answers written to {arguments.out}")
    report_cut(answers)


def check_n_best(arguments: Namespace, model: Any) -> None:
    if arguments.n_best is None:
        return
    found = getattr(getattr(model, "answerer", None), "n_best", None)
    if found is None:
        raise UserError("--n-best is for a BERT: a T5 gives several texts with `tlqa generate -n`")
    if not 1 <= arguments.n_best <= found:
        raise UserError(f"--n-best is {arguments.n_best}: it has to be from 1 to {found}")


def question_groups(examples: Sequence) -> Iterator[Sequence]:
    """`QUESTIONS_AT_ONCE` examples at a time. The last group may have almost twice as many, as a small one would need
    another compilation."""
    last = max(len(examples) // QUESTIONS_AT_ONCE - 1, 0) * QUESTIONS_AT_ONCE
    for start in range(0, last, QUESTIONS_AT_ONCE):
        yield examples[start : start + QUESTIONS_AT_ONCE]
    yield examples[last:]


def classify(parser: ArgumentParser):
    """classify texts with a classifier

    tlqa classify runs/classifier "The soup was dull." "Never was there a better one."
    tlqa classify runs/classifier --file reviews.jsonl
    """
    parser.add_argument("run", metavar="RUN", help="a run of finetune-classifier, or a Hugging Face directory of one")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="a text")
    parser.add_argument("--file", metavar="SOURCE", help=FILE)
    parser.add_argument("--text-field", metavar="NAME", default="text", help="another name of that field")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    return run_classify


def run_classify(arguments: Namespace) -> None:
    check_texts_or_file(arguments)
    from tlqa_jax.inference.predictors import classify

    texts = arguments.texts if arguments.file is None else read_texts(arguments)
    classes = classify(texts, arguments.run)
    for text, given in zip(texts, classes):
        row = {"text": text, "label": given.label, "probability": round(given.probability, 4)}
        print(as_json(row))
    if cut := sum(given.text_cut for given in classes):
        note(f"{cut} of {len(texts)} texts were too long for the model and lost their ends")


def fill_mask(parser: ArgumentParser):
    """predict the masked words of a text with a BERT

    For each [MASK], the most probable pieces and their probabilities. "##s" is a piece that continues a word.

    tlqa fill-mask runs/bert "Mara Alder plays the [MASK]."
    tlqa fill-mask bert-base-uncased "Paris is the [MASK] of France." "He [MASK] [MASK] home." -n 3
    """
    parser.add_argument("model", metavar="MODEL", help="a run of pretrain-mlm, a Hugging Face directory or hub name")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="a text with one or more [MASK]")
    parser.add_argument("-n", metavar="INT", type=int, default=5, help="pieces for each mask (default: 5)")
    return run_fill_mask


def run_fill_mask(arguments: Namespace) -> None:
    from tlqa_jax.checkpoints.load import load
    from tlqa_jax.inference.fill_mask import fill_mask

    pretrained = load(arguments.model)
    if pretrained.family != "bert":
        raise UserError(f"{arguments.model} holds a {pretrained.architecture}, and only a BERT fills masks")
    filled = fill_mask(pretrained.model(), pretrained.tokenizer, arguments.texts, n=arguments.n)
    for text, masks in zip(arguments.texts, filled):
        print(text)
        for number, guesses in enumerate(masks, 1):
            name = f"[MASK] {number}" if len(masks) > 1 else "[MASK]"
            print(f"  {name}  {'  '.join(f'{guess.piece} {guess.probability:.3f}' for guess in guesses)}")


def neighbors(parser: ArgumentParser):
    """show the words with the nearest vectors, also of an analogy

    Of one word its nearest neighbours; of words with + and - between them the nearest to their sum. Similarity is the
    cosine of the angle between two vectors.

    tlqa neighbors runs/vectors flute
    tlqa neighbors runs/vectors king - man + woman -n 3
    """
    parser.add_argument("run", metavar="RUN", help="a run of pretrain-vectors")
    parser.add_argument("words", metavar="WORD", nargs="+", help="a word; + or -, and another")
    parser.add_argument("-n", metavar="INT", type=int, default=10, help="number of neighbours (default: 10)")
    return run_neighbors


def run_neighbors(arguments: Namespace) -> None:
    from tlqa_jax.checkpoints.load import load
    from tlqa_jax.inference.neighbors import analogy, nearest

    if arguments.n < 1:
        raise UserError(f"-n is {arguments.n}: it has to be at least 1")
    plus, minus = analogy([word for text in arguments.words for word in text.split()])
    pretrained = load(arguments.run)
    if pretrained.architecture != "CBOW":
        raise UserError(f"{arguments.run} holds a {pretrained.architecture}: `tlqa pretrain-vectors` learns word vectors")
    for neighbor in nearest(pretrained.model(), pretrained.tokenizer, plus, minus, n=arguments.n):
        print(f"  {neighbor.similarity:6.3f}  {neighbor.word}")


def report_cut(answers: Sequence) -> None:
    if cut := sum(getattr(given, "context_cut", False) for given in answers):
        note(f"{cut} of {len(answers)} contexts were too long for the model and lost their ends")
    if windows := [given.windows for given in answers if getattr(given, "windows", 1) > 1]:
        longer = f"{len(windows)} of {len(answers)} contexts were longer than the model's input"
        note(f"{longer}: {sum(windows)} windows")
    if cut := sum(getattr(given, "question_cut", False) for given in answers):
        note(f"{cut} of {len(answers)} questions were too long for the model and lost their ends")


COMMANDS = {"answer": answer, "classify": classify, "fill-mask": fill_mask, "neighbors": neighbors}
