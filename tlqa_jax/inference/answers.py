"""Questions in, answers in words out."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tlqa_jax.inference.answer_spans import in_groups
from tlqa_jax.inference.generation_config import Method
from tlqa_jax.inference.generator import Writer, Written
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.context_windows import question_rows
from tlqa_jax.tasks.text_to_text import Example
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer


class Answer(NamedTuple):
    """What the model wrote, the probability it gave to exactly this text, and how its context was read.

    `probability` is the confidence in the answer; where a no-answer threshold has withheld it, `text` is empty, and
    `probability` is that of the text withheld.
    """

    text: str
    probability: float
    context_cut: bool
    windows: int = 1  # in how many pieces the context was read; the answer is from one of them
    pieces: tuple[str, ...] = ()  # with the end token, unless the answer was stopped by its length
    token_probabilities: tuple[float, ...] = ()

    @property
    def no_answer_score(self) -> float:
        """-log of the probability, in nats: how unsure the model is of what it wrote, also where that is nothing ("")."""
        return -math.log(max(self.probability, 1e-300))


class Answerer:
    """Answers questions with a T5, on all of this process's devices, in bounded memory.

    Args:
        apply: the T5 as a function.
        input_length: longest input in tokens.
        target_length: longest answer in tokens.
        batch_size: rows at once where there are many.
        method: how the answers are written.
        writer: what writes them, where there is one; `target_length`, `batch_size` and `method` are then its own.
        stride: a context that does not fit is read through windows that share so many tokens, and the answer in
            which the model has most confidence is taken; an empty one only if there is no other. None: it loses its
            end (`Answer.context_cut`), as in training, which is cheaper.
        null_threshold: the answer is none where the no-answer score is above it. None: there is no threshold.
    """

    def __init__(
        self, apply: Callable, tokenizer: SentencePieceTokenizer, *, input_length: int, target_length: int,
        batch_size: int = 32, method: Method = Method(), stride: int | None = None,
        null_threshold: float | None = None, writer: Writer | None = None,
    ):  # fmt: skip
        self.tokenizer, self.input_length = tokenizer, input_length
        self.stride, self.null_threshold = stride, null_threshold
        self.writer = writer or Writer(
            apply, tokenizer, target_length=target_length, batch_size=batch_size, method=method
        )

    def __call__(self, params: Params, examples: Iterable[Example], *, use_context: bool = True) -> list[Answer]:
        """The answers to `examples`, in their order. `params` are replicated (`training.devices.replicate`)."""
        return [answer for group in in_groups(examples) for answer in self._answers(params, group, use_context)]

    def _answers(self, params: Params, examples: list[Example], use_context: bool) -> Iterator[Answer]:
        rows = question_rows(
            self.tokenizer, examples, input_length=self.input_length, stride=self.stride, use_context=use_context
        )
        written = self.writer(params, rows.inputs, rows.lengths)
        for begin, end, cut in zip(rows.begins, rows.begins[1:], rows.cut.tolist()):
            best = most_confident([texts[0] for texts in written[begin:end]])
            yield withheld(answer_of(best, cut=cut, windows=int(end - begin)), self.null_threshold)


def answer_of(written: Written, *, cut: bool, windows: int = 1) -> Answer:
    return Answer(written.text, written.probability, cut, windows, written.pieces, written.token_probabilities)


def most_confident(texts: list[Written]) -> Written:
    """Of what was written about each window. A window without the answer may rightly say nothing: that counts last."""
    if any(written.text for written in texts):
        return max((written for written in texts if written.text), key=lambda written: written.probability)
    return min(texts, key=lambda written: written.probability)  # the window least inclined to say nothing


def withheld(answer: Answer, null_threshold: float | None) -> Answer:
    """The answer, but none ("") where its no-answer score is above the threshold."""
    if null_threshold is not None and answer.no_answer_score > null_threshold:
        return answer._replace(text="")
    return answer
