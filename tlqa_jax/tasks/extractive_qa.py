"""Questions and their contexts as windows for an encoder that points at the answer (Devlin et al. 2019, section 4.2).

    [CLS] where was mira born [SEP] mira , a clockmaker , was born in oss . [SEP] [PAD] …

A context longer than the model is read through several windows. A window holds as many tokens of the context as fit
behind the question, the next one begins so that the two share `stride` tokens of the context (Transformers calls that
number `doc_stride`; in BERT's own script the same word is how far a window moves), and the last one is shorter. So
every token of the context is in some window, and every answer of at most `stride` + 1 tokens is whole in one.

The answer is learned as its first and last token; where a window does not hold all of it, both are [CLS], position 0.

Windows are not stored: kept are the tokens of each context once, however many questions are asked about it, with the
characters they come from, and two numbers for a window. Rows are put together when they are asked for.

N is the number of examples, W of windows, T of tokens of all contexts together, L the length of a row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Int32

from tlqa_jax.errors import UserError

CLS_POSITION = 0  # what both targets are where the answer is not in the window
NOWHERE = -1


@runtime_checkable
class Tokenizer(Protocol):
    """What this task needs of a tokenizer."""

    pad_id: int
    cls_id: int
    sep_id: int

    def encode_with_offsets(self, text: str) -> tuple[Sequence[int], Sequence[tuple[int, int]]]: ...


@runtime_checkable
class Example(Protocol):
    """What this task needs of an example. The first answer is the one to learn; no answers means: unanswerable.

    An answer without a start is taken to be the first occurrence of its text.
    """

    id: str
    question: str
    answers: Sequence[str]
    answer_starts: Sequence[int]
    context: str | None


@dataclass(frozen=True)
class Windows:
    """The windows of a list of examples, those of one example one after another. See `make_windows`."""

    input_length: int  # longest row
    stride: int
    max_question_length: int
    pad_id: int
    cls_id: int
    sep_id: int
    # the distinct contexts, one after another
    tokens: Int32[np.ndarray, "T"]
    starts: Int32[np.ndarray, "T"]  # the characters [start, end) of the context that each token stands for
    ends: Int32[np.ndarray, "T"]
    # the questions, one after another; question i is [question_begins[i], question_begins[i + 1])
    question_tokens: Int32[np.ndarray, "Q"]
    question_begins: Int32[np.ndarray, "N_plus_1"]
    question_cut: Bool[np.ndarray, "N"]  # True where the question lost its end
    context_begins: Int32[np.ndarray, "N"]  # where an example's context begins in `tokens`
    context_lengths: Int32[np.ndarray, "N"]
    answers: Int32[np.ndarray, "N 2"]  # the first and the last token of the answer, counted in its context; or NOWHERE
    answer_missing: Bool[np.ndarray, "N"]  # True where there is an answer, but not in the context: not to be learned

    @cached_property
    def question_lengths(self) -> Int32[np.ndarray, "N"]:
        return np.diff(self.question_begins)

    @cached_property
    def begins(self) -> Int32[np.ndarray, "N_plus_1"]:
        """The windows of example i are [begins[i], begins[i + 1])."""
        room = self._room(slice(None))
        more = np.maximum(self.context_lengths - room, 0)
        counts = 1 + -(-more // (room - self.stride))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)

    @cached_property
    def example(self) -> Int32[np.ndarray, "W"]:
        """The example that each window belongs to."""
        return np.repeat(np.arange(len(self.begins) - 1, dtype=np.int32), np.diff(self.begins))

    @property
    def learnable(self) -> Int[np.ndarray, "K"]:
        """The windows to train on: all but those of examples whose answer was not found."""
        return np.flatnonzero(~self.answer_missing[self.example])

    @property
    def lengths(self) -> Int[np.ndarray, "W"]:
        """The number of tokens in each window's row, [CLS] and [SEP] among them."""
        return 3 + self.question_lengths[self.example] + self._extent(np.arange(len(self.example)))[1]

    @cached_property
    def longest(self) -> int:
        """How long rows need to be for all windows to fit in: a multiple of 8, or the input length."""
        return min(-(-int(self.lengths.max(initial=0)) // 8) * 8, self.input_length)

    def batch(self, windows: Int[np.ndarray, "B"], length: int | None = None) -> dict[str, np.ndarray]:
        """The rows of some windows, padded to `length` (without it, to the input length): int32, each

            "tokens" [B L]        what the model reads; padding is `pad_id`
            "token_types" [B L]   0 for [CLS], the question and [SEP], 1 for the context and its [SEP], 0 for padding
            "start", "end" [B]    positions in the row of the answer's first and last token, or of [CLS]
        """
        example = self.example[windows][:, None]
        asked = self.question_lengths[example]
        first, size = self._extent(windows)
        place = np.arange(length or self.input_length)[None]
        in_question = (place >= 1) & (place <= asked)
        behind = place - asked - 2  # counted from the window's first context token
        in_context = (behind >= 0) & (behind < size[:, None])
        tokens = np.full(behind.shape, self.pad_id, np.int32)
        tokens[:, 0] = self.cls_id
        tokens[in_question] = self.question_tokens[(self.question_begins[example] + place - 1)[in_question]]
        tokens[in_context] = self.tokens[(self.context_begins[example] + first[:, None] + behind)[in_context]]
        tokens[(behind == -1) | (behind == size[:, None])] = self.sep_id
        token_types = ((behind >= 0) & (behind <= size[:, None])).astype(np.int32)

        answers = self.answers[example[:, 0]] - first[:, None]
        inside = (answers[:, 0] >= 0) & (answers[:, 1] < size)
        start, end = np.where(inside[:, None], answers + asked + 2, CLS_POSITION).astype(np.int32).T
        return {"tokens": tokens, "token_types": token_types, "start": start, "end": end}

    def context_tokens(self, windows: Int[np.ndarray, "B"], length: int | None = None) -> Int32[np.ndarray, "B L"]:
        """Which token of its example's context stands at each position of the rows; NOWHERE where none does."""
        first, size = self._extent(windows)
        asked = self.question_lengths[self.example[windows]]
        behind = np.arange(length or self.input_length)[None] - asked[:, None] - 2
        in_context = (behind >= 0) & (behind < size[:, None])
        return np.where(in_context, behind + first[:, None], NOWHERE).astype(np.int32)

    def most_context(self, windows: Int[np.ndarray, "B"], length: int | None = None) -> Bool[np.ndarray, "B L"]:
        """True where this window is the one that shows a context token with most tokens around it.

        What counts is the shorter side (BERT's "max context"): a token with 3 on its left and 90 on its right has 3.
        The earlier window wins a tie, so that each token of a context has exactly one such window. An answer of at most
        (stride + 1) // 2 tokens is whole in that of its first token.
        """
        example = self.example[windows]
        tokens = self.context_tokens(windows, length)
        first, _ = self._extent(windows)
        room, total = self._room(example)[:, None], self.context_lengths[example][:, None]

        def shorter_side(first: Int[np.ndarray, "B 1"]) -> Int[np.ndarray, "B L"]:
            return np.minimum(tokens - first, np.minimum(first + room, total) - 1 - tokens)

        here, best, step = shorter_side(first[:, None]), tokens != NOWHERE, room - self.stride
        for k in range(1, int(((room - 1) // step).max(initial=0)) + 1):  # windows farther off share no token with this
            before = first[:, None] - k * step
            best &= (here > shorter_side(before)) | (before < 0)
            best &= here >= shorter_side(first[:, None] + k * step)  # past the last window, never more than in it
        return best

    def characters(
        self, windows: Int[np.ndarray, "B"], length: int | None = None
    ) -> tuple[Int32[np.ndarray, "B L"], Int32[np.ndarray, "B L"]]:
        """The characters [start, end) of its context that the token at each position stands for, or NOWHERE."""
        tokens = self.context_tokens(windows, length)
        here = tokens != NOWHERE
        place = (self.context_begins[self.example[windows]][:, None] + tokens)[here]
        starts, ends = np.full_like(tokens, NOWHERE), np.full_like(tokens, NOWHERE)
        starts[here], ends[here] = self.starts[place], self.ends[place]
        return starts, ends

    def report(self) -> str:
        """One line for the user: how much there is, what was cut, what cannot be learned."""
        cut, missing = int(self.question_cut.sum()), int(self.answer_missing.sum())
        return (
            f"{len(self.answers):,} examples in {len(self.example):,} windows of up to {self.input_length} tokens"
            + (f", questions cut to {self.max_question_length} tokens: {cut:,}" if cut else "")
            + (f", not learned from because the first answer is not in the context: {missing:,}" if missing else "")
        )

    def _room(self, examples: np.ndarray | slice) -> Int[np.ndarray, "B"]:
        """How many context tokens fit into a window of these examples, behind the question and three special tokens."""
        return self.input_length - 3 - self.question_lengths[examples]

    def _extent(self, windows: Int[np.ndarray, "B"]) -> tuple[Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """(first, size): the context tokens that windows hold are [first, first + size) of their example's."""
        example = self.example[windows]
        room = self._room(example)
        first = (windows - self.begins[example]) * (room - self.stride)
        return first, np.minimum(room, self.context_lengths[example] - first)


def make_windows(
    tokenizer: Tokenizer, examples: Iterable[Example], *, input_length: int, stride: int, max_question_length: int = 64
) -> Windows:
    """The windows of the examples, each of at most `input_length` tokens.

    A question longer than `max_question_length` tokens loses its end; how many do is in `Windows.report`. An answer
    whose characters do not begin or end where tokens do becomes the fewest tokens that cover it.

    Raises UserError if there would be no room to move on behind the longest question, or an example has no context.
    """
    check_lengths(input_length, stride, max_question_length)
    examples = list(examples)
    contexts: dict[str, int] = {}  # each distinct context -> its number
    tokens, characters, begins = [], [], [0]
    questions, cut, numbers = [], [], []
    for example in examples:
        if example.context is None:
            raise UserError(f"question {example.id} has no context to point at the answer in")
        if example.context not in contexts:
            contexts[example.context] = len(contexts)
            ids, offsets = tokenizer.encode_with_offsets(example.context)
            tokens.append(np.array(ids, np.int32))
            characters.append(np.array(offsets, np.int32).reshape(-1, 2))
            begins.append(begins[-1] + len(ids))
        numbers.append(contexts[example.context])
        ids, _ = tokenizer.encode_with_offsets(example.question)
        questions.append(np.array(ids[:max_question_length], np.int32))
        cut.append(len(ids) > max_question_length)

    answers = np.full((len(examples), 2), NOWHERE, np.int32)
    missing = np.zeros(len(examples), bool)
    for i, example in enumerate(examples):
        if example.answers:
            span = answer_tokens(example, *characters[numbers[i]].T)
            missing[i] = span is None
            answers[i] = span or NOWHERE
    starts, ends = (joined([span[:, side] for span in characters]) for side in (0, 1))
    return Windows(
        input_length, stride, max_question_length, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id,
        joined(tokens), starts, ends,
        joined(questions), np.cumsum([0, *map(len, questions)], dtype=np.int32), np.array(cut, bool),
        np.array(begins, np.int32)[numbers], np.diff(begins).astype(np.int32)[numbers], answers, missing,
    )  # fmt: skip


def check_lengths(input_length: int, stride: int, max_question_length: int) -> None:
    """Refuse lengths that leave a window no token of its own behind a question of the greatest length."""
    room = input_length - 3 - max_question_length
    if room <= stride:
        raise UserError(
            f"--input-length {input_length} leaves {max(room, 0)} tokens of context behind a question of "
            f"--max-question-length {max_question_length}, and a window shares --stride {stride} of them with the "
            "next: make it longer, or one of them shorter"
        )


def answer_tokens(
    example: Example, starts: Int32[np.ndarray, "S"], ends: Int32[np.ndarray, "S"]
) -> tuple[int, int] | None:
    """The first and the last context token of the first answer: the fewest that cover its characters.

    `starts` and `ends` are the characters of the context's tokens. None if the answer is not in the context, or none of
    its characters became a token.
    """
    answer = example.answers[0]
    start = example.answer_starts[0] if example.answer_starts else (example.context or "").find(answer)
    if start < 0:
        return None
    first = int(np.searchsorted(ends, start, side="right"))  # the first token that ends behind the answer's start
    last = int(np.searchsorted(starts, start + len(answer), side="left")) - 1  # the last that starts before its end
    return (first, last) if first <= last else None


def joined(arrays: Sequence[Int32[np.ndarray, "_"]]) -> Int32[np.ndarray, "_"]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
