"""What the tests of this room share: small models with random parameters, and directories to change."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.weights import read_safetensors, write_safetensors
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5Config

BERT = BertConfig(
    vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=3, intermediate_size=11,
    max_position_embeddings=9, id2label=("no", "yes", "perhaps"),
)  # fmt: skip
V10 = T5Config(vocab_size=13, d_model=6, d_kv=5, d_ff=11, num_layers=1, num_decoder_layers=2, num_heads=3)
V11 = T5Config(**{**vars(V10), "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "cat", "Cat"]


@cache
def random_model(kind: type[nnx.Module], config: BertConfig | T5Config = BERT, **options: Any) -> nnx.Module:
    model, random = nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0), **options)), np.random.default_rng(0)
    empty = as_function(model)[1]
    return as_module(model, jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), empty))


def assert_same(one: nnx.Module, other: nnx.Module) -> None:
    """The same class and sizes, and parameters equal to the bit."""
    assert type(one) is type(other)
    (_, one), (_, other) = as_function(one), as_function(other)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)))


def set_config(folder: Path, **changes: Any) -> None:
    """Change entries of `config.json`; ... removes one."""
    file = folder / "config.json"
    values = {k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not ...}
    file.write_text(json.dumps(values))


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    return read_safetensors(folder / "model.safetensors")


def change_arrays(folder: Path, function) -> None:
    write_safetensors(folder / "model.safetensors", function(read_arrays(folder)))
