"""The commands that train: the quickstart, pretraining, fine-tuning."""

import dataclasses
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from tlqa_jax.errors import UserError
from tlqa_jax.fields import flag
from tlqa_jax.flags import add_flags, read_flags

SEVERAL = "several processes (see tlqa_jax/training/processes.py)"


def training_command(parser: ArgumentParser, settings: type, program: Callable, next_step: str) -> Callable:
    """A command that runs a training program; `next_step` is what to do with the run, RUN."""
    import jax

    from tlqa_jax.training.processes import Processes, joined
    from tlqa_jax.training.settings import TrainingSettings

    add_flags(parser, settings, shared=TrainingSettings)
    add_flags(parser, Processes, shared=Processes, heading=SEVERAL)

    def run(arguments: Namespace) -> None:
        given = read_flags(arguments, settings)
        with joined(read_flags(arguments, Processes)):
            path = program(given)
            if jax.process_index() == 0:
                print(f"the run is in {path}; next: {next_step.replace('RUN', shlex.quote(str(path)))}")

    return run


def quickstart(parser: ArgumentParser):
    """the whole story in minutes: pretrain, fine-tune, answer

    Pretrains a tiny T5 on the bundled tiny world by span corruption, fine-tunes it on questions, scores it beside the
    same model without pretraining, and answers a few questions. Writes report.json and report.html.

    tlqa quickstart
    tlqa quickstart --out runs/second --seed 1
    """
    from tlqa_jax.experiments.quickstart import QuickstartSettings
    from tlqa_jax.experiments.quickstart import quickstart as program

    add_flags(parser, QuickstartSettings)
    return lambda arguments: program(read_flags(arguments, QuickstartSettings))


def experiment(parser: ArgumentParser):
    """measure a claim of the course: domain-transfer, fewer-labels, … or all

    Each experiment compares ways of training on the tiny world, with several seeds, the same data and the same steps. It
    writes result.json, figure.png and index.html, a page that says of each claim whether it holds here. Each training run
    is a directory: if the experiment was stopped, the same command again continues.

    tlqa experiment domain-transfer --quick
    tlqa experiment all --seeds 5
    """
    from tlqa_jax.experiments.lab import EXPERIMENTS, ExperimentSettings, run_experiment

    parser.add_argument("name", metavar="NAME", help=f"{', '.join(EXPERIMENTS)}, or all")
    add_flags(parser, ExperimentSettings)

    def run(arguments: Namespace) -> None:
        for name in EXPERIMENTS if arguments.name == "all" else [arguments.name]:
            run_experiment(name, read_flags(arguments, ExperimentSettings))

    return run


def pretrain_spans(parser: ArgumentParser):
    """pretrain a T5 by span corruption

    Spans of a text are removed, and the model learns to write them (Raffel et al. 2020). The run is a Hugging Face
    directory. If it was stopped, the same command again continues from the newest checkpoint.

    tlqa pretrain-spans --steps 300 --out runs/tiny
    tlqa pretrain-spans --texts corpus.txt.gz --vocabulary spiece.model --model small --out runs/small
    tlqa pretrain-spans --start-from google-t5/t5-small --texts corpus.txt.gz --out runs/further
    """
    from tlqa_jax.training import pretrain_spans as module

    return training_command(
        parser, module.PretrainSpansSettings, module.pretrain_spans,
        "tlqa finetune-qa --start-from RUN --context-questions …",
    )  # fmt: skip


def pretrain_mlm(parser: ArgumentParser):
    """pretrain a BERT on masked tokens and next sentences

    Some tokens of a text are masked, and the model learns to predict them, and whether one segment of text follows
    another (Devlin et al. 2019). The run is a Hugging Face directory. If it was stopped, the same command again continues
    from the newest checkpoint.

    tlqa pretrain-mlm --steps 1500 --input-length 64 --batch-size 32 --learning-rate 2e-3 --dropout 0
    tlqa pretrain-mlm --texts corpus.txt.gz --vocabulary vocab.txt --model small --out runs/small
    tlqa pretrain-mlm --start-from bert-base-uncased --texts corpus.txt.gz --learning-rate 5e-5 --out runs/further
    """
    from tlqa_jax.training import pretrain_mlm as module

    return training_command(
        parser, module.PretrainMLMSettings, module.pretrain_mlm, 'tlqa fill-mask RUN "… [MASK] …"'
    )


