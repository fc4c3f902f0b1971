# %% [markdown]
# # Lesson 1: What is a question, and when is an answer right?
#
# **Time** 40 minutes, of which the computer needs a few seconds.
#
# **Know first** Python: dictionaries, lists, functions. No neural network appears in this lesson.
#
# **You will be able to**
# - tell context-based from closed-book question answering, and read the data of both;
# - say where in a passage an answer stands, and why searching for it is not enough;
# - score answers by exact match and F1, by hand and exactly as the official SQuAD script does;
# - distrust a score that has no baseline beside it.

# %%
import json
import random
import re
import string
from collections import Counter, defaultdict

import matplotlib.pyplot as plt

from tlqa_jax.data.sources import open_questions
from tlqa_jax.data.tiny_world import TYPE_OF, bundled, typed_mentions
from tlqa_jax.lessons import question_answering as check, show
from tlqa_jax.metrics import squad as package
from tlqa_jax.tasks.text_to_text import qa_source

# %% [markdown]
# ## Two kinds of examination
#
# In an **open-book** examination you get a passage with the question. You need to know how to *read*, and nothing
# about the world. SQuAD is this examination for machines: people were shown paragraphs of Wikipedia, invented
# questions about them, and marked the words that answer them (Rajpurkar et al. 2016). The answer is always a part of
# the passage.
#
# In a **closed-book** examination you get the question alone. The answer has to be in your head, and for a language
# model, "in the head" means in its weights: it must have met the fact in the text it was pretrained on, and kept it
# (Roberts et al. 2020).
#
# | | given | tests | the answer comes from |
# |---|---|---|---|
# | context-based | question, passage | reading | the passage |
# | closed-book | question | memory | the weights |
#
# This course has a small world of its own in which both can be practised in minutes: invented people, each with a
# birthplace, a profession, an employer, an instrument. Let us look at it in the format that SQuAD has.

# %%
data = json.loads(bundled("context_train.json").read_text(encoding="utf-8"))
article = data["data"][22]
print(json.dumps(article, indent=1)[:1100], "...")

# %% [markdown]
# Four levels: `data` is a list of articles, an article has paragraphs, a paragraph has one `context` and many `qas`,
# and each of these has an `id`, a `question` and a list of `answers` (a list, because real questions were answered by
# several people). `answer_start` counts *characters*. Flat rows are easier to work with:

