"""The checks of lesson 7's embeddings and of its whole encoder, beside the package's own BERT.

The values that a check compares with do not depend on the learner: they are computed once.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.core.masks import causal_mask
from tlqa_jax.lessons.checks import NotYet, compare, filled
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.functional import Params, as_function, as_module

TOKENS: Int[np.ndarray, "L"] = np.array([2, 7, 3, 9, 7, 0])
TYPES: Int[np.ndarray, "L"] = np.array([0, 0, 0, 1, 1, 0])
MAY_SEE: Bool[np.ndarray, "L L"] = np.tile(TOKENS > 0, (len(TOKENS), 1))  # the last one is padding


@cache
def small_bert() -> tuple[Bert, Params]:
    """A BERT of tiny odd sizes whose random parameters all matter."""
    config = BertConfig(
        vocab_size=11, hidden_size=6, num_hidden_layers=3, num_attention_heads=3, intermediate_size=10,
        max_position_embeddings=9,
    )  # fmt: skip
    empty, rng = Bert(config, rngs=nnx.Rngs(0)), np.random.default_rng(7)
    draw = lambda x: jnp.array((x.ndim == 1) + 0.7 * rng.standard_normal(x.shape), jnp.float32)
    params = jax.tree.map(draw, as_function(empty)[1])
    return as_module(empty, params), params


def as_batch(row: np.ndarray) -> Array:
    """The package takes batches, and here is one row."""
    return jnp.array(row)[None]


def embed(embed: Callable[..., Float[Array, "L D"]]) -> None:
    """`embed(p, tokens [L], token_types [L])` -> [L D]; `p` are the parameters of the package's BertEmbeddings."""
    compare("embed", embed(small_bert()[1]["embeddings"], TOKENS, TYPES), *_embed(), tolerance=1e-4)


@cache
def _embed() -> tuple[Array, dict[str, Array]]:
    part = small_bert()[0].embeddings
    norm = lambda x: part.norm(x[None])[0]
    word, position, token_type = (x.table[...] for x in (part.word, part.position, part.token_type))
    w, p, t, L = word[TOKENS], position[: len(TOKENS)], token_type[TYPES], len(TOKENS)
    x = w + p + t
    place = jnp.arange(L, dtype=jnp.float32)[:, None]
    centred = x - x.mean(axis=-1, keepdims=True)
    return part(as_batch(TOKENS), as_batch(TYPES), jnp.float32, None)[0], {
        "the norm is missing: it comes after the sum.": x,
        "the positions are missing: attention would not know the order of the words.": norm(w + t),
        "the token types are missing: nothing would tell the question from the passage.": norm(w + p),
        "these are the words alone. Add the vectors of their positions and of their token types.": norm(w),
        "you looked positions up by the ids of the tokens. A row of that table belongs to a *place*: 0, 1, 2, ...":
            norm(w + position[np.minimum(TOKENS, 8)] + t),
        "your positions begin at 1. BERT's first token has row 0.": norm(w + position[1 : L + 1] + t),
        "your positions begin at 2, as RoBERTa's do. BERT's first token has row 0.": norm(w + position[2 : L + 2] + t),
        "your positions begin anew in the second text. They count through; the token type tells the texts apart.":
            norm(w + position[np.array([0, 1, 2, 0, 1, 2])] + t),
        "these are the last rows of the table of positions. Wanted are the first L.": norm(w + position[-L:] + t),
        "every token has the vector of position 0.": norm(w + position[:1] + t),
        "you added the numbers of the positions. Each position has a vector, a row of its table.": norm(w + place + t),
        "all tokens have type 0: the argument says which is which.": norm(w + p + token_type[:1]),
        "all tokens have type 1: the argument says which is which.": norm(w + p + token_type[1:]),
        "the two token types are exchanged.": norm(w + p + token_type[1 - TYPES]),
        "you added the numbers of the token types. Each type has a vector, a row of its table.":
            norm(w + p + jnp.array(TYPES, jnp.float32)[:, None]),
        "only the words are normed. The sum comes first, then the norm.": norm(w) + p + t,
        "the token types are added after the norm. The sum of all three comes first.": norm(w + p) + t,
        "the positions are added after the norm. The sum of all three comes first.": norm(w + t) + p,
        "each of the three is normed by itself. The sum comes first, then one norm.": norm(w) + norm(p) + norm(t),
        "the words are multiplied by sqrt(D). The first transformer did that (Vaswani et al. 2017), BERT does not.":
            norm(6**0.5 * w + p + t),
        "you multiply where the three are to be added.": norm(w * p * t),
        "the three vectors stand side by side. They are added, so that the width stays D.":
            jnp.concatenate([w, p, t], axis=-1),
        "the norm's own scale and bias are not applied: layer_norm(x, **p[\"norm\"]).":
            centred / jnp.sqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-12),
    }  # fmt: skip


