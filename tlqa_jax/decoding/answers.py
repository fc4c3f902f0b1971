"""Questions in, answers in words out: batches of few shapes around the compiled generation loop."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from tlqa_jax.decoding.generate import greedy
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.text_to_text import Example, decode_predictions, encode_examples
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

SHORTEST = 32  # tokens; longer inputs are padded to 64, 128, … up to the input length


class Answer(NamedTuple):
    """What the model wrote, the probability it gave to exactly this text, and whether the context had to be cut."""

    text: str
    probability: float
    context_cut: bool


class Answerer:
    """Answers questions with a T5, on all of this process's devices.

    Rows are sorted by length and padded to one of a few lengths, batches to one of two sizes, so that a second question, or a
    thousand, compile nothing new. What the answers are does not depend on that.

    Args:
        apply: the T5 as a function.
        input_length: longest input in tokens; a context that does not fit loses its end (`Answer.context_cut`).
        target_length: longest answer in tokens.
        batch_size: rows at once where there are many questions.
    """

    def __init__(
        self, apply: Callable, tokenizer: SentencePieceTokenizer, *, input_length: int, target_length: int, batch_size: int = 32
    ):
        self.tokenizer, self.input_length, self.target_length = tokenizer, input_length, target_length
        self.devices = jax.local_device_count()
        self.batch_sizes = (self.devices, -(-batch_size // self.devices) * self.devices)
        self.generate = jax.pmap(partial(greedy, apply, max_length=target_length), axis_name="devices")

    def __call__(self, params: Params, examples: Iterable[Example], *, use_context: bool = True) -> list[Answer]:
        """The answers to `examples`, in their order. `params` are replicated (`training.devices.replicate`)."""
        examples = list(examples)
        if not examples:
            return []
        arrays = encode_examples(
            self.tokenizer, examples, input_length=self.input_length, target_length=self.target_length, use_context=use_context
        )
        answers: list[Answer | None] = [None] * len(examples)
        order = np.argsort(-arrays.input_lengths, kind="stable")
        one, many = self.batch_sizes
        batch_size = one if len(examples) <= one else many
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            length = SHORTEST
            while length < arrays.input_lengths[chosen].max():
                length *= 2
            inputs = np.zeros((batch_size, min(length, self.input_length)), np.int32)
            inputs[: len(chosen)] = arrays.inputs[chosen, : inputs.shape[1]]
            inputs[len(chosen) :] = inputs[0]  # a copy, so that filling rows end when the first does
            inputs = inputs.reshape(self.devices, -1, inputs.shape[1])
            generated = jax.device_get(self.generate(params, inputs, inputs != self.tokenizer.pad_id))
            texts = decode_predictions(self.tokenizer, generated.tokens.reshape(batch_size, -1))
            probabilities = np.exp(generated.log_probabilities.reshape(batch_size, -1).sum(-1))
            for row, example in enumerate(chosen):
                answers[example] = Answer(texts[row], float(probabilities[row]), bool(arrays.inputs_cut[example]))
        return answers
