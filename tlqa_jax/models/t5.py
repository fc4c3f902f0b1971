"""T5: an encoder that reads text and a decoder that writes text (Raffel et al. 2020; 1.1: Shazeer 2020).

    logits = T5(config, rngs=nnx.Rngs(0))(inputs, targets_in)      # [B S], [B L] -> [B L V]

`targets_in` are the targets shifted right by one, with the pad id at the first position: see `shift_right`.

A row may hold several examples (`tasks.packing`). `input_segments` and `target_segments` then say which example each
token belongs to: 1, 2, ...; 0 is padding. Self-attention and cross-attention stay within a segment. The relative biases
need no change: they depend only on the difference of two positions, which does not depend on where in the row an
example stands. So each example gets the same logits as in a row of its own.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tlqa_jax.core.dropout import dropout, split_keys
from tlqa_jax.core.masks import causal_mask, segment_mask
from tlqa_jax.errors import UserError
from tlqa_jax.models.layers import (
    MOST_LAYERS, Attention, Embedding, FeedForward, RelativeBias, RMSNorm, normal, vocabulary_logits,
)  # fmt: skip


@dataclass(frozen=True)
class T5Config:
    """Sizes of a T5. The names are those of Hugging Face's `config.json`.

    T5 1.0 is `feed_forward_proj="relu", tie_word_embeddings=True`; T5 1.1 and Flan are `"gated-gelu", False`.
    """

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None  # None: as many as the encoder
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool | None = None  # by d_model**-0.5, before the logits; None: if tied
    pad_token_id: int = 0
    eos_token_id: int = 1
    decoder_start_token_id: int = 0

    def __post_init__(self):
        if self.feed_forward_proj not in ("relu", "gated-gelu"):
            raise UserError(
                f'feed_forward_proj is "{self.feed_forward_proj}"; known are "relu" (T5 1.0) and "gated-gelu" (1.1)'
            )
        sizes = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
        for name in sizes:
            size, most = getattr(self, name), MOST_LAYERS if "layers" in name else 2**31
            if size is not None and not 1 <= size <= most:
                raise UserError(f"{name} is {size:,}; it must be at {'least 1' if size < 1 else f'most {most:,}'}")
        ids = {name: getattr(self, name) for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")}
        if outside := [name for name, id in ids.items() if not 0 <= id < self.vocab_size]:
            raise UserError(f"{outside[0]} is {ids[outside[0]]}; the vocabulary has {self.vocab_size} ids, from 0 on")
        if not 0 <= self.dropout_rate < 1:
            raise UserError(f"dropout_rate is {self.dropout_rate}; it must be at least 0 and less than 1")
        buckets, distance = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4:
            raise UserError(f"relative_attention_num_buckets is {buckets}; it must be at least 4")
        if distance <= buckets // 2:
            half = f"it must be more than half of the {buckets} buckets"
            raise UserError(f"relative_attention_max_distance is {distance}; {half}")

    @property
    def decoder_layers(self) -> int:
        return self.num_layers if self.num_decoder_layers is None else self.num_decoder_layers

    @property
    def scales_outputs(self) -> bool:
        return self.tie_word_embeddings if self.scale_decoder_outputs is None else self.scale_decoder_outputs

    @classmethod
    def tiny(cls, **changes) -> "T5Config":
        """The quickstart's size: trained from random weights in minutes on a CPU."""
        return cls(**{**dict(vocab_size=2048, d_model=128, d_kv=16, d_ff=512, num_layers=2, num_heads=8), **changes})

    @classmethod
    def small(cls, **changes) -> "T5Config":
        """t5-small: 60 million parameters."""
        return cls(**changes)

    @classmethod
    def base(cls, **changes) -> "T5Config":
        """t5-base: 220 million parameters."""
        return cls(**{**dict(d_model=768, d_ff=3072, num_layers=12, num_heads=12), **changes})


class LayerCache(NamedTuple):
    """A decoder layer's keys and values: of the tokens so far (written one by one), and of the encoder's output.

    N is B if one text is generated for each input, and B * W in a beam search with W beams.
    """

    self_key: Float[Array, "N H T K"]
    self_value: Float[Array, "N H T K"]
    cross_key: Float[Array, "B H S K"]
    cross_value: Float[Array, "B H S K"]

    def of_rows(self, rows: Int[Array, "N"]) -> "LayerCache":
        """The cache of the texts at `rows`, which continue. A text's input stays the same."""
        return self._replace(self_key=self.self_key[rows], self_value=self.self_value[rows])


