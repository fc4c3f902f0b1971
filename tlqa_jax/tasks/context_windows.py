"""Questions about contexts longer than a T5's input: windows over the context, each with the question before it.

    question: Where was Mira born? context: Mira, a clockmaker, plays
    question: Where was Mira born? context: plays the flute. She was born
    question: Where was Mira born? context: was born in Oss.

Each window holds as many tokens of the context as fit. Two neighbours share `stride` of them, as in `extractive_qa`, or
half of the room that the question leaves, if that is less.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.tasks.text_to_text import encode_examples, qa_source
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer


class QuestionRows(NamedTuple):
    """The rows of some examples, each its tokens, the end token, padding; those of one example follow each other."""

    inputs: Int32[np.ndarray, "R I"]
    lengths: Int32[np.ndarray, "R"]  # tokens in each row, the end token included
    begins: Int32[np.ndarray, "N_plus_1"]  # the rows of example i are [begins[i], begins[i + 1])
    cut: Bool[np.ndarray, "N"]  # True where the context lost its end


def question_rows(
    tokenizer: SentencePieceTokenizer, examples: Iterable[QAExample], *, input_length: int, stride: int | None = None,
    use_context: bool = True,
) -> QuestionRows:  # fmt: skip
    """One row for each question. If its context does not fit: one for each window, or, without a stride, one cut row.

    Raises UserError if a question leaves no room for its context, or does not fit itself.
    """
    examples = list(examples)
    whole = encode_examples(tokenizer, examples, input_length=input_length, target_length=1, use_context=use_context)
    windowed = whole.inputs_cut & (stride is not None)
    rows: list[Sequence[int]] = []
    begins = [0]
    for i, example in enumerate(examples):
        if windowed[i]:
            rows += _windows_of(tokenizer, example, input_length, stride)
        else:
            rows.append(whole.inputs[i, : whole.input_lengths[i]].tolist())
        begins.append(len(rows))
    inputs = np.full((len(rows), input_length), tokenizer.pad_id, np.int32)
    for row, ids in zip(inputs, rows):
        row[: len(ids)] = ids
    lengths = np.array([len(ids) for ids in rows], np.int32)
    return QuestionRows(inputs, lengths, np.array(begins, np.int32), whole.inputs_cut & ~windowed)


def _windows_of(
    tokenizer: SentencePieceTokenizer, example: QAExample, input_length: int, stride: int
) -> list[list[int]]:
    """The ids of each window of one example: the question, a part of the context, the end token."""
    question, context = tokenizer.encode_batch([f"{qa_source(example.question)} context:", example.context.strip()])
    room = input_length - 1 - len(question)
    if room < 1:
        raise UserError(
            f"the question of example {example.id!r} takes all of the {input_length} tokens that the model reads at "
            "once, and leaves none for its context: shorten it"
        )
    shared = min(stride, room // 2)
    starts = range(0, max(len(context) - shared, 1), room - shared)
    return [[*question, *context[start : start + room], tokenizer.eos_id] for start in starts]
