"""The commands that train: the quickstart, pretraining, fine-tuning."""

import dataclasses
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from tlqa_jax.errors import UserError
from tlqa_jax.flags import add_flags, read_flags


def quickstart(parser: ArgumentParser):
    """the whole story in minutes: pretrain, fine-tune, answer

    Pretrains a tiny T5 on the bundled tiny world by span corruption, fine-tunes it on questions, scores it beside the
    same model without pretraining, and answers a few questions. Writes report.json and report.html.

    tlqa quickstart
    tlqa quickstart --out runs/second --seed 1
    """
    from tlqa_jax.experiments.quickstart import QuickstartSettings, quickstart

    add_flags(parser, QuickstartSettings)
    return lambda arguments: quickstart(read_flags(arguments, QuickstartSettings))


def pretrain_spans(parser: ArgumentParser):
    """pretrain a T5 by span corruption

    Spans of a text are cut out, the model learns to write them (Raffel et al. 2020). The run directory holds
    config.json, vocabulary.model, checkpoints, metrics.jsonl and curves.png. Stopped? The same command with --resume
    goes on from the newest checkpoint.

    tlqa pretrain-spans --steps 300 --warmup 30 --out runs/tiny
    tlqa pretrain-spans --texts corpus.txt.gz --vocabulary spiece.model --model small --out runs/small
    tlqa pretrain-spans --start-from google-t5/t5-small --texts corpus.txt.gz --out runs/further
    """
    from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, pretrain_spans as program

    add_flags(parser, PretrainSpansSettings)

    def run(arguments: Namespace) -> None:
        path = program(read_flags(arguments, PretrainSpansSettings))
        next = f"tlqa finetune-qa --start-from {shlex.quote(str(path))} --context-questions …"
        print(f"the run is in {path}; next: {next}")

    return run


def pretrain_mlm(parser: ArgumentParser):
    """pretrain a BERT on masked tokens and next sentences

    Some tokens of a text are hidden, the model learns to tell what they were, and whether one stretch of text follows
    another (Devlin et al. 2019). The run directory holds config.json, vocab.txt, checkpoints, metrics.jsonl and
    curves.png. Stopped? The same command with --resume goes on from the newest checkpoint.

    tlqa pretrain-mlm --steps 1500 --input-length 64 --batch-size 32 --learning-rate 2e-3 --dropout 0
    tlqa pretrain-mlm --texts corpus.txt.gz --vocabulary vocab.txt --model small --out runs/small
    tlqa pretrain-mlm --start-from bert-base-uncased --texts corpus.txt.gz --learning-rate 5e-5 --out runs/further
    """
    from tlqa_jax.training.pretrain_mlm import PretrainMLMSettings, pretrain_mlm as program

    add_flags(parser, PretrainMLMSettings)

    def run(arguments: Namespace) -> None:
        path = program(read_flags(arguments, PretrainMLMSettings))
        print(f'the run is in {path}; next: tlqa fill-mask {shlex.quote(str(path))} "… [MASK] …"')

    return run


def finetune_qa(parser: ArgumentParser):
    """teach a pretrained model to answer questions

    These are the flags for a T5: questions are text to text, "question: … context: …" or "question: …" in, the answer
    out. Given a BERT (--start-from one, or --model bert-tiny, bert-mini, …), the command is finetune-spans: its flags
    are shown by `tlqa finetune-spans --help`.

    Held-out questions are scored by exact match and F1, and their predictions written. Stopped? The same command with
    --resume goes on from the newest checkpoint.

    tlqa finetune-qa --start-from runs/small --context-questions train-v1.1.json --held-out-context dev-v1.1.json
    tlqa finetune-qa --start-from runs/tiny --closed-book-questions tiny_world:closed_book_train.json
    tlqa finetune-qa --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json
    """
    from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa as program

    add_flags(parser, FinetuneQASettings)

    def run(arguments: Namespace) -> None:
        path = program(read_flags(arguments, FinetuneQASettings))
        print(f"the run is in {path}; next: tlqa answer {shlex.quote(str(path))} --question …")

    return run


