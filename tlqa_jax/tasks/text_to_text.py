"""Text in, text out, as arrays; above all questions, with a passage to read or from memory:

    with a context   question: Where was Mira born? context: Mira, a clockmaker from Oss, plays the flute.  ->  Oss
    closed book      question: Where was Mira born?                                                         ->  Oss

One model, one loss and one way of generating serve both, because the task is told in the text itself (Raffel et al.
2020, section 2.4); so they serve the other tasks of `text_tasks`. Closed-book questions leave the context out: the
answer has to come from what the model kept in its weights during pretraining (Roberts et al. 2020).

The question comes first, so that a context too long for the model loses its end and never the question. What is cut is
counted, and `TextArrays.report` says so. n is the number of examples, I and T the lengths of inputs and targets.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Int32

from tlqa_jax.errors import UserError
from tlqa_jax.tasks.text_tasks import CLOSED_BOOK_QA, CONTEXT_QA, TextExample

TEXTS_AT_ONCE = 512  # encoded before they are cut: as Python's lists, ids take several times the room of the rows


@runtime_checkable
class Tokenizer(Protocol):
    """What this task needs of a tokenizer."""

    pad_id: int
    eos_id: int

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Sequence[int]]: ...

    def decode(self, ids: list[int]) -> str: ...


@runtime_checkable
class Example(Protocol):
    """What this task needs of an example. The first answer is the one to learn; no answers means: unanswerable."""

    id: str
    question: str
    answers: Sequence[str]
    context: str | None


@dataclass(frozen=True)
class TextArrays:
    """A list of examples as whole arrays, in the same order; each row is its tokens, the end token, padding."""

    inputs: Int32[np.ndarray, "n I"]
    targets: Int32[np.ndarray, "n T"]
    input_lengths: Int32[np.ndarray, "n"]  # tokens in each row, the end token among them
    target_lengths: Int32[np.ndarray, "n"]
    inputs_cut: Bool[np.ndarray, "n"]  # True where the input lost its end
    targets_cut: Bool[np.ndarray, "n"]  # True where the target lost its end: it cannot be learned in full

    def report(self) -> str:
        """One line for the user: how much was cut."""
        inputs = _share_cut(self.inputs_cut, self.inputs, "input")
        targets = _share_cut(self.targets_cut, self.targets, "target")
        return f"{len(self.inputs):,} examples: {inputs}, {targets}"

    def trimmed(self) -> "TextArrays":
        """Without the columns at the end that are padding in every row; lengths stay multiples of 8."""
        inputs, targets = (-(-lengths.max() // 8) * 8 for lengths in (self.input_lengths, self.target_lengths))
        return dataclasses.replace(self, inputs=self.inputs[:, :inputs], targets=self.targets[:, :targets])


def join(parts: Sequence[TextArrays]) -> TextArrays:
    """Several groups of examples, encoded to the same lengths, as one."""
    fields = dataclasses.fields(TextArrays)
    return TextArrays(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields))


def _share_cut(cut: Bool[np.ndarray, "n"], rows: Int32[np.ndarray, "n length"], name: str) -> str:
    share = f"{cut.sum():,} ({100 * cut.mean():.1f}%)" if cut.any() else "none"
    return f"{share} cut to the {name} length of {rows.shape[1]} tokens"


def qa_source(question: str, context: str | None = None) -> str:
    """The text that the encoder reads. No context, or an empty one, makes it a closed-book question."""
    return _qa_example("", question, context, ()).input


def _qa_example(id: str, question: str, context: str | None, answers: Sequence[str]) -> TextExample:
    task = CONTEXT_QA if (context or "").strip() else CLOSED_BOOK_QA
    return task.example({"question": question, "context": context, "answers": tuple(answers)}, id)


def encode_sources(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> tuple[Int32[np.ndarray, "n I"], int]:
    """Encodes texts to rows of exactly `length` ids: (rows, number of rows that were cut).

    A text too long keeps its beginning, and every row keeps the end token, also a cut one.
    """
    rows, _, cut = _padded_rows(tokenizer, texts, length)
    return rows, int(cut.sum())


def encode_examples(
    tokenizer: Tokenizer,
    examples: Iterable[Example],
    *,
    input_length: int,
    target_length: int,
    use_context: bool = True,
) -> TextArrays:
    """Encodes questions and their first answers. `use_context=False` asks all of them closed-book.

    Raises UserError if a question does not fit into `input_length` even without its context.
    """
    return encode_texts(
        tokenizer,
        [_qa_example(e.id, e.question, e.context if use_context else None, e.answers) for e in examples],
        input_length=input_length,
        target_length=target_length,
    )


def longest_target(tokenizer: Tokenizer, examples: Iterable[Example]) -> int:
    """The target length that no first answer of the examples is cut to, the end token among it; 0 of no examples."""
    targets = [_qa_example(e.id, e.question, e.context, e.answers).target for e in examples]
    return max((len(ids) + 1 for ids in _encoded(tokenizer, targets)), default=0)


def encode_texts(
    tokenizer: Tokenizer, examples: Sequence[TextExample], *, input_length: int, target_length: int
) -> TextArrays:
    """Encodes examples of any task. An input too long loses the end of its last field, and keeps the `tail` behind it;
    how many do is in the arrays.

    Raises UserError if `head` and `tail` of an example do not fit into `input_length`.
    """
    inputs, input_lengths, inputs_cut = _padded_rows(tokenizer, [example.input for example in examples], input_length)
    cut = np.flatnonzero(inputs_cut).tolist()
    heads, tails = ([getattr(examples[place], name) for place in cut] for name in ("head", "tail"))
    for place, head, tail in zip(cut, _encoded(tokenizer, heads), _encoded(tokenizer, tails), strict=True):
        if (needed := len(head) + len(tail) + 1) > input_length:
            example = examples[place]
            raise UserError(
                f"what must not be cut of example {example.id!r} alone takes {needed} tokens: "
                f"set --input-length (now {input_length}) to more, or shorten it: {example.head[:40]!r}…"
            )
        inputs[place, input_length - 1 - len(tail) : -1] = tail
    targets, target_lengths, targets_cut = _padded_rows(
        tokenizer, [example.target for example in examples], target_length
    )
    return TextArrays(inputs, targets, input_lengths, target_lengths, inputs_cut, targets_cut)


def decode_predictions(tokenizer: Tokenizer, ids: Int[np.ndarray, "n T"]) -> list[str]:
    """The texts of generated rows, each up to its first end token (or whole, if generation was cut short)."""
    texts = []
    for row in np.asarray(ids).tolist():
        end = row.index(tokenizer.eos_id) if tokenizer.eos_id in row else len(row)
        texts.append(tokenizer.decode(row[:end]).strip())
    return texts


def _padded_rows(
    tokenizer: Tokenizer, texts: Sequence[str], length: int
) -> tuple[Int32[np.ndarray, "n {length}"], Int32[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """(rows, their lengths, whether they were cut): ids, the end token, padding."""
    if length < 1:
        raise ValueError(f"length is {length}: a row needs room for the end token at least")
    rows = np.full((len(texts), length), tokenizer.pad_id, np.int32)
    whole = np.zeros(len(texts), np.int32)
    for place, ids in enumerate(_encoded(tokenizer, texts)):
        kept = [*ids[: length - 1], tokenizer.eos_id]
        rows[place, : len(kept)] = kept
        whole[place] = len(ids) + 1
    return rows, np.minimum(whole, length), whole > length


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Sequence[int]]:
    """Ids of each text."""
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        yield from tokenizer.encode_batch(texts[start : start + TEXTS_AT_ONCE])
