"""The checks of lesson 3: scaled dot-product attention, the causal mask, and a softmax that keeps to a mask."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tlqa_jax.core import masks
from tlqa_jax.lessons.checks import NotYet, compare, filled

L, S, K = 3, 4, 5  # all different, so that a swapped axis shows


def softmax(scores: np.ndarray, axis: int | tuple[int, int]) -> np.ndarray:
    """In numpy, for the wrong versions: nothing to compile."""
    exponentials = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def attend(attend: Callable[..., Float[Array, "L K"]]) -> None:
    """`attend(query [L K], key [S K], value [S K])` -> [L K], one head, no mask."""
    rng = np.random.default_rng(0)
    query, key, value = (2 * rng.standard_normal((length, K), np.float32) for length in (L, S, S))
    scores = query @ key.T
    compare(
        "attend",
        attend(query, key, value),
        jax.nn.softmax(scores / K**0.5) @ value,
        {
            "the scores are not divided by sqrt(K). It runs and it learns badly: the larger K, the closer the softmax "
            "is to a hard choice that no gradient can mend.": softmax(scores, axis=-1) @ value,
            "the scores are divided by K, or twice by sqrt(K). A sum of K products of independent numbers has variance "
            "K, so its size is sqrt(K): that is what has to be divided out.": softmax(scores / K, axis=-1) @ value,
            "the softmax runs over the queries. Each query shares out its attention among the keys: every row of the "
            "weights sums to 1, so the softmax is over the last axis.": softmax(scores / K**0.5, axis=0) @ value,
            "you divide after the softmax, so the weights no longer sum to 1. The scores are divided, before "
            "it.": softmax(scores, axis=-1) / K**0.5 @ value,
            "there is no softmax: scores may be negative and sum to anything, weights are "
            "shares.": scores / K**0.5 @ value,
            "you scaled by the wrong size: K is the length of a query, query.shape[-1], and not the number of keys or "
            "queries.": softmax(scores / S**0.5, axis=-1) @ value,
            "you scaled by the wrong size: K is the length of a query, query.shape[-1], not the number of queries.":
                softmax(scores / L**0.5, axis=-1) @ value,
            "you multiply by sqrt(K). The scores of long vectors are too large already: divide.":
                softmax(scores * K**0.5, axis=-1) @ value,
            "the softmax runs over queries and keys together. Each query has weights of its own that sum to 1: "
            "axis=-1.": softmax(scores / K**0.5, axis=(0, 1)) @ value,
            "exp makes them positive, but they do not yet sum to 1: softmax divides by the sum of the row.":
                np.exp(scores / K**0.5) @ value,
            "you mix the keys. The keys only say *where* to look; what is mixed are the values.":
                softmax(scores / K**0.5, axis=-1) @ key,
            "you compare the query with the values. It is compared with the keys.":
                softmax(query @ value.T / K**0.5, axis=-1) @ value,
            "keys and values are exchanged: the query is compared with the keys, and the values are mixed.":
                softmax(query @ value.T / K**0.5, axis=-1) @ key,
            "your weights are largest where query and key are *least* alike: there is a minus too many.":
                softmax(-scores / K**0.5, axis=-1) @ value,
            "these are the weights. The last step mixes the values with them: weights @ value.":
                softmax(scores / K**0.5, axis=-1),
        },
        tolerance=2e-2,  # the digits of bfloat16, in which attention is often computed; the mistakes are far larger
    )  # fmt: skip


def causal_mask(causal_mask: Callable[[int], Bool[Array, "L L"]]) -> None:
    """`causal_mask(length)` -> [length, length], True where query (row) may attend to key (column)."""
    ones = np.ones((4, 4), bool)
    got = filled(causal_mask(4), "causal_mask")
    if np.shape(got) == (4, 4) == np.shape(causal_mask(6)):
        raise NotYet("causal_mask: for a length of 6 it gives a mask of 4 as well: take `length`, whatever it is.")
    compare(
        "causal_mask",
        got,
        masks.causal_mask(4),
        {
            "your mask lets a position see itself and the future, and hides the past. Rows are queries, columns are "
            "keys: row 0 may see only column 0.": np.triu(ones),
            "no position sees itself. The decoder's input is already shifted right by one, so position i has to use "
            "its own input; and row 0 would have nothing to look at.": np.tril(ones, -1),
            "your True means \"forbidden\". Here, and in jax.nn, True means \"may attend\".": np.triu(ones, 1),
            "each position sees one step into the future, exactly the token that it is to predict: the loss "
            "would fall to 0 and nothing would be learned.": np.tril(ones, 1),
            "the right places, but as numbers. A mask is boolean: jnp.where and ~ then mean what they say.":
                np.tril(ones).astype(np.asarray(got).dtype),
            "each position sees itself and nothing else. It may see all that was before it, too.":
                np.eye(4, dtype=bool),
            "everybody sees everything: that is the encoder's mask. Position i may see 0 to i.": ones,
            "these are scores to be added. In this course a mask is boolean; exercise 3 makes scores of it.":
                np.where(np.tril(ones), 0.0, np.asarray(got, np.float32)[0, -1] if np.ndim(got) == 2 else 0.0),
        },
    )  # fmt: skip


def masked_weights(masked_weights: Callable[..., Float[Array, "L S"]]) -> None:
    """`masked_weights(scores [L S], mask [L S])` -> [L S], the softmax over the allowed keys."""
    scores = 3 * np.random.default_rng(1).standard_normal((5, S), np.float32)
    scores[0] -= 200
    scores[1] = [-20000, 500, -19999, -19998.5]  # the allowed ones are low, the forbidden one is high
    scores[2] = [200, 0, 1, 0.5]
    mask = np.array([[1, 0, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0]], bool)
    lowest = np.finfo(scores.dtype).min
    with np.errstate(invalid="ignore"):
        infinite = softmax(np.where(mask, scores, -np.inf), axis=-1)
    after = softmax(scores, axis=-1) * mask
    shared = [after / (after.sum(axis=-1, keepdims=True) + epsilon) for epsilon in (1e-6, 1e-9, 1e-12)]
    got = masked_weights(scores, mask)
    want = jax.nn.softmax(masks.apply_mask(*(jnp.asarray(x)[None, None] for x in (scores, mask))))[0, 0]
    if np.shape(got) == want.shape and np.isfinite(np.asarray(got)[-1]).all():
        want = want.at[-1].set(got[-1])  # nobody reads the row in which everything is forbidden, if it is not NaN
    compare(
        "masked_weights",
        got,
        want,
        {
            "you masked after the softmax. The forbidden keys have taken their share already, and what is left does "
            "not sum to 1: mask the scores, before the softmax.": softmax(scores, axis=-1) * mask,
            "you gave forbidden keys the score 0. That is a score like another, its weight is exp(0) = 1 before "
            "sharing out. It takes a score of minus infinity, or nearly.": softmax(
                np.where(mask, scores, 0.0), axis=-1),
            **{f"your score for forbidden keys is low, {low:g}, but there are lower ones: in one row here the allowed "
               "keys have about -20000. Use the lowest finite number, jnp.finfo(scores.dtype).min.":
               softmax(np.where(mask, scores, low), axis=-1) for low in (-1, -10, -100, -1e3, -1e4)},
            **{"you masked after the softmax and divided by what was left" + " " * n + ". Where a forbidden score is "
               "high, nothing is left: the allowed weights have been rounded to 0. Mask the scores, before the "
               "softmax.":
               weights for n, weights in enumerate(shared)},
            "you multiplied the scores by the mask, so that a forbidden key has the score 0: a score like another.":
                softmax(scores * mask, axis=-1),
            "finfo.tiny is the smallest *positive* number, next to 0. The lowest number is finfo.min.": softmax(
                np.where(mask, scores, np.finfo(scores.dtype).tiny), axis=-1),
            "the mask has no effect: the forbidden keys have their weights.": softmax(scores, axis=-1),
            "these are scores, not yet weights: softmax comes after the mask.": np.where(mask, scores, lowest),
            "the softmax runs over queries and keys together: each row has to sum to 1.": softmax(
                np.where(mask, scores, lowest), axis=(0, 1)),
            "your True means \"forbidden\": in this course True means \"may attend\".": softmax(
                np.where(mask, lowest, scores), axis=-1),
            "the row in which everything is forbidden became NaN: 0 / 0. One such row (of a text that is nothing but "
            "padding, put there to fill up a batch) makes every gradient NaN. Use the lowest finite number, "
            "jnp.finfo(scores.dtype).min.": infinite,
            "the softmax runs over the queries: each row has to sum to 1.": softmax(
                np.where(mask, scores, lowest), axis=0),
        },
    )  # fmt: skip
