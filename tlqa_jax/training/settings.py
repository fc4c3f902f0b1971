"""The settings that all training programs share, those of a T5 and those of a BERT. A program adds its own.

A field's limits stand beside it (`tlqa_jax.fields`). A run is as long as `steps` says, or `epochs`; a program says in
`default_length` how long it is where neither is given.
"""

import dataclasses
import glob
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from tlqa_jax.checkpoints.run_record import fingerprint
from tlqa_jax.data.corpus import check_tokens_file
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.fields import Settings, input_file, number, settings_class
from tlqa_jax.training.freezing import read_train
from tlqa_jax.training.optimizers import Decay, Optimizer

# what may change when a run continues
HOUSEKEEPING = (
    "out", "data_dir", "tokens_file", "log_every", "evaluate_every", "save_every", "keep", "overwrite",
    "cache",
)  # fmt: skip


@settings_class
class TrainingSettings(Settings):
    """The settings that every training program has."""

    default_length: ClassVar[dict[str, float]] = {"steps": 10_000}

    out: str = "runs/run"
    """Directory of the run. Afterwards it is a Hugging Face directory: config.json, model.safetensors, the vocabulary;
    beside them run.json, checkpoints, metrics.jsonl and curves.png."""
    start_from: str | None = input_file(None)
    """A pretrained model to start from: a run, a Hugging Face directory or a name on the hub. Without it the model starts
    from random weights, with --model and --vocabulary."""
    data_dir: str | None = None
    """Directory of prepared TFDS data sets."""
    steps: int | None = number(None, at_least=1)
    """Number of optimizer steps."""
    epochs: int | float | None = number(None, above=0, at_most=10**6)
    """Number of passes over the training examples, instead of --steps."""
    batch_size: int = number(64, at_least=1)
    """Rows in a step, over all devices and gradient accumulation steps."""
    accumulate: int = number(1, at_least=1)
    """Gradient accumulation steps: each device splits its rows into this many micro-batches. The gradients stay those of
    the whole batch."""
    optimizer: Optimizer = "adamw"
    """adamw, or adafactor: T5's own, which needs hardly any memory."""
    learning_rate: float = number(1e-3, above=0)
    """Peak learning rate. For adafactor it is relative to the size of the entries of each array."""
    warmup: int | float = number(0, at_least=0)
    """Steps of linear warm-up of the learning rate; below 1, a share of all steps."""
    decay: Decay = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = number(0.01, at_least=0)
    """AdamW's weight decay. It applies to matrices only."""
    clip: float = number(1.0, above=0)
    """Largest global norm of the gradients (AdamW only; Adafactor clips its updates)."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained, whatever --train says, by name, * for anything: "encoder/embeddings" for those of
    a BERT, "encoder_*" for a T5's encoder without its embedding."""
    dropout: float = number(0.1, at_least=0, below=1)
    """Dropout rate."""
    seed: int = number(0, at_least=0, at_most=2**32 - 1)
    """Seed of the initial weights, of the order of the data, of its noise and of dropout."""
    dtype: str = "auto"
    """Type of the computation: auto, float32 or bfloat16. Parameters are always float32."""
    log_every: int = number(20, at_least=1)
    """Steps between two lines of the log."""
    evaluate_every: int = number(500, at_least=1)
    """Steps between two evaluations on held-out examples. The last step is always evaluated."""
    save_every: int = number(500, at_least=1)
    """Steps between two checkpoints. The last step is always saved."""
    keep: int = number(3, at_least=1)
    """Number of checkpoints to keep."""
    overwrite: bool = False
    """Delete the run that is in --out and start afresh."""

    def check(self) -> None:
        if self.steps and self.epochs:
            raise UserError(f"--steps {self.steps} and --epochs {self.epochs:g} both say how long to train: give one")
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise UserError(f"--warmup is {self.warmup}: it has to be a whole number of steps, or a share below 1")

    def total_steps(self, rows: int) -> int:
        """The length of the run in steps, where an epoch has `rows` rows."""
        given = {"steps": self.steps, "epochs": self.epochs} if self.steps or self.epochs else self.default_length
        return int(given["steps"]) if given.get("steps") else math.ceil(given["epochs"] * rows / self.batch_size)

    def warmup_steps(self, steps: int) -> int:
        """The length of the warm-up in a run of so many steps. Raises UserError if it is not shorter than the run."""
        warmup = round(self.warmup * steps) if self.warmup < 1 else int(self.warmup)
        if warmup and warmup >= steps:
            raise UserError(f"--warmup {warmup} is not shorter than the run of {steps} steps: give a smaller --warmup")
        return warmup


