"""Causal language modelling: predict each token from those before it (Radford et al. 2018, section 3.1).

    documents   the mill ##er sold flour .   |   mira left .
    tokens      [CLS] the mill ##er sold        [CLS] . [SEP] mira left         [CLS] .     [PAD] [PAD] [PAD]
    targets     the mill ##er sold flour        . [SEP] mira left .             .     [SEP] [PAD] [PAD] [PAD]

A document ends with [SEP], so a model learns where a text ends. The documents follow each other, and are cut into rows
of equal length. Every token is a target once in an epoch; the first of a row is predicted from [CLS] alone.
"""

import numpy as np

from tlqa_jax.data.corpus import read_documents, token_report
from tlqa_jax.text.wordpiece import WordPieceTokenizer


class CausalLMRows:
    """The rows that the documents of `texts` make.

    Args:
        texts: a source of texts (`data.sources`); `text_field`, `max_tokens`, `tokens_file` are those of
            `read_documents`.
        input_length: of a row, in tokens.

    Raises UserError if there is no text.
    """

    def __init__(
        self, texts: str, tokenizer: WordPieceTokenizer, *, input_length: int, text_field: str = "text",
        max_tokens: int | None = None, tokens_file: str | None = None, data_dir: str | None = None,
    ):  # fmt: skip
        self.tokenizer, self.input_length = tokenizer, input_length
        self.tokens = read_documents(
            texts, tokenizer, field=text_field, limit=max_tokens, file=tokens_file, data_dir=data_dir
        )
        self.size = -(-len(self.tokens) // input_length)

    def report(self) -> str:
        """A line for the user: how many tokens and rows there are."""
        known = token_report(self.tokens, self.tokenizer.unk_id)
        return f"{known}, in {self.size:,} rows of {self.input_length}"

    def build(self, indices: np.ndarray, *_) -> dict[str, np.ndarray]:
        """The rows `indices`, as `data.batches` asks for them: "tokens", "targets" int32 [B L], and "weights" float32
        [B L], which are 0 behind the last token of the last row."""
        place = indices[:, None] * self.input_length + np.arange(self.input_length)
        real = place < len(self.tokens)
        targets = np.where(real, self.tokens[np.where(real, place, 0)], self.tokenizer.pad_id).astype(np.int32)
        tokens = np.roll(targets, 1, axis=1)
        tokens[:, 0] = self.tokenizer.cls_id
        # behind the end there is nothing to read either; what a causal model sees there changes no target that counts
        return {"tokens": tokens, "targets": targets, "weights": real.astype(np.float32)}
