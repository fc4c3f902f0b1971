"""Questions and their contexts as windows for an encoder that points at the answer (Devlin et al. 2019, section 4.2).

    [CLS] where was mira born [SEP] mira , a clockmaker , was born in oss . [SEP] [PAD] …

A context that is longer than the model's input is read through several windows. A window holds as many tokens of the
context as fit behind the question. The next window begins so that the two share `stride` tokens of the context
(Transformers calls this number `doc_stride`; in BERT's own script the same word is how far a window moves). The last
window is shorter. So every token of the context is in some window, and every answer of at most `stride` + 1 tokens is
complete in one.

The targets are the positions of the answer's first and last token. If a window does not hold the complete answer, both
are 0, the position of [CLS].

Rows are made when they are asked for: stored are the tokens of each distinct context once, and three numbers for each
window. For 88,000 questions about 17,600 paragraphs, as many as in SQuAD, that takes 52 MB and 6 s to make; with all
rows and their characters as arrays it took 558 MB and 14 s. A batch of 32 rows takes 0.23 ms (an indexed array 0.04).

N is the number of examples, W of windows, B of windows in a batch, L the length of a row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32

from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.text.wordpiece import WordPieceTokenizer

CLS_POSITION = 0  # both targets where the answer is not in the window
NOWHERE = -1


class Context(NamedTuple):
    """The S tokens of a context, and the characters [start, end) of the text that each of them stands for."""

    tokens: Int32[np.ndarray, "S"]
    characters: Int32[np.ndarray, "S 2"]


@dataclass(frozen=True)
class Windows:
    """The windows of a list of examples; those of one example follow each other. See `make_windows`."""

    tokenizer: WordPieceTokenizer
    input_length: int  # of a row, at most
    stride: int
    max_question_length: int
    # of each example
    contexts: list[Context]  # examples with the same text share one
    questions: list[Int32[np.ndarray, "_"]]
    question_cut: Bool[np.ndarray, "N"]  # True where the question lost its end
    answers: Int32[np.ndarray, "N 2"]  # the first and the last token of the answer, counted in its context; or NOWHERE
    answer_missing: Bool[np.ndarray, "N"]  # True where there is an answer, but not in the context: not to be learned
    begins: Int32[np.ndarray, "N_plus_1"]  # the windows of example i are [begins[i], begins[i + 1])
    # of each window
    example: Int32[np.ndarray, "W"]
    first: Int32[np.ndarray, "W"]  # the first context token that it holds
    size: Int32[np.ndarray, "W"]  # how many it holds
    before: Int32[np.ndarray, "W"]  # how many tokens stand before the first one: [CLS], the question, [SEP]

    @property
    def learnable(self) -> Int[np.ndarray, "K"]:
        """The windows to train on: all but those of examples whose answer was not found."""
        return np.flatnonzero(~self.answer_missing[self.example])

    @property
    def lengths(self) -> Int32[np.ndarray, "W"]:
        """The number of tokens in each window's row, [CLS] and [SEP] included."""
        return self.before + self.size + 1

    @property
    def longest(self) -> int:
        """The row length that all windows fit into: a multiple of 8, or the input length."""
        return min(-(-int(self.lengths.max(initial=0)) // 8) * 8, self.input_length)

    def batch(self, windows: Int[np.ndarray, "B"], length: int | None = None) -> dict[str, np.ndarray]:
        """The rows of some windows, padded to `length` (default: the input length): int32, each

            "tokens" [B L]        what the model reads; padding is `pad_id`
            "token_types" [B L]   0 for [CLS], the question and [SEP], 1 for the context and its [SEP], 0 for padding;
                                  all 0 if the vocabulary is one without token types
            "start", "end" [B]    positions in the row of the answer's first and last token, or of [CLS]
        """
        length = length or self.input_length
        tokens = np.full((len(windows), length), self.tokenizer.pad_id, np.int32)
        token_types = np.zeros_like(tokens)
        cls, sep = [self.tokenizer.cls_id], [self.tokenizer.sep_id]
        for row, types, example, first, size in zip(tokens, token_types, *self._of(windows)):
            question, context = self.questions[example], self.contexts[example].tokens[first : first + size]
            ids = np.concatenate([cls, question, sep, context, sep])[:length]
            row[: len(ids)] = ids
            types[len(question) + 2 : len(ids)] = self.tokenizer.token_types
        example, first, size = self._of(windows)
        answers = (self.answers[example] - first[:, None]).T
        inside = (answers[0] >= 0) & (answers[1] < size)
        start, end = np.where(inside, answers + self.before[windows], CLS_POSITION).astype(np.int32)
        return {"tokens": tokens, "token_types": token_types, "start": start, "end": end}

    def context_tokens(self, windows: Int[np.ndarray, "B"], length: int | None = None) -> Int32[np.ndarray, "B L"]:
        """Which token of its example's context is at each position of the rows; NOWHERE where none is."""
        _, first, size = (numbers[:, None] for numbers in self._of(windows))
        place = np.arange(length or self.input_length) - self.before[windows, None]
        return np.where((place >= 0) & (place < size), first + place, NOWHERE).astype(np.int32)

    def most_context(self, windows: Int[np.ndarray, "B"], length: int | None = None) -> Bool[np.ndarray, "B L"]:
        """True where this window is the one that shows a context token with most tokens around it.

        What counts is the shorter side (BERT's "max context"): a token with 3 tokens before it and 90 behind it has 3.
        The earlier window wins a tie, so each token of a context has exactly one such window. An answer of at most
        (stride + 1) // 2 tokens is complete in that of its first token.
        """
        tokens = self.context_tokens(windows, length)
        example, first, _ = self._of(windows)
        total = np.array([len(self.contexts[i].tokens) for i in example], np.int32)[:, None]
        room = self.input_length - 1 - self.before[windows, None]

        def shorter_side(first: Int[np.ndarray, "B 1"]) -> Int[np.ndarray, "B L"]:
            return np.minimum(tokens - first, np.minimum(first + room, total) - 1 - tokens)

        first = first[:, None]
        here, best, step = shorter_side(first), tokens != NOWHERE, room - self.stride
        for k in range(1, int(((room - 1) // step).max(initial=0)) + 1):  # windows further away share no token with it
            best &= (here > shorter_side(first - k * step)) | (first < k * step)
            best &= here >= shorter_side(first + k * step)  # behind the last window this is never more
        return best

    def characters(
        self, windows: Int[np.ndarray, "B"], length: int | None = None
    ) -> tuple[Int32[np.ndarray, "B L"], Int32[np.ndarray, "B L"]]:
        """The characters [start, end) of its context that the token at each position stands for, or NOWHERE."""
        tokens = self.context_tokens(windows, length)
        characters = np.full((*tokens.shape, 2), NOWHERE, np.int32)
        for row, places, example in zip(characters, tokens, self.example[windows]):
            row[places != NOWHERE] = self.contexts[example].characters[places[places != NOWHERE]]
        return characters[..., 0], characters[..., 1]

    def report(self) -> str:
        """One line for the user: how much there is, what was cut, what cannot be learned."""
        cut, missing = int(self.question_cut.sum()), int(self.answer_missing.sum())
        return (
            f"{len(self.answers):,} examples in {len(self.example):,} windows of up to {self.input_length} tokens"
            + (f", questions cut to {self.max_question_length} tokens: {cut:,}" if cut else "")
            + (f", not learned from because the first answer is not in the context: {missing:,}" if missing else "")
        )

    def _of(self, windows: Int[np.ndarray, "B"]) -> tuple[Int32[np.ndarray, "B"], ...]:
        return self.example[windows], self.first[windows], self.size[windows]


def make_windows(
    tokenizer: WordPieceTokenizer, examples: Iterable[QAExample], *, input_length: int, stride: int,
    max_question_length: int = 64,
) -> Windows:  # fmt: skip
    """The windows of the examples, each of at most `input_length` tokens.

    A question longer than `max_question_length` tokens loses its end; `Windows.report` says how many do. An answer
    whose characters do not begin or end where tokens do becomes the fewest tokens that cover it.

    Raises UserError if the longest question would leave no room for a new token, or if an example has no context.
    """
    check_lengths(input_length, stride, max_question_length)
    known: dict[str, Context] = {}
    contexts, questions, cut, answers, missing, counts, firsts = [], [], [], [], [], [], []
    for example in examples:
        if example.context is None:
            raise UserError(f"question {example.id} has no context to point at the answer in")
        if example.context not in known:
            ids, offsets = tokenizer.encode_with_offsets(example.context)
            known[example.context] = Context(np.array(ids, np.int32), np.array(offsets, np.int32).reshape(-1, 2))
        context, ids = known[example.context], tokenizer.encode(example.question)
        contexts.append(context)
        questions.append(np.array(ids[:max_question_length], np.int32))
        cut.append(len(ids) > max_question_length)
        answer = answer_tokens(example, context) if example.answers else (NOWHERE, NOWHERE)
        missing.append(answer is None)
        answers.append(answer or (NOWHERE, NOWHERE))
        step = input_length - 3 - len(questions[-1]) - stride
        own = range(0, max(len(context.tokens) - stride, 1), step)
        firsts += own
        counts.append(len(own))
    example = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    first = np.array(firsts, np.int32)
    before = (np.array([len(ids) for ids in questions], np.int32) + 2)[example]
    left = np.array([len(context.tokens) for context in contexts], np.int32)[example] - first
    return Windows(
        tokenizer, input_length, stride, max_question_length,
        contexts, questions, np.array(cut, bool), np.array(answers, np.int32).reshape(-1, 2), np.array(missing, bool),
        np.cumsum([0, *counts], dtype=np.int32), example, first, np.minimum(left, input_length - 1 - before), before,
    )  # fmt: skip


def check_lengths(input_length: int, stride: int, max_question_length: int) -> None:
    """Refuse lengths that leave a window no new token behind a question of the greatest length."""
    room = input_length - 3 - max_question_length
    if room <= stride:
        raise UserError(
            f"--input-length {input_length} leaves {max(room, 0)} tokens of context behind a question of "
            f"--max-question-length {max_question_length}, and a window shares --stride {stride} of them with the "
            "next: make it longer, or one of them shorter"
        )


def answer_tokens(example: QAExample, context: Context) -> tuple[int, int] | None:
    """The first and the last context token of the first answer: the fewest that cover its characters.

    None if the answer is not in the context, or none of its characters became a token. An answer without a start is
    searched for in the text.
    """
    answer = example.answers[0]
    start = example.answer_starts[0] if example.answer_starts else example.context.find(answer)
    if start < 0:
        return None
    starts, ends = context.characters.T
    first = int(ends.searchsorted(start, side="right"))  # the first token that ends behind the answer's start
    last = int(starts.searchsorted(start + len(answer), side="left")) - 1  # the last that starts before its end
    return (first, last) if first <= last else None