@settings_class
class FinetuningSettings(TrainingSettings):
    """What the programs that fine-tune add."""

    train: str = "all"
    """How much of the model is trained. all; head: only the parts above the layers; last:N: these and the last N layers;
    gradual: these, and from stage to stage one more layer; bias: the bias vectors (BERT only); adapters:D: small new
    layers of size D, and the norms; lora:R: new matrices of rank R beside the query and value projections. The last
    three also train the head of a BERT. The rest stays as it is, bit by bit. With adapters and LoRA only the new
    parameters are saved, and the model that the run starts from is needed to use them."""

    def check(self) -> None:
        super().check()
        kind, _ = read_train(self.train)
        if kind in ("adapters", "lora") and not self.start_from:
            raise UserError(f"--train {self.train} adds to a pretrained model: give --start-from")


@settings_class
class T5Settings(TrainingSettings):
    """What the programs that train a T5 add."""

    vocabulary: str = input_file("tiny_world:vocabulary.model")
    """A SentencePiece .model file (without --start-from)."""
    model: str = input_file("tiny")
    """tiny, small, base, or a JSON file of T5Config fields (without --start-from)."""
    relative_bias_rate: float = number(1.0, above=0)
    """Multiplies the learning rate of the relative position biases. For short runs from random weights, try 30."""


@settings_class
class BertSettings(TrainingSettings):
    """What the programs that train a BERT add."""

    vocabulary: str = input_file("tiny_world:wordpiece.txt")
    """A WordPiece vocab.txt (without --start-from)."""
    lowercase: bool = True
    """Whether that vocabulary is for lower-cased text (without --start-from)."""
    model: str = input_file("tiny")
    """tiny, mini, small, base, large, or a JSON file of BertConfig fields (without --start-from)."""
    vectors: str | None = input_file(None)
    """A run of pretrain-vectors: its vectors are a new BERT's first word embeddings, its vocabulary that BERT's (without
    --start-from). Freeze them with --freeze encoder/embeddings/word."""


@settings_class
class TextSettings(TrainingSettings):
    """What the programs that pretrain on text add."""

    texts: str = input_file("tiny_world:pretraining.txt")
    """Text to learn from: .txt, .jsonl or .csv (also .gz), tfds:NAME:SPLIT, or tiny_world:FILE."""
    held_out: str | None = input_file("auto")
    """Text to evaluate on, of the same kinds; "auto": the tiny world's for the tiny world's texts, none for others;
    "None": no evaluation."""
    text_field: str = "text"
    """Name of the field of .jsonl, .csv and TFDS rows that holds the text."""
    max_tokens: int | None = number(None, at_least=1)
    """Use only the first N tokens of the texts."""
    tokens_file: str | None = None
    """Keep the tokens in this .tokens file instead of memory, for large texts. It is written again at each start."""

    def check(self) -> None:
        super().check()
        check_tokens_file(self.tokens_file, self.out)


def recorded(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that a run's record keeps: those that must be the same when the run continues."""
    return {name: value for name, value in dataclasses.asdict(settings).items() if name not in HOUSEKEEPING}


def fingerprints(settings: TrainingSettings, sources: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """{field: {path: fingerprint}} of the local files and model directories that the settings name.

    `sources` are more that the run reads, such as those in the records of its tasks; they count as "train_on".
    """
    found: dict[str, dict[str, str]] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if not value or not field.metadata.get("input"):
            continue
        for source in [value] if isinstance(value, str) else [text.partition("=")[2] for text in value]:  # TASK=SOURCE
            paths = [Path(source)] if field.name == "start_from" and Path(source).is_dir() else local_files(source)
            found.setdefault(field.name, {}).update({str(path): fingerprint(path) for path in paths})
    known = {path for of_files in found.values() for path in of_files}
    more = {str(path) for source in sources for path in local_files(source)} - known
    found.setdefault("train_on", {}).update({path: fingerprint(path) for path in sorted(more)})
    return {name: of_files for name, of_files in found.items() if of_files}


def local_files(source: str) -> list[Path]:
    """The files that a source names: one, those of a directory, those of a glob pattern; none of a TFDS or hub name."""
    path = local_path(source)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    return [path] if path.is_file() else sorted(Path(file) for file in glob.glob(str(path), recursive=True))
