"""The words around a word, and words drawn at random, for word vectors (Mikolov et al. 2013).

    text        the mill ##er sold flour . [SEP] mira left .
    row         context [the mill ##er | flour .], candidates [sold, mira, the, .]        of "sold", with window 3

The first candidate is the word itself. The others are negative samples: words are drawn with probabilities in proportion
to count ** 0.75, which is between their frequencies and equal shares. A negative that is the word itself has weight 0. A
window does not reach into another document.

Draws are functions of (seed, step); those of an evaluation of (seed, place in the text).

The authors also drop frequent words at random. That is left out: over 1.3 million tokens of the Brown corpus, 5 epochs
with it (t = 1e-3) gave neighbours that were no better, and over the tiny world worse ones.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int

from tlqa_jax.data.corpus import read_documents, token_report
from tlqa_jax.errors import UserError
from tlqa_jax.text.wordpiece import WordPieceTokenizer

NOISE_POWER = 0.75


class WordContextRows:
    """A row for each token of the documents of `texts` that is no special piece.

    Args:
        texts: a source of texts (`data.sources`); `text_field`, `max_tokens`, `tokens_file` are those of
            `read_documents`.
        window: neighbours on each side.
        negatives: number of negative samples.
        noise: the running sums of the probabilities of negative samples, of other rows. None: those of these texts.

    Raises UserError if there are fewer than two different words.
    """

    def __init__(
        self, texts: str, tokenizer: WordPieceTokenizer, *, window: int, negatives: int, seed: int, batch_size: int,
        noise: Float64[np.ndarray, "V"] | None = None, text_field: str = "text",
        max_tokens: int | None = None, tokens_file: str | None = None, data_dir: str | None = None,
    ):  # fmt: skip
        self.tokenizer, self.negatives, self.seed, self.batch_size = tokenizer, negatives, seed, batch_size
        self.offsets = np.array([*range(-window, 0), *range(1, window + 1)])
        self.tokens = read_documents(
            texts, tokenizer, field=text_field, limit=max_tokens, file=tokens_file, data_dir=data_dir
        )
        counts = np.bincount(self.tokens, minlength=tokenizer.vocab_size).astype(float)
        counts[list(tokenizer.special_ids)] = 0
        if (counts > 0).sum() < 2:
            raise UserError(f"{texts}: word vectors need at least two different words")
        if noise is None:
            noise = np.cumsum(counts**NOISE_POWER)
            noise /= noise[-1]
        self.noise = noise
        self.is_special = np.zeros(tokenizer.vocab_size, bool)  # [UNK] is no neighbour either
        self.is_special[list(tokenizer.special_ids)] = True
        self.places = np.flatnonzero(counts[self.tokens])
        self.size = len(self.places)

    def report(self) -> str:
        """A line for the user: how many tokens there are."""
        return token_report(self.tokens, self.tokenizer.unk_id)

    def build(self, indices: Int[np.ndarray, "B"], rows: slice, step: int) -> dict[str, np.ndarray]:
        """Rows `rows` of the batch of `step`; `indices` are what is in them."""
        drawn = np.random.default_rng((self.seed, step)).random((self.batch_size, self.negatives))
        return self._rows(indices, drawn[rows])

    def build_evaluation(self, indices: Int[np.ndarray, "B"], *_) -> dict[str, np.ndarray]:
        """The same negatives at every evaluation, in whatever batch a row is."""
        return self._rows(indices, self._drawn_for_evaluation[indices])

    @cached_property
    def _drawn_for_evaluation(self) -> Float64[np.ndarray, "size negatives"]:
        return np.random.default_rng(self.seed).random((self.size, self.negatives))

    def _rows(self, indices: Int[np.ndarray, "B"], drawn: Float64[np.ndarray, "B negatives"]) -> dict[str, np.ndarray]:
        """"context" int32 [B C] with its "mask" bool; "candidates" int32 [B K] with their "weights" float32."""
        window, place = len(self.offsets) // 2, self.places[indices]
        around = place[:, None] + self.offsets
        inside = (around >= 0) & (around < len(self.tokens))
        context = np.where(inside, self.tokens[np.where(inside, around, 0)], self.tokenizer.sep_id)
        border = context == self.tokenizer.sep_id
        behind = np.logical_or.accumulate(border[:, window:], axis=1)  # of the document's end, seen from the word
        before = np.logical_or.accumulate(border[:, :window][:, ::-1], axis=1)[:, ::-1]
        mask = ~np.concatenate([before, behind], axis=1) & ~self.is_special[context]
        word = self.tokens[place]
        negative = np.searchsorted(self.noise, drawn, side="right")
        weights = np.concatenate([np.ones((len(word), 1), bool), negative != word[:, None]], axis=1)
        weights &= mask.any(axis=1)[:, None]
        return {
            "context": np.where(mask, context, self.tokenizer.pad_id).astype(np.int32), "mask": mask,
            "candidates": np.concatenate([word[:, None], negative], axis=1).astype(np.int32),
            "weights": weights.astype(np.float32),
        }  # fmt: skip