# %%
def flat(data: dict) -> list[dict]:
    return [
        {"context": paragraph["context"], **qa}
        for article in data["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


train = flat(data)
dev = flat(json.loads(bundled("context_dev.json").read_text(encoding="utf-8")))
print(len(train), "questions to learn from,", len(dev), "about other people, to be examined with")
assert not {q["context"] for q in train} & {q["context"] for q in dev}  # no passage is in both

# the package reads such files, and checks them, in one line:
examples = open_questions(bundled("context_train.json"))
assert [example.question for example in examples] == [q["question"] for q in train]

# %% [markdown]
# ## Where is the answer?
#
# First the obvious way: search the passage for the text of the answer. It runs, and nearly always it is right.

# %%
astray = [q for q in train if q["context"].find(q["answers"][0]["text"]) != q["answers"][0]["answer_start"]]
print(f"searching finds another place in {len(astray)} of {len(train)} questions, for example:\n")
q = astray[0]
text, start = q["answers"][0].values()
print(q["context"], "\n\n", q["question"], "->", text)
print(" searching finds    ...", q["context"][: q["context"].find(text)][-40:], f"[{text}]")
print(" what was marked is ...", q["context"][:start][-40:], f"[{text}]")
assert astray, "the wrong way is wrong somewhere"

# %% [markdown]
# It found *lute* inside *flute*, which is somebody else's instrument. Searching for whole words would solve that, but
# not a passage in which the same year stands twice, once of a birth and once of a house (there is none in this small
# world; SQuAD has many). A model that learns to point at the wrong place learns to read badly. That is why the data say
# *where* the answer is.
#
# ## Exercise 1: the span of an answer
#
# Return `(start, end)` such that `context[start:end]` is the answer that was marked.

# %%
def answer_span(context: str, answer: dict) -> tuple[int, int]:
    # Hint: the data say where the answer begins, and its text says how long it is. A Python slice ends one after the
    # last character.
    # Hint: `start = answer["answer_start"]`. The end is `start` plus the length of `answer["text"]`.
    # BLANK
    start = answer["answer_start"]
    return start, start + len(answer["text"])
    # END BLANK


check.answer_span(answer_span)

# %%
def by_searching(context: str, answer: dict) -> tuple[int, int]:
    start = context.find(answer["text"])
    return start, start + len(answer["text"])


for function in (by_searching, answer_span):
    same_text = same_place = 0
    for q in train + dev:
        start, end = function(q["context"], q["answers"][0])
        same_text += q["context"][start:end] == q["answers"][0]["text"]
        same_place += start == q["answers"][0]["answer_start"]
    print(f"{function.__name__:12} {same_text} of {len(train + dev)} have the right text, {same_place} the right place")
assert same_text == same_place == len(train + dev)

# %% [markdown]
# The left number is a good check of *data*: if one space was removed after the answers were marked, all offsets behind
# it are wrong, and the texts differ. It belongs at the start of any project with somebody else's data. But it is no
# check of the *function*: searching passes it too. Only the right number tells the two apart.
#
# ## The same questions, closed-book
#
# A text-to-text model such as T5 gets everything as one string and writes a string. The string also says what the task
# is:

# %%
print("context-based:", qa_source(q["question"], q["context"]))
print("closed-book:  ", qa_source(q["question"]))
print("to be written:", q["answers"][0]["text"])

# %% [markdown]
# The closed-book question is fair only if the model had a chance to read the fact. Here it did: the people of
# `closed_book_dev.json` are in the pretraining text, though nobody ever asks about them in training. The people of
# `context_dev.json` must *not* be there: otherwise a model could answer from memory, and we would call it reading.

# %%
pretraining = bundled("pretraining.txt").read_text(encoding="utf-8")


def people(name: str) -> set[str]:
    return {article["title"] for article in json.loads(bundled(name).read_text(encoding="utf-8"))["data"]}


residents = people("closed_book_dev.json")
strangers = {name for title in people("context_dev.json") for name in title.split(", ")}
assert all(name in pretraining for name in residents)
assert not any(name in pretraining for name in strangers)
assert not residents & people("closed_book_train.json")  # told about, never asked about
print(f"{len(residents)} people to remember, {len(strangers)} to read about for the first time")

# %% [markdown]
# ## When is an answer right?
#
# The strictest judge compares two strings. It is a bad judge:

# %%
gold = "trumpet"
for prediction in ["trumpet", "Trumpet", "the trumpet", "trumpet.", "a brass trumpet", "the bassoon"]:
    print(f"{prediction!r:20} {prediction == gold}")

# %% [markdown]
# No person would mark the second, third and fourth answer as wrong. SQuAD's rule (Rajpurkar et al. 2016, section 6.1)
# compares the answers only after **normalisation**, in this order:
#
# 1. lower-case everything;
# 2. remove punctuation (the ASCII marks of Python's `string.punctuation`), leaving nothing in their place;
# 3. remove the words *a*, *an*, *the*;
# 4. make every run of white space one space, and none at the ends.
#
# ## Exercise 2: normalisation
#
# Write the four steps. The order matters, and the check knows an example for it.

# %%
def normalize(text: str) -> str:
    # Hint: four lines, one for each step, in the order of the list. An article is a whole word: the a's of "banana"
    # stay.
    # Hint: `"".join(c for c in text if c not in string.punctuation)` removes punctuation, `re.sub(r"\b(a|an|the)\b", "
    # ", text)` replaces whole words, `" ".join(text.split())` squeezes spaces.
    # BLANK
    text = text.lower()
    text = "".join(character for character in text if character not in string.punctuation)
    text = re.sub(r"\b(a|an|the)\b", " ", text)
    return " ".join(text.split())
    # END BLANK


check.normalize(normalize)


# %%
def exact_match(prediction: str, gold: str) -> float:
    return float(normalize(prediction) == normalize(gold))


for prediction in ["trumpet", "Trumpet", "the trumpet", "trumpet.", "a brass trumpet", "the bassoon"]:
    print(f"{prediction!r:20} {exact_match(prediction, gold)}")
assert exact_match("The Trumpet.", "trumpet") == 1.0

# %% [markdown]
# ## Half right
#
# "a brass trumpet" found the instrument and said too much; "the bassoon" is simply wrong. Exact match gives both 0.
# **F1** looks at the words: let $s$ be the number of words that prediction and gold share, $p$ and $g$ how many they
# have.
#
# $$P = \frac{s}{p} \qquad R = \frac{s}{g} \qquad F_1 = \frac{2PR}{P + R}$$
#
# Precision $P$ falls when you say too much, recall $R$ when you say too little, and the harmonic mean falls with
# either. By hand: prediction "a brass trumpet", gold "the trumpet". Normalised: `brass trumpet` and `trumpet`. So
# $s=1$, $p=2$, $g=1$, $P=1/2$, $R=1$, $F_1 = 2 \cdot \frac12 / \frac32 = \frac23$.
#
# ## Exercise 3: F1
#
# Words that are said twice count twice, but only as often as the other side says them too.

# %%
def word_f1(prediction: str, gold: str) -> float:
    prediction_words, gold_words = normalize(prediction).split(), normalize(gold).split()
    # Hint: count the shared words first. A word that one side says twice and the other once is shared once. If none is
    # shared, F1 is 0.
    # Hint: `shared = (Counter(prediction_words) & Counter(gold_words)).total()`. Precision is `shared /
    # len(prediction_words)`; recall divides by the other length.
    # BLANK
    shared = (Counter(prediction_words) & Counter(gold_words)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction_words), shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)
    # END BLANK


check.word_f1(word_f1)

# %% [markdown]
# Two rules remain. If several gold answers are given, the *best* score counts: each is an answer that some person
# accepted. And the score of a model is the mean over all questions, in percent; a question that was not answered counts
# as wrong.
#
# Now the claim of this lesson: what you wrote is the package's `metrics.squad`, with which every later lesson scores.

# %%
rng = random.Random(0)
words = ["the", "The", "a", "brass", "trumpet", "Trumpet!", "Kestrel", "Post", "post.", "1928", "U.S.A.", "a-b"]
for _ in range(2000):
    prediction = " ".join(rng.choices(words, k=rng.randint(1, 4)))
    answers = [" ".join(rng.choices(words, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
    if any(normalize(answer) == "" for answer in [prediction, *answers]):
        continue  # nothing but articles: the package has a rule of its own for empty answers
    assert package.exact_match(prediction, answers) == max(exact_match(prediction, answer) for answer in answers)
    assert abs(package.f1(prediction, answers) - max(word_f1(prediction, answer) for answer in answers)) < 1e-12
print("Yours and the package's agree on every one.")

# %% [markdown]
# ## A score alone says nothing
#
# "Our model has F1 15." Is that good? Let some answerers that understand nothing sit the examination first:
#
# - **whole passage**: copies everything. The answer is certainly in it;
# - **first words**: the first two words of the passage, in case it begins with what matters;
# - **commonest**: whatever answered this kind of question most often in training;
# - **first of type**: asked for a town, names the first town of the passage; asked for a year, the first year.
#
# If the position alone told where the answer is, we would see that too: the left picture shows where in the passage the
# answers begin. (Many sentences end with their fact, hence the last bar.)

# %%
commonest = defaultdict(Counter)
for q in train:
    commonest[q["relation"]][q["answers"][0]["text"]] += 1

answerers = {
    "whole passage": lambda q: q["context"],
    "first words": lambda q: " ".join(q["context"].split()[:2]),
    "commonest": lambda q: commonest[q["relation"]].most_common(1)[0][0],
    "first of type": lambda q: typed_mentions(q["context"], TYPE_OF[q["relation"]])[0],
}


def mean(score, answer) -> float:
    return 100 * sum(score(answer(q), [a["text"] for a in q["answers"]]) for q in dev) / len(dev)


scores = {name: (mean(package.exact_match, answer), mean(package.f1, answer)) for name, answer in answerers.items()}

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
left.hist([q["answers"][0]["answer_start"] / len(q["context"]) for q in train], bins=20, range=(0, 1), color="tab:gray")
left.set(xlabel="where the answer begins (0 first, 1 last character)", ylabel="questions")
left.set_title("Answers stand everywhere")
place = range(len(scores))
for offset, number, label in [(-0.2, 0, "exact match"), (0.2, 1, "F1")]:
    bars = right.bar([x + offset for x in place], [score[number] for score in scores.values()], width=0.4, label=label)
    right.bar_label(bars, fmt="%.1f")
right.set(xticks=place, xticklabels=scores, ylabel="percent", title="Answering without understanding", ylim=(0, 46))
right.legend(loc="upper left")
show(figure, "01_without_understanding")

# %%
em, f1 = scores["whole passage"]
assert em == 0 and f1 > 0  # copying everything is never exact, and still shares words
assert all(em <= f1 for em, f1 in scores.values())  # F1 gives everything that exact match gives
assert scores["commonest"][0] < 15  # memorising the training answers does not help
assert 30 < scores["first of type"][0] < 45  # knowing a town from a year does: not yet reading

# %% [markdown]
# A rule that only knows a town from a year is right in more than one question of three, because a passage names three
# of each type. This is the score that reading has to beat, and not zero.
#
# Two habits for the rest of the course. **Put a baseline beside every score**: it costs one line. And **say how sure
# you are**: with few questions a score changes by luck alone. The bootstrap draws the questions again, with
# replacement, and measures how much the mean changes (Efron and Tibshirani 1993).

# %%
coin = random.Random(1)
for number in [20, 100, 500]:
    right_or_wrong = [100.0 * (coin.random() < 0.6) for _ in range(number)]  # a model that is right six times in ten
    low, high = package.bootstrap_interval(right_or_wrong)
    score = sum(right_or_wrong) / number
    print(f"{number:4} questions: exact match {score:.1f}, 95% interval {low:.1f} to {high:.1f}")
    assert low <= score <= high

# %% [markdown]
# ## What you know now
#
# - Context-based answering tests reading, closed-book answering tests memory; it follows which people may be in the
#   pretraining text.
# - SQuAD marks answers by character offset, because the same words can stand in a passage twice.
# - Exact match compares after normalisation; F1 counts shared words; the best gold answer and every question count.
# - A score needs a baseline and an interval beside it.
#
# A model does not read characters or words, though. What it reads is the subject of lesson 2.
#
# *Read on:* Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text"; Roberts et al. 2020,
# "How Much Knowledge Can You Pack Into the Parameters of a Language Model?"

# %% [markdown]
# ## Bonus: is it ahead by more than luck?
#
# Is "first of type" ahead of "commonest" by more than the choice of questions explains? Compute the exact match of both
# for each question of `dev` (0 or 100), subtract one from the other question by question, and give the differences to
# `package.bootstrap_interval`. Does the interval contain 0? Then do it again with the first twenty questions only.
#
# > `package.exact_match(answer(q), [a["text"] for a in q["answers"]])` is 0 or 1, and `answerers["commonest"]` is such
# > an `answer`.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** A passage has the year 1928 twice, of a birth and of a house. The question is about the house, and a function
# returns the first place. Does comparing the *texts* of the spans find the mistake?
#
# > No. Both places have the same text, so the text is right. Only a comparison of the positions finds it.
#
# **2.** Somebody removes all double spaces from the passages of a data set, and keeps every `answer_start`. Which
# answers are wrong now, and which check of this lesson notices?
#
# > All answers behind the first removed space of their passage: they are some characters too far to the right.
# > `context[start:end]` is not the answer's text any more, and the left number of the table shows it.
#
# **3.** What are exact match and F1 of the prediction "the, the cat" for the gold answer "Cat!"?
#
# > Both are 1. After normalisation both sides are `cat`: articles, punctuation and capitals are gone.
#
# **4.** A model always writes the right answer, of one word, and three more words after it. What are its exact match
# and its F1? And if it learns to write one word less?
#
# > Exact match is 0, F1 is 0.4 (precision 1/4, recall 1). With two more words instead of three, F1 is 0.5 and exact
# > match is still 0: it does not see the improvement.
#
# **5.** Model A is right on 61 of 100 questions, and model B on 58 of 100 other questions. What do you know?
#
# > Hardly anything. The interval of each is about ten points wide on either side. Ask both the same questions, and more
# > of them.
