"""Word vectors, bags of vectors, heads on features: models that have no class in Transformers (see `family.py`)."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.family import Rule, label_names, labels_from_json, read_sizes
from tlqa_jax.models.features import FeatureClassifier, FeatureConfig
from tlqa_jax.models.word_vectors import CBOW, BagOfVectors, WordVectorsConfig
from tlqa_jax.text.wordpiece import WordPieceTokenizer

MODEL_TYPE = "tlqa"
TOKENIZER = WordPieceTokenizer
ARCHITECTURES: dict[str, type[nnx.Module]] = {
    "CBOW": CBOW, "BagOfVectors": BagOfVectors, "FeatureClassifier": FeatureClassifier,
}  # fmt: skip
Config = WordVectorsConfig | FeatureConfig


def rules(architecture: str, config: Config) -> dict[str, Rule]:
    """The rule of each parameter that the architecture can have."""
    return {
        "vectors/table": Rule("word_embeddings.weight"), "outputs/table": Rule("output_embeddings.weight"),
        "classifier/matrix": Rule("classifier.weight", 1), "classifier/bias": Rule("classifier.bias"),
    }  # fmt: skip


def config_from_json(
    architecture: str, values: dict[str, Any], where: Path
) -> tuple[Config, dict[str, Any]]:
    """The sizes in a `config.json`, and no further arguments."""
    kind = FeatureConfig if architecture == "FeatureClassifier" else WordVectorsConfig
    sizes = read_sizes(values, kind, where, without="id2label")
    return kind(**sizes, **labels_from_json(values, where)), {}


def config_to_json(model: CBOW | BagOfVectors | FeatureClassifier) -> dict[str, Any]:
    """A `config.json` from which `config_from_json` reads the same."""
    values = dataclasses.asdict(model.config)
    labels = values.pop("id2label")
    return values | ({} if isinstance(model, CBOW) else label_names(labels))


def empty_model(architecture: str, config: Config, names: set[str], **options: Any) -> nnx.Module:
    """The model with shapes in place of arrays."""
    options = {} if architecture == "FeatureClassifier" else options  # it has no dtype: it is float32
    return nnx.eval_shape(lambda: ARCHITECTURES[architecture](config, rngs=nnx.Rngs(0), **options))


def canonicalize(
    architecture: str, arrays: dict[str, np.ndarray], config: Config, where: Path | str
) -> dict[str, np.ndarray]:
    """The arrays: they have no other names."""
    return arrays


def as_class(architecture: str, stored_as: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays: a model of one class is not read as another."""
    return arrays


def to_hf(model: CBOW | BagOfVectors | FeatureClassifier, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays."""
    return arrays
