"""The command `evaluate`: a model's answers, tasks or classes, or a file of predictions, against the right ones."""

import math
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlqa_jax.commands.answering import RUN, THRESHOLD, report_cut
from tlqa_jax.commands.generating import DEFAULTS, add_generation_flags, flags_given, generation_config, note
from tlqa_jax.errors import UserError
from tlqa_jax.flags import check_writable

OF_QUESTIONS = ("closed_book", "threshold", *DEFAULTS)  # flags for how they are answered
OF_CLASSES = ("text_field", "label_field")


def evaluate(parser: ArgumentParser):
    """score a trained model, or a file of predictions, by exact match and F1

    Every question counts, by the rules of SQuAD's official script; of a T5, an answer is right also if it is what its
    vocabulary makes of a gold one. The intervals come from resampling the questions (bootstrap, 95%); the loss is that
    of the first gold answer. Where some questions have no answer, they and the others are also scored apart (NoAns,
    HasAns). With --task, examples of a task that the run was taught by `tlqa finetune` are scored by that task's own
    metrics. A classifier is scored on labelled --texts: accuracy, and precision, recall and F1 of each class.

    tlqa evaluate runs/finetuned --questions dev-v1.1.json --predictions predictions.json
    tlqa evaluate runs/finetuned --questions dev-v1.1.json --num-beams 4
    tlqa evaluate predictions.json --questions dev-v1.1.json
    tlqa evaluate runs/tasks --task sentiment --texts dev.jsonl
    tlqa evaluate runs/classifier --texts dev.jsonl
    """
    parser.add_argument("run", metavar="RUN", help=f"{RUN}, a classifier, a quickstart, or a JSON file {{id: answer}}")
    questions = "questions with answers: SQuAD JSON, .jsonl, .csv, tfds:squad:validation; or labelled texts"
    parser.add_argument("--questions", "--texts", metavar="SOURCE", required=True, help=questions)
    parser.add_argument("--task", metavar="NAME", help="score this task; --texts are its examples")
    parser.add_argument("--closed-book", action="store_true", help="leave the contexts out")
    parser.add_argument("--predictions", metavar="FILE", help="write {id: answer} there, for the official script")
    parser.add_argument("--text-field", metavar="NAME", help='of a classifier: another name of the field "text"')
    parser.add_argument("--label-field", metavar="NAME", help='of a classifier: another name of the field "label"')
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS data sets are prepared")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --predictions")
    parser.add_argument("--threshold", metavar="NUMBER", type=float, help=THRESHOLD)
    add_generation_flags(parser)
    return run_evaluation


def run_evaluation(arguments: Namespace) -> None:
    check_writable(arguments.predictions, arguments.overwrite)
    config = generation_config(arguments)
    if Path(arguments.run).is_file():
        if flags := flags_given(arguments, ("predictions", "task", *OF_QUESTIONS, *OF_CLASSES)):
            raise UserError(f"{arguments.run} is a file of predictions: flags about a model want a run ({flags})")
        return evaluate_file(arguments)
    from tlqa_jax.inference.predictors import TextClassifier, open_model

    run = open_model(arguments.run)
    if isinstance(run, TextClassifier):
        if flags := flags_given(arguments, ("task", *OF_QUESTIONS)):
            raise UserError(f"{arguments.run} names the classes of texts: leave {flags} out")
        return evaluate_classes(arguments, run)
    if flags := flags_given(arguments, OF_CLASSES):
        raise UserError(f"{arguments.run} names no classes: {flags} go with a run of `tlqa finetune-classifier`")
    if arguments.task:
        return evaluate_task(arguments, run)
    evaluate_answers(arguments, run, config)


def evaluate_file(arguments: Namespace) -> None:
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.metrics.squad import read_predictions

    predictions = read_predictions(arguments.run)
    examples = open_questions(arguments.questions, data_dir=arguments.data_dir)
    if not any(example.id in predictions for example in examples):
        raise UserError(f"{arguments.run} has no prediction for any question of {arguments.questions}")
    show_scores(arguments, predictions, examples)


def evaluate_answers(arguments: Namespace, run: Any, config: Any) -> None:
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.inference.predictors import T5Predictor
    from tlqa_jax.metrics.squad import write_predictions
    from tlqa_jax.training.evaluation import as_written

    use_context = not arguments.closed_book
    examples = open_questions(arguments.questions, data_dir=arguments.data_dir)
    answers = run(examples, use_context=use_context, generation=config, threshold=arguments.threshold)
    predictions = {example.id: given.text for example, given in zip(examples, answers)}
    if arguments.predictions:
        write_predictions(arguments.predictions, predictions)
    gold = as_written(examples, run.tokenizer.normalize) if isinstance(run, T5Predictor) else examples
    show_scores(arguments, predictions, gold)
    loss = run.loss(examples, use_context=use_context)
    print(f"  {'loss':<12}{loss:7.3f}   {'no answer is in its context' if math.isnan(loss) else run.loss_is}")
    report_cut(answers)
    report_written(arguments)


