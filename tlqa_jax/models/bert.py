"""BERT: an encoder in which every token attends to all tokens, before it and after it (Devlin et al. 2019).

    encoded = Bert(config, rngs=nnx.Rngs(0))(tokens, token_types=token_types, mask=mask)
    encoded.last, encoded.pooled, encoded.hidden_states     # [B L D], [B D], the embeddings and every layer's output

The models that are pretrained and fine-tuned are in `bert_heads`: each is such an encoder with a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tlqa_jax.core.dropout import dropout, split_keys
from tlqa_jax.errors import UserError
from tlqa_jax.models.layers import (
    ACTIVATIONS,
    MOST_LAYERS,
    Attention,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    broadcast_and_cast,
    truncated_normal,
)

BertAttention = Literal["plain", "causal"]


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT. The names are those of Hugging Face's `config.json`, the defaults those of bert-base-uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    classifier_dropout: float | None = None  # None: as hidden_dropout_prob
    id2label: Sequence[str] = ("LABEL_0", "LABEL_1")  # names of a classifier's classes

    def __post_init__(self):
        object.__setattr__(self, "id2label", tuple(self.id2label))  # JSON has lists
        sizes = (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "max_position_embeddings", "type_vocab_size",
        )
        for name in sizes:
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_hidden_layers > MOST_LAYERS:
            raise UserError(f"num_hidden_layers is {self.num_hidden_layers:,}; it must be at most {MOST_LAYERS:,}")
        if not 0 <= self.pad_token_id < self.vocab_size:
            last = self.vocab_size - 1
            raise UserError(f"pad_token_id is {self.pad_token_id}; the vocabulary has ids from 0 to {last}")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            if not 0 <= (getattr(self, name) or 0.0) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 0 and less than 1")
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size is {self.hidden_size}; num_attention_heads {self.num_attention_heads} must divide it"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise UserError(f'hidden_act is "{self.hidden_act}"; known are {", ".join(ACTIVATIONS)}')
        if not self.id2label:
            raise UserError("id2label is empty; a classifier needs labels")

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    @classmethod
    def tiny(cls, **changes) -> "BertConfig":
        """2 layers of width 128. This and the next two are sizes of Turc et al. 2019."""
        return cls._sized(128, 2, **changes)

    @classmethod
    def mini(cls, **changes) -> "BertConfig":
        """4 layers of width 256."""
        return cls._sized(256, 4, **changes)

    @classmethod
    def small(cls, **changes) -> "BertConfig":
        """4 layers of width 512."""
        return cls._sized(512, 4, **changes)

    @classmethod
    def base(cls, **changes) -> "BertConfig":
        """bert-base-uncased: 109 million parameters."""
        return cls._sized(768, 12, **changes)

    @classmethod
    def large(cls, **changes) -> "BertConfig":
        """bert-large-uncased: 335 million parameters."""
        return cls._sized(1024, 24, **changes)

    @classmethod
    def _sized(cls, width: int, layers: int, **changes) -> "BertConfig":
        sizes = dict(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
        )
        return cls(**{**sizes, **changes})


class EncoderOutput(NamedTuple):
    """In Transformers' order. `hidden_states` are the embeddings and the output of every layer, including the last."""

    last: Float[Array, "B L D"]  # [B P D] if `positions` are given
    pooled: Float[Array, "B D"] | None  # None from an encoder without a pooler
    hidden_states: tuple[Float[Array, "B _ D"], ...]


