"""The loss of an encoder-decoder, which span corruption and question answering share: -log p(targets | inputs).

Rows hold "inputs" [B S] and "targets" [B L], padded with 0. Packed rows hold "input_segments" and "target_segments" too.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from tlqa_jax.core.losses import correct_predictions, cross_entropy
from tlqa_jax.models.t5 import shift_right

Rows = dict[str, Array]


def target_logits(apply: Callable, params: Any, rows: Rows, key=None) -> Float[Array, "B L V"]:
    """The logits of each target token, given the inputs and the targets before it. `key` seeds dropout; None: none."""
    segments = {name: rows[name] for name in ("input_segments", "target_segments") if name in rows}
    targets_in = shift_right(rows["targets"], segments=rows.get("target_segments"))
    return apply(params, rows["inputs"], targets_in, input_mask=rows["inputs"] != 0, key=key, **segments)


def sequence_loss(apply: Callable, params: Any, rows: Rows, key=None) -> Float[Array, ""]:
    """The sum of -log p over all target tokens, in nats; padding does not count."""
    targets = rows["targets"]
    return cross_entropy(target_logits(apply, params, rows, key), targets, (targets != 0).astype("float32"))[0]


def target_tokens(rows: Rows) -> Float[Array, ""]:
    """What the loss is a mean over: the number of target tokens."""
    return (rows["targets"] != 0).sum().astype("float32")


def evaluation_sums(apply: Callable, params: Any, rows: Rows) -> dict[str, Array]:
    """Sums over a batch, without dropout: of the loss in nats, of correct tokens, and their number ("weight").

    Rows whose "weight" is 0 only fill up the last batch.
    """
    logits, targets = target_logits(apply, params, rows), rows["targets"]
    weights = (targets != 0).astype("float32") * rows["weight"][:, None]
    loss, weight = cross_entropy(logits, targets, weights)
    return {"loss": loss, "accuracy": correct_predictions(logits, targets, weights), "weight": weight}
