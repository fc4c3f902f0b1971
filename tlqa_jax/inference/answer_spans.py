"""From the start and end logits of all windows of a question to its n best answers, or to no answer.

A candidate is a span of context tokens (i, j), i <= j, both in the same window, no longer than the length limit. Its
score is the start logit of i + the end logit of j (Devlin et al. 2019, section 4.2). A token can be in several windows:
candidates start at it only in the window that shows most context around it (`Windows.most_context`), so that no span is
scored twice.

If a question may have no answer, "no answer" scores start + end logit of [CLS], the smallest such sum of all windows.
The no-answer score is this minus the score of the best span; above a threshold, there is no answer (section 4.3).

B is the number of windows in a batch, L the length of their rows, M the length limit.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float32, Int

from tlqa_jax.core.masks import padding_mask
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.length_buckets import groups_of_questions, length_buckets
from tlqa_jax.models.functional import Params
from tlqa_jax.tasks.extractive_qa import CLS_POSITION, NOWHERE, Windows, check_lengths, make_windows
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.text.wordpiece import WordPieceTokenizer

NO_SPAN = float(np.finfo(np.float32).max)  # the no-answer score if the context has no token


class Candidate(NamedTuple):
    """A text of the context, its first character, its probability among the n best, its score. No answer: "" and -1."""

    text: str
    start: int
    probability: float
    score: float


class SpanAnswer(NamedTuple):
    """The answer and the other candidates.

    `n_best` is never empty, the best comes first, and its probabilities add up to 1. The larger `no_answer_score` is,
    the less the model believes that there is an answer, whether or not "no answer" was allowed.
    """

    text: str
    probability: float
    start: int
    n_best: tuple[Candidate, ...]
    no_answer_score: float
    question_cut: bool


def span_scores(
    start_logits: Float32[np.ndarray, "B L"],
    end_logits: Float32[np.ndarray, "B L"],
    may_start: Bool[np.ndarray, "B L"],
    may_end: Bool[np.ndarray, "B L"],
    max_answer_length: int,
) -> Float32[np.ndarray, "B L M"]:
    """[b, i, k]: the score of the span from position i to i + k; -inf if it is no candidate."""
    starts = np.where(may_start, start_logits, np.float32(-np.inf))
    ends = np.where(may_end, end_logits, np.float32(-np.inf))
    ends = np.pad(ends, ((0, 0), (0, max_answer_length - 1)), constant_values=-np.inf)
    return starts[..., None] + np.lib.stride_tricks.sliding_window_view(ends, max_answer_length, axis=1)


def best_spans(
    scores: Float32[np.ndarray, "L M"], n: int, text_of: Callable[[int, int], str]
) -> list[tuple[float, int, int]]:
    """The n best spans of different text in a window: (score, first position, last position), best first.

    Of equal texts the best counts. Of equal scores the one that starts earlier counts, then the shorter one.
    """
    flat = scores.ravel()
    possible, wanted = int((flat > -np.inf).sum()), 4 * n
    while True:
        least = np.partition(flat, -wanted)[-wanted] if wanted < possible else -np.inf
        found = np.flatnonzero((flat >= least) & (flat > -np.inf))
        best: dict[str, tuple[float, int, int]] = {}
        for index in found[np.argsort(-flat[found], kind="stable")].tolist():
            first, length = divmod(index, scores.shape[1])
            best.setdefault(text_of(first, first + length), (float(flat[index]), first, first + length))
            if len(best) == n:
                break
        if len(best) == n or len(found) == possible:
            return list(best.values())
        wanted *= 4  # few different texts


def best_distinct(candidates: Iterable[tuple[float, int, str]], n: int) -> list[tuple[float, int, str]]:
    """The n best (score, start, text) of different text, of all windows of an example; of equals the first."""
    best: dict[str, tuple[float, int, str]] = {}
    for candidate in sorted(candidates, key=lambda candidate: -candidate[0]):
        best.setdefault(candidate[2], candidate)
    return list(best.values())[:n]


def choose_answer(
    spans: list[tuple[float, int, str]], no_answer: float, *, no_answer_threshold: float | None,
    question_cut: bool = False,
) -> SpanAnswer:  # fmt: skip
    """The answer, from the best spans of an example and the score of "no answer". See `SpanAnswerer`."""
    no_answer_score = no_answer - spans[0][0] if spans else NO_SPAN
    candidates = [*spans, (no_answer, NOWHERE, "")] if no_answer_threshold is not None or not spans else spans
    candidates = sorted(candidates, key=lambda candidate: -candidate[0])
    shares = [math.exp(score - candidates[0][0]) for score, _, _ in candidates]
    n_best = tuple(
        Candidate(text, start, share / sum(shares), score) for (score, start, text), share in zip(candidates, shares)
    )
    none = not spans or (no_answer_threshold is not None and no_answer_score > no_answer_threshold)
    chosen = next(candidate for candidate in n_best if (candidate.start == NOWHERE) == none)
    return SpanAnswer(chosen.text, chosen.probability, chosen.start, n_best, no_answer_score, question_cut)


class SpanAnswerer:
    """Answers questions with a BERT that predicts spans of their contexts, on all of this process's devices.

    Windows are batched by length (`length_buckets`); the answers do not depend on that. The logits of two batches are
    held at once, and the n best spans of each window until its example is done: long documents, and many of them, need
    bounded memory.

    Args:
        apply: the model as a function: (params, tokens, token_types, mask) -> (start logits, end logits).
        input_length, stride, max_question_length: of the windows, see `make_windows`.
        batch_size: windows at once, if there are many.
        max_answer_length: longest answer in tokens.
        n_best: number of answers for each question; "no answer", if it is allowed, is one more.
        no_answer_threshold: no answer if the no-answer score is above it. None: there always is an answer, unless the
            context has no token. Infinity: the same, but "no answer" is among the n best.
    """

    def __init__(
        self, apply: Callable, tokenizer: WordPieceTokenizer, *, input_length: int, stride: int,
        max_question_length: int = 64, batch_size: int = 32, max_answer_length: int = 30, n_best: int = 20,
        no_answer_threshold: float | None = None,
    ):  # fmt: skip
        check_lengths(input_length, stride, max_question_length)
        self.tokenizer, self.batch_size, self.devices = tokenizer, batch_size, jax.local_device_count()
        self.lengths = dict(input_length=input_length, stride=stride, max_question_length=max_question_length)
        self.max_answer_length, self.n_best, self.no_answer_threshold = max_answer_length, n_best, no_answer_threshold
        self.predict = jax.pmap(partial(span_logits, apply, tokenizer.pad_id), in_axes=(None, 0, 0))

    def __call__(self, params: Params, examples: Iterable[QAExample]) -> list[SpanAnswer]:
        """The answers to `examples`, in their order. `params` are replicated (`core.devices.replicate`)."""
        return [answer for group in groups_of_questions(examples) for answer in self._answers(params, group)]

    def _answers(self, params: Params, examples: list[QAExample]) -> Iterator[SpanAnswer]:
        windows = make_windows(self.tokenizer, examples, **self.lengths)
        found = self._best_of_windows(params, examples, windows)
        for i in range(len(examples)):
            own = [found[window] for window in range(windows.begins[i], windows.begins[i + 1])]
            spans = best_distinct((span for _, spans in own for span in spans), self.n_best)
            no_answer = min(score for score, _ in own)
            cut = bool(windows.question_cut[i])
            threshold = self.no_answer_threshold
            yield choose_answer(spans, no_answer, no_answer_threshold=threshold, question_cut=cut)

    def _best_of_windows(self, params: Params, examples: list[QAExample], windows: Windows) -> list:
        """For each window: (its score of "no answer", [(score, first character, text) of its best spans])."""
        found: list = [None] * len(windows.example)

        def digest(rows: np.ndarray, logits: tuple[Array, Array]) -> None:
            start, end = (np.asarray(x).reshape(-1, x.shape[-1])[: len(rows)] for x in jax.device_get(logits))
            first_characters, last_characters = windows.characters(rows, start.shape[1])
            may_start = windows.most_context(rows, start.shape[1])
            scores = span_scores(start, end, may_start, first_characters != NOWHERE, self.max_answer_length)
            no_answer = (start[:, CLS_POSITION] + end[:, CLS_POSITION]).tolist()
            for row, window in enumerate(rows.tolist()):
                context = examples[windows.example[window]].context
                starts, ends = first_characters[row].tolist(), last_characters[row].tolist()
                text_of = lambda first, last: context[starts[first] : ends[last]]
                spans = best_spans(scores[row], self.n_best, text_of)
                found[window] = no_answer[row], [(score, starts[i], text_of(i, j)) for score, i, j in spans]

        running = None  # the devices compute a batch while the host searches the one before
        for rows, count, length in length_buckets(
            windows.lengths, longest=windows.input_length, devices=self.devices, batch_size=self.batch_size
        ):
            batch = windows.batch(rows, length)
            tokens, token_types = (batch[name].reshape(self.devices, -1, length) for name in ("tokens", "token_types"))
            logits = self.predict(params, tokens, token_types)
            if running:
                digest(*running)
            running = rows[:count], logits
        if running:
            digest(*running)
        return found


def span_logits(
    apply: Callable, pad_id: int, params: Params, tokens: Int[Array, "B L"], token_types: Int[Array, "B L"], key=None
) -> tuple[Float32[Array, "B L"], Float32[Array, "B L"]]:
    """(start, end) logits of rows padded with `pad_id`. `key` seeds dropout; None: no dropout."""
    start, end = apply(params, tokens, token_types=token_types, mask=padding_mask(tokens, pad_id), key=key)
    return start.astype("float32"), end.astype("float32")


def write_n_best(path: str | Path, ids: Iterable[str], answers: Iterable[SpanAnswer]) -> None:
    """Writes {id: [{"text", "start", "probability", "score"}, …]} as JSON in UTF-8, best first."""
    n_best = {id: [candidate._asdict() for candidate in answer.n_best] for id, answer in zip(ids, answers, strict=True)}
    write_atomically(path, json.dumps(n_best, ensure_ascii=False, indent=2) + "\n")
