"""People of the tiny world, passages that tell about them, and questions.

Everything is drawn from a `random.Random`, so the same seed gives the same text. Functions keep no state between calls:
a training program may make new people for every batch.
"""

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tlqa_jax.data.tiny_world.phrases import FIRST_NAMES, FRAMES, LAST_NAMES, OTHERS, RELATIONS, TYPE_OF, TYPES, VALUES
from tlqa_jax.data.tiny_world.question_forms import HELD_OUT_FORMS, TRAINING_FORMS

PRONOUN_OF = {first: pronoun for pronoun, names in FIRST_NAMES.items() for first in names}
AGREEMENT = {  # what a frame's slots become: she was, they were
    pronoun: {
        "they": pronoun,
        "They": pronoun.capitalize(),
        "their": possessive,
        "Their": possessive.capitalize(),
        **dict(zip(("was", "is", "has", "s"), verbs, strict=True)),
    }
    for pronoun, possessive, verbs in (
        ("she", "her", ("was", "is", "has", "s")),
        ("he", "his", ("was", "is", "has", "s")),
        ("they", "their", ("were", "are", "have", "")),
    )
}


@dataclass(frozen=True)
class Person:
    """One inhabitant. `values` are in the order of `RELATIONS`; `person["home"]` is one of them."""

    first: str
    last: str
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    @property
    def pronoun(self) -> str:
        return PRONOUN_OF[self.first]

    def __getitem__(self, relation: str) -> str:
        return self.values[RELATIONS.index(relation)]


class Other(NamedTuple):
    """Somebody without a name, with one fact: "his aunt", "their friends"."""

    name: str
    pronoun: str
    told: dict[str, str]  # one relation and its value

    def __getitem__(self, relation: str) -> str:
        return self.told[relation]


class Mention(NamedTuple):
    """A value in a passage: ``text[start:end]`` is the `relation` of `person`."""

    start: int
    end: int
    person: Person | Other
    relation: str


@dataclass(frozen=True)
class Passage:
    text: str
    mentions: tuple[Mention, ...]


@dataclass(frozen=True)
class Question:
    text: str
    relation: str
    answer: str


@dataclass(frozen=True)
class Frame:
    """A sentence frame cut at its slots: literal, slot, literal, slot, ..., literal."""

    parts: tuple[str, ...]
    relations: frozenset[str]
    follows: bool  # has no full name, so a sentence about the same person must come directly before it

    @classmethod
    def parse(cls, template: str) -> "Frame":
        parts = tuple(re.split(r"\{(\w+)\}", template))
        return cls(parts, frozenset(parts[1::2]) & frozenset(RELATIONS), "name" not in parts[1::2])


def frames_by_relations() -> dict[frozenset[str], list[Frame]]:
    frames: dict[frozenset[str], list[Frame]] = {}
    for line in FRAMES.splitlines():
        if line and not line.startswith("#"):
            frame = Frame.parse(line)
            frames.setdefault(frame.relations, []).append(frame)
    return frames


FRAMES_OF = frames_by_relations()
FULL_FRAMES = {relations: [f for f in frames if not f.follows] for relations, frames in FRAMES_OF.items()}
FOLLOWING_FRAMES = {relations: [f for f in frames if f.follows] for relations, frames in FRAMES_OF.items()}
PAIRS_OF = {  # relation -> the sets of two relations that have frames of their own
    relation: [pair for pair in FRAMES_OF if len(pair) == 2 and relation in pair] for relation in RELATIONS
}


def make_people(rng: random.Random, n: int, exclude: Collection[str | Person] = ()) -> list[Person]:
    """n new people whose full names differ from each other and from those of `exclude` (people or full names)."""
    taken = {person.name if isinstance(person, Person) else person for person in exclude}
    free = [(first, last) for first in PRONOUN_OF for last in LAST_NAMES if f"{first} {last}" not in taken]
    if n > len(free):
        raise ValueError(f"only {len(free)} full names are left, {n} were asked for")
    return [new_facts(rng, Person(first, last, ())) for first, last in rng.sample(free, n)]


def new_facts(rng: random.Random, person: Person) -> Person:
    """A person of the same name with newly drawn facts; the two facts of a type differ."""
    values = [value for kind in TYPES for value in rng.sample(VALUES[kind], 2)]
    return Person(person.first, person.last, tuple(values))


