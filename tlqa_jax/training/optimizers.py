"""The learning rate schedule and the optimizers of all programs."""

from typing import Any, Literal

import jax
import optax

Decay = Literal["constant", "linear", "cosine", "rsqrt"]
Optimizer = Literal["adamw", "adafactor"]


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


def make_optimizer(
    name: Optimizer, rate: optax.Schedule, *, weight_decay: float = 0.0, clip: float | None = 1.0,
    relative_bias_rate: float = 1.0,
) -> optax.GradientTransformation:
    """The optimizer of that name. Only AdamW uses weight decay and clips gradients."""
    if name == "adafactor":
        return adafactor(rate, relative_bias_rate=relative_bias_rate)
    return adamw(rate, weight_decay=weight_decay, clip=clip, relative_bias_rate=relative_bias_rate)


def decayed(params: Any) -> Any:
    """True at the leaves that weight decay shrinks: the matrices, but not norm scales and biases."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def adamw(
    rate: optax.Schedule, *, weight_decay: float = 0.0, clip: float | None = 1.0, relative_bias_rate: float = 1.0
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019), after clipping the gradients' global norm to `clip`.

    `relative_bias_rate` multiplies the steps of T5's relative position biases. They start near 0 and must reach several
    units before attention distinguishes near from far positions, but Adam moves a number by about the learning rate in
    a step: at 1e-3 that takes thousands of steps, more than a short run has.
    """
    # b2 as in RoBERTa (Liu et al. 2019, section 3.1): a shorter memory than 0.999 is steadier early in pretraining
    parts = [optax.adamw(rate, b1=0.9, b2=0.98, eps=1e-8, weight_decay=weight_decay, mask=decayed)]
    if clip is not None:
        parts.insert(0, optax.clip_by_global_norm(clip))
    return optax.chain(*parts, *faster_relative_biases(relative_bias_rate))


def adafactor(rate: optax.Schedule, *, relative_bias_rate: float = 1.0) -> optax.GradientTransformation:
    """Adafactor (Shazeer & Stern 2018), as T5 was trained (Raffel et al. 2020, section 3.1.2).

    At step t, for one array:

        v  <-  b v + (1 - b) g^2,  b = 1 - t^-0.8        of a matrix only the means of its rows and columns are kept
        u   =  g / sqrt(v);  u <- u / max(1, rms(u))     the update is clipped, not the gradient
        w  <-  w - rate * max(1e-3, rms(w)) * u          the rate is in units of the size of the array's entries

    No momentum, no weight decay. T5's rates are a constant 1e-3 for fine-tuning, and for pretraining "rsqrt" with a
    peak of 1e-2 after 10,000 steps.

    AdamW keeps two numbers for each parameter, 484 MB for T5-small; this keeps 1.8 MB. Of an array with three axes,
    such as the attention's [D H K], the two longest are factored and the third is kept: a matrix for each head, where
    T5's code had one for all. Arrays whose second longest axis is below 32 (norm scales, relative biases) keep all
    of v.
    """
    factored = optax.adafactor(rate, min_dim_size_to_factor=32)  # optax's 128 would keep all of v for heads of 64
    return optax.chain(factored, *faster_relative_biases(relative_bias_rate))


def faster_relative_biases(rate: float) -> list[optax.GradientTransformation]:
    return [optax.masked(optax.scale(rate), relative_biases)] if rate != 1.0 else []


def relative_biases(params: Any) -> Any:
    """True at T5's two tables of relative position biases."""
    return {name: jax.tree.map(lambda _, name=name: name.endswith("_bias"), part) for name, part in params.items()}
