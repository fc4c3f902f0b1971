"""Short opinionated reviews in the tiny world, each clearly positive or negative: of places, and of courses.

Places are inns, concerts, shops and meals. Courses are another domain: they are praised and blamed in other words, but
in sentences of the same kind.

Negative reviews contain positive words and the other way round ("the soup was cold, but ..."; "I had feared a dull
evening, and it was anything but dull"), so single words do not decide: the sentence must be understood.
"""

import random
from dataclasses import dataclass

from tlqa_jax.data.tiny_world.phrases import INSTRUMENTS, LAST_NAMES, TOWNS

# what is reviewed -> (thing, good words, bad words)
PLACES = {
    "inn": (
        ("the room", ("clean", "warm", "quiet", "bright"), ("dirty", "cold", "noisy", "dark")),
        ("the bed", ("soft", "clean", "comfortable"), ("hard", "dirty", "damp")),
        ("the breakfast", ("fresh", "generous", "delicious"), ("stale", "meagre", "tasteless")),
        ("the landlord", ("friendly", "helpful", "honest"), ("rude", "lazy", "dishonest")),
    ),
    "concert": (
        ("the playing", ("lively", "graceful", "moving"), ("dull", "clumsy", "lifeless")),
        ("the hall", ("warm", "bright", "comfortable"), ("cold", "dark", "draughty")),
        ("the programme", ("lively", "well chosen", "charming"), ("dull", "badly chosen", "tedious")),
        ("the {instrument}", ("in tune", "wonderful", "moving"), ("out of tune", "awful", "tedious")),
    ),
    "shop": (
        ("the owner", ("friendly", "helpful", "honest"), ("rude", "lazy", "dishonest")),
        ("the choice", ("generous", "wonderful", "surprising"), ("meagre", "awful", "disappointing")),
        ("the price", ("fair", "low", "reasonable"), ("unfair", "high", "shameless")),
        ("the bread", ("fresh", "warm", "delicious"), ("stale", "cold", "tasteless")),
    ),
    "meal": (
        ("the soup", ("warm", "fresh", "delicious"), ("cold", "stale", "tasteless")),
        ("the fish", ("fresh", "delicious", "well cooked"), ("stale", "tasteless", "badly cooked")),
        ("the service", ("quick", "friendly", "helpful"), ("slow", "rude", "careless")),
        ("the pudding", ("fresh", "wonderful", "generous"), ("stale", "awful", "meagre")),
    ),
}
COURSES = {
    "lecture": (
        ("the first part", ("clear", "well explained", "inspiring"), ("confusing", "badly explained", "boring")),
        ("the second part", ("well structured", "exciting", "memorable"), ("chaotic", "tiresome", "shallow")),
        ("the pace", ("sensible", "pleasant", "well judged"), ("rushed", "sluggish", "badly judged")),
        ("the speaker", ("patient", "witty", "well prepared"), ("impatient", "monotonous", "badly prepared")),
    ),
    "course": (
        ("the teacher", ("patient", "encouraging", "inspiring"), ("impatient", "scornful", "monotonous")),
        ("the material", ("up to date", "thorough", "useful"), ("outdated", "sloppy", "useless")),
        ("the homework", ("useful", "sensible", "exciting"), ("useless", "tiresome", "pointless")),
        ("the exam", ("just", "sensible", "well judged"), ("unjust", "pointless", "badly judged")),
    ),
    "workshop": (
        ("the task", ("exciting", "useful", "well explained"), ("boring", "pointless", "badly explained")),
        ("the advice", ("thorough", "encouraging", "clear"), ("sloppy", "scornful", "confusing")),
        ("the group", ("attentive", "pleasant", "witty"), ("inattentive", "unpleasant", "tiresome")),
        ("the equipment", ("up to date", "reliable", "useful"), ("outdated", "unreliable", "useless")),
    ),
}
OPENINGS = {
    "inn": (
        "We stayed at {last}'s inn in {town}.",
        "One night at the inn of {town}.",
        "{last}'s inn, {town}, two nights.",
    ),
    "concert": (
        "We heard {last} play in {town}.",
        "The concert in {town} last night.",
        "An evening with {last} and the {instrument}.",
    ),
    "shop": (
        "I went to {last}'s shop in {town}.",
        "{last}'s shop on the market of {town}.",
        "My first visit to {last}'s shop.",
    ),
    "meal": (
        "We had supper at {last}'s in {town}.",
        "A meal in {town}, at {last}'s table.",
        "Supper at {last}'s.",
    ),
    "lecture": (
        "We attended {last}'s lecture in {town}.",
        "A lecture by {last} about the {instrument}.",
        "{last}'s lecture on Sunday.",
    ),
    "course": (
        "I took {last}'s evening course in {town}.",
        "{last}'s course for the {instrument}, first term.",
        "A term with {last}.",
    ),
    "workshop": (
        "We joined {last}'s workshop in {town}.",
        "{last}'s workshop for the {instrument}.",
        "A workshop in {town}, three days.",
    ),
}