def tell(
    rng: random.Random,
    people: Sequence[Person],
    *,
    types: int | Sequence[str] | None = None,
    relations_per_type: int = 2,
    pronouns: float = 0.2,
    joined: float = 0.35,
    again: float = 0.0,
    relations: Sequence[str] | None = None,
) -> Passage:
    """A passage about one or more people; each chosen fact is stated exactly once.

    Args:
      people: the people; their sentences are mixed in random order.
      types: the types to state ("town", "year", ...), or how many random ones, the same for everybody; None: all.
      relations_per_type: 2 states both relations of each type, 1 a random one of the two (the same for everybody).
      pronouns: how often a sentence that follows one about the same person has the pronoun or the first name.
      joined: how often a sentence states two facts, if there is a frame for the two.
      again: share of the facts that are stated a second time, in other words (see `retell`).
      relations: state these, whatever `types` and `relations_per_type` are.
    """
    if isinstance(types, int):
        types = rng.sample(list(TYPES), types)
    relations = relations or [r for kind in types or TYPES for r in rng.sample(TYPES[kind], relations_per_type)]
    sentences = []  # (person, relations told)
    for person in people:
        told_again = [relation for relation in relations if rng.random() < again]
        groups = _grouped(rng, relations, joined)
        groups += _grouped(rng, told_again, joined, avoid=groups)
        sentences += [(person, told) for told in groups]
    rng.shuffle(sentences)

    text, mentions, previous, used = "", [], None, set()
    for person, told in sentences:
        candidates = FULL_FRAMES[told]
        if person is previous and FOLLOWING_FRAMES[told] and rng.random() < pronouns:
            candidates = FOLLOWING_FRAMES[told]
        fresh = [frame for frame in candidates if (person.name, frame) not in used]
        frame = rng.choice(fresh or candidates)
        used.add((person.name, frame))
        text += " " if text else ""
        text = _append(text, frame, person, mentions)
        previous = person
    return Passage(text, tuple(mentions))


def retell(rng: random.Random, people: Sequence[Person], *, again: float = 0.6, **arguments) -> Passage:
    """Like `tell`, but a share of the facts is stated twice, so a hidden value is at another place of the text too."""
    return tell(rng, people, again=again, **arguments)


def questions(
    rng: random.Random, person: Person, *, held_out: bool = False, relations: Sequence[str] | None = None
) -> list[Question]:
    """One question about each relation (default: all ten), each in a random form."""
    forms = HELD_OUT_FORMS if held_out else TRAINING_FORMS
    return [Question(rng.choice(forms[r]).format(name=person.name), r, person[r]) for r in relations or RELATIONS]


def tell_among_others(
    rng: random.Random, person: Person, *, types: int, others: int = 2, relations: Sequence[str] = RELATIONS
) -> Passage:
    """A passage about one person with distractors.

    It states one fact of each of `types` types about them, and one of the same type about each of `others` other
    people, in random order. The values of a type in the passage are different. Only types with one of `relations` are
    used.
    """
    sentences: list[tuple[Person | Other, frozenset[str]]] = []
    descriptions = rng.sample([(text, pronoun) for pronoun, texts in OTHERS.items() for text in texts], types * others)
    for kind in rng.sample([kind for kind, pair in TYPES.items() if set(pair) & set(relations)], types):
        pair = [relation for relation in TYPES[kind] if relation in relations]
        asked = rng.choice(pair)
        sentences.append((person, frozenset((asked,))))
        values = rng.sample([value for value in VALUES[kind] if value not in [person[r] for r in TYPES[kind]]], others)
        for value in values:
            description, pronoun = descriptions.pop()
            relation = rng.choice(pair)
            name = description.format(their=AGREEMENT[person.pronoun]["their"])
            sentences.append((Other(name, pronoun, {relation: value}), frozenset((relation,))))
    rng.shuffle(sentences)
    text, mentions = "", []
    for who, told in sentences:
        start = len(text) + 1 if text else 0
        text = _append(text + " " * bool(text), rng.choice(FULL_FRAMES[told]), who, mentions)
        text = text[:start] + text[start].upper() + text[start + 1 :]
    return Passage(text, tuple(mentions))


def _grouped(
    rng: random.Random, relations: Sequence[str], joined: float, avoid: Sequence[frozenset[str]] = ()
) -> list[frozenset[str]]:
    """Each relation is in exactly one group: a single relation, or a pair that has a frame and is not in `avoid`."""
    left = rng.sample(list(relations), len(relations))
    groups = []
    while left:
        relation = left.pop()
        group = frozenset((relation,))
        if left and rng.random() < joined:
            pairs = [pair for pair in PAIRS_OF[relation] if pair <= {relation, *left} and pair not in avoid]
            group = rng.choice(pairs) if pairs else group
        left = [r for r in left if r not in group]
        groups.append(group)
    return groups


def _append(text: str, frame: Frame, person: Person | Other, mentions: list[Mention]) -> str:
    words = AGREEMENT[person.pronoun]
    for position, part in enumerate(frame.parts):
        if position % 2 == 0:
            text += part
        elif part in TYPE_OF:
            mentions.append(Mention(len(text), len(text) + len(person[part]), person, part))
            text += person[part]
        else:
            text += words[part] if part in words else getattr(person, part)
    return text
