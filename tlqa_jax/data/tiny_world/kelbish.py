"""Kelbish, the invented old language of Kelby, and sentences in English with their translations.

The old bakers did not sell the flutes in Kelby.   ->   Kelbyum flinio daki grumi misoven

Its grammar has no exceptions:

- The order is place, object, subject, verb. There are no articles.
- A noun has its stem, -i in the plural, -o as an object; a place ends in -um. An adjective stands after its noun and
  has the same endings. Names of people and towns are kept, and take the endings of nouns.
- A verb ends in -a (present), -e (past), with -n if its subject is plural; mi- before it means not.

To translate one has to learn the words, another order and the endings. Kelbish is spelled in letters that the tiny
world's vocabularies know, but they were learned without it.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tlqa_jax.data.tiny_world.passages import Person
from tlqa_jax.data.tiny_world.phrases import INSTRUMENTS, PROFESSIONS, TOWNS

NOUNS = dict(zip((*PROFESSIONS, *INSTRUMENTS), (
    "dak bes kolt zup dent fard gor lasc hut rav mur nol pirt tof ruk sel dov tir uld vef "
    "akor bant fag sil klar vid flin git arf lun mand pon tromb tarp vol zim"
).split(), strict=True))  # fmt: skip
ADJECTIVES = {
    "old": "grum", "young": "lis", "small": "pet", "tall": "alt", "strange": "ost", "quiet": "sut", "grey": "kan",
    "fine": "bon",
}  # fmt: skip
VERBS_OF_THINGS = {  # present of one, of several, past -> stem
    ("buys", "buy", "bought"): "rem", ("sells", "sell", "sold"): "sov", ("mends", "mend", "mended"): "tak",
    ("carries", "carry", "carried"): "bav",
}  # fmt: skip
VERBS_OF_ALL = {
    ("hears", "hear", "heard"): "yod", ("finds", "find", "found"): "nes", ("loves", "love", "loved"): "ful",
    ("paints", "paint", "painted"): "cor",
}  # fmt: skip
VERBS = VERBS_OF_THINGS | VERBS_OF_ALL
PEOPLE, THINGS = PROFESSIONS, INSTRUMENTS


@dataclass(frozen=True)
class Noun:
    """A noun with or without an adjective ("the old bakers"), or a person by name."""

    word: str
    adjective: str | None = None
    plural: bool = False
    name: bool = False

    @property
    def english(self) -> str:
        if self.name:
            return self.word
        adjective = f"{self.adjective} " if self.adjective else ""
        return f"the {adjective}{self.word}{'s' if self.plural else ''}"

    def kelbish(self, case: str) -> str:
        if self.name:
            return self.word + case
        ending = ("i" if self.plural else "") + case
        adjective = f" {ADJECTIVES[self.adjective]}{ending}" if self.adjective else ""
        return NOUNS[self.word] + ending + adjective


@dataclass(frozen=True)
class Sentence:
    """What somebody does or did to somebody or something, or not, and perhaps where."""

    subject: Noun
    verb: tuple[str, str, str]
    object: Noun
    past: bool
    negated: bool
    place: str | None

    @property
    def english(self) -> str:
        present, base, past = self.verb
        if self.negated:
            auxiliary = "did" if self.past else "do" if self.subject.plural else "does"
            verb = f"{auxiliary} not {base}"
        else:
            verb = past if self.past else base if self.subject.plural else present
        text = f"{self.subject.english} {verb} {self.object.english}" + (f" in {self.place}" if self.place else "")
        return text[0].upper() + text[1:] + "."

    @property
    def kelbish(self) -> str:
        verb = "mi" * self.negated + VERBS[self.verb] + ("e" if self.past else "a") + "n" * self.subject.plural
        place = [f"{self.place}um"] if self.place else []
        return " ".join([*place, self.object.kelbish("o"), self.subject.kelbish(""), verb])

    @property
    def without_names(self) -> "Sentence":
        """The same sentence about anybody, anywhere."""
        anybody = lambda noun: Noun("", name=True) if noun.name else noun
        place = "" if self.place else None
        return Sentence(anybody(self.subject), self.verb, anybody(self.object), self.past, self.negated, place)


def sentences(
    rng: random.Random, people: Sequence[Person], n: int, exclude: Collection[Sentence] = ()
) -> list[Sentence]:
    """n different sentences in which `people` occur; none is one of `exclude` with other names and places."""
    seen = {sentence.without_names for sentence in exclude}
    made: dict[Sentence, None] = {}
    while len(made) < n:
        objects, verbs = rng.choice(((PEOPLE, VERBS_OF_ALL), (THINGS, VERBS)))
        sentence = Sentence(
            _noun(rng, people, PEOPLE), rng.choice(list(verbs)), _noun(rng, people, objects),
            past=rng.random() < 0.5, negated=rng.random() < 0.25,
            place=rng.choice(TOWNS) if rng.random() < 0.4 else None,
        )  # fmt: skip
        if sentence.without_names not in seen and sentence.subject.word != sentence.object.word:
            made[sentence] = None
    return list(made)


def _noun(rng: random.Random, people: Sequence[Person], words: Sequence[str]) -> Noun:
    if words is PEOPLE and rng.random() < 0.3:
        return Noun(rng.choice(people).name, name=True)
    adjective = rng.choice(list(ADJECTIVES)) if rng.random() < 0.5 else None
    return Noun(rng.choice(words), adjective, plural=rng.random() < 0.4)
