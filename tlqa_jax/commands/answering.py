"""The commands that use a trained model: answer, classify, evaluate and fill-mask."""

import json
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from tlqa_jax.commands.generating import FILE, add_method_flags, draw, method_settings, note, read_texts
from tlqa_jax.errors import UserError
from tlqa_jax.flags import check_writable

RUN = "a fine-tuned run, a Hugging Face directory"
AT_ONCE = 512  # questions answered before their answers are printed


def answer(parser: ArgumentParser):
    """ask a trained model one question, or a file of them

    A T5 writes its answer, from the context or, where there is none, from memory. A BERT points at it in the context.
    A context longer than the model reads at once is read through several windows.

    tlqa answer runs/quickstart --question "Where was Mira born?" --context "Mira, a clockmaker from Oss, is 40."
    tlqa answer runs/quickstart --file questions.jsonl --out predictions.json --beams 4
    """
    parser.add_argument("run", metavar="RUN", help=f"{RUN}, or the directory of a quickstart")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--question", metavar="TEXT", help="one question")
    what.add_argument("--file", metavar="SOURCE", help='many: SQuAD JSON, or rows with "question" (.jsonl, .csv, …)')
    parser.add_argument("--context", metavar="TEXT", help="the passage that answers --question")
    parser.add_argument("--closed-book", action="store_true", help="leave the contexts of --file out")
    parser.add_argument("--out", metavar="FILE", help="write {id: answer} there; else every answer is a line of JSON")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")
    threshold = "no answer where the no-answer score is above it (of a T5: -log of the answer's probability)"
    parser.add_argument("--threshold", metavar="NUMBER", type=float, help=f"{threshold}; else the run's own, if any")
    parser.add_argument("--probabilities", action="store_true", help="of a T5: show the probability of each piece")
    add_method_flags(parser)
    return lambda arguments: answer_one(arguments) if arguments.file is None else answer_many(arguments)


def answer_one(arguments: Namespace) -> None:
    for flag in ("out", "closed_book", "data_dir"):
        if getattr(arguments, flag):
            raise UserError(f"--{flag.replace('_', '-')} goes with --file, not with --question")
    settings = method_settings(arguments)
    from tlqa_jax.asking import ask

    given = ask(arguments.question, arguments.context, arguments.run, threshold=arguments.threshold, **settings)
    print(f"{given.text or '(no answer)'}   [probability {given.probability:.2f}]")
    if arguments.probabilities:
        draw(getattr(given, "pieces", ()), getattr(given, "token_probabilities", ()))
    report_cut([given])


def answer_many(arguments: Namespace) -> None:
    if arguments.context is not None:
        raise UserError('--context goes with --question; in --file each row has its own "context"')
    check_writable(arguments.out, arguments.overwrite)
    settings = method_settings(arguments)
    from tlqa_jax.asking import open_run
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.decoding.methods import Method
    from tlqa_jax.metrics.squad import write_predictions

    how = dict(method=Method(**settings), threshold=arguments.threshold, use_context=not arguments.closed_book)
    examples = open_questions(arguments.file, data_dir=arguments.data_dir, require_answers=False)
    run, answers = open_run(arguments.run), []
    # what is drawn depends on a question's place among those asked with it
    for group in [examples] if how["method"].by_chance else in_groups(examples):
        answers += (found := run(group, **how))
        for example, given in zip(group, found) if arguments.out is None else ():
            row = {"id": example.id, "question": example.question, "answer": given.text}
            row["probability"] = round(given.probability, 4)
            if arguments.probabilities and hasattr(given, "pieces"):
                row["pieces"] = [[piece, round(p, 4)] for piece, p in zip(given.pieces, given.token_probabilities)]
            print(json.dumps(row, ensure_ascii=False))
        sys.stdout.flush()
    if arguments.out:
        write_predictions(arguments.out, {example.id: given.text for example, given in zip(examples, answers)})
        print(f"{len(answers)} answers written to {arguments.out}")
    report_cut(answers)