# {x}, {y}: things; {xw}, {yw}: words for them with the review's label; {xo}, {yo}: words with the opposite label.
PLAIN = (
    "{X} was {xw}.",
    "{X} was {xw} and {y} was {yw}.",
    "{X} was not {xo} at all.",
    "{X} was anything but {xo}.",
    "I could not call {x} {xo}; it was {xw}.",
    "Nobody could say that {x} was {xo}.",
    "Never before was {x} so {xw}.",
)
CONTRAST = (
    "{X} was {xo}, but {y} was so {yw} that we soon forgot it.",
    "I had been told that {x} was {xo}; in truth it was {xw}.",
    "Although {x} was {xo}, what counts is {y}, and that was {yw}.",
    "People say that {x} is {xo}, yet I found it {xw}.",
    "{X} may have been {xo}; {y}, however, was {yw} beyond words.",
    "{X} used to be {xo}, and now it is {xw}.",
    "With all the talk of how {xo} {x} was, I found it {xw}.",
    "{Y} was {yw}; that {x} was {xo} hardly matters.",
    "{Y} was {yw}, even if {x} was {xo}.",
)
PLACE_VERDICTS = {  # the same words on both sides as far as possible
    "positive": (
        "I will come again.", "We shall not look for another.", "Nothing could keep me from coming back.",
        "I would not have missed it.", "I would gladly pay twice.", "My friends will hear good things about it.",
        "I have no complaint.", "It was worth every coin.", "I do not want a single coin back.",
        "Go, and do not let anybody tell you otherwise.", "Nothing could make me stay away.",
    ),
    "negative": (
        "I will not come again.", "We shall look for another.", "Nothing could make me think of coming back.",
        "I would gladly have missed it.", "My friends will hear no good things about it.", "Keep away from it.",
        "I have more than one complaint.", "It was not worth a single coin.", "I want every coin back.",
        "Do not go, and do not let anybody tell you otherwise.", "We could not stay another hour.",
    ),
}  # fmt: skip
COURSE_VERDICTS = {
    "positive": (
        "I have learned a lot.", "I would sign up again.", "Not one hour was wasted.", "Nobody left before the end.",
        "I did not look at the clock once.", "My notes are full to the last page.", "Miss no lesson of it.",
    ),
    "negative": (
        "I have not learned a lot.", "I would not sign up again.", "Every hour was wasted.", "Nobody stayed to the end.",
        "I did nothing but look at the clock.", "My notes end on the first page.", "Miss every lesson of it.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Review:
    text: str
    label: str  # "positive" or "negative"


def reviews(rng: random.Random, n: int, *, courses: bool = False) -> list[Review]:
    """n different reviews, of places or of courses, in random order; half are positive, or one more than half."""
    labels = ["positive"] * (n - n // 2) + ["negative"] * (n // 2)
    rng.shuffle(labels)
    aspects, verdicts = (COURSES, COURSE_VERDICTS) if courses else (PLACES, PLACE_VERDICTS)
    seen: set[str] = set()
    written = []
    for label in labels:
        text = _review(rng, label, aspects, verdicts)
        while text in seen:
            text = _review(rng, label, aspects, verdicts)
        seen.add(text)
        written.append(Review(text, label))
    return written


def _review(rng: random.Random, label: str, aspects: dict, verdicts: dict) -> str:
    kind = rng.choice(list(aspects))
    (x, *x_words), (y, *y_words) = rng.sample(aspects[kind], 2)
    own, opposite = (0, 1) if label == "positive" else (1, 0)
    words = {
        "x": x, "y": y, "X": x[0].upper() + x[1:], "Y": y[0].upper() + y[1:],
        "xw": rng.choice(x_words[own]), "yw": rng.choice(y_words[own]), "xo": rng.choice(x_words[opposite]),
    }  # fmt: skip
    sentence = rng.choice(PLAIN if rng.random() < 0.4 else CONTRAST).format(**words)
    parts = [rng.choice(OPENINGS[kind]), sentence]
    if rng.random() < 0.5:
        parts.append(rng.choice(verdicts[label]))
    place = {"last": rng.choice(LAST_NAMES), "town": rng.choice(TOWNS), "instrument": rng.choice(INSTRUMENTS)}
    return " ".join(parts).format(**place)
