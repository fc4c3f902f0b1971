"""Questions in, a T5's answers out."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tlqa_jax.examples import QAExample
from tlqa_jax.inference.generator import Generation, Generator
from tlqa_jax.inference.length_buckets import groups_of_questions
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.context_windows import question_rows


class Answer(NamedTuple):
    """The text generated, the probability that the model gives to exactly this text, and how the context was read.

    `probability` is the confidence in the answer. If a no-answer threshold has emptied `text`, it is the probability of
    the text before.
    """

    text: str
    probability: float
    context_cut: bool
    windows: int = 1  # number of windows the context was read through; the answer is from one of them
    pieces: tuple[str, ...] = ()  # with the end token, unless the answer was stopped by its length
    token_probabilities: tuple[float, ...] = ()

    @property
    def no_answer_score(self) -> float:
        return no_answer_score(self.probability)


def no_answer_score(probability: float) -> float:
    """-log of the probability of a text, in nats: how unsure the model is of it, also if it is empty."""
    return -math.log(max(probability, 1e-300))


class Answerer:
    """Answers questions with a T5, on all of this process's devices, in bounded memory.

    Args:
        input_length: longest input in tokens.
        stride: a context that does not fit is read through windows that share this many tokens, and the answer with the
            highest probability is taken; an empty one only if all are empty. None: the context loses its end
            (`Answer.context_cut`), as in training, which is cheaper.
        no_answer_threshold: the answer is empty if the no-answer score is above it. None: there is no threshold.
    """

    def __init__(
        self, generator: Generator, *, input_length: int, stride: int | None = None,
        no_answer_threshold: float | None = None,
    ):  # fmt: skip
        self.generator, self.input_length, self.stride = generator, input_length, stride
        self.no_answer_threshold = no_answer_threshold

    def __call__(self, params: Params, examples: Iterable[QAExample], *, use_context: bool = True) -> list[Answer]:
        """The answers to `examples`, in their order. `params` are replicated (`core.devices.replicate`)."""
        groups = groups_of_questions(examples)
        return [answer for group in groups for answer in self._answers(params, group, use_context)]

    def _answers(self, params: Params, examples: list[QAExample], use_context: bool) -> Iterator[Answer]:
        rows = question_rows(
            self.generator.tokenizer, examples, input_length=self.input_length, stride=self.stride,
            use_context=use_context,
        )  # fmt: skip
        generated = self.generator(params, rows.inputs, rows.lengths)
        for begin, end, cut in zip(rows.begins, rows.begins[1:], rows.cut.tolist()):
            best = most_confident([texts[0] for texts in generated[begin:end]])
            answer = to_answer(best, cut=cut, windows=int(end - begin))
            yield apply_no_answer_threshold(answer, self.no_answer_threshold)


def to_answer(generation: Generation, *, cut: bool, windows: int = 1) -> Answer:
    text, probability, pieces, token_probabilities = generation
    return Answer(text, probability, cut, windows, pieces, token_probabilities)


def most_confident(texts: list[Generation]) -> Generation:
    """The text with the highest probability; an empty one only if all windows' texts are empty.

    The text of a window without the answer is rightly empty. If all are, the one with the lowest probability counts.
    """
    if any(one.text for one in texts):
        return max((one for one in texts if one.text), key=lambda one: one.probability)
    return min(texts, key=lambda one: one.probability)


def apply_no_answer_threshold(answer: Answer, threshold: float | None) -> Answer:
    """The answer with an empty text if its no-answer score is above the threshold."""
    if threshold is not None and answer.no_answer_score > threshold:
        return answer._replace(text="")
    return answer
