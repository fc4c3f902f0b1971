"""Short opinionated reviews of inns, concerts, shops and meals in the tiny world, each clearly positive or negative.

Negative reviews contain positive words and the other way round ("the soup was cold, but ..."; "I had feared a dull
evening, and it was anything but dull"), so single words do not decide: the sentence must be understood.
"""

import random
from dataclasses import dataclass

from tlqa_jax.data.tiny_world.phrases import INSTRUMENTS, LAST_NAMES, TOWNS

# kind of place -> (thing, good words, bad words)
ASPECTS = {
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
VERDICTS = {  # the same words on both sides as far as possible
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


@dataclass(frozen=True)
class Review:
    text: str
    label: str  # "positive" or "negative"


def reviews(rng: random.Random, n: int) -> list[Review]:
    """n different reviews in random order; half of them are positive, or one more than half."""
    labels = ["positive"] * (n - n // 2) + ["negative"] * (n // 2)
    rng.shuffle(labels)
    seen: set[str] = set()
    written = []
    for label in labels:
        text = _review(rng, label)
        while text in seen:
            text = _review(rng, label)
        seen.add(text)
        written.append(Review(text, label))
    return written


def _review(rng: random.Random, label: str) -> str:
    kind = rng.choice(list(ASPECTS))
    (x, *x_words), (y, *y_words) = rng.sample(ASPECTS[kind], 2)
    own, opposite = (0, 1) if label == "positive" else (1, 0)
    words = {
        "x": x, "y": y, "X": x[0].upper() + x[1:], "Y": y[0].upper() + y[1:],
        "xw": rng.choice(x_words[own]), "yw": rng.choice(y_words[own]), "xo": rng.choice(x_words[opposite]),
    }  # fmt: skip
    sentence = rng.choice(PLAIN if rng.random() < 0.4 else CONTRAST).format(**words)
    parts = [rng.choice(OPENINGS[kind]), sentence]
    if rng.random() < 0.5:
        parts.append(rng.choice(VERDICTS[label]))
    place = {"last": rng.choice(LAST_NAMES), "town": rng.choice(TOWNS), "instrument": rng.choice(INSTRUMENTS)}
    return " ".join(parts).format(**place)