def pretrain_clm(parser: ArgumentParser):
    """pretrain a causal BERT, which predicts the next token

    Each token attends to those before it, and the model learns to predict the next one; its perplexity on held-out text
    is reported. The weights are those of a masked LM: pretrain-mlm can start from such a run, and the reverse. If the
    run was stopped, the same command again continues from the newest checkpoint.

    tlqa pretrain-clm --steps 1500 --input-length 64 --batch-size 32 --learning-rate 2e-3 --dropout 0
    tlqa pretrain-clm --texts corpus.txt.gz --vocabulary vocab.txt --model small --out runs/small
    """
    from tlqa_jax.training import pretrain_clm as module

    return training_command(parser, module.PretrainCLMSettings, module.pretrain_clm, 'tlqa generate RUN "…"')


def pretrain_vectors(parser: ArgumentParser):
    """learn word vectors by CBOW

    The mean of the vectors around a word learns to predict it (Mikolov et al. 2013). The words are the pieces of a BERT's
    vocabulary, so that the vectors can be a BERT's embeddings: `tlqa finetune-classifier --vectors RUN`. If the run was
    stopped, the same command again continues from the newest checkpoint.

    tlqa pretrain-vectors --epochs 20
    tlqa pretrain-vectors --texts corpus.txt.gz --vocabulary vocab.txt --width 300 --out runs/vectors
    """
    from tlqa_jax.training import pretrain_vectors as module

    return training_command(parser, module.PretrainVectorsSettings, module.pretrain_vectors, "tlqa neighbors RUN WORD")


def finetune_qa(parser: ArgumentParser):
    """teach a pretrained model to answer questions

    These are the flags for a T5: "question: … context: …" or "question: …" in, the answer out. The program is that of
    `tlqa finetune`, where questions are two tasks among others. For a BERT (--start-from one, or --model bert-tiny,
    bert-mini, …) the command is finetune-spans: see `tlqa finetune-spans --help`.

    Held-out questions are scored by exact match and F1, and the predictions are written into the run. If the run was
    stopped, the same command again continues from the newest checkpoint.

    tlqa finetune-qa --start-from runs/small --context-questions train-v1.1.json --held-out-context dev-v1.1.json
    tlqa finetune-qa --start-from runs/tiny --closed-book-questions tiny_world:closed_book_train.json
    tlqa finetune-qa --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json
    """
    from tlqa_jax.training import finetune_qa as module

    return training_command(
        parser, module.FinetuneQASettings, module.finetune_qa, "tlqa answer RUN --question …"
    )


def finetune(parser: ArgumentParser):
    """teach a pretrained T5 one or many tasks, all as text

    A task is a name, or a .json file: {"name": "puns", "input": "is it a pun: {text}", "target": "label", "metrics":
    ["accuracy"], "train": "puns.jsonl"}, with labels {"0": "no", …} if the data have numbers. --train-on TASK=SOURCE
    says what a task is learned from. Without it, that is the source in its record; the built-in tasks have files of the
    tiny world there.

    Held-out examples are scored task by task, and the predictions are written into the run. If the run was stopped, the
    same command again continues from the newest checkpoint.

    tlqa finetune --tasks sentiment,context_qa,closed_book_qa --mixing temperature=2
    tlqa finetune --start-from runs/small --tasks sentiment,puns.json --train-on sentiment=tfds:glue/sst2:train
    """
    from tlqa_jax.training import finetune_qa as module

    return training_command(
        parser, module.FinetuneQASettings, module.finetune_qa, "tlqa evaluate RUN --task … --texts …"
    )


def finetune_spans(parser: ArgumentParser):
    """teach a pretrained BERT to point at answers in their contexts

    Contexts longer than the input are read in overlapping windows. The answers to held-out questions are scored and
    written into the run. If the run was stopped, the same command again continues from the newest checkpoint.

    tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json
    tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --train lora:8 --learning-rate 5e-4
    """
    from tlqa_jax.training import finetune_spans as module

    return training_command(
        parser, module.FinetuneSpansSettings, module.finetune_spans, "tlqa answer RUN --question … --context …"
    )


