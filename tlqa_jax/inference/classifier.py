"""Texts in, their classes out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float32, Int

from tlqa_jax.core.masks import padding_mask
from tlqa_jax.inference.length_buckets import length_buckets
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.classification import encode_texts
from tlqa_jax.text.wordpiece import WordPieceTokenizer


class TextClass(NamedTuple):
    """The most probable class, its probability, log p of all classes in the order of `labels`; was the text cut?"""

    label: str
    probability: float
    log_probabilities: tuple[float, ...]
    text_cut: bool


class Classifier:
    """Classifies texts, on all of this process's devices.

    Texts are batched by length (`length_buckets`); the classes do not depend on that.

    Args:
        apply: the model as a function: (params, tokens, mask=, key=) -> logits of the classes.
        labels: the names of the classes, by number.
        input_length: longest text in tokens, [CLS] and [SEP] among them; a longer text loses its end.
        batch_size: texts at once, if there are many.
    """

    def __init__(
        self, apply: Callable, tokenizer: WordPieceTokenizer, labels: Sequence[str], *, input_length: int,
        batch_size: int = 32,
    ):  # fmt: skip
        self.tokenizer, self.labels, self.input_length = tokenizer, tuple(labels), input_length
        self.devices, self.batch_size = jax.local_device_count(), batch_size
        predict = lambda params, tokens: jax.nn.log_softmax(class_logits(apply, tokenizer.pad_id, params, tokens))
        self.predict = jax.pmap(predict, in_axes=(None, 0))

    def __call__(self, params: Params, texts: Sequence[str]) -> list[TextClass]:
        """The classes of `texts`, in their order. `params` are replicated (`core.devices.replicate`)."""
        classes: list = [None] * len(texts)
        tokens, lengths = encode_texts(self.tokenizer, texts, input_length=self.input_length)
        for rows, count, length in length_buckets(
            np.minimum(lengths, self.input_length), longest=self.input_length, devices=self.devices,
            batch_size=self.batch_size,
        ):  # fmt: skip
            batch = tokens[rows, :length].reshape(self.devices, -1, length)
            logs = np.asarray(jax.device_get(self.predict(params, batch))).reshape(len(rows), -1)
            for text, log in zip(rows[:count].tolist(), logs):
                best, cut = int(log.argmax()), bool(lengths[text] > self.input_length)
                classes[text] = TextClass(self.labels[best], float(np.exp(log[best])), tuple(log.tolist()), cut)
        return classes


def class_logits(
    apply: Callable, pad_id: int, params: Params, tokens: Int[Array, "B L"], key=None
) -> Float32[Array, "B labels"]:
    """The logits of rows padded with `pad_id`. `key` seeds dropout; None: no dropout."""
    return apply(params, tokens, mask=padding_mask(tokens, pad_id), key=key).astype("float32")
