"""Text in, text out, as arrays of token ids; above all questions, with a passage to read or from memory:

    with a context   question: Where was Mira born? context: Mira, a clockmaker from Oss, plays the flute.  ->  Oss
    closed book      question: Where was Mira born?                                                         ->  Oss

One model, one loss and one way of generating serve both, because the text itself names the task (Raffel et al. 2020,
section 2.4). In the same way they serve the other tasks of `text_tasks`. Closed-book questions have no context: the
answer must come from what the model stored in its weights during pretraining (Roberts et al. 2020).

The question comes first, so a context that is too long loses its end, and never the question. `TextArrays.report` says
how much was cut. n is the number of examples, I and T the lengths of inputs and targets.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32

from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample, TextExample
from tlqa_jax.tasks.text_tasks import CLOSED_BOOK_QA, CONTEXT_QA
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

TEXTS_AT_ONCE = 512  # encoded before they are cut: ids in Python's lists take several times the memory of the rows


@dataclass(frozen=True)
class TextArrays:
    """Examples as arrays, in their order; each row is its tokens, the end token, padding."""

    inputs: Int32[np.ndarray, "n I"]
    targets: Int32[np.ndarray, "n T"]
    input_lengths: Int32[np.ndarray, "n"]  # tokens in each row, the end token included
    target_lengths: Int32[np.ndarray, "n"]
    inputs_cut: Bool[np.ndarray, "n"]  # True where the input lost its end
    targets_cut: Bool[np.ndarray, "n"]  # True where the target lost its end: it cannot be learned in full

    def report(self) -> str:
        """One line for the user: how much was cut."""
        inputs = _share_cut(self.inputs_cut, self.inputs, "input")
        targets = _share_cut(self.targets_cut, self.targets, "target")
        return f"{len(self.inputs):,} examples: {inputs}, {targets}"

    def trimmed(self) -> "TextArrays":
        """The same without the last columns that are padding in every row; the lengths are multiples of 8."""
        inputs, targets = (-(-lengths.max() // 8) * 8 for lengths in (self.input_lengths, self.target_lengths))
        return dataclasses.replace(self, inputs=self.inputs[:, :inputs], targets=self.targets[:, :targets])


def join(parts: Sequence[TextArrays]) -> TextArrays:
    """Several groups of examples, encoded to the same lengths, as one group."""
    fields = dataclasses.fields(TextArrays)
    return TextArrays(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields))


def _share_cut(cut: Bool[np.ndarray, "n"], rows: Int32[np.ndarray, "n length"], name: str) -> str:
    share = f"{cut.sum():,} ({100 * cut.mean():.1f}%)" if cut.any() else "none"
    return f"{share} cut to the {name} length of {rows.shape[1]} tokens"


def qa_source(question: str, context: str | None = None) -> str:
    """The text that the encoder reads. No context, or an empty one, makes it a closed-book question."""
    return _as_text(QAExample("", question, (), context)).input


def _as_text(example: QAExample, use_context: bool = True) -> TextExample:
    task = CONTEXT_QA if use_context and (example.context or "").strip() else CLOSED_BOOK_QA
    return task.example(vars(example), example.id)


def encode_sources(
    tokenizer: SentencePieceTokenizer, texts: Sequence[str], length: int
) -> tuple[Int32[np.ndarray, "n I"], int]:
    """Encodes texts to rows of exactly `length` ids: (rows, number of rows that were cut).

    A text that is too long keeps its beginning. Every row has an end token, also a cut one.
    """
    rows, needed = encode_rows(tokenizer, texts, length, last=[tokenizer.eos_id])
    return rows, int((needed > length).sum())


def encode_examples(
    tokenizer: SentencePieceTokenizer, examples: Iterable[QAExample], *, input_length: int, target_length: int,
    use_context: bool = True,
) -> TextArrays:  # fmt: skip
    """Encodes questions and their first answers. `use_context=False` asks all of them closed-book.

    Raises UserError if a question does not fit into `input_length` even without its context.
    """
    texts = [_as_text(example, use_context) for example in examples]
    return encode_texts(tokenizer, texts, input_length=input_length, target_length=target_length)


def longest_target(tokenizer: SentencePieceTokenizer, examples: Iterable[QAExample]) -> int:
    """The target length that fits the first answer of every example, with the end token; 0 if there are no examples."""
    targets = [_as_text(example).target for example in examples]
    return max((len(ids) + 1 for ids in _encoded(tokenizer, targets)), default=0)


def encode_texts(
    tokenizer: SentencePieceTokenizer, examples: Sequence[TextExample], *, input_length: int, target_length: int
) -> TextArrays:
    """Encodes examples of any task. An input that is too long loses the end of its last field, and keeps its `tail`.

    Raises UserError if `head` and `tail` of an example do not fit into `input_length`.
    """
    end = [tokenizer.eos_id]
    inputs, input_lengths = encode_rows(tokenizer, [example.input for example in examples], input_length, last=end)
    targets, target_lengths = encode_rows(tokenizer, [example.target for example in examples], target_length, last=end)
    cut = np.flatnonzero(input_lengths > input_length).tolist()
    heads, tails = ([getattr(examples[place], name) for place in cut] for name in ("head", "tail"))
    for place, head, tail in zip(cut, _encoded(tokenizer, heads), _encoded(tokenizer, tails), strict=True):
        if (needed := len(head) + len(tail) + 1) > input_length:
            example = examples[place]
            raise UserError(
                f"what must not be cut of example {example.id!r} alone takes {needed} tokens: "
                f"set --input-length (now {input_length}) to more, or shorten it: {example.head[:40]!r}…"
            )
        inputs[place, input_length - 1 - len(tail) : -1] = tail
    return TextArrays(
        inputs, targets, np.minimum(input_lengths, input_length), np.minimum(target_lengths, target_length),
        input_lengths > input_length, target_lengths > target_length,
    )  # fmt: skip


def decode_predictions(
    tokenizer: SentencePieceTokenizer | WordPieceTokenizer, ids: Int[np.ndarray, "n T"]
) -> list[str]:
    """The texts of generated rows, each up to its first end token, or the whole row if it has none."""
    texts = []
    for row in np.asarray(ids).tolist():
        end = row.index(tokenizer.eos_id) if tokenizer.eos_id in row else len(row)
        texts.append(tokenizer.decode(row[:end]).strip())
    return texts


def encode_rows(
    tokenizer: SentencePieceTokenizer | WordPieceTokenizer, texts: Sequence[str], length: int, *,
    first: Sequence[int] = (), last: Sequence[int] = (),
) -> tuple[Int32[np.ndarray, "n {length}"], Int32[np.ndarray, "n"]]:  # fmt: skip
    """Rows of `first`, the ids of a text, `last` and padding, and the length that each needs: a longer text is cut."""
    room = length - len(first) - len(last)
    if room < 0:
        raise ValueError(f"length is {length}: a row needs room for at least {length - room} special tokens")
    rows = np.full((len(texts), length), tokenizer.pad_id, np.int32)
    needed = np.zeros(len(texts), np.int32)
    for place, ids in enumerate(_encoded(tokenizer, texts)):
        kept = [*first, *ids[:room], *last]
        rows[place, : len(kept)] = kept
        needed[place] = len(ids) + length - room
    return rows, needed


def _encoded(
    tokenizer: SentencePieceTokenizer | WordPieceTokenizer, texts: Sequence[str]
) -> Iterator[Sequence[int]]:
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        yield from tokenizer.encode_batch(texts[start : start + TEXTS_AT_ONCE])
