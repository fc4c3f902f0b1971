"""Text in, text out; questions in, answers out: batches of few shapes around the compiled generation loop."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from tlqa_jax.decoding.generate import greedy
from tlqa_jax.decoding.shapes import few_shapes
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.text_to_text import Example, TextArrays, decode_predictions, encode_examples
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer


class Answer(NamedTuple):
    """What the model wrote, the probability it gave to exactly this text, and whether the context had to be cut."""

    text: str
    probability: float
    context_cut: bool


class TextGenerator:
    """Writes texts with a T5, on all of this process's devices.

    Rows are sorted by length and put into batches of few shapes (`few_shapes`); the texts do not depend on that.

    Args:
        apply: the T5 as a function.
        input_length: longest input in tokens; a context that does not fit loses its end (`Answer.context_cut`).
        target_length: longest answer in tokens.
        batch_size: rows at once where there are many questions.
    """

    def __init__(
        self, apply: Callable, tokenizer: SentencePieceTokenizer, *, input_length: int, target_length: int,
        batch_size: int = 32,
    ):  # fmt: skip
        self.tokenizer, self.input_length, self.target_length = tokenizer, input_length, target_length
        self.devices, self.batch_size = jax.local_device_count(), batch_size
        self.generate = jax.pmap(partial(greedy, apply, max_length=target_length), axis_name="devices")

    def write(self, params: Params, arrays: TextArrays) -> list[Answer]:
        """What is written for each of the inputs. `params` are replicated (`training.devices.replicate`)."""
        answers: list[Answer | None] = [None] * len(arrays.inputs)
        for rows, count, length in few_shapes(
            arrays.input_lengths, longest=self.input_length, devices=self.devices, batch_size=self.batch_size
        ):
            # filling rows are a copy of a real one, so that they end when it does
            inputs = arrays.inputs[rows, :length].reshape(self.devices, -1, length)
            generated = jax.device_get(self.generate(params, inputs, inputs != self.tokenizer.pad_id))
            texts = decode_predictions(self.tokenizer, generated.tokens.reshape(len(rows), -1))
            probabilities = np.exp(generated.log_probabilities.reshape(len(rows), -1).sum(-1))
            for row, example in enumerate(rows[:count]):
                answers[example] = Answer(texts[row], float(probabilities[row]), bool(arrays.inputs_cut[example]))
        return answers


class Answerer(TextGenerator):
    """Answers questions in the same way."""

    def __call__(self, params: Params, examples: Iterable[Example], *, use_context: bool = True) -> list[Answer]:
        """The answers to `examples`, in their order."""
        return self.write(params, encode_examples(
            self.tokenizer, examples,
            input_length=self.input_length, target_length=self.target_length, use_context=use_context,
        ))  # fmt: skip
