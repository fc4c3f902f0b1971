"""BERT with a head: for its two pretraining tasks, for the next token, for answer spans, for classification.

    model = BertForQuestionAnswering(config, rngs=rngs)             # with a new encoder
    model = BertForQuestionAnswering(encoder=encoder, rngs=rngs)    # with a pretrained encoder
    start, end = model(tokens, token_types=token_types, mask=mask, key=key)

Each returns what Transformers' model of that name returns, in the same order: logits. They are float32 even if the
encoder computes in bfloat16. `model.encoder` is the encoder.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tlqa_jax.core.dropout import dropout, split_keys
from tlqa_jax.core.precision import at_least_float32
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert, BertAttention, BertConfig
from tlqa_jax.models.layers import ACTIVATIONS, Embedding, LayerNorm, Linear, truncated_normal, zeros

Tokens = Int[Array, "B L"]
TokenTypes = Int[Array, "B L"] | None
Mask = Bool[Array, "B L"] | None
Positions = Int[Array, "B P"] | None

TASK_HEADS = ("encoder/pooler/", "span/", "classifier/")  # how the parameters of a fine-tuned model's head begin


class PretrainingLogits(NamedTuple):
    """`next_sentence`: class 0 = the second segment follows the first, 1 = it is a random one (Google's numbering)."""

    masked_lm: Float[Array, "B L V"]
    next_sentence: Float[Array, "B 2"]


class SpanLogits(NamedTuple):
    """For each token, whether the answer starts, or ends, there."""

    start: Float[Array, "B L"]
    end: Float[Array, "B L"]


class MaskedLMHead(nnx.Module):
    """A dense layer and a norm, then the product with the table of word embeddings, plus a bias."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.dense = new_linear(config, config.hidden_size, rngs)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = zeros(config.vocab_size)
        self.activation = config.hidden_act

    def __call__(self, x: Float[Array, "B P D"], words: Embedding) -> Float[Array, "B P V"]:
        return words.logits(self.norm(ACTIVATIONS[self.activation](self.dense(x))), self.bias)


class Head(nnx.Module):
    """What the models share: the encoder.

    Args:
        config: the sizes. With an `encoder`, its sizes by default; a config may then differ from the encoder's only in
            `id2label` and `classifier_dropout`.
        encoder: an encoder with parameters. None: a new one.
        rngs, dtype, attention: as for `Bert`. With an `encoder`, `dtype` and `attention` are the encoder's.
    """

    pooler = False  # whether the head uses `pooled`

    def __init__(
        self, config: BertConfig | None = None, *, encoder: Bert | None = None, rngs: nnx.Rngs,
        dtype=jnp.float32, attention: BertAttention = "plain",
    ):
        if encoder is None:
            if config is None:
                raise UserError(f"{type(self).__name__} needs a config, or an encoder to be built around")
            encoder = Bert(config, pooler=self.pooler, rngs=rngs, dtype=dtype, attention=attention)
        self.config = config = config or encoder.config
        own = replace(encoder.config, id2label=config.id2label, classifier_dropout=config.classifier_dropout)
        if own != config:
            raise UserError(
                f"{type(self).__name__}: the config has other sizes than the encoder: {config} and {encoder.config}"
            )
        self.encoder = encoder.with_pooler(rngs) if self.pooler else encoder


def new_linear(config: BertConfig, outputs: int, rngs: nnx.Rngs) -> Linear:
    return Linear(config.hidden_size, outputs, config.initializer_range, draw=truncated_normal, rngs=rngs)


class BertForMaskedLM(Head):
    """Masked language modelling: which token was masked?"""

    def __init__(self, config: BertConfig | None = None, *, rngs: nnx.Rngs, **options):
        super().__init__(config, rngs=rngs, **options)
        self.masked_lm = MaskedLMHead(self.config, rngs=rngs)

    def __call__(
        self, tokens: Tokens, *, positions: Positions = None, token_types: TokenTypes = None, mask: Mask = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B P V"]:
        """Logits at every position, [B L V], or only at `positions`, [B P V].

        The product with the vocabulary is most of a small model's work, and the loss needs 15% of it.
        """
        encoded = self.encoder(tokens, token_types=token_types, mask=mask, positions=positions, key=key)
        return self.masked_lm(encoded.last, self.encoder.embeddings.word)


class Prefix(NamedTuple):
    """Texts that are being generated: the prompts and what has been generated, and the lengths of the prompts."""

    tokens: Int[Array, "N S"]
    prompt: Int[Array, "N"]

    def of_rows(self, rows: Int[Array, "N"]) -> "Prefix":
        """The texts at `rows`, which continue."""
        return Prefix(self.tokens[rows], self.prompt[rows])


class BertLMHeadModel(Head):
    """Causal language modelling: which token comes next? By default a new encoder attends to the tokens before only.

    Its parameters are those of `BertForMaskedLM`, by the same names: one can be started from the other.

    The last three methods are what `inference.greedy` and `inference.beam_search` ask of a model. There is no cache of
    keys and values: each step computes the whole text again, so a text of n tokens costs n times its length.
    """

    def __init__(
        self, config: BertConfig | None = None, *, rngs: nnx.Rngs, attention: BertAttention = "causal", **options
    ):
        super().__init__(config, rngs=rngs, attention=attention, **options)
        self.masked_lm = MaskedLMHead(self.config, rngs=rngs)

    def __call__(
        self, tokens: Tokens, *, positions: Positions = None, token_types: TokenTypes = None, mask: Mask = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B P V"]:
        """At each position the logits of the token that follows it; `positions` as for `BertForMaskedLM`."""
        encoded = self.encoder(tokens, token_types=token_types, mask=mask, positions=positions, key=key)
        return self.masked_lm(encoded.last, self.encoder.embeddings.word)

    def encode(self, inputs: Tokens, *, input_mask: Bool[Array, "B L"]) -> Prefix:
        """The prompts, which stand at the beginning of their rows."""
        return Prefix(inputs, input_mask.sum(axis=1))

    def start_cache(self, encoded: Prefix, length: int, beams: int = 1) -> list[Prefix]:
        """`beams` copies of each prompt, with room for `length` more tokens."""
        tokens = jnp.pad(encoded.tokens, ((0, 0), (0, length)))
        return [Prefix(*(jnp.repeat(x, beams, axis=0) for x in (tokens, encoded.prompt)))]

    def decode_step(
        self, token: Int[Array, "N"], step: Int[Array, ""], cache: list[Prefix], *, input_mask: Mask = None
    ) -> tuple[Float[Array, "N V"], list[Prefix]]:
        """The logits after `token`, the one generated in the step before. In step 0 they are those after the prompt.

        What stands behind the last token does not count, as the attention is causal.
        """
        [(tokens, prompt)] = cache
        rows, last = jnp.arange(len(token)), prompt + step - 1
        tokens = tokens.at[rows, last].set(jnp.where(step > 0, token, tokens[rows, last]))
        return self(tokens, positions=last[:, None])[:, 0], [Prefix(tokens, prompt)]


class BertForPreTraining(Head):
    """Both of BERT's pretraining tasks: masked tokens, and whether the second segment follows the first."""

    pooler = True

    def __init__(self, config: BertConfig | None = None, *, rngs: nnx.Rngs, **options):
        super().__init__(config, rngs=rngs, **options)
        self.masked_lm = MaskedLMHead(self.config, rngs=rngs)
        self.next_sentence = new_linear(self.config, 2, rngs)

    def __call__(
        self, tokens: Tokens, *, positions: Positions = None, token_types: TokenTypes = None, mask: Mask = None,
        key: PRNGKeyArray | None = None,
    ) -> PretrainingLogits:
        """`positions` as for `BertForMaskedLM`."""
        if positions is not None:
            positions = jnp.pad(positions, ((0, 0), (1, 0)))  # plus the first token, for the second task
        encoded = self.encoder(tokens, token_types=token_types, mask=mask, positions=positions, key=key)
        x = encoded.last if positions is None else encoded.last[:, 1:]
        next_sentence = self.next_sentence(at_least_float32(encoded.pooled))
        return PretrainingLogits(self.masked_lm(x, self.encoder.embeddings.word), next_sentence)


class BertForQuestionAnswering(Head):
    """Extractive question answering: where does the answer start and end?"""

    def __init__(self, config: BertConfig | None = None, *, rngs: nnx.Rngs, **options):
        super().__init__(config, rngs=rngs, **options)
        self.span = new_linear(self.config, 2, rngs)

    def __call__(
        self, tokens: Tokens, *, token_types: TokenTypes = None, mask: Mask = None, key: PRNGKeyArray | None = None
    ) -> SpanLogits:
        """The logits of padding and of the question are included: the caller must exclude them."""
        encoded = self.encoder(tokens, token_types=token_types, mask=mask, key=key)
        logits = self.span(at_least_float32(encoded.last))
        return SpanLogits(logits[..., 0], logits[..., 1])


class BertForSequenceClassification(Head):
    """Classification: which of the classes `config.id2label` is it?"""

    pooler = True

    def __init__(self, config: BertConfig | None = None, *, rngs: nnx.Rngs, **options):
        super().__init__(config, rngs=rngs, **options)
        self.classifier = new_linear(self.config, self.config.num_labels, rngs)

    def __call__(
        self, tokens: Tokens, *, token_types: TokenTypes = None, mask: Mask = None, key: PRNGKeyArray | None = None
    ) -> Float[Array, "B labels"]:
        config, keys = self.config, split_keys(key, 2)
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        first = jnp.zeros_like(tokens[:, :1])  # the only position that `pooled` needs
        encoded = self.encoder(tokens, token_types=token_types, mask=mask, positions=first, key=keys[0])
        return self.classifier(at_least_float32(dropout(encoded.pooled, rate, keys[1])))