def shift_right(
    targets: Int[Array, "B L"], start_id: int = 0, *, segments: Int[Array, "B L"] | None = None
) -> Int[Array, "B L"]:
    """The decoder's input: at position i the target before it, at position 0 the start id (T5's is the pad id).

    With `segments`, the first position of every segment has the start id.
    """
    right = partial(jnp.pad, pad_width=((0, 0), (1, 0)), constant_values=start_id)
    shifted = right(targets[:, :-1])
    return shifted if segments is None else jnp.where(segments == right(segments[:, :-1]), shifted, start_id)


def segment_and_key_mask(
    key_mask: Bool[Array, "B S"] | None, queries: Int[Array, "B L"] | None, keys: Int[Array, "B S"] | None
) -> Bool[Array, "B 1 #L S"] | None:
    """Which keys a query may attend to: those that are real (`key_mask`) and in its own segment. None: all."""
    if (queries is None) != (keys is None):
        raise ValueError("input_segments and target_segments go together: one is given and one is not")
    mask = None if key_mask is None else key_mask[:, None, None, :]
    if queries is None:
        return mask
    same = segment_mask(queries, keys)[:, None]
    return same if mask is None else same & mask


def new_attention(config: T5Config, rngs: nnx.Rngs) -> Attention:
    width, head_size, inner = config.d_model, config.d_kv, config.num_heads * config.d_kv
    factor = config.initializer_factor
    # no 1/sqrt(K) on the scores: it is in the initialiser of the query, whose deviation is K**-0.5 times the key's
    deviations = (
        factor * (width * head_size) ** -0.5, factor * width**-0.5, factor * width**-0.5, factor * inner**-0.5,
    )
    return Attention(
        width, config.num_heads, head_size, scale=1.0, deviations=deviations, dropout_rate=config.dropout_rate,
        rngs=rngs,
    )


def new_feed_forward(config: T5Config, rngs: nnx.Rngs) -> FeedForward:
    factor = config.initializer_factor
    return FeedForward(
        config.d_model, config.d_ff, gated=config.feed_forward_proj == "gated-gelu",
        deviations=(factor * config.d_model**-0.5, factor * config.d_ff**-0.5),
        dropout_rate=config.dropout_rate, rngs=rngs,
    )


def new_relative_bias(config: T5Config, *, bidirectional: bool, rngs: nnx.Rngs) -> RelativeBias:
    return RelativeBias(
        config.num_heads, config.relative_attention_num_buckets, config.relative_attention_max_distance,
        config.initializer_factor * config.d_model**-0.5, bidirectional=bidirectional, rngs=rngs,
    )


class EncoderLayer(nnx.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): the norm is before each part, in BERT it is after it."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.attention = new_attention(config, rngs)
        self.feed_forward_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.feed_forward = new_feed_forward(config, rngs)
        self.dropout_rate = config.dropout_rate

    def __call__(self, x: Float[Array, "B S D"], *, bias, mask, key: PRNGKeyArray | None) -> Float[Array, "B S D"]:
        keys = split_keys(key, 4)
        normed = self.attention_norm(x)
        attended = self.attention(normed, self.attention.keys_values(normed), bias=bias, mask=mask, key=keys[0])
        x = x + dropout(attended, self.dropout_rate, keys[1])
        transformed = self.feed_forward(self.feed_forward_norm(x), key=keys[2])
        return x + dropout(transformed, self.dropout_rate, keys[3])


