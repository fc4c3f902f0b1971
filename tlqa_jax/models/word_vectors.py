"""Word vectors: CBOW (Mikolov et al. 2013), and the simplest classifier that can be built on them, a bag of vectors.

    the miller [sold] flour to      mean of the vectors of the words around, times the output vector of
                                        sold      -> to be large
                                        harp      -> to be small: a negative sample

Each word has two vectors: one as a neighbour, which is kept and used afterwards, and one as the word to predict. The full
softmax over the vocabulary is replaced by a few such yes-or-no questions (negative sampling).

B is the number of rows, C of neighbours, K of candidates, D the width, V the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tlqa_jax.core.dropout import dropout
from tlqa_jax.core.precision import at_least_float32
from tlqa_jax.errors import UserError
from tlqa_jax.models.layers import Embedding, Linear


@dataclass(frozen=True)
class WordVectorsConfig:
    """Sizes of word vectors and of a bag of vectors. The names are those of a BERT's `config.json`."""

    vocab_size: int
    hidden_size: int = 128  # D
    pad_token_id: int = 0
    hidden_dropout_prob: float = 0.0  # of the bag's mean vector
    id2label: Sequence[str] = ("LABEL_0", "LABEL_1")  # names of the bag's classes

    def __post_init__(self):
        object.__setattr__(self, "id2label", tuple(self.id2label))  # JSON has lists


def masked_mean(vectors: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B D"]:
    """The mean of each row's vectors where the mask is True, in float32 at least; 0 if it is True nowhere."""
    weights = mask.astype(jnp.float32)[..., None]
    total = (at_least_float32(vectors) * weights).sum(axis=1)
    return total / jnp.maximum(weights.sum(axis=1), 1.0)


class CBOW(nnx.Module):
    """Continuous bag of words: the mean of the neighbours' vectors scores the words that may be between them.

    The first vectors are small random numbers, the output vectors 0, as in the authors' program. `dtype` is of the
    products; parameters are float32.
    """

    def __init__(self, config: WordVectorsConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        if jnp.dtype(dtype) == jnp.float16:
            raise UserError("small gradients vanish in float16 (nothing below 6e-8): use bfloat16 or float32")
        self.config, self.dtype = config, dtype
        self.vectors = Embedding(config.vocab_size, config.hidden_size, 0.3 / config.hidden_size, rngs=rngs)
        self.outputs = Embedding(config.vocab_size, config.hidden_size, 0.0, rngs=rngs)

    def __call__(
        self, context: Int[Array, "B C"], candidates: Int[Array, "B K"], *, mask: Bool[Array, "B C"]
    ) -> Float[Array, "B K"]:
        """The score of each candidate: the logit of "this word is here". The mask is True for neighbours that count."""
        mean = masked_mean(self.vectors(context), mask).astype(self.dtype)
        return jnp.einsum("bd,bkd->bk", mean, self.outputs(candidates, self.dtype), preferred_element_type=jnp.float32)


class BagOfVectors(nnx.Module):
    """A classifier that knows no order: the mean of a text's vectors, and one matrix. [CLS] and [SEP] are tokens too."""

    def __init__(self, config: WordVectorsConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.config, self.dtype = config, dtype
        self.vectors = Embedding(config.vocab_size, config.hidden_size, 0.3 / config.hidden_size, rngs=rngs)
        self.classifier = Linear(config.hidden_size, len(config.id2label), config.hidden_size**-0.5, rngs=rngs)

    def __call__(
        self, tokens: Int[Array, "B L"], *, mask: Bool[Array, "B L"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "B labels"]:
        """The logits of the classes. `key` is for dropout of the mean vector; None: no dropout."""
        mean = masked_mean(self.vectors(tokens, self.dtype), mask)
        return self.classifier(dropout(mean, self.config.hidden_dropout_prob, key))
