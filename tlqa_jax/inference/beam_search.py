"""Beam search: the W likeliest beginnings are kept in view, where greedy decoding follows one (Graves 2012).

In one step each of the W beginnings (beams) of a row can go on in V ways. The 2W best of these W x V are looked at, so
that W are left to go on even if as many have ended; those of the best W that end are texts. Texts are compared by

    score = sum of log p(token) / (number of tokens, eos among them) ** length_penalty

so a penalty of 0 compares probabilities, which favours short texts, and 1 the mean per token. These are the semantics
of Transformers 4.57, and so the same tokens come out.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.models.functional import Params

NEVER = -1e9  # the sum of log-probabilities of what is not to be chosen: finite, so that it can be added to
FLOAT = jnp.finfo(jnp.float32)

EarlyStopping = Literal[False, True, "never"]


class Beams(NamedTuple):
    """Texts, the best first, each up to and with eos, then padding; the log-probability of each token; the scores."""

    tokens: Int[Array, "B W T"]
    log_probabilities: Float[Array, "B W T"]
    scores: Float[Array, "B W"]

    def of(self, chosen: Int[Array, "B N"]) -> "Beams":
        """Some of each row's, by number."""
        take = lambda x: jnp.take_along_axis(x, chosen.reshape(chosen.shape + (1,) * (x.ndim - 2)), axis=1)
        return Beams(*map(take, self))

    def beside(self, other: "Beams") -> "Beams":
        """Those of each row and the other's."""
        return Beams(*(jnp.concatenate(pair, axis=1) for pair in zip(self, other)))


class Search(NamedTuple):
    """What is there between two steps. The scores of what is `running` are sums of log-probabilities."""

    step: Int[Array, ""]
    running: Beams
    ended: Beams
    has_ended: Bool[Array, "B W"]  # which of `ended` are texts, and not only room for them
    hopeful: Bool[Array, "B"]  # rows whose running beams might still become better texts than those that ended
    cache: Any


def beam_search(
    apply: Callable,
    params: Params,
    inputs: Int[Array, "B S"],
    input_mask: Bool[Array, "B S"] | None = None,
    *,
    beams: int,
    max_length: int,
    length_penalty: float = 1.0,
    early_stopping: EarlyStopping = False,
    start_id: int = 0,
    eos_id: int = 1,
    pad_id: int = 0,
) -> Beams:
    """The `beams` best texts that are found, of at most `max_length` tokens. A pure function, as `generate.greedy`.

    Args:
        length_penalty: above 0 favours longer texts, below 0 shorter ones.
        early_stopping: when a row is done. True: as soon as `beams` texts have ended. False: when no running beam, if
            it ended at its present length, would be better than the worst of these. "never": when none can become so
            at any length.

    The keys and values of cross-attention are computed and kept once for a row, not for each beam.
    """
    batch = inputs.shape[0]

    def per_length(sums: Float[Array, "B N"], length: Int[Array, ""]) -> Float[Array, "B N"]:
        """Scores, finite whatever the penalty; of what is not to be chosen lower than those of any text."""
        divisor = jnp.clip(length.astype(jnp.float32) ** length_penalty, FLOAT.tiny, FLOAT.max)
        return jnp.where(sums > NEVER / 2, jnp.maximum(sums / divisor, FLOAT.min), FLOAT.min)

    encoded = apply(params, inputs, input_mask=input_mask, method="encode")
    cache = apply(params, encoded, max_length, beams, method="start_cache")
    longest = max_length if early_stopping == "never" and length_penalty > 0 else None

    def unfinished(search: Search):
        open_rows = search.hopeful if early_stopping is not True else search.hopeful & ~search.has_ended.all(axis=1)
        return (search.step < max_length) & jnp.any(open_rows)

    def go_on(search: Search) -> Search:
        step, running, ended, has_ended, hopeful, cache = search
        last = jax.lax.dynamic_index_in_dim(running.tokens, jnp.maximum(step - 1, 0), axis=2, keepdims=False)
        last = jnp.where(step == 0, start_id, last).reshape(-1)
        logits, cache = apply(params, last, step, cache, input_mask=input_mask, method="decode_step")
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, beams, -1)
        scores = (running.scores[:, :, None] + log_p).reshape(batch, -1)

        # the 2W best continuations of each row, best first
        best, place = jax.lax.top_k(scores, 2 * beams)
        parent, token = place // log_p.shape[2], (place % log_p.shape[2]).astype(jnp.int32)
        candidates = running.of(parent)._replace(scores=best)
        chosen = jnp.take_along_axis(log_p.reshape(batch, -1), place, axis=1)
        candidates = candidates._replace(
            tokens=candidates.tokens.at[:, :, step].set(token),
            log_probabilities=candidates.log_probabilities.at[:, :, step].set(chosen),
        )
        ends = (token == eos_id) | (step == max_length - 1)

        # W of those that do not end go on
        scores, going = jax.lax.top_k(jnp.where(ends, best + NEVER, best), beams)
        running = candidates.of(going)._replace(scores=scores)
        rows = jnp.arange(batch)[:, None] * beams + jnp.take_along_axis(parent, going, axis=1)
        cache = [layer.of_rows(rows.reshape(-1)) for layer in cache]

        # those of the best W that end become texts, where the row still takes any
        taken = hopeful if early_stopping is not True else hopeful & ~has_ended.all(axis=1)
        new = ends & (jnp.arange(2 * beams) < beams)[None] & taken[:, None]
        texts = ended.beside(candidates._replace(scores=jnp.where(new, per_length(best, step + 1), -jnp.inf)))
        scores, kept = jax.lax.top_k(texts.scores, beams)
        ended = texts.of(kept)
        has_ended = jnp.take_along_axis(jnp.concatenate([has_ended, new], axis=1), kept, axis=1)

        within_reach = per_length(running.scores[:, :1], step + 1 if longest is None else jnp.int32(longest))
        worst = jnp.where(has_ended, scores[:, -1:], -jnp.inf)
        hopeful = hopeful & jnp.any(within_reach > worst, axis=1)
        return Search(step + 1, running, ended, has_ended, hopeful, cache)

    nothing = Beams(
        jnp.full((batch, beams, max_length), pad_id, jnp.int32),
        jnp.zeros((batch, beams, max_length), jnp.float32),
        jnp.full((batch, beams), -jnp.inf, jnp.float32),
    )
    # at first all beams of a row are alike: only one of them counts
    one = nothing._replace(scores=jnp.full((batch, beams), NEVER, jnp.float32).at[:, 0].set(0.0))
    none_ended, all_hopeful = jnp.zeros((batch, beams), bool), jnp.ones(batch, bool)
    first = Search(jnp.int32(0), one, nothing, none_ended, all_hopeful, cache)
    return jax.lax.while_loop(unfinished, go_on, first).ended
