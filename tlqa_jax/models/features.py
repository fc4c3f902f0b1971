"""Features of a text from the hidden states of a frozen encoder, and the small head that is trained on them.

Devlin et al. 2019, section 5.3: the last layer, or the last four side by side, come close to fine-tuning the whole BERT.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tlqa_jax.core.dropout import dropout
from tlqa_jax.errors import UserError
from tlqa_jax.models.layers import Linear
from tlqa_jax.models.word_vectors import masked_mean

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class FeatureConfig:
    """What the features are of (`base` is a run, a directory or a hub name), and the head's classes."""

    base: str
    fingerprint: str  # of the base's weights
    layers: str  # their numbers: "9,10,11,12"; 0 is the embeddings
    pooling: str
    hidden_size: int  # F, of all these layers together
    hidden_dropout_prob: float = 0.0  # of the features
    id2label: Sequence[str] = ("LABEL_0", "LABEL_1")

    def __post_init__(self):
        object.__setattr__(self, "id2label", tuple(self.id2label))  # JSON has lists


def layer_numbers(layers: Sequence[str], count: int) -> list[int]:
    """The numbers meant by "last", "last:4" or numbers, of an encoder with `count` layers. Raises UserError for others."""
    if len(layers) == 1 and layers[0].split(":")[0] == "last":
        wanted = layers[0].removeprefix("last").removeprefix(":") or "1"
        if wanted.isdecimal() and 1 <= int(wanted) <= count:
            return list(range(count + 1 - int(wanted), count + 1))
    elif layers and all(layer.isdecimal() and int(layer) <= count for layer in layers):
        return [int(layer) for layer in layers]
    raise UserError(f"--layers {','.join(layers)}: give last, last:N, or numbers from 0 (the embeddings) to {count}")


def pool(
    hidden_states: Sequence[Float[Array, "B L D"]], mask: Bool[Array, "B L"], layers: Sequence[int], pooling: Pooling
) -> Float[Array, "B F"]:
    """The states of these layers side by side: the mean over the tokens (mask True), or that of the first token."""
    chosen = jnp.concatenate([hidden_states[layer] for layer in layers], axis=-1)
    return chosen[:, 0].astype(jnp.float32) if pooling == "cls" else masked_mean(chosen, mask)


class FeatureClassifier(nnx.Module):
    """The head: one matrix from features to classes. Parameters are float32, and so is the computation."""

    def __init__(self, config: FeatureConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.classifier = Linear(config.hidden_size, len(config.id2label), config.hidden_size**-0.5, rngs=rngs)

    def __call__(self, features: Float[Array, "B F"], *, key: PRNGKeyArray | None = None) -> Float[Array, "B labels"]:
        """The logits of the classes. `key` is for dropout; None: no dropout."""
        return self.classifier(dropout(features, self.config.hidden_dropout_prob, key))