def in_groups(examples: Sequence) -> Iterator[Sequence]:
    """`AT_ONCE` examples at a time. The last group has the rest on top: a small one would compile another shape."""
    last = max(len(examples) // AT_ONCE - 1, 0) * AT_ONCE
    for start in range(0, last, AT_ONCE):
        yield examples[start : start + AT_ONCE]
    yield examples[last:]


def classify(parser: ArgumentParser):
    """name the class of texts, with a classifier

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
    if bool(arguments.texts) == (arguments.file is not None):
        raise UserError("give either texts or --file")
    if any(not text.strip() for text in arguments.texts):
        raise UserError("a text is empty")
    from tlqa_jax.asking import classify

    texts = arguments.texts if arguments.file is None else read_texts(arguments)
    classes = classify(texts, arguments.run)
    for text, given in zip(texts, classes):
        row = {"text": text, "label": given.label, "probability": round(given.probability, 4)}
        print(json.dumps(row, ensure_ascii=False))
    cut = sum(given.text_cut for given in classes)
    if cut:
        note(f"{cut} of {len(texts)} texts were too long for the model and lost their ends")


def evaluate(parser: ArgumentParser):
    """score a trained model, or a file of predictions, by exact match and F1

    Every question counts, by the rules of SQuAD's official script. The intervals come from resampling the questions
    (bootstrap, 95%); the loss is that of the first gold answer. With --task, examples of a task that the run was taught
    by `tlqa finetune` are scored by that task's own metrics.

    tlqa evaluate runs/finetuned --questions dev-v1.1.json --predictions predictions.json
    tlqa evaluate predictions.json --questions dev-v1.1.json
    tlqa evaluate runs/tasks --task sentiment --texts dev.jsonl
    """
    parser.add_argument("run", metavar="RUN", help=f"{RUN}, a quickstart, or a JSON file {{id: answer}}")
    questions = "questions with answers: SQuAD JSON, .jsonl, .csv, tfds:squad:validation"
    parser.add_argument("--questions", "--texts", metavar="SOURCE", required=True, help=questions)
    parser.add_argument("--task", metavar="NAME", help="score this task; --texts are its examples")
    parser.add_argument("--closed-book", action="store_true", help="leave the contexts out")
    parser.add_argument("--predictions", metavar="FILE", help="write {id: answer} there, for the official script")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --predictions")
    return run_evaluation


def run_evaluation(arguments: Namespace) -> None:
    check_writable(arguments.predictions, arguments.overwrite)
    if arguments.task:
        return evaluate_task(arguments)
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.metrics import squad

    run, answers, closed_book = None, [], arguments.closed_book
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
        predictions = {example.id: given.text for example, given in zip(examples, answers)}
        if arguments.predictions:
            squad.write_predictions(arguments.predictions, predictions)
    score = squad.evaluate(predictions, examples)
    print(f"{arguments.run}: {score.n} questions of {arguments.questions}{', without contexts' * closed_book}")
    for name, mean, each in (
        ("exact match", score.exact_match, score.exact_match_per_example),
        ("F1", score.f1, score.f1_per_example),
    ):
        low, high = squad.bootstrap_interval(each)
        print(f"  {name:<12}{mean:7.2f}   ({low:.2f} to {high:.2f})")
    if run is not None:
        loss = run.loss(examples, use_context=not closed_book)
        meant = "no answer is in its context" if math.isnan(loss) else run.loss_is
        print(f"  {'loss':<12}{loss:7.3f}   {meant}")
    if score.missing:
        note(f"{score.missing} questions had no prediction and count as wrong")
    report_cut(answers)
    if arguments.predictions:
        print(f"predictions written to {arguments.predictions}")


def evaluate_task(arguments: Namespace) -> None:
    from tlqa_jax.asking import OpenT5, open_run
    from tlqa_jax.metrics.squad import write_predictions
    from tlqa_jax.training.text_to_text import read_examples

    run = open_run(arguments.run)
    if not isinstance(run, OpenT5) or arguments.closed_book:
        raise UserError("--task is for a run of `tlqa finetune`, and --closed-book for questions without --task")
    task = run.task(arguments.task)
    examples = read_examples(task, arguments.questions, arguments.data_dir)
    scores, written = run.score(task.name, examples)
    print(f"{arguments.run}: {task.name}, {len(examples)} examples of {arguments.questions}")
    for name, value in scores.items():
        print(f"  {name.replace('_', ' '):<12}{value:7.{3 if name == 'loss' else 2}f}")
    report_cut(written)
    if arguments.predictions:
        predictions = {example.id: task.prediction(one.text) for example, one in zip(examples, written)}
        write_predictions(arguments.predictions, predictions)
        print(f"predictions written to {arguments.predictions}")


def fill_mask(parser: ArgumentParser):
    """what a BERT puts in the place of [MASK]

    For each mask the likeliest pieces with their probabilities. "##s" is a piece that goes on with a word.

    tlqa fill-mask runs/bert "Mara Alder plays the [MASK]."
    tlqa fill-mask bert-base-uncased "Paris is the [MASK] of France." "He [MASK] [MASK] home." -n 3
    """
    parser.add_argument("model", metavar="MODEL", help="a run of pretrain-mlm, a Hugging Face directory or hub name")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="a text with one or more [MASK]")
    parser.add_argument("-n", metavar="INT", type=int, default=5, help="pieces for each mask (default: 5)")
    return run_fill_mask


def run_fill_mask(arguments: Namespace) -> None:
    from tlqa_jax.decoding.fill_mask import fill_mask
    from tlqa_jax.weights.bert_runs import load_bert_model

    model, tokenizer = load_bert_model(arguments.model)
    for text, masks in zip(arguments.texts, fill_mask(model, tokenizer, arguments.texts, n=arguments.n)):
        print(text)
        for number, guesses in enumerate(masks, 1):
            name = f"[MASK] {number}" if len(masks) > 1 else "[MASK]"
            print(f"  {name}  {'  '.join(f'{guess.piece} {guess.probability:.3f}' for guess in guesses)}")


def report_cut(answers: Sequence) -> None:
    cut = sum(given.context_cut for given in answers)
    if cut:
        note(f"{cut} of {len(answers)} contexts were too long for the model and lost their ends")
    windows = [given.windows for given in answers if getattr(given, "windows", 1) > 1]
    if windows:
        longer = f"{len(windows)} of {len(answers)} contexts were longer than the model reads at once"
        note(f"{longer}: {sum(windows)} windows")
    cut = sum(getattr(given, "question_cut", False) for given in answers)
    if cut:
        note(f"{cut} of {len(answers)} questions were too long for the model and lost their ends")
