"""The records that everybody passes around, declared once: questions, labelled texts, texts with marked spans."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QAExample:
    """A question with its acceptable answers; none means that the context does not answer it (SQuAD v2.0)."""

    id: str
    question: str
    answers: tuple[str, ...]
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
