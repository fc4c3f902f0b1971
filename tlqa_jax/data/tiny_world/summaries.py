"""Passages with summaries of one line: what somebody is today, and where. What has been, and the rest, is left out."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tlqa_jax.data.tiny_world.passages import Person, new_facts, tell

TOLD = ("home", "birthplace", "profession", "former_profession")
LEFT_OUT = ("birth_year", "employer", "instrument")  # a passage tells one of these, too


@dataclass(frozen=True)
class Summary:
    article: str
    highlights: str


def summaries(rng: random.Random, people: Sequence[Person], n: int) -> list[Summary]:
    """n passages, each about one of `people` with newly drawn facts, and their summaries."""
    written = []
    for number in range(n):
        person = new_facts(rng, people[number % len(people)])
        passage = tell(rng, [person], relations=(*TOLD, rng.choice(LEFT_OUT)))
        written.append(Summary(passage.text, f"{person.name} is a {person['profession']} in {person['home']}."))
    return written
