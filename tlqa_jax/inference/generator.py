"""Rows of tokens in, generated texts out, on all devices; or one text, streamed while it is generated."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, Key, UInt32

from tlqa_jax.errors import UserError
from tlqa_jax.inference.beam_search import beam_search
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.greedy import Choose, GeneratedTokens, decode_step, generate_tokens, greedy_choice, prefill
from tlqa_jax.inference.length_buckets import length_buckets
from tlqa_jax.inference.sampling import sampled_choice
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.text_to_text import decode_predictions
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

Tokenizer = SentencePieceTokenizer | WordPieceTokenizer
Seed = int | UInt32[Array, ""]


class Generation(NamedTuple):
    """A text, the probability that the model gives to exactly this text, and to each of its pieces in its place.

    The end token is the last piece, unless the text was stopped by its length.
    """

    text: str
    probability: float
    pieces: tuple[str, ...]
    token_probabilities: tuple[float, ...]


def generate_batch(
    apply: Callable, config: GenerationConfig, params: Params,
    inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"], rows: Int[Array, "B"], seed: Seed,
    *, eos_id: int = 1,
) -> GeneratedTokens:  # fmt: skip
    """`config.num_return_sequences` texts for each input, [B n T], the best first. A pure function.

    For sampling: `rows` are the numbers of the inputs, and `seed` replaces the seed of `config`, so that one compiled
    function serves all seeds.
    """
    n, length = config.num_return_sequences, config.max_new_tokens
    if config.num_beams > 1:
        beams = beam_search(
            apply, params, inputs, input_mask, num_beams=config.num_beams, max_new_tokens=length,
            length_penalty=config.length_penalty, early_stopping=config.early_stopping,
            eos_id=eos_id,
        )  # fmt: skip
        return GeneratedTokens(beams.tokens[:, :n], beams.log_probabilities[:, :n])
    inputs, input_mask = (jnp.repeat(x, n, axis=0) for x in (inputs, input_mask))
    choose = choice(config, text_keys(rows, n, seed).reshape(-1))
    found = generate_tokens(apply, params, inputs, input_mask, choose, max_new_tokens=length, eos_id=eos_id)
    return GeneratedTokens(*(x.reshape(-1, n, length) for x in found))


def choice(config: GenerationConfig, keys: Key[Array, "B"]) -> Choose:
    if not config.samples:
        return greedy_choice
    return sampled_choice(keys, temperature=config.temperature or 1.0, top_k=config.top_k, top_p=config.top_p)


def text_keys(rows: Int[Array, "B"], n: int, seed: Seed) -> Key[Array, "B n"]:
    """A key for each text: a function of the seed, the number of its input, and its own number."""
    return jax.vmap(lambda row: jax.random.split(jax.random.fold_in(jax.random.key(seed), row), n))(rows)


class Generator:
    """Generates the texts of many rows of tokens, on all of this process's devices.

    Rows are batched by length (`length_buckets`); the texts do not depend on that.

    Args:
        apply: the T5, or the causal BERT, as a function.
        config: how to generate; with a number for `max_new_tokens`.
        batch_size: rows at once, if there are many.
    """

    def __init__(
        self, apply: Callable, tokenizer: Tokenizer, config: GenerationConfig, *, batch_size: int = 32
    ):
        if config.max_new_tokens is None:
            raise ValueError("max_new_tokens is None: a Generator needs a number")
        self.tokenizer, self.config = tokenizer, config
        self.devices, self.batch_size = jax.local_device_count(), batch_size
        eos_id = tokenizer.eos_id
        self._generate = jax.pmap(partial(generate_batch, apply, config, eos_id=eos_id), in_axes=(None, 0, 0, 0, None))
        self._prefill = jax.jit(partial(prefill, apply, max_new_tokens=config.max_new_tokens))
        self._decode_step = jax.jit(
            lambda params, mask, keys, state: decode_step(
                apply, choice(config, keys), params, mask, state, eos_id=eos_id
            )
        )

    def with_seed(self, seed: int) -> "Generator":
        """A generator with another seed, which shares what is compiled."""
        other = copy.copy(self)
        other.config = replace(self.config, seed=seed)
        return other

    def __call__(
        self, params: Params, inputs: Int32[np.ndarray, "N I"], lengths: Int[np.ndarray, "N"]
    ) -> list[list[Generation]]:
        """The texts of each row, best first. `params` are replicated (`core.devices.replicate`)."""
        generated: list = [None] * len(inputs)
        for rows, count, length in length_buckets(
            lengths, longest=inputs.shape[1], devices=self.devices, batch_size=self.batch_size
        ):
            # rows that fill up the batch are copies of a real one, so that they end when it does
            batch = inputs[rows, :length].reshape(self.devices, -1, length)
            numbers = rows.astype(np.int32).reshape(self.devices, -1)
            mask = np.arange(length) < lengths[rows].reshape(self.devices, -1, 1)
            found = jax.device_get(self._generate(params, batch, mask, numbers, np.uint32(self.config.seed)))
            tokens, log_probabilities = (x.reshape(len(rows), *x.shape[2:]) for x in found)
            for row, number in enumerate(rows[:count].tolist()):
                generated[number] = self._texts(tokens[row], log_probabilities[row])
        return generated

    def _texts(self, tokens: Int[np.ndarray, "n T"], log_probabilities: np.ndarray) -> list[Generation]:
        texts = []
        for text, row, logs in zip(decode_predictions(self.tokenizer, tokens), tokens, log_probabilities):
            ended = row == self.tokenizer.eos_id
            length = int(ended.argmax()) + 1 if ended.any() else len(row)
            pieces = tuple(piece(self.tokenizer, id) for id in row[:length].tolist())
            texts.append(Generation(text, float(np.exp(logs.sum())), pieces, tuple(np.exp(logs[:length]).tolist())))
        return texts

    def stream(self, params: Params, inputs: Int32[np.ndarray, "1 S"], length: int) -> Iterator[tuple[str, str, float]]:
        """Of one row: (what is added to the text, its piece, its probability), as soon as it is generated.

        `length` is the number of its tokens; behind them is padding.

        `params` are those of one device, not replicated. The text is the one that a call gives to its first row.

        Raises UserError for beam search.
        """
        config, row = self.config, jnp.asarray(inputs)
        if config.num_beams > 1:
            raise UserError(f"--num-beams is {config.num_beams}: a text that is streamed has one beam")
        mask = jnp.arange(row.shape[1])[None] < length
        keys = text_keys(jnp.zeros(1, jnp.int32), config.num_return_sequences, config.seed)[:, 0]
        state, ids, shown = self._prefill(params, row, mask), [], ""
        for step in range(config.max_new_tokens):
            state = self._decode_step(params, mask, keys, state)
            ids.append(int(state.token[0]))
            added = addition(self.tokenizer, ids, shown)
            shown += added
            yield added, piece(self.tokenizer, ids[-1]), float(np.exp(state.out.log_probabilities[0, step]))
            if state.ended[0]:
                return


def addition(tokenizer: Tokenizer, ids: list[int], shown: str) -> str:
    """What the decoded ids add to the text shown before; nothing while the last character is not complete."""
    text = tokenizer.decode(ids)
    return text[len(shown) :] if text.startswith(shown) and not text.endswith("\ufffd") else ""


def piece(tokenizer: Tokenizer, id: int) -> str:
    """The piece of an id; the unknown token's for an id that only the embedding has a row for."""
    return tokenizer.piece(id if id < tokenizer.vocab_size else tokenizer.unk_id)