class DecoderLayer(nnx.Module):
    """As the encoder's layer, with attention to the encoder's output between the two parts."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        self.self_attention_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.self_attention = new_attention(config, rngs)
        self.cross_attention_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.cross_attention = new_attention(config, rngs)
        self.feed_forward_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.feed_forward = new_feed_forward(config, rngs)
        self.dropout_rate = config.dropout_rate

    def __call__(
        self, x: Float[Array, "B L D"], cross_keys_values, *, bias, self_mask, cross_mask,
        key: PRNGKeyArray | None = None, past=None, step: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "B L D"], tuple[Array, Array]]:
        """The layer's output, and the keys and values of its self-attention.

        Without `past` they are those of the input. In generation (L = 1) they are `past`, [N H T K] each, with those of
        the input written at position `step`.
        """
        keys = split_keys(key, 6)
        normed = self.self_attention_norm(x)
        keys_values = self.self_attention.keys_values(normed)
        if past is not None:
            write = partial(jax.lax.dynamic_update_slice_in_dim, start_index=step, axis=2)
            keys_values = tuple(write(old, new) for old, new in zip(past, keys_values))
        attended = self.self_attention(normed, keys_values, bias=bias, mask=self_mask, key=keys[0])
        x = x + dropout(attended, self.dropout_rate, keys[1])
        texts = x.shape
        x = x.reshape(cross_keys_values[0].shape[0], -1, texts[-1])  # all beams of one input at once
        attended = self.cross_attention(self.cross_attention_norm(x), cross_keys_values, mask=cross_mask, key=keys[2])
        x = (x + dropout(attended, self.dropout_rate, keys[3])).reshape(texts)
        transformed = self.feed_forward(self.feed_forward_norm(x), key=keys[4])
        return x + dropout(transformed, self.dropout_rate, keys[5]), keys_values


class T5Encoder(nnx.Module):
    """T5's encoder alone, for models that are built on its output.

        encoded = T5Encoder(config, rngs=nnx.Rngs(0))(inputs, input_mask=mask)        # [B S] -> [B S D]

    It holds parameters and nothing else; the dropout key is an argument.

    Args:
        config: the sizes. Those of the decoder are not used.
        rngs: seeds the initial parameters, which follow the paper's code (see `new_attention`, `new_feed_forward`).
        dtype: of the computation, float32 or bfloat16; parameters and logits are float32. float16 is refused.
    """

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs, dtype=jnp.float32):
        if jnp.dtype(dtype) == jnp.float16:
            raise UserError("T5 overflows in float16 (its feed-forward exceeds 65,504): use bfloat16 or float32")
        self.config, self.dtype = config, dtype
        self.embedding = Embedding(config.vocab_size, config.d_model, config.initializer_factor, rngs=rngs)
        self.encoder_bias = new_relative_bias(config, bidirectional=True, rngs=rngs)
        for i in range(config.num_layers):
            setattr(self, f"encoder_{i}", EncoderLayer(config, rngs=rngs))
        self.encoder_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)

    @property
    def encoder_layers(self) -> list[EncoderLayer]:
        return [getattr(self, f"encoder_{i}") for i in range(self.config.num_layers)]

    def encode(
        self, inputs: Int[Array, "B S"], *, input_mask: Bool[Array, "B S"] | None = None,
        input_segments: Int[Array, "B S"] | None = None, key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B S D"]:  # fmt: skip
        """The encoder's output. Every position attends to all positions of its segment except padding."""
        return self.hidden_states(inputs, input_mask=input_mask, input_segments=input_segments, key=key)[-1]

    __call__ = encode

    def hidden_states(
        self, inputs: Int[Array, "B S"], *, input_mask: Bool[Array, "B S"] | None = None,
        input_segments: Int[Array, "B S"] | None = None, key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "B S D"], ...]:  # fmt: skip
        """The embeddings and the output of every layer; that of the last is normed, as in Transformers."""
        rate, keys = self.config.dropout_rate, split_keys(key, self.config.num_layers + 2)
        position = jnp.arange(inputs.shape[1])
        bias = self.encoder_bias(position, position)  # one bias, shared by all layers
        mask = segment_and_key_mask(input_mask, input_segments, input_segments)
        states = [dropout(self.embedding(inputs, self.dtype), rate, keys[-1])]
        for layer, layer_key in zip(self.encoder_layers, keys):
            states.append(layer(states[-1], bias=bias, mask=mask, key=layer_key))
        return (*states[:-1], dropout(self.encoder_norm(states[-1]), rate, keys[-2]))


