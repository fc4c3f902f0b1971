"""The command `evaluate`: the scores of a model's answers, tasks, classes or next tokens, or of a file of predictions."""

import math
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tlqa_jax.commands.answering import RUN, THRESHOLD, report_cut
from tlqa_jax.commands.generating import DEFAULTS, add_generation_flags, flags_given, generation_config, note
from tlqa_jax.errors import UserError
from tlqa_jax.flags import check_writable

OF_QUESTIONS = ("closed_book", "threshold", *DEFAULTS)  # flags for how they are answered
OF_CLASSES = ("text_field", "label_field")


def evaluate(parser: ArgumentParser):
    """score a trained model, or a file of predictions

    Questions are scored by exact match and F1, as SQuAD's official script does. Every question counts. A T5 cannot
    write characters that its vocabulary lacks, so its answer is compared with each gold answer after that has been
    encoded and decoded. The intervals come from resampling the questions (bootstrap, 95%). The loss is that of the first
    gold answer. If some questions have no answer, they and the others are also scored apart (NoAns, HasAns).

    With --task, examples of a task that the run was trained for by `tlqa finetune` are scored by that task's own
    metrics. A classifier is scored on labelled --texts: accuracy, and precision, recall and F1 of each class. A causal
    BERT's score is its perplexity on --texts.

    tlqa evaluate runs/finetuned --questions dev-v1.1.json --predictions predictions.json
    tlqa evaluate runs/finetuned --questions dev-v1.1.json --num-beams 4
    tlqa evaluate predictions.json --questions dev-v1.1.json
    tlqa evaluate runs/tasks --task sentiment --texts dev.jsonl
    tlqa evaluate runs/classifier --texts dev.jsonl
    tlqa evaluate runs/clm --texts dev.txt
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
    generation = generation_config(arguments)
    if Path(arguments.run).is_file():
        if flags := flags_given(arguments, ("predictions", "task", *OF_QUESTIONS, *OF_CLASSES)):
            raise UserError(f"{arguments.run} is a file of predictions: flags about a model need a run ({flags})")
        return evaluate_file(arguments)
    from tlqa_jax.inference.predictors import CausalLM, TextClassifier, open_model

    model = open_model(arguments.run)
    if isinstance(model, CausalLM):
        if flags := flags_given(arguments, ("task", "label_field", "predictions", *OF_QUESTIONS)):
            raise UserError(f"{arguments.run} is a causal BERT, whose perplexity is measured: leave {flags} out")
        return evaluate_perplexity(arguments, model)
    if isinstance(model, TextClassifier):
        if flags := flags_given(arguments, ("task", *OF_QUESTIONS)):
            raise UserError(f"{arguments.run} classifies texts: leave {flags} out")
        return evaluate_classes(arguments, model)
    if flags := flags_given(arguments, OF_CLASSES):
        raise UserError(f"{arguments.run} is no classifier: {flags} go with a run of `tlqa finetune-classifier`")
    if arguments.task:
        return evaluate_task(arguments, model)
    evaluate_answers(arguments, model, generation)


def evaluate_file(arguments: Namespace) -> None:
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.metrics.squad import read_predictions

    predictions = read_predictions(arguments.run)
    examples = open_questions(arguments.questions, data_dir=arguments.data_dir)
    if not any(example.id in predictions for example in examples):
        raise UserError(f"{arguments.run} has no prediction for any question of {arguments.questions}")
    show_scores(arguments, predictions, examples)


def evaluate_answers(arguments: Namespace, model: Any, generation: Any) -> None:
    from tlqa_jax.data.sources import open_questions
    from tlqa_jax.inference.predictors import T5Predictor
    from tlqa_jax.metrics.squad import write_predictions
    from tlqa_jax.training.evaluation import with_normalized

    use_context = not arguments.closed_book
    examples = open_questions(arguments.questions, data_dir=arguments.data_dir)
    answers = model(examples, use_context=use_context, generation=generation, threshold=arguments.threshold)
    predictions = {example.id: given.text for example, given in zip(examples, answers)}
    if arguments.predictions:
        write_predictions(arguments.predictions, predictions)
    gold = examples
    if isinstance(model, T5Predictor):
        gold = [replace(e, answers=with_normalized(e.answers, model.tokenizer.normalize), answer_starts=()) for e in gold]
    show_scores(arguments, predictions, gold)
    loss, unit = t5_loss(model, examples, use_context) if gold is not examples else bert_loss(model, examples)
    print(f"  {'loss':<12}{loss:7.3f}   {'no answer is in its context' if math.isnan(loss) else unit}")
    report_cut(answers)
    report_written(arguments)


def t5_loss(model: Any, examples: Sequence, use_context: bool) -> tuple[float, str]:
    """A T5's loss on the first gold answers, and its unit."""
    from tlqa_jax.tasks.text_to_text import encode_examples
    from tlqa_jax.training.evaluation import mean_loss, summed_over_devices
    from tlqa_jax.training.sequence_loss import evaluation_sums

    lengths = {"input_length": model.input_length, "target_length": model.target_length}
    rows = encode_examples(model.tokenizer, examples, **lengths, use_context=use_context)
    step = summed_over_devices(partial(evaluation_sums, model.apply))
    return mean_loss(step, model.params, rows), "nats per token of the gold answers"