def encode(encode: Callable[..., tuple[Float[Array, "L D"], Float[Array, "D"]]]) -> None:
    """`encode(p, tokens [L], token_types [L], may_see [L L], layers)` -> last [L D], pooled [D]."""
    got = filled(encode(small_bert()[1], TOKENS, TYPES, MAY_SEE, 3), "encode")
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise NotYet("encode: it returns two things: last, a vector for each token, and pooled, one for the text.")
    compare("encode", list(got), *_encode(), tolerance=1e-4)


@cache
def _encode() -> tuple[list, dict[str, list]]:
    model, params = small_bert()
    block = jax.jit(as_function(model.layers[0])[0])  # of the parameters of any layer
    stack, mask = [params[f"layer_{i}"] for i in range(3)], as_batch(MAY_SEE)[None]
    matrix, bias = params["pooler"]["matrix"], params["pooler"]["bias"]

    def pooled(vector, act=jnp.tanh, matrix=matrix, bias=bias):
        return act(vector @ matrix + bias)

    def states(layers=stack, types=TYPES, mask=mask, step=lambda layer, x: layer(x), norm=lambda x: x) -> list:
        found = [model.embeddings(as_batch(TOKENS), as_batch(types), jnp.float32, None)]
        for p in layers:
            found.append(step(lambda x, p=p: block(p, x, mask=mask, key=None), found[-1]))
        return [norm(x)[0] for x in found]

    def both(**slip) -> list:
        last = states(**slip)[-1]
        return [last, pooled(last[0])]

    embedded, *_, last = states()
    want = model(as_batch(TOKENS), token_types=as_batch(TYPES), mask=as_batch(TOKENS > 0))
    right = [want.last[0], want.pooled[0]]
    of = lambda vector, **slip: [last, pooled(vector, **slip)]
    first = last[0]
    return right, {
        "every layer has the parameters of the first: p[f\"layer_{i}\"].": both(layers=[stack[0]] * 3),
        "only the first layer is computed: there are `layers` of them.": both(layers=stack[:1]),
        "the last layer is missing.": both(layers=stack[:-1]),
        "the first layer is missing.": both(layers=stack[1:]),
        "the layers are in the wrong order.": both(layers=stack[::-1]),
        "each layer reads the embeddings: it has to read what the layer before it gives.": both(layers=stack[2:]),
        "the layers have no effect: these are the embeddings.": both(layers=[]),
        "your layers' outputs are added to their inputs once more. The residuals are inside the block.":
            both(step=lambda layer, x: x + layer(x)),
        "there is one more norm at the end. T5 needs it; in BERT each block ends with a norm already.":
            both(norm=model.embeddings.norm),
        "the mask is not handed on: everyone sees everyone, padding as well.": both(mask=mask | True),
        "your encoder is causal: hand on `may_see` as it is.": both(mask=mask & causal_mask(len(TOKENS))),
        "the mask is upside down: True means \"may attend\".": both(mask=~mask),
        "the token types are not handed on.": both(types=0 * TYPES),
        "the two are exchanged: last comes first, then pooled.": right[::-1],
        "the tanh of the pooler is missing.": of(first, act=lambda x: x),
        "the pooler's bias is missing.": of(first, bias=0.0),
        "the pooler's matrix is transposed: last[0] @ matrix.": of(first, matrix=matrix.T),
        "the pooler has tanh, and yours a sigmoid.": of(first, act=jax.nn.sigmoid),
        "the pooler has tanh, and yours a relu.": of(first, act=jax.nn.relu),
        "the pooler has tanh, and yours a gelu. That is the feed-forward's.": of(first, act=jax.nn.gelu),
        "the tanh comes before the matrix. It comes last.": [last, jnp.tanh(first) @ matrix + bias],
        "the pooler's matrix is missing.": [last, jnp.tanh(first)],
        "pooled is the first vector as it is. The pooler has a matrix, a bias and a tanh.": [last, first],
        "pooled reads the mean of all tokens. BERT takes the first one alone.": of(last.mean(axis=0)),
        "pooled is a mean over all tokens. BERT takes the first one alone.": [last, pooled(last).mean(axis=0)],
        "pooled reads the mean of the real tokens. BERT takes the first one alone.":
            of(last[TOKENS > 0].mean(axis=0)),
        "pooled reads the largest entries of all tokens. BERT takes the first one alone.": of(last.max(axis=0)),
        "pooled reads the last token. BERT takes the first one, [CLS].": of(last[-1]),
        "pooled reads the last real token. BERT takes the first one, [CLS].": of(last[TOKENS > 0][-1]),
        "pooled has a vector for each token. The pooler reads the first one alone.": of(last),
        "pooled has an axis too many: last[0] is one vector.": of(last[:1]),
        "pooled reads the embeddings. It reads the last layer.": of(embedded[0]),
    }  # fmt: skip
