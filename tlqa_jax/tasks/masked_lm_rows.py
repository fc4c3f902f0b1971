"""The rows of masked-LM pretraining: pairs of segments, or rows filled with text, with new masks in every epoch.

Row i of epoch e is drawn from a generator of its own, seeded (seed, e, i). So it is the same in whatever batch it is and
on however many devices, and another one in the next epoch.
"""

import numpy as np

from tlqa_jax.data.corpus import token_report, tokenize_sentences
from tlqa_jax.data.sources import open_texts
from tlqa_jax.errors import UserError
from tlqa_jax.tasks.masked_lm import mask_tokens, most_predictions
from tlqa_jax.tasks.next_sentence import SentencePairs, assemble, full_rows
from tlqa_jax.text.wordpiece import WordPieceTokenizer


class MaskedLMRows:
    """The rows that the documents of `texts` make.

    Args:
        texts: a source of texts (`data.sources`); `text_field`, `max_tokens`, `tokens_file` are those of `open_texts` and
            `tokenize_sentences`.
        input_length: of a row, in tokens.
        next_sentence: whether rows are pairs of segments.
        mask_rate: share of the tokens to predict; `whole_words` masks all pieces of a word together.

    Raises UserError if there is no text, or too little for pairs.
    """

    def __init__(
        self, texts: str, tokenizer: WordPieceTokenizer, *, input_length: int, seed: int, batch_size: int,
        next_sentence: bool = True, mask_rate: float = 0.15, whole_words: bool = False, text_field: str = "text",
        max_tokens: int | None = None, tokens_file: str | None = None, data_dir: str | None = None,
    ):  # fmt: skip
        self.tokenizer, self.input_length, self.seed, self.batch_size = tokenizer, input_length, seed, batch_size
        self.mask_rate, self.whole_words = mask_rate, whole_words
        self.max_predictions = most_predictions(input_length, mask_rate)
        documents = open_texts(texts, data_dir=data_dir, field=text_field)
        corpus = tokenize_sentences(documents, tokenizer, limit=max_tokens, file=tokens_file)
        if not len(corpus.tokens):
            raise UserError(f"{texts} has no text to learn from")
        self.tokens, self.pairs = corpus.tokens, None
        if next_sentence:
            try:
                self.pairs = SentencePairs(corpus.sentences, corpus.documents, input_length, seed=seed)
            except UserError as error:
                raise UserError(f"{texts}: {error}; or train without pairs: --no-next-sentence") from None
            self.size = self.pairs.size
        else:
            self.spans = full_rows(len(corpus.tokens), input_length)
            self.size = len(self.spans)

    def report(self) -> str:
        """A line for the user: how many tokens and rows there are."""
        known = token_report(self.tokens, self.tokenizer.unk_id)
        return f"{known}, in {self.size:,} rows of {self.input_length}"

    def build(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """Rows `rows` of the batch of `step`; `indices` are what is in them."""
        # the stream of batches goes through all rows, then through all again: a place in it tells the epoch
        epochs = (step * self.batch_size + np.arange(rows.start, rows.stop)) // self.size
        return self._rows(indices, epochs)

    def build_evaluation(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """The rows of the first epoch, the same at every evaluation."""
        return self._rows(indices, np.zeros(len(indices), int))

    def _rows(self, indices: np.ndarray, epochs: np.ndarray) -> dict[str, np.ndarray]:
        tokenizer = self.tokenizer
        rngs = [np.random.default_rng((self.seed, *row)) for row in zip(epochs.tolist(), indices.tolist())]
        pairs = self.pairs.draw(rngs, indices) if self.pairs else None
        first, second = (pairs.first, pairs.second) if pairs else (self.spans[indices], None)
        rows = assemble(
            self.tokens, first, second, length=self.input_length,
            cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id, pad_id=tokenizer.pad_id,
        )  # fmt: skip
        masked = mask_tokens(
            rngs, rows.tokens, maskable=rows.is_text, mask_id=tokenizer.mask_id, vocab_size=tokenizer.vocab_size,
            special_ids=tokenizer.special_ids, max_predictions=self.max_predictions, rate=self.mask_rate,
            word_starts=~tokenizer.continuation[rows.tokens] if self.whole_words else None,
        )  # fmt: skip
        batch = {**masked._asdict(), "token_types": rows.token_types * tokenizer.token_types}
        # 0: it follows (see `PretrainingLogits`)
        return batch if pairs is None else batch | {"next_sentence": (~pairs.is_next).astype(np.int32)}
