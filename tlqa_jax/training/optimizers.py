"""The schedule and the optimizers of the loops."""

from typing import Any, Literal

import jax
import optax

Decay = Literal["constant", "linear", "cosine", "rsqrt"]
Optimizer = Literal["adafactor", "adamw"]


def schedule(peak: float, steps: int, *, warmup: int = 0, decay: Decay = "linear") -> optax.Schedule:
    """The learning rate at each step: a linear rise to `peak` over `warmup` steps, then the decay, to 0 at `steps`.

    "rsqrt" is T5's pretraining decay, peak * sqrt(warmup / step), and does not reach 0; "constant" stays at the peak.
    """
    rest = max(steps - warmup, 1)
    after = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "rsqrt": lambda step: peak * (max(warmup, 1) / (step + max(warmup, 1))) ** 0.5,
    }[decay]
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup]) if warmup else after


def decayed(params: Any) -> Any:
    """True at the leaves that weight decay shrinks: the matrices, but not norm scales and biases."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def adamw(
    rate: optax.Schedule, *, weight_decay: float = 0.0, clip: float | None = 1.0, relative_bias_rate: float = 1.0
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) behind clipping of the gradients' global norm to `clip`.

    `relative_bias_rate` multiplies the steps of T5's relative position biases. They begin near 0 and must reach several
    units before attention can tell near from far, but Adam moves a number by at most about the learning rate a step: at
    1e-3 that takes thousands of steps, more than a short run has.
    """
    # b2 as in RoBERTa (Liu et al. 2019, section 3.1): a shorter memory than 0.999 is steadier early in pretraining
    parts = [optax.adamw(rate, b1=0.9, b2=0.98, eps=1e-8, weight_decay=weight_decay, mask=decayed)]
    if clip is not None:
        parts.insert(0, optax.clip_by_global_norm(clip))
    if relative_bias_rate != 1.0:
        parts.append(optax.masked(optax.scale(relative_bias_rate), relative_biases))
    return optax.chain(*parts)


def adafactor(
    rate: optax.Schedule, *, weight_decay: float = 0.0, clip: float | None = 1.0, relative_bias_rate: float = 1.0
) -> optax.GradientTransformation:
    """Adafactor (Shazeer and Stern 2018), with steps in proportion to the size of what they change, as T5 has it.

    A matrix's second moments are kept as one number for each row and column. `clip` is the largest root mean square of
    an update.
    """
    decay = dict(weight_decay_rate=weight_decay, weight_decay_mask=decayed) if weight_decay else {}
    parts = [optax.adafactor(rate, clipping_threshold=clip, **decay)]
    if relative_bias_rate != 1.0:
        parts.append(optax.masked(optax.scale(relative_bias_rate), relative_biases))
    return optax.chain(*parts)


def relative_biases(params: Any) -> Any:
    """True at T5's two tables of relative position biases."""
    return {name: jax.tree.map(lambda _, name=name: name.endswith("_bias"), part) for name, part in params.items()}
