"""The loss of an encoder-decoder, which span corruption and question answering share: -log p(targets | inputs)."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from tlqa_jax.core.losses import correct_predictions, cross_entropy
from tlqa_jax.models.t5 import shift_right


def predict(apply: Callable, params: Any, rows: dict[str, Array], key=None) -> tuple[Array, Array, Array]:
    """(logits [B L V], targets [B L], weights [B L]) of rows "inputs" [B S] and "targets" [B L]; padding (0) weighs 0.

    `key` seeds dropout; None for none. Packed rows hold their "input_segments" and "target_segments" as well.
    """
    targets = rows["targets"]
    segments = {name: rows[name] for name in ("input_segments", "target_segments") if name in rows}
    targets_in = shift_right(targets, segments=rows.get("target_segments"))
    logits = apply(params, rows["inputs"], targets_in, input_mask=rows["inputs"] != 0, key=key, **segments)
    return logits, targets, (targets != 0).astype("float32")


def evaluation_sums(apply: Callable, params: Any, rows: dict[str, Array]) -> dict[str, Array]:
    """Sums over a batch, without dropout: of the loss in nats, of correct tokens, and of their weights.

    Rows of "weight" 0 only fill up the last batch.
    """
    logits, targets, weights = predict(apply, params, rows)
    weights = weights * rows["weight"][:, None]
    loss, weight = cross_entropy(logits, targets, weights)
    return {"loss": loss, "accuracy": correct_predictions(logits, targets, weights), "weight": weight}