class BertEmbeddings(nnx.Module):
    """LayerNorm of the sum of three embeddings: of the token, of its position, and of its segment (`token_types`)."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        table = lambda rows: Embedding(
            rows, config.hidden_size, config.initializer_range, draw=truncated_normal, rngs=rngs
        )
        self.word = table(config.vocab_size)
        self.position = table(config.max_position_embeddings)
        self.token_type = table(config.type_vocab_size)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(
        self, tokens: Int[Array, "B L"], token_types: Int[Array, "B L"], dtype, key: PRNGKeyArray | None
    ) -> Float[Array, "B L D"]:
        length, longest = tokens.shape[1], self.position.table[...].shape[0]
        if length > longest:
            raise UserError(f"{length} tokens in a row; this BERT has only max_position_embeddings = {longest}")
        if self.token_type.table[...].shape[0] == 1:  # then all types are 0
            token_types = jnp.zeros_like(token_types)
        words = self.word(tokens, dtype)
        positions = broadcast_and_cast(self.position.table[:length], words.shape, dtype)
        x = words + positions + self.token_type(token_types, dtype)
        return dropout(self.norm(x), self.dropout_rate, key)


class BertLayer(nnx.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)): the norm is after each part, in T5 it is before it."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width, heads, deviation = config.hidden_size, config.num_attention_heads, config.initializer_range
        self.attention = Attention(
            width, heads, width // heads, scale=(width // heads) ** -0.5, deviations=(deviation,) * 4,
            dropout_rate=config.attention_probs_dropout_prob, biases=True, draw=truncated_normal, rngs=rngs,
        )
        self.attention_norm = LayerNorm(width, config.layer_norm_eps)
        self.feed_forward = FeedForward(
            width, config.intermediate_size, gated=False, deviations=(deviation,) * 2, dropout_rate=0.0,
            activation=config.hidden_act, biases=True, draw=truncated_normal, rngs=rngs,
        )
        self.feed_forward_norm = LayerNorm(width, config.layer_norm_eps)
        self.dropout_rate = config.hidden_dropout_prob

    def __call__(
        self, x: Float[Array, "B L D"], *, mask: Bool[Array, "#B 1 #P L"] | None, key: PRNGKeyArray | None,
        positions: Int[Array, "B P"] | None = None,
    ) -> Float[Array, "B P D"]:
        """The output at every position, or only at `positions`. Keys and values are those of all positions."""
        keys, keys_values = split_keys(key, 3), self.attention.keys_values(x)
        if positions is not None:
            x = jnp.take_along_axis(x, positions[..., None], axis=1)
        attended = self.attention(x, keys_values, mask=mask, key=keys[0])
        x = self.attention_norm(x + dropout(attended, self.dropout_rate, keys[1]))
        return self.feed_forward_norm(x + dropout(self.feed_forward(x), self.dropout_rate, keys[2]))


class Bert(nnx.Module):
    """The encoder. It holds parameters and nothing else; the dropout key is an argument.

    Args:
        config: the sizes.
        pooler: whether it has the layer that computes `pooled` from the first token, for classification and
            next-sentence prediction.
        rngs: seeds the initial parameters: truncated normal with deviation `initializer_range`; scales are 1, biases 0.
        dtype: of the computation, float32 or bfloat16; parameters are float32. float16 is refused.
        attention: "plain": every token attends to all tokens except padding. "causal": only to itself and those before.
    """

    pooler = None  # on the class: nnx allows no module in an instance's attribute that was None before

    def __init__(
        self, config: BertConfig, *, pooler: bool = True, rngs: nnx.Rngs, dtype=jnp.float32,
        attention: BertAttention = "plain",
    ):
        if jnp.dtype(dtype) == jnp.float16:
            raise UserError("small gradients vanish in float16 (nothing below 6e-8): use bfloat16 or float32")
        if attention not in get_args(BertAttention):
            raise UserError(f"attention is {attention!r}; known are {', '.join(get_args(BertAttention))}")
        self.config, self.dtype, self.causal = config, dtype, attention == "causal"
        self.embeddings = BertEmbeddings(config, rngs=rngs)
        for i in range(config.num_hidden_layers):
            setattr(self, f"layer_{i}", BertLayer(config, rngs=rngs))
        if pooler:
            self._add_pooler(rngs)

    def _add_pooler(self, rngs: nnx.Rngs) -> None:
        width = self.config.hidden_size
        self.pooler = Linear(width, width, self.config.initializer_range, draw=truncated_normal, rngs=rngs)

    def with_pooler(self, rngs: nnx.Rngs) -> "Bert":
        """This encoder if it has a pooler, else a copy with the same parameters and a new pooler."""
        if self.pooler is not None:
            return self
        copy = nnx.merge(*nnx.split(self))
        copy._add_pooler(rngs)
        return copy

    @property
    def layers(self) -> list[BertLayer]:
        return [getattr(self, f"layer_{i}") for i in range(self.config.num_hidden_layers)]

    def __call__(
        self,
        tokens: Int[Array, "B L"],
        *,
        token_types: Int[Array, "B L"] | None = None,
        mask: Bool[Array, "B L"] | None = None,
        positions: Int[Array, "B P"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> EncoderOutput:
        """The contextual embedding of each token.

        Args:
            token_types: 0 in the first segment, 1 in the second. None: all 0.
            mask: True = a real token. None: all are.
            positions: compute `last` only at these positions, which saves most of the last layer. `pooled` is then
                computed from the first of them. None: all.
            key: for dropout. None: no dropout.

        Raises UserError if the rows are longer than `max_position_embeddings`.
        """
        keys = split_keys(key, self.config.num_hidden_layers + 1)
        if token_types is None:
            token_types = jnp.zeros_like(tokens)
        x = self.embeddings(tokens, token_types, self.dtype, keys[-1])
        hidden_states = [x]
        *lower, (layer, layer_key) = zip(self.layers, keys)
        for lower_layer, lower_key in lower:
            x = lower_layer(x, mask=self._attention_mask(mask, tokens.shape[1]), key=lower_key)
            hidden_states.append(x)
        last = layer(x, mask=self._attention_mask(mask, tokens.shape[1], positions), key=layer_key, positions=positions)
        pooled = None if self.pooler is None else jnp.tanh(self.pooler(last[:, 0]))
        return EncoderOutput(last, pooled, (*hidden_states, last))

    def _attention_mask(
        self, mask: Bool[Array, "B L"] | None, length: int, positions: Int[Array, "B P"] | None = None
    ) -> Bool[Array, "#B 1 #P L"] | None:
        """Which keys (the last axis) each query may attend to. Queries are at `positions`. None: at all positions."""
        may_attend = None if mask is None else mask[:, None, None, :]
        if self.causal:
            queries = jnp.arange(length)[None] if positions is None else positions
            earlier = (queries[:, :, None] >= jnp.arange(length)[None, None])[:, None]
            may_attend = earlier if may_attend is None else earlier & may_attend
        return may_attend