def bert_loss(model: Any, examples: Sequence) -> tuple[float, str]:
    """A BERT's loss on the first gold answers, and its unit; nan if no answer is in its context."""
    from tlqa_jax.data.batches import evaluation_batches
    from tlqa_jax.inference.answer_spans import span_logits
    from tlqa_jax.tasks.extractive_qa import make_windows
    from tlqa_jax.training.evaluation import mean_over_examples, summed_over_devices
    from tlqa_jax.training.finetune_spans import span_loss_sums

    windows = make_windows(model.tokenizer, examples, **model.answerer.lengths)
    if not len(windows.learnable):
        return math.nan, ""
    build = lambda indices, *_: windows.batch(windows.learnable[indices])
    step = summed_over_devices(partial(span_loss_sums, partial(span_logits, model.apply, model.tokenizer.pad_id)))
    losses = mean_over_examples(step, model.params, evaluation_batches(len(windows.learnable), 32, build))
    return losses["loss"], "nats for the first and the last token of an answer, the mean over windows"


def show_scores(arguments: Namespace, predictions: Mapping[str, str], examples: Sequence) -> None:
    """Exact match and F1, each with its interval; both also of the questions with and without an answer."""
    from tlqa_jax.metrics import squad

    score = squad.score_answers(predictions, examples)
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


def evaluate_task(arguments: Namespace, model: Any) -> None:
    from tlqa_jax.inference.predictors import T5Predictor
    from tlqa_jax.metrics.squad import write_predictions
    from tlqa_jax.tasks.task_rows import check_unique_ids, read_examples
    from tlqa_jax.tasks.text_to_text import encode_texts
    from tlqa_jax.training.evaluation import mean_loss, score_task, summed_over_devices
    from tlqa_jax.training.sequence_loss import evaluation_sums

    if not isinstance(model, T5Predictor):
        raise UserError("--task is for a run of `tlqa finetune`")
    if flags := flags_given(arguments, OF_QUESTIONS):
        raise UserError(f"--task is scored as in training: {flags} go with questions, without --task")
    task = model.task(arguments.task)
    examples = read_examples(task, arguments.questions, arguments.data_dir)
    check_unique_ids(examples, arguments.questions)
    written = model.predict(examples)
    scores, predictions = score_task(task, examples, written, model.tokenizer.normalize)
    lengths = {"input_length": model.input_length, "target_length": model.target_length}
    step = summed_over_devices(partial(evaluation_sums, model.apply))
    loss = mean_loss(step, model.params, encode_texts(model.tokenizer, examples, **lengths))
    print(f"{arguments.run}: {task.name}, {len(examples)} examples of {arguments.questions}")
    for name, value in {"loss": loss, **scores}.items():
        if not name.endswith(("_low", "_high")):
            print(f"  {name.replace('_', ' '):<12}{value:7.{3 if name == 'loss' else 2}f}")
    report_cut(written)
    if arguments.predictions:
        write_predictions(arguments.predictions, predictions)
    report_written(arguments)


def evaluate_perplexity(arguments: Namespace, model: Any) -> None:
    from tlqa_jax.data.batches import evaluation_batches
    from tlqa_jax.tasks.causal_lm import CausalLMRows
    from tlqa_jax.training.evaluation import mean_over_examples, summed_over_devices
    from tlqa_jax.training.pretrain_clm import next_token_sums, with_perplexity

    how = {"text_field": arguments.text_field or "text", "data_dir": arguments.data_dir}
    rows = CausalLMRows(arguments.questions, model.tokenizer, input_length=model.input_length, **how)
    step = summed_over_devices(partial(next_token_sums, model.apply))
    scores = with_perplexity(mean_over_examples(step, model.params, evaluation_batches(rows.size, 32, rows.build)))
    print(f"{arguments.run}: {rows.report()}")
    print(f"  {'perplexity':<12}{scores['perplexity']:9.2f}   {scores['loss']:.3f} nats per token")
    print(f"  {'accuracy':<12}{100 * scores['accuracy']:9.2f}   percent of the tokens predicted")


def evaluate_classes(arguments: Namespace, model: Any) -> None:
    from tlqa_jax.data.sources import open_labelled_texts
    from tlqa_jax.metrics.squad import bootstrap_interval, write_predictions
    from tlqa_jax.training.evaluation import score_classes

    fields = {"field": arguments.text_field or "text", "label_field": arguments.label_field or "label"}
    examples = open_labelled_texts(arguments.questions, data_dir=arguments.data_dir, **fields)
    labels, gold = model.labels, [example.label for example in examples]
    if unknown := sorted(set(gold) - set(labels)):
        known = f"{arguments.run} has the classes {', '.join(labels)}"
        raise UserError(f"{arguments.questions}: a text is of the class {unknown[0]!r}, but {known}")
    classes = model([example.text for example in examples])
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


COMMANDS = {"evaluate": evaluate}
