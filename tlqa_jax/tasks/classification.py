"""Labelled texts as arrays: [CLS] text [SEP] and the number of a class (Devlin et al. 2019, figure 4b)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText
from tlqa_jax.tasks.text_to_text import encode_rows
from tlqa_jax.text.wordpiece import WordPieceTokenizer


@dataclass(frozen=True)
class LabelledRows:
    """Texts as rows of ids with padding, and the number of each text's class."""

    tokens: Int32[np.ndarray, "N L"]
    labels: Int32[np.ndarray, "N"]
    cut: int  # texts that lost their end

    @property
    def size(self) -> int:
        return len(self.tokens)

    def build(self, indices: np.ndarray, *_) -> dict[str, np.ndarray]:
        """The rows `indices`, as `data.batches` asks for them."""
        return {"tokens": self.tokens[indices], "labels": self.labels[indices]}

    def report(self) -> str:
        cut = f", {self.cut:,} of them cut to {self.tokens.shape[1]} tokens" if self.cut else ""
        return f"{self.size:,} texts{cut}"


def encode_texts(
    tokenizer: WordPieceTokenizer, texts: Sequence[str], *, input_length: int
) -> tuple[Int32[np.ndarray, "N L"], Int32[np.ndarray, "N"]]:
    """[CLS] text [SEP] in each row, and the length that it needs: a text longer than `input_length` loses its end."""
    if input_length < 3:
        raise UserError(f"--input-length {input_length}: [CLS], [SEP] and one token of the text need at least 3")
    return encode_rows(tokenizer, texts, input_length, first=[tokenizer.cls_id], last=[tokenizer.sep_id])


def encode_labelled(
    tokenizer: WordPieceTokenizer, examples: Sequence[LabelledText], *, labels: Sequence[str], input_length: int
) -> LabelledRows:
    """The examples as arrays, no longer than the longest needs; the number of a class is its place in `labels`."""
    numbers = {label: number for number, label in enumerate(labels)}
    tokens, lengths = encode_texts(tokenizer, [example.text for example in examples], input_length=input_length)
    labels = np.array([numbers[example.label] for example in examples], np.int32)
    longest = -(-lengths.max(initial=0) // 8) * 8
    return LabelledRows(tokens[:, :longest], labels, int((lengths > input_length).sum()))


def labels_of(examples: Sequence[LabelledText]) -> tuple[str, ...]:
    """The labels that occur: numbers by size, then the others in alphabetical order. (`finetune-classifier` uses it.)"""
    by_size = lambda label: (len(label) if label.isdecimal() else 99, label)
    return tuple(sorted({example.label for example in examples}, key=by_size))
