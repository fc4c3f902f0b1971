"""The records that all rooms share: a question, a labelled text, a text with marked spans, an example of any text task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QAExample:
    """A question with its acceptable answers; no answers means that the context does not answer it (SQuAD v2.0)."""

    id: str
    question: str
    answers: tuple[str, ...]  # the first is the one to learn
    context: str | None = None
    answer_starts: tuple[int, ...] = ()  # one per answer, in characters of the context; empty where the source has none
    title: str = ""


@dataclass(frozen=True)
class LabelledText:
    """A text and the name of its class."""

    text: str
    label: str


@dataclass(frozen=True)
class MarkedText:
    """A document and the spans [start, end) in it that are worth remembering, in characters."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TextExample:
    """An example of any task as text in, text out. If the input is too long, `head` and `tail` must not be cut."""

    id: str
    input: str
    target: str  # the text to learn
    answers: tuple[str, ...]  # the texts that count as right, the best known first
    head: str = ""  # what stands before the input's last field: the question before its context
    tail: str = ""  # what stands behind it
