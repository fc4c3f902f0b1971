"""The labelled texts of the programs that classify: their settings, and how they are read and checked."""

from functools import partial

from tlqa_jax.data.sources import open_labelled_texts
from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText
from tlqa_jax.tasks.classification import labels_of
from tlqa_jax.training.evaluation import held_out_source
from tlqa_jax.training.settings import TrainingSettings, input_file, number, settings_class


@settings_class
class LabelledSettings(TrainingSettings):
    """What the programs that classify texts add."""

    texts: str = input_file("tiny_world:reviews_train.jsonl")
    """Texts to learn from, rows with a text and a label: .jsonl, .csv, tfds:NAME:SPLIT, tiny_world:FILE."""
    held_out: str | None = input_file("auto")
    """Texts to evaluate on, of the same kinds; "auto": the tiny world's for the tiny world's texts, none for others;
    "None": no evaluation."""
    text_field: str = "text"
    """Name of the field with the text."""
    label_field: str = "label"
    """Name of the field with the label."""
    input_length: int = number(128, at_least=3, at_most=2**20)
    """Longest input in tokens. A longer text loses its end, and how many do is reported."""


def read_labelled(
    settings: LabelledSettings,
) -> tuple[list[LabelledText], list[LabelledText], tuple[str, ...]]:
    """(texts to learn from, texts to evaluate on, the classes). Raises UserError for texts of one class, or of others."""
    fields = {"field": settings.text_field, "label_field": settings.label_field}
    read = partial(open_labelled_texts, data_dir=settings.data_dir, **fields)
    held_out_texts = held_out_source(settings.held_out, settings.texts, "tiny_world:reviews_dev.jsonl")
    examples, held_out = read(settings.texts), read(held_out_texts) if held_out_texts else []
    labels = labels_of(examples)
    if len(labels) == 1:
        raise UserError(f"{settings.texts}: every text has the label {labels[0]!r}, so there is nothing to learn")
    if unknown := [label for label in labels_of(held_out) if label not in labels]:
        raise UserError(f"{held_out_texts}: {settings.texts} has no text with the label {', '.join(unknown)}")
    return examples, held_out, labels
