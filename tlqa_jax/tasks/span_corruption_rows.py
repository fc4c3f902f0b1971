"""The rows of span-corruption pretraining: windows of text with noise, and perhaps questions among them.

Which window, noise and question stand in a row is a function of (seed, step, row), whatever the number of devices.
"""

import numpy as np

from tlqa_jax.data.corpus import SpansFrom, read_corpus, token_report
from tlqa_jax.data.sources import open_questions
from tlqa_jax.errors import UserError
from tlqa_jax.tasks import span_corruption, text_to_text
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer


class SpanCorruptionRows:
    """Windows of the concatenated documents of `texts`, with new noise each time, and perhaps questions.

    A window has `tokens_length` tokens, the number that random noise turns into exactly `input_length` inputs.

    Args:
        texts: a source of texts (`data.sources`); `text_field`, `max_tokens`, `tokens_file` are those of `read_corpus`.
        input_length: of the encoder, in tokens. With salient spans it grows to hold the longest row.
        salient_share: share of the rows that mask salient spans, which come from `salient_spans`; `salient_rate` is the
            share of the spans masked there.
        questions: a source of questions; `questions_share` is the share of the rows that are questions.

    Raises UserError if the texts are fewer than one window, or the vocabulary has too few sentinels.
    """

    def __init__(
        self, texts: str, tokenizer: SentencePieceTokenizer, *, input_length: int, seed: int, batch_size: int,
        noise_density: float = 0.15, mean_span_length: float = 3.0, salient_share: float = 0.0,
        salient_spans: SpansFrom = "marked", salient_rate: float = 0.5, questions: str | None = None,
        questions_share: float = 0.0, text_field: str = "text", max_tokens: int | None = None,
        tokens_file: str | None = None, data_dir: str | None = None,
    ):  # fmt: skip
        self.seed, self.batch_size, self.sentinels = seed, batch_size, tokenizer.sentinels
        self.noise, self.salient_rate, self.input_length = (noise_density, mean_span_length), salient_rate, input_length
        self.tokens_length, self.target_length = span_corruption.tokens_length_for(input_length, *self.noise)
        # of each batch, rows [0, asked) are questions and rows [asked, marked) have salient noise
        self.asked = round(questions_share * batch_size)
        self.marked = self.asked + round(salient_share * batch_size)
        spans = span_corruption.noise_counts(self.tokens_length, *self.noise)[1]
        if spans > len(self.sentinels):
            raise UserError(
                f"--input-length {input_length} needs {spans} sentinels, the vocabulary has {len(self.sentinels)}"
            )
        examples = open_questions(questions, data_dir=data_dir) if questions_share else []
        corpus = read_corpus(
            texts, tokenizer, spans=salient_spans if salient_share else None, data_dir=data_dir, field=text_field,
            limit=max_tokens, file=tokens_file,
        )  # fmt: skip
        self.size = len(corpus.tokens) // self.tokens_length
        if self.size == 0:
            raise UserError(
                f"{texts} has {len(corpus.tokens):,} tokens, fewer than one window of {self.tokens_length}: "
                "give more text or a smaller --input-length"
            )
        windows = lambda tokens: tokens[: self.size * self.tokens_length].reshape(self.size, self.tokens_length)
        self.tokens, self._known = windows(corpus.tokens), token_report(corpus.tokens, tokenizer.unk_id)
        if salient_share:
            self.spans = span_corruption.number_spans(windows(corpus.spans))
            # spans of one token make a window no shorter, and the end token comes on top
            self.input_length = max(self.input_length, self.tokens_length + 1)
            longest = span_corruption.longest_salient_targets(self.spans, salient_rate, len(self.sentinels))
            self.target_length = max(self.target_length, longest)
        self.target_length = max(self.target_length, text_to_text.longest_target(tokenizer, examples))
        self.questions = text_to_text.encode_examples(
            tokenizer, examples, input_length=self.input_length, target_length=self.target_length
        )

    def report(self) -> list[str]:
        """Lines for the user: how many tokens and rows there are, and how much of the questions was cut."""
        lines = [f"training: {self._known}, in {self.size:,} rows of {self.tokens_length}"]
        return lines + ([f"questions: {self.questions.report()}"] if self.asked else [])

    def build(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """Rows `rows` of the batch of `step`; `indices` are their windows.

        The first rows of a batch are questions, then come those with salient noise, then those with random noise.
        """
        mask = self._random_mask(np.random.default_rng((self.seed, step)), self.batch_size)[rows]
        row_rngs = {
            row: np.random.default_rng((self.seed, step, row)) for row in range(rows.start, min(rows.stop, self.marked))
        }
        for row, rng in row_rngs.items():
            if row >= self.asked:
                own = row - rows.start
                spans = self.spans[indices[own]][None]
                mask[own] = span_corruption.salient_spans_mask(rng, spans, self.salient_rate, len(self.sentinels))[0]
        batch = self._corrupted(indices, mask)
        for row, rng in row_rngs.items():
            if row < self.asked:
                chosen = rng.integers(len(self.questions.inputs))
                batch["inputs"][row - rows.start] = self.questions.inputs[chosen]
                batch["targets"][row - rows.start] = self.questions.targets[chosen]
        return batch

    def build_evaluation(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """Random noise only. A window has the same noise at every evaluation, in whatever batch it is."""
        rngs = [np.random.default_rng((self.seed, index)) for index in indices]
        return self._corrupted(indices, np.concatenate([self._random_mask(rng, 1) for rng in rngs]))

    def _random_mask(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        return span_corruption.random_spans_mask(rng, batch, self.tokens_length, *self.noise)

    def _corrupted(self, windows: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        inputs, targets = span_corruption.corrupt(
            self.tokens[windows], mask,
            sentinels=self.sentinels, inputs_length=self.input_length, targets_length=self.target_length,
        )  # fmt: skip
        return {"inputs": inputs, "targets": targets}
