"""Small parts that are added to a pretrained model, to be trained in its place: adapters and LoRA, in BERT and in T5.

    add_adapters(model, 64, rngs)       # Houlsby et al. 2019
    add_lora(model, 8, rngs)            # Hu et al. 2022
    apply, params = as_function(model)  # with "layer_0/attention/adapter/…", or "layer_0/attention/query_lora/…"

Both start (nearly) as if they were not there. An adapter is a small network between the layers' parts: it stays, and
costs a little time. LoRA is a change of a matrix: it can be added to it after training, and then costs nothing
(`checkpoints.added_parts`).
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tlqa_jax.models.bert_heads import TASK_HEADS
from tlqa_jax.models.layers import Attention, FeedForward, Linear, gelu, normal, project, truncated_normal
from tlqa_jax.models.t5 import T5Encoder

LORA_ALPHA = 16  # the same for every rank, so that a learning rate that suits one rank suits another (section 4.1)


class Adapter(nnx.Module):
    """x + gelu(x W_down + b_down) W_up + b_up, where the layer between is narrow: `size` units.

    It changes x little at first: the matrices' deviation is 0.01 (section 3.6), the biases are 0.
    """

    def __init__(self, width: int, size: int, *, rngs: nnx.Rngs):
        self.down = Linear(width, size, 0.01, draw=truncated_normal, rngs=rngs)
        self.up = Linear(size, width, 0.01, draw=truncated_normal, rngs=rngs)

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return x + self.up(gelu(self.down(x)))


class LoRA(nnx.Module):
    """alpha / R * x A B, to be added to x W: the change of W has rank R, with (D + H K) R numbers instead of D H K.

    B is 0 at first, and so is the change.
    """

    def __init__(self, shape: tuple[int, int, int], rank: int, *, rngs: nnx.Rngs):
        width, heads, head_size = shape
        self.a = normal(rngs, (width, rank), (3 * width) ** -0.5)  # the deviation that the paper's code has
        self.b = nnx.Param(jnp.zeros((rank, heads, head_size), jnp.float32))
        self.scale = LORA_ALPHA / rank

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L H K"]:
        return self.scale * project(project(x, self.a[...]), self.b[...])


def add_adapters(model: nnx.Module, size: int, rngs: nnx.Rngs) -> None:
    """Give every attention and every feed-forward of the model an adapter of this size, after its last matrix."""
    for part in layer_parts(model):
        width = (part.out if isinstance(part, Attention) else part.down).shape[-1]
        part.adapter = Adapter(width, size, rngs=rngs)


def add_lora(model: nnx.Module, rank: int, rngs: nnx.Rngs) -> None:
    """Put LoRA of this rank beside the query and the value projection of every attention of the model."""
    for part in layer_parts(model):
        if isinstance(part, Attention):
            part.query_lora = LoRA(part.query.shape, rank, rngs=rngs)
            part.value_lora = LoRA(part.value.shape, rank, rngs=rngs)


def added_kind(paths: Iterable[str]) -> Literal["lora", "adapters"] | None:
    """Which of both a model with these parameters has; None: it has neither."""
    paths = list(paths)
    has = lambda part: any(part in path for path in paths)
    return "lora" if has("_lora/") else "adapters" if has("/adapter/") else None


def is_trained_with(kind: Literal["lora", "adapters"], path: str) -> bool:
    """Whether a parameter is trained with LoRA or with adapters: these, of adapters the norms (section 2.1), and the
    head of a BERT, which is new."""
    own = ("_lora/",) if kind == "lora" else ("/adapter/", "norm/")
    return path.startswith(TASK_HEADS) or any(part in path for part in own)


def layer_parts(model: nnx.Module) -> Iterator[Attention | FeedForward]:
    """The attentions and feed-forwards of all layers of a BERT, with or without a head, or of a T5."""
    if isinstance(model, T5Encoder):
        layers = [*model.encoder_layers, *getattr(model, "decoder_layers", [])]
    else:
        layers = getattr(model, "encoder", model).layers
    for layer in layers:
        yield from (part for part in vars(layer).values() if isinstance(part, Attention | FeedForward))
