"""Beam search: keeps the W best unfinished texts (beams) of each row, where greedy decoding keeps one (Graves 2012).

In one step each of the W beams can continue in V ways. The 2W best of these W x V candidates are looked at, so that W
are left to continue even if W of them end. A candidate among the best W that ends is a text. Texts are compared by

    score = sum of log p(token) / (number of tokens, eos among them) ** length_penalty

so a penalty of 0 compares probabilities, which favours short texts, and 1 compares the mean per token. The semantics
are those of Transformers 4.57, and so are the tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.inference.generation_config import EarlyStopping
from tlqa_jax.inference.greedy import PAD_ID
from tlqa_jax.models.functional import Params

NEVER = -1e9  # sum of log-probabilities of what must not be chosen: finite, so that it can be added to
FLOAT = jnp.finfo(jnp.float32)


class Beams(NamedTuple):
    """Texts, best first, each up to and including eos, then padding; the log-probability of each token; the scores."""

    tokens: Int[Array, "B W T"]
    log_probabilities: Float[Array, "B W T"]
    scores: Float[Array, "B W"]

    def of(self, chosen: Int[Array, "B N"]) -> "Beams":
        """The chosen beams of each row, by number."""
        take = lambda x: jnp.take_along_axis(x, chosen.reshape(chosen.shape + (1,) * (x.ndim - 2)), axis=1)
        return Beams(*map(take, self))

    def beside(self, other: "Beams") -> "Beams":
        """The beams of both, row by row."""
        return Beams(*(jnp.concatenate(pair, axis=1) for pair in zip(self, other)))


class Search(NamedTuple):
    """The state between two steps. The scores of `running` beams are sums of log-probabilities."""

    step: Int[Array, ""]
    running: Beams
    ended: Beams
    has_ended: Bool[Array, "B W"]  # which of `ended` are texts; the others are empty places
    can_improve: Bool[Array, "B"]  # rows whose running beams may still become better texts than those that ended
    cache: Any


def beam_search(
    apply: Callable,
    params: Params,
    inputs: Int[Array, "B S"],
    input_mask: Bool[Array, "B S"] | None = None,
    *,
    num_beams: int,
    max_new_tokens: int,
    length_penalty: float = 1.0,
    early_stopping: EarlyStopping = False,
    eos_id: int = 1,
) -> Beams:
    """The `num_beams` best texts found, of at most `max_new_tokens` tokens. A pure function, as `greedy` is.

    Args:
        length_penalty: above 0 favours longer texts, below 0 shorter ones.
        early_stopping: when a row is done. True: as soon as `num_beams` texts have ended. False: when no running beam
            would be better than the worst of these if it ended at its present length. "never": when none can become
            better at any length.

    The keys and values of cross-attention are computed and kept once for each row, not for each beam.
    """
    batch = inputs.shape[0]

    def per_length(sums: Float[Array, "B N"], length: Int[Array, ""]) -> Float[Array, "B N"]:
        """Scores, finite for any penalty; what must not be chosen scores lower than any text."""
        divisor = jnp.clip(length.astype(jnp.float32) ** length_penalty, FLOAT.tiny, FLOAT.max)
        return jnp.where(sums > NEVER / 2, jnp.maximum(sums / divisor, FLOAT.min), FLOAT.min)

    encoded = apply(params, inputs, input_mask=input_mask, method="encode")
    cache = apply(params, encoded, max_new_tokens, num_beams, method="start_cache")
    longest = max_new_tokens if early_stopping == "never" and length_penalty > 0 else None

    def still_open(search: Search) -> Bool[Array, "B"]:
        """Rows that still take texts."""
        return search.can_improve & ~search.has_ended.all(axis=1) if early_stopping is True else search.can_improve

    def unfinished(search: Search) -> Bool[Array, ""]:
        return (search.step < max_new_tokens) & jnp.any(still_open(search))

    def one_step(search: Search) -> Search:
        step, running, ended, has_ended, can_improve, cache = search
        last = jax.lax.dynamic_index_in_dim(running.tokens, jnp.maximum(step - 1, 0), axis=2, keepdims=False)
        last = jnp.where(step == 0, PAD_ID, last).reshape(-1)
        logits, cache = apply(params, last, step, cache, input_mask=input_mask, method="decode_step")
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, num_beams, -1)
        scores = (running.scores[:, :, None] + log_p).reshape(batch, -1)

        # the 2W best continuations of each row, best first
        best, place = jax.lax.top_k(scores, 2 * num_beams)
        parent, token = place // log_p.shape[2], (place % log_p.shape[2]).astype(jnp.int32)
        candidates = running.of(parent)._replace(scores=best)
        chosen = jnp.take_along_axis(log_p.reshape(batch, -1), place, axis=1)
        candidates = candidates._replace(
            tokens=candidates.tokens.at[:, :, step].set(token),
            log_probabilities=candidates.log_probabilities.at[:, :, step].set(chosen),
        )
        ends = (token == eos_id) | (step == max_new_tokens - 1)

        # the best W of those that do not end continue
        scores, going = jax.lax.top_k(jnp.where(ends, best + NEVER, best), num_beams)
        running = candidates.of(going)._replace(scores=scores)
        rows = jnp.arange(batch)[:, None] * num_beams + jnp.take_along_axis(parent, going, axis=1)
        cache = [layer.of_rows(rows.reshape(-1)) for layer in cache]

        # those of the best W that end become texts, if the row still takes any
        new = ends & (jnp.arange(2 * num_beams) < num_beams)[None] & still_open(search)[:, None]
        texts = ended.beside(candidates._replace(scores=jnp.where(new, per_length(best, step + 1), -jnp.inf)))
        scores, kept = jax.lax.top_k(texts.scores, num_beams)
        ended = texts.of(kept)
        has_ended = jnp.take_along_axis(jnp.concatenate([has_ended, new], axis=1), kept, axis=1)

        within_reach = per_length(running.scores[:, :1], step + 1 if longest is None else jnp.int32(longest))
        worst = jnp.where(has_ended, scores[:, -1:], -jnp.inf)
        can_improve = can_improve & jnp.any(within_reach > worst, axis=1)
        return Search(step + 1, running, ended, has_ended, can_improve, cache)

    nothing = Beams(
        jnp.full((batch, num_beams, max_new_tokens), PAD_ID, jnp.int32),
        jnp.zeros((batch, num_beams, max_new_tokens), jnp.float32),
        jnp.full((batch, num_beams), -jnp.inf, jnp.float32),
    )
    # at first all beams of a row are alike: only one of them counts
    one = nothing._replace(scores=jnp.full((batch, num_beams), NEVER, jnp.float32).at[:, 0].set(0.0))
    none_ended, all_open = jnp.zeros((batch, num_beams), bool), jnp.ones(batch, bool)
    first = Search(jnp.int32(0), one, nothing, none_ended, all_open, cache)
    return jax.lax.while_loop(unfinished, one_step, first).ended
