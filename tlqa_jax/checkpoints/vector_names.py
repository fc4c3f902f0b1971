"""Word vectors and bags of vectors in our own directories: they have no class in Transformers (see `family.py`)."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.family import Rule, label_names, labels_from_json, read_sizes
from tlqa_jax.models.word_vectors import CBOW, BagOfVectors, WordVectorsConfig
from tlqa_jax.text.wordpiece import WordPieceTokenizer

MODEL_TYPE = "word-vectors"
TOKENIZER = WordPieceTokenizer
ARCHITECTURES: dict[str, type[nnx.Module]] = {"CBOW": CBOW, "BagOfVectors": BagOfVectors}


def rules(architecture: str, config: WordVectorsConfig) -> dict[str, Rule]:
    """The rule of each parameter that the architecture can have."""
    return {
        "vectors/table": Rule("word_embeddings.weight"), "outputs/table": Rule("output_embeddings.weight"),
        "classifier/matrix": Rule("classifier.weight", 1), "classifier/bias": Rule("classifier.bias"),
    }  # fmt: skip


def config_from_json(
    architecture: str, values: dict[str, Any], where: Path
) -> tuple[WordVectorsConfig, dict[str, Any]]:
    """The sizes in a `config.json`, and no further arguments."""
    sizes = read_sizes(values, WordVectorsConfig, where, without="id2label")
    return WordVectorsConfig(**sizes, **labels_from_json(values, where)), {}


def config_to_json(model: CBOW | BagOfVectors) -> dict[str, Any]:
    """A `config.json` from which `config_from_json` reads the same."""
    values = dataclasses.asdict(model.config)
    labels = values.pop("id2label")
    return values | (label_names(labels) if isinstance(model, BagOfVectors) else {})


def empty_model(architecture: str, config: WordVectorsConfig, names: set[str], **options: Any) -> nnx.Module:
    """The model with shapes in place of arrays."""
    return nnx.eval_shape(lambda: ARCHITECTURES[architecture](config, rngs=nnx.Rngs(0), **options))


def canonicalize(
    architecture: str, arrays: dict[str, np.ndarray], config: WordVectorsConfig, where: Path | str
) -> dict[str, np.ndarray]:
    """The arrays: they have no other names."""
    return arrays


def to_hf(model: CBOW | BagOfVectors, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays."""
    return arrays