def finetune_classifier(parser: ArgumentParser):
    """teach a pretrained BERT, or word vectors, to classify texts

    From a run of pretrain-vectors it makes a bag of vectors: the mean of a text's vectors, and one matrix. With --vectors
    they become the word embeddings of a new BERT. The classes are the labels in --texts. The predicted classes of
    held-out texts are written into the run, and the accuracy is reported. If the run was stopped, the same command again
    continues from the newest checkpoint.

    tlqa finetune-classifier --start-from bert-base-uncased --texts train.jsonl --held-out dev.jsonl
    tlqa finetune-classifier --start-from runs/bert --texts questions.jsonl --label-field coarse
    tlqa finetune-classifier --start-from runs/bert --texts train.jsonl --train head --learning-rate 1e-3
    tlqa finetune-classifier --start-from runs/vectors --texts train.jsonl --train head --learning-rate 1e-2
    tlqa finetune-classifier --vectors runs/vectors --model tiny --texts train.jsonl
    """
    from tlqa_jax.training import finetune_classifier as module

    return training_command(
        parser, module.FinetuneClassifierSettings, module.finetune_classifier, "tlqa classify RUN TEXT"
    )


def finetune_features(parser: ArgumentParser):
    """train a classifier on the features of a frozen BERT or T5

    The encoder reads each text once; its features are kept on disk (--cache), and only one matrix is trained. The classes
    are the labels in --texts. If the run was stopped, the same command again continues from the newest checkpoint.

    tlqa finetune-features --start-from bert-base-uncased --layers last:4 --texts train.jsonl --held-out dev.jsonl
    tlqa finetune-features --start-from runs/bert --layers 0 --pooling mean
    tlqa finetune-features --start-from google-t5/t5-small --texts train.jsonl
    """
    from tlqa_jax.training import finetune_features as module

    return training_command(parser, module.FinetuneFeaturesSettings, module.finetune_features, "tlqa classify RUN TEXT")


def of_family(name: str, words: Sequence[str]) -> str:
    """The command that is meant: finetune-spans if finetune-qa is given a BERT, else the one that is named.

    Raises UserError for a flag that only the other family's command has.
    """
    if name != "finetune-qa":
        return name
    from tlqa_jax.checkpoints.load import load
    from tlqa_jax.training.finetune_qa import FinetuneQASettings
    from tlqa_jax.training.finetune_spans import FinetuneSpansSettings

    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    given = {word: value for word, value in zip(words, [*words[1:], ""]) if word.startswith("--")}
    model, start_from = given.get("--model", ""), given.get("--start-from")
    out = given.get("--out", FinetuneQASettings.out)
    if start_from and not Path(start_from).exists() and (Path(out) / "config.json").exists():
        start_from = out  # what a run started from may be gone when it continues
    bert = load(start_from).family == "bert" if start_from else is_bert_size(model)
    flags = lambda settings: {flag(field.name) for field in dataclasses.fields(settings)}
    right, others = flags(FinetuneQASettings), flags(FinetuneSpansSettings)
    right, others = (others, right) if bert else (right, others)
    if wrong := sorted(given.keys() & (others - right)):
        this, other, command = ("BERT", "T5", "finetune-spans") if bert else ("T5", "BERT", "finetune-qa")
        what = start_from or (f"--model {model}" if model else "what is trained without --start-from and --model")
        raise UserError(f"{', '.join(wrong)}: for a {other}, but {what} is a {this} (its flags: tlqa {command} --help)")
    return "finetune-spans" if bert else name


def is_bert_size(model: str) -> bool:
    """Whether --model is the size of a BERT: by its name ("bert-tiny"), or by the fields in the file that it names."""
    from tlqa_jax.models.bert import BertConfig
    from tlqa_jax.models.t5 import T5Config
    from tlqa_jax.training.initial_model import BERT_SIZES, sizes_in_file

    bert, t5 = ({field.name for field in dataclasses.fields(config)} for config in (BertConfig, T5Config))
    given = sizes_in_file(model, BERT_SIZES).keys() if Path(model).is_file() else set()
    more = len(given & (bert - t5)) - len(given & (t5 - bert))
    return more > 0 if more else Path(model).name.startswith("bert")


COMMANDS = {
    "quickstart": quickstart,
    "experiment": experiment,
    "pretrain-spans": pretrain_spans,
    "pretrain-mlm": pretrain_mlm,
    "pretrain-clm": pretrain_clm,
    "pretrain-vectors": pretrain_vectors,
    "finetune": finetune,
    "finetune-qa": finetune_qa,
    "finetune-spans": finetune_spans,
    "finetune-classifier": finetune_classifier,
    "finetune-features": finetune_features,
}
