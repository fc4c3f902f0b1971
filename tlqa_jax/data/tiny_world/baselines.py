"""Baselines without understanding: answers only by type and position, and the most frequent answers.

Compare each result on the tiny world with these figures.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tlqa_jax.data.tiny_world.phrases import TYPE_OF, VALUES

WHOLE_WORDS = {kind: re.compile(rf"\b(?:{'|'.join(values)})\b") for kind, values in VALUES.items()}


class Asked(NamedTuple):
    """What the rules below may see of a question: the passage, the relation and, for the score, the answer."""

    context: str
    relation: str
    answer: str


def typed_mentions(context: str, kind: str) -> list[str]:
    """The values of one type ("town", "year", ...) in the order in which the passage names them."""
    return WHOLE_WORDS[kind].findall(context)


# rule -> the guess, given the mentions of the right type
RULES = {
    **{f"mention {k + 1}": (lambda values, k=k: values[k] if k < len(values) else "") for k in range(4)},
    "last mention": lambda values: values[-1] if values else "",
    "last mention but one": lambda values: values[-2] if len(values) > 1 else "",
    "smallest": lambda values: min(values, default=""),
    "largest": lambda values: max(values, default=""),
}


def type_baseline(train: Sequence[Asked], dev: Sequence[Asked]) -> tuple[float, dict[str, str]]:
    """Exact match in percent on `dev` of the best single rule of each relation, chosen on `train`; and those rules."""
    hits: dict[str, Counter] = defaultdict(Counter)
    for asked in train:
        values = typed_mentions(asked.context, TYPE_OF[asked.relation])
        for name, rule in RULES.items():
            hits[asked.relation][name] += rule(values) == asked.answer
    best = {relation: counts.most_common(1)[0][0] for relation, counts in hits.items()}
    right = sum(
        RULES[best[a.relation]](typed_mentions(a.context, TYPE_OF[a.relation])) == a.answer
        for a in dev
        if a.relation in best
    )
    return 100 * right / len(dev), best


def chance(train: Sequence[Asked], dev: Sequence[Asked]) -> float:
    """Exact match in percent on `dev` of the most frequent training answer of each relation."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for asked in train:
        counts[asked.relation][asked.answer] += 1
    most_frequent = {relation: answers.most_common(1)[0][0] for relation, answers in counts.items()}
    return 100 * sum(most_frequent.get(a.relation) == a.answer for a in dev) / len(dev)
