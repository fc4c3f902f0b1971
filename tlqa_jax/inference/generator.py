"""Rows of tokens in, written texts out: batches of few shapes around the compiled loop; one text as it is written."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Int32

from tlqa_jax.inference.generation_config import Method
from tlqa_jax.inference.length_buckets import few_shapes
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.text_to_text import decode_predictions
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer


class Written(NamedTuple):
    """A text, the probability that the model gives to exactly it, and of each of its pieces in its place.

    The end token is the last of the pieces, unless the text was stopped by its length.
    """

    text: str
    probability: float
    pieces: tuple[str, ...]
    token_probabilities: tuple[float, ...]


class Writer:
    """Writes a text, or several, for each row of tokens, on all of this process's devices.

    Rows are sorted by length and put into batches of few shapes (`few_shapes`); the texts do not depend on that.

    Args:
        apply: the T5 as a function.
        target_length: longest text in tokens.
        batch_size: rows at once where there are many.
    """

    def __init__(
        self, apply: Callable, tokenizer: SentencePieceTokenizer, *, target_length: int, batch_size: int = 32,
        method: Method = Method(),
    ):  # fmt: skip
        self.tokenizer, self.method = tokenizer, method
        self.devices, self.batch_size = jax.local_device_count(), batch_size
        write = partial(method.write, apply, max_length=target_length)
        self._write = jax.pmap(write, in_axes=(None, 0, 0, 0, None))
        self._stream = cache(lambda: method.stream(apply, max_length=target_length))  # not made before it is used

    def with_seed(self, seed: int) -> "Writer":
        """One that draws with another seed. What is compiled is the same for both."""
        other = copy.copy(self)
        other.method = replace(self.method, seed=seed)
        return other

    def __call__(
        self, params: Params, inputs: Int32[np.ndarray, "N I"], lengths: Int[np.ndarray, "N"]
    ) -> list[list[Written]]:
        """The texts of each row, best first. `params` are replicated (`training.devices.replicate`)."""
        written: list = [None] * len(inputs)
        for rows, count, length in few_shapes(
            lengths, longest=inputs.shape[1], devices=self.devices, batch_size=self.batch_size
        ):
            # filling rows are a copy of a real one, so that they end when it does
            batch = inputs[rows, :length].reshape(self.devices, -1, length)
            numbers = rows.astype(np.int32).reshape(self.devices, -1)
            seed = np.uint32(self.method.seed)
            found = jax.device_get(self._write(params, batch, batch != self.tokenizer.pad_id, numbers, seed))
            tokens, log_probabilities = (x.reshape(len(rows), *x.shape[2:]) for x in found)
            for row, number in enumerate(rows[:count].tolist()):
                written[number] = self._written(tokens[row], log_probabilities[row])
        return written

    def _written(self, tokens: Int[np.ndarray, "n T"], log_probabilities: np.ndarray) -> list[Written]:
        texts = []
        for text, row, logs in zip(decode_predictions(self.tokenizer, tokens), tokens, log_probabilities):
            ended = row == self.tokenizer.eos_id
            length = int(ended.argmax()) + 1 if ended.any() else len(row)
            pieces = tuple(piece(self.tokenizer, id) for id in row[:length].tolist())
            texts.append(Written(text, float(np.exp(logs.sum())), pieces, tuple(np.exp(logs[:length]).tolist())))
        return texts

    def stream(self, params: Params, inputs: Int32[np.ndarray, "1 S"]) -> Iterator[tuple[str, str, float]]:
        """Of one row: (what the text grows by, the piece it is made of, its probability), as soon as it is written.

        `params` are one device's, not replicated. It is the text that the row numbered 0 of a call has.

        Raises UserError for a method with several beams.
        """
        row = jnp.asarray(inputs)
        keys = (self.method.keys(jnp.zeros(1, jnp.int32), self.method.seed)[:, 0],) if self.method.by_chance else ()
        steps = self._stream()(params, row, row != self.tokenizer.pad_id, *keys)
        ids, probabilities = [], []

        def noted() -> Iterator[int]:
            for token, log_probability in steps:
                ids.append(int(token[0]))
                probabilities.append(float(np.exp(log_probability[0])))
                yield ids[-1]

        for grown in growing(self.tokenizer, noted()):
            yield grown, piece(self.tokenizer, ids[-1]), probabilities[-1]


def growing(tokenizer: SentencePieceTokenizer, ids: Iterable[int]) -> Iterator[str]:
    """What the decoded text grows by with each id; together they are the text. Half a character waits for the rest."""
    seen, shown = [], ""
    for id in ids:
        seen.append(id)
        text = tokenizer.decode(seen)
        if not text.startswith(shown) or text.endswith("\ufffd"):
            yield ""
            continue
        yield text[len(shown) :]
        shown = text


def piece(tokenizer: SentencePieceTokenizer, id: int) -> str:
    """The piece of an id, also of one that only the embedding has a row for."""
    return tokenizer.piece(id if id < tokenizer.vocab_size else tokenizer.unk_id)