def finetune(parser: ArgumentParser):
    """teach a pretrained T5 one or many tasks, all as text

    A task is a name, or a .json file: {"name": "puns", "input": "is it a pun: {text}", "target": "label", "metrics":
    ["accuracy"], "train": "puns.jsonl"}, with labels {"0": "no", …} where the data have numbers. What a task is learned
    from is told by --train TASK=SOURCE; without, it is learned from the tiny world, if that has it.

    Held-out examples are scored task by task, and predictions written. Stopped? The same command with --resume goes on
    from the newest checkpoint.

    tlqa finetune --tasks sentiment,context_qa,closed_book_qa --mixing temperature=2
    tlqa finetune --start-from runs/small --tasks sentiment,puns.json --train sentiment=tfds:glue/sst2:train
    """
    from tlqa_jax.training.finetune_tasks import FinetuneTasksSettings, finetune_tasks as program

    add_flags(parser, FinetuneTasksSettings)

    def run(arguments: Namespace) -> None:
        path = program(read_flags(arguments, FinetuneTasksSettings))
        print(f"the run is in {path}; next: tlqa evaluate {shlex.quote(str(path))} --task … --texts …")

    return run


def finetune_spans(parser: ArgumentParser):
    """teach a pretrained BERT to point at answers in their contexts

    Contexts longer than the input are read in overlapping windows. The answers to held-out questions are scored and
    written into the run. Stopped? The same command with --resume goes on.

    tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json
    """
    from tlqa_jax.training.finetune_spans import FinetuneSpansSettings, finetune_spans as program

    add_flags(parser, FinetuneSpansSettings)

    def run(arguments: Namespace) -> None:
        path = program(read_flags(arguments, FinetuneSpansSettings))
        print(f"the run is in {path}; next: tlqa answer {shlex.quote(str(path))} --question … --context …")

    return run


def finetune_classifier(parser: ArgumentParser):
    """teach a pretrained BERT to name the class of a text

    The classes are those that occur in --texts. Those of held-out texts are written into the run, and how many of them
    are right is reported. Stopped? The same command with --resume goes on.

    tlqa finetune-classifier --start-from bert-base-uncased --texts train.jsonl --held-out dev.jsonl
    tlqa finetune-classifier --start-from runs/bert --texts questions.jsonl --label-field coarse
    tlqa finetune-classifier --start-from runs/bert --texts train.jsonl --freeze encoder --learning-rate 1e-3
    """
    from tlqa_jax.training.finetune_classifier import FinetuneClassifierSettings, finetune_classifier as program

    add_flags(parser, FinetuneClassifierSettings)

    def run(arguments: Namespace) -> None:
        path = program(read_flags(arguments, FinetuneClassifierSettings))
        print(f"the run is in {path}; next: tlqa classify {shlex.quote(str(path))} TEXT")

    return run


def of_family(name: str, words: Sequence[str]) -> str:
    """The command that is meant: finetune-spans where finetune-qa is given a BERT, else the one that is named.

    Raises UserError for a flag that only the other family's command has.
    """
    if name != "finetune-qa":
        return name
    from tlqa_jax.checkpoints.bert_runs import is_bert
    from tlqa_jax.checkpoints.runs import source_of
    from tlqa_jax.training.finetune_qa import FinetuneQASettings
    from tlqa_jax.training.finetune_spans import FinetuneSpansSettings

    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = {flag: value for flag, value in zip(words, [*words[1:], ""]) if flag.startswith("--")}
    out, model = given.get("--out", FinetuneQASettings.out), given.get("--model", "")
    start_from = source_of(given.get("--start-from"), out, resume="--resume" in given)
    bert = is_bert(start_from) if start_from else is_bert_size(model)
    flags = lambda config: {"--" + field.name.replace("_", "-") for field in dataclasses.fields(config)}
    right, others = flags(FinetuneSpansSettings if bert else FinetuneQASettings), flags(FinetuneQASettings if bert else FinetuneSpansSettings)
    wrong = sorted(given.keys() & (others - right))
    if wrong:
        this, other, command = ("BERT", "T5", "finetune-spans") if bert else ("T5", "BERT", "finetune-qa")
        what = start_from or (f"--model {model}" if model else "what is trained without --start-from and --model")
        raise UserError(f"{', '.join(wrong)}: for a {other}, but {what} is a {this} (its flags: tlqa {command} --help)")
    return "finetune-spans" if bert else name


def is_bert_size(model: str) -> bool:
    """Whether --model is the size of a BERT: by its name ("bert-tiny"), or by the fields in the file that it names."""
    from tlqa_jax.models.bert import BertConfig
    from tlqa_jax.models.t5 import T5Config
    from tlqa_jax.training.initial_model import NAMED_BERTS, read_sizes

    bert, t5 = ({field.name for field in dataclasses.fields(config)} for config in (BertConfig, T5Config))
    given = read_sizes(model, NAMED_BERTS).keys() if Path(model).is_file() else set()
    more = len(given & (bert - t5)) - len(given & (t5 - bert))
    return more > 0 if more else Path(model).name.startswith("bert")