class T5(T5Encoder):
    """The whole model: the encoder, and a decoder that attends to its output. Arguments as for `T5Encoder`.

    Caches, like dropout keys, are arguments.
    """

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs, dtype=jnp.float32):
        super().__init__(config, rngs=rngs, dtype=dtype)
        self.decoder_bias = new_relative_bias(config, bidirectional=False, rngs=rngs)
        for i in range(config.decoder_layers):
            setattr(self, f"decoder_{i}", DecoderLayer(config, rngs=rngs))
        self.decoder_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        # T5X's fan-in deviation; Transformers draws the untied matrix with deviation `initializer_factor`
        self.output = None if config.tie_word_embeddings else normal(
            rngs, (config.d_model, config.vocab_size), config.initializer_factor * config.d_model**-0.5
        )

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        return [getattr(self, f"decoder_{i}") for i in range(self.config.decoder_layers)]

    def __call__(
        self,
        inputs: Int[Array, "B S"],
        targets_in: Int[Array, "B L"],
        *,
        input_mask: Bool[Array, "B S"] | None = None,
        target_mask: Bool[Array, "B L"] | None = None,
        input_segments: Int[Array, "B S"] | None = None,
        target_segments: Int[Array, "B L"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B L V"]:
        """Logits of each next target token.

        Args:
            input_mask, target_mask: True = a real token. None: all are.
            input_segments, target_segments: both, if rows hold several examples (see above), or none.
            key: for dropout. None: no dropout.
        """
        encoder_key, decoder_key = split_keys(key, 2)
        encoded = self.encode(inputs, input_mask=input_mask, input_segments=input_segments, key=encoder_key)
        return self.decode(
            targets_in, encoded, input_mask=input_mask, target_mask=target_mask,
            input_segments=input_segments, target_segments=target_segments, key=decoder_key,
        )

    def decode(
        self,
        targets_in: Int[Array, "B L"],
        encoded: Float[Array, "B S D"],
        *,
        input_mask: Bool[Array, "B S"] | None = None,
        target_mask: Bool[Array, "B L"] | None = None,
        input_segments: Int[Array, "B S"] | None = None,
        target_segments: Int[Array, "B L"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B L V"]:
        """Position i attends to the targets 0..i and to the whole encoder output, within its segment."""
        rate, keys = self.config.dropout_rate, split_keys(key, self.config.decoder_layers + 2)
        position = jnp.arange(targets_in.shape[1])
        bias = self.decoder_bias(position, position)
        self_mask = causal_mask(targets_in.shape[1])[None, None]
        if (of_targets := segment_and_key_mask(target_mask, target_segments, target_segments)) is not None:
            self_mask = self_mask & of_targets
        cross_mask = segment_and_key_mask(input_mask, target_segments, input_segments)
        x = dropout(self.embedding(targets_in, self.dtype), rate, keys[-1])
        for layer, layer_key in zip(self.decoder_layers, keys):
            cross = layer.cross_attention.keys_values(encoded)
            x, _ = layer(x, cross, bias=bias, self_mask=self_mask, cross_mask=cross_mask, key=layer_key)
        return self.logits(dropout(self.decoder_norm(x), rate, keys[-2]))

    def logits(self, x: Float[Array, "B L D"]) -> Float[Array, "B L V"]:
        """The decoder's output times the output matrix, in float32 at least."""
        if self.config.scales_outputs:
            x = x * self.config.d_model**-0.5  # the embedding's deviation is 1: scale it back
        if self.output is None:
            return self.embedding.logits(x)
        return vocabulary_logits("nd,dv->nv", x, self.output[...])

    def start_cache(self, encoded: Float[Array, "B S D"], length: int, beams: int = 1) -> list[LayerCache]:
        """Caches for `length` tokens, one a layer. The keys and values of the encoder's output are computed here, once.

        `beams` is the number of texts that are generated for each input.
        """
        shape = (encoded.shape[0] * beams, self.config.num_heads, length, self.config.d_kv)
        empty = jnp.zeros(shape, encoded.dtype)
        return [LayerCache(empty, empty, *layer.cross_attention.keys_values(encoded)) for layer in self.decoder_layers]

    def decode_step(
        self,
        token: Int[Array, "N"],
        step: Int[Array, ""],
        cache: list[LayerCache],
        *,
        input_mask: Bool[Array, "B S"] | None = None,
    ) -> tuple[Float[Array, "N V"], list[LayerCache]]:
        """The logits after one more token, which is at position `step`, and the caches with that token."""
        position = jnp.arange(cache[0].self_key.shape[2])
        bias = self.decoder_bias(step[None], position)
        self_mask = (position <= step)[None, None, None, :]
        cross_mask = None if input_mask is None else input_mask[:, None, None, :]
        x = self.embedding(token[:, None], self.dtype)
        new_cache = []
        for layer, old in zip(self.decoder_layers, cache):
            x, (self_key, self_value) = layer(
                x, (old.cross_key, old.cross_value), bias=bias, self_mask=self_mask, cross_mask=cross_mask,
                past=(old.self_key, old.self_value), step=step,
            )
            new_cache.append(old._replace(self_key=self_key, self_value=self_value))
        return self.logits(self.decoder_norm(x))[:, 0], new_cache