def show_scores(arguments: Namespace, predictions: Mapping[str, str], examples: Sequence) -> None:
    """Exact match and F1, each with its interval; both also of the questions with and without an answer."""
    from tlqa_jax.metrics import squad

    score = squad.evaluate(predictions, examples)
    closed_book = ", without contexts" if arguments.closed_book else ""
    print(f"{arguments.run}: {score.n} questions of {arguments.questions}{closed_book}")
    for name, mean, each in (
        ("exact match", score.exact_match, score.exact_match_per_example),
        ("F1", score.f1, score.f1_per_example),
    ):
        low, high = squad.bootstrap_interval(each)
        print(f"  {name:<12}{mean:7.2f}   ({low:.2f} to {high:.2f})")
    parts = squad.official_report(predictions, examples)
    for name, which in (("HasAns", "with an answer"), ("NoAns", "without one")) if "NoAns_total" in parts else ():
        if f"{name}_total" in parts:
            exact, f1, total = (parts[f"{name}_{part}"] for part in ("exact", "f1", "total"))
            print(f"  {name:<12}{exact:7.2f}   exact match, {f1:.2f} F1: {total} questions {which}")
    if score.missing:
        note(f"{score.missing} questions had no prediction and count as wrong")


def evaluate_task(arguments: Namespace, run: Any) -> None:
    from tlqa_jax.inference.predictors import T5Predictor
    from tlqa_jax.metrics.squad import write_predictions
    from tlqa_jax.training.finetune_tasks import check_ids, read_examples

    if not isinstance(run, T5Predictor):
        raise UserError("--task is for a run of `tlqa finetune`")
    if flags := flags_given(arguments, OF_QUESTIONS):
        raise UserError(f"--task is scored as in training: {flags} go with questions, without --task")
    task = run.task(arguments.task)
    examples = read_examples(task, arguments.questions, arguments.data_dir)
    if arguments.predictions:
        check_ids(examples, arguments.questions)
    scores, written = run.score(task.name, examples)
    print(f"{arguments.run}: {task.name}, {len(examples)} examples of {arguments.questions}")
    for name, value in scores.items():
        print(f"  {name.replace('_', ' '):<12}{value:7.{3 if name == 'loss' else 2}f}")
    report_cut(written)
    if arguments.predictions:
        predictions = {example.id: task.prediction(one.text) for example, one in zip(examples, written)}
        write_predictions(arguments.predictions, predictions)
    report_written(arguments)


def evaluate_classes(arguments: Namespace, run: Any) -> None:
    from tlqa_jax.data.sources import open_labelled_texts
    from tlqa_jax.metrics.squad import bootstrap_interval, write_predictions
    from tlqa_jax.training.finetune_classifier import score_classes

    fields = {"field": arguments.text_field or "text", "label_field": arguments.label_field or "label"}
    examples = open_labelled_texts(arguments.questions, data_dir=arguments.data_dir, **fields)
    labels, gold = run.classifier.labels, [example.label for example in examples]
    if unknown := sorted(set(gold) - set(labels)):
        known = f"{arguments.run} has the classes {', '.join(labels)}"
        raise UserError(f"{arguments.questions}: a text is of the class {unknown[0]!r}, but {known}")
    classes = run([example.text for example in examples])
    said, scores = [given.label for given in classes], score_classes(examples, classes, labels)
    low, high = bootstrap_interval([100.0 * (label == right) for label, right in zip(said, gold)])
    print(f"{arguments.run}: {len(examples)} texts of {arguments.questions}")
    print(f"  {'accuracy':<12}{100 * scores['accuracy']:7.2f}   ({low:.2f} to {high:.2f})")
    print(f"  {'loss':<12}{scores['loss']:7.3f}   nats per text")
    print("\n".join(class_table(labels, gold, said)))
    cut = sum(given.text_cut for given in classes)
    if cut:
        note(f"{cut} of {len(examples)} texts were too long for the model and lost their ends")
    if arguments.predictions:
        write_predictions(arguments.predictions, {str(row): label for row, label in enumerate(said, 1)})
    report_written(arguments)


def class_table(labels: Sequence[str], gold: Sequence[str], said: Sequence[str]) -> list[str]:
    """A line for each class: how many texts are of it, and in percent how many of those said to be of it are so
    (precision), how many of its own were found (recall), and the harmonic mean of both. "-": there are none to count.
    """
    width = max(map(len, (*labels, "class")))
    lines = [f"  {'class':<{width}}  texts  precision  recall      F1"]
    right = Counter(label for label, true in zip(said, gold) if label == true)
    share = lambda count, total: f"{100 * count / total:.2f}" if total else "-"
    for label in labels:
        own, named, hits = gold.count(label), said.count(label), right[label]
        figures = f"{share(hits, named):>9}  {share(hits, own):>6}  {share(2 * hits, own + named):>6}"
        lines.append(f"  {label:<{width}}  {own:>5}  {figures}")
    return lines


def report_written(arguments: Namespace) -> None:
    if arguments.predictions:
        print(f"predictions written to {arguments.predictions}")
