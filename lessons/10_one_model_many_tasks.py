# %% [markdown]
# # Lesson 10: One model, many tasks
#
# **Time** 70 minutes, of which the computer needs about ten (two CPU cores), and two more without lesson 5's run.
#
# **Know first** Exact match (lesson 1), T5 (lesson 4), pretraining (lesson 5, whose run is used here; without it, this
# lesson makes one), fine-tuning on questions (lesson 6).
#
# **You will be able to**
# - write a task as a record: what is read, what is written, how it is scored;
# - say why a model that writes text can also give a number, and round it for that;
# - compute how often each task should come, and draw it;
# - say when accuracy misleads, and score with Matthews correlation instead;
# - compare one model for six tasks with six models for one, fairly.

# %%
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from tlqa_jax.data.batches import ShuffledOrder
from tlqa_jax.data.tiny_world import TYPE_OF, bundled, typed_mentions
from tlqa_jax.examples import TextExample
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.lessons import SMOKE, many_tasks as check, show, street
from tlqa_jax.lessons.claims import claim, percent
from tlqa_jax.metrics import texts
from tlqa_jax.tasks.mixture import Mixture, mixing_rates
from tlqa_jax.tasks.task_rows import read_examples
from tlqa_jax.tasks.text_tasks import SIMILARITY, TASKS, TextTask
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.pretrain_spans import pretrain_spans
from tlqa_jax.training.progress import read_metrics

# %% [markdown]
# ## Everything is text
#
# BERT needs a new head for each kind of task: two columns to point at answers, a row for each class, one number for a
# similarity. T5's authors asked what happens if there is *nothing* new: every task is made into "read this text, write
# that text" (Raffel et al. 2020, section 2.4). Then one model, one loss and one way of decoding serve them all, and
# nothing needs to be added for the next one.
#
# A class becomes a word, a number its digits, an answer stays what it is:

# %%
shown = {
    "sentiment": {"text": "The soup was dull.", "label": 0},
    "acceptability": {"sentence": "The soup were dull.", "label": 0},
    "question_type": {"question": "Where was Mira born?", "label": "birthplace"},
    "context_qa": {"question": "Where was Mira born?", "context": "Mira comes from Oss.", "answers": ["Oss"]},
    "closed_book_qa": {"question": "Where was Mira born?", "answers": ["Oss"]},
    "similarity": {"sentence1": "A man sleeps.", "sentence2": "Someone is asleep.", "label": 4.57},
    "translation": {"en": "It rains.", "de": "Es regnet."},
    "kelbish": {"en": "The nurse sells the harps.", "kelbish": "arfio nol sova"},
    "summarisation": {"article": "Mira, once a baker, is a mason in Oss.", "highlights": "Mira is a mason in Oss."},
}
for name, row in shown.items():
    example = TASKS[name].example(row, name)
    print(f"{example.input:68} -> {example.target}")

# %% [markdown]
# ## The wrong version first: leave the prefix out
#
# Two of them ask *the same question* and want something else: where Mira was born, and what is being asked for. In the
# tiny world every closed-book question can also be asked for its type. Without the prefix the two inputs are the same
# letters, and a model is a function: whatever it writes for one, it writes for the other.

# %%
# With True, runs are kept on your Google Drive, as in lesson 5.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
questions = [json.loads(line) for line in (files / "asked.jsonl").read_text(encoding="utf-8").splitlines()]
types, answers = (
    [TASKS[name].example({**row, "answers": [row["answer"]]}, "a row") for row in questions]
    for name in ("question_type", "closed_book_qa")
)
without = lambda example: example.input.split(": ", 1)[1]
same = {without(example) for example in types} & {without(example) for example in answers}
print(len(same), "inputs are the same without a prefix:", sorted(same)[0])
print("the right outputs:", types[0].target, "and", answers[0].target)
assert same and not {e.input for e in types} & {e.input for e in answers}

# %% [markdown]
# So the prefix is no decoration: it is the only thing that tells the tasks apart. Its wording matters little as long as
# it is always the same (as the paper found in section 2.4, without trying very many).
#
# ## Exercise 1: a record
#
# The package writes a task as a *record*: its name; `input`, the text to read, with fields of the data in braces;
# `target`, the field with what is to be written; `labels`, the words for the values of that field; `metrics`. Write one
# for rows such as `{"headline": "Harrow wins the cup", "is_sport": 1}`. Before the headline stands `sport: `; yes or no
# is to be written; what counts is accuracy.

# %%
# Hint: each field of the record is named in the paragraph above. Which words are to be written for 0 and for 1?
# Hint: `TextTask("sport", input="sport: {headline}", target=..., labels={"0": ..., "1": ...}, metrics=(...,))`.
# BLANK: sport = ...
sport = TextTask(
    "sport",
    input="sport: {headline}",
    target="is_sport",
    labels={"0": "no", "1": "yes"},
    metrics=("accuracy",),
)
# END BLANK

check.record(sport)

# %% [markdown]
# That is all that a task of your own needs: give it to `finetune_qa`, with a file of rows, beside any of the others.
# (On the command line the same record is a small JSON file: `tlqa finetune --tasks sentiment,sport.json`. Questions
# are tasks like the others, so `tlqa finetune-qa` is the same program.)
#
# ## A number is a text, too
#
# How similar are two sentences, from 0 to 5? (This is STS-B.) The judges' mean is a number such as 2.57. To a model
# that writes, "2.57" is a word that it may never have seen. So T5 rounds to the nearest fifth: 26 texts (the paper
# counts 21, from 1 on), each of which occurs often, and for the score (a correlation) the loss of precision does not
# matter.
#
# ## Exercise 2: a number as text

# %%
def number_text(value: float) -> str:
    # Hint: how many fifths is it, rounded? Write that number of fifths.
    # Hint: `round(value * 5) / 5` is the nearest fifth, and `f"{x:.1f}"` writes one decimal.
    # BLANK
    return f"{round(value * 5) / 5:.1f}"
    # END BLANK


check.number_text(number_text)

# %%
rng = np.random.default_rng(0)
judged = rng.uniform(0, 5, 1000)
written = [number_text(value) for value in judged]
assert written == [SIMILARITY.rounded(value) for value in judged.tolist()]
tokenizer = SentencePieceTokenizer(bundled("vocabulary.model"))
print(len(set(written)), "different texts; one of them in pieces:", tokenizer.pieces(written[0]))
print(f"correlation of the rounded numbers with the others: {np.corrcoef(judged, [*map(float, written)])[0, 1]:.4f}")

# %% [markdown]
# Is it then still a *classification*, into 26 classes, where nothing says which are neighbours? Yes: writing 2.4 for
# 2.6 costs as much in the loss as writing 0.0. In practice the model learns from the data which numbers are near.
#
# ## How often each task?
#
# Now all tasks go into one stream, and every batch has rows of several. How many of each? If the tasks come **in
# proportion to their numbers** of examples $e_m$, a task with a thousand examples is hardly seen beside one with a
# million. If all tasks come **equally often**, the small one is seen a hundred times over and learned by heart. Between
# the two there are a *cap* $K$ (no task counts for more than $K$ examples) and a *temperature* $T$ (Raffel et al. 2020,
# section 3.5.2):
#
# $$r_m = \frac{\min(e_m, K)^{1/T}}{\sum_k \min(e_k, K)^{1/T}}$$
#
# $T = 1$ is in proportion, a very large $T$ makes all rates equal.
#
# ## Exercise 3: rates

# %%
def rates(sizes: list[int], cap: float, temperature: float) -> np.ndarray:
    # Hint: first the cap, then the temperature. At the end the rates must add up to 1.
    # Hint: `weights = np.minimum(sizes, cap) ** (1 / temperature)`, divided by their sum.
    # BLANK
    weights = np.minimum(sizes, cap) ** (1 / temperature)
    return weights / weights.sum()
    # END BLANK


check.rates(rates)

# %%
sizes = {"translation": 4_500_000, "summaries": 287_000, "squad": 88_000, "sentiment": 67_000, "similarity": 5_700}
ways = {
    "in proportion": rates([*sizes.values()], np.inf, 1),
    "cap 2**16": rates([*sizes.values()], 2**16, 1),
    "temperature 2": rates([*sizes.values()], np.inf, 2),
    "temperature 4": rates([*sizes.values()], np.inf, 4),
    "both": rates([*sizes.values()], 2**16, 2),
    "equal": rates([*sizes.values()], 1, 1),
}
epochs = {name: 2**19 * way / np.array([*sizes.values()]) for name, way in ways.items()}
assert np.allclose(ways["both"], mixing_rates([*sizes.values()], f"proportional={2**16},temperature=2"))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
bottom = np.zeros(len(ways))
for number, name in enumerate(sizes):
    height = np.array([way[number] for way in ways.values()])
    left.bar([*ways], height, bottom=bottom, label=name)
    bottom += height
left.set(ylabel="share of the rows", title="Five tasks, six mixtures")
left.set_xticks(range(len(ways)), [*ways], rotation=30, ha="right")
for number, name in enumerate(sizes):
    right.plot([*ways], [epochs[way][number] for way in ways], "o-", label=name)
right.axhline(1, color="gray", linewidth=0.8)
right.set(yscale="log", ylabel="times each example is seen", title="in 2**19 rows")
right.set_xticks(range(len(ways)), [*ways], rotation=30, ha="right")
right.legend(fontsize=8, loc=(1.02, 0.3))
show(figure, "10_rates")

# %% [markdown]
# Look at the right picture along the line at 1. In proportion, no example is seen even once on average, and all are
# seen equally often. With equal rates, each example of the smallest task is seen some twenty times: it will be
# learned by heart long before translation has begun. No formula says which of the mixtures is best; one has to try.
#
# The package's stream keeps two promises that independent draws would not keep: after each period every task has come
# exactly as often as its rate says, and a task goes through *all* of its examples before one comes again. And it is a
# function of (seed, position), so that a run that was stopped continues with exactly the rows that it would have had.

# %%
small = {"A": 6, "B": 3, "C": 2}
streams = [ShuffledOrder(size, 1) for size in small.values()]
mixture = Mixture(streams, rates([*small.values()], np.inf, 1), seed=0, period=22)
order, places = mixture.tasks_and_places(np.arange(66))
figure, axes = plt.subplots(figsize=(11, 1.7), layout="constrained")
axes.bar(np.arange(66), np.ones(66), width=1, color=[f"C{task}" for task in order], edgecolor="white")
for position, row in enumerate(mixture[np.arange(66)] - mixture.starts[order]):
    axes.text(position, 0.5, row, ha="center", va="center", fontsize=8, color="white")
for border in (21.5, 43.5):
    axes.axvline(border, color="black")
axes.set(yticks=[], xlim=(-0.5, 65.5), xlabel="position in the stream; numbers: which example of its task")
axes.set_title("Blue: task A with 6 examples, orange: B with 3, green: C with 2. Lines: periods")
show(figure, "10_stream")
for task, size in enumerate(small.values()):
    own = (mixture[np.arange(66)] - mixture.starts[order])[order == task]
    assert all(sorted(epoch) == list(range(size)) for epoch in own.reshape(-1, size).tolist())

# %% [markdown]
# ## Six models, or one
#
# Six tasks of the tiny world, all from lesson 5's pretrained model: sentiment of reviews, the type of a question, a
# question with a passage, a question from memory, translation into Kelbish (an invented language of the tiny world,
# with another order of words and with endings), a passage's summary of one line. First six models, one for each task.
# Then one model for all, which we score twice: after **as many steps** as each of the six had, when one row in six was
# of a given task; and after six times as many, when it has seen **as many rows** of each task. (It would be unfair to
# show only the second.) The learning rate stays the same from the first step to the last, so that a score in between
# is as good as one at the end. Translations are scored by BLEU and summaries by ROUGE-1, by the words that they share
# with the right ones; the other tasks by the share of right answers.
#
# (As in lesson 5, the same call again continues, and of a run that is complete it returns at once.)

# %%
pretrained = pretrain_spans(street.pretraining(files, runs / "pretrained"))
SOURCES = {
    "sentiment": ("tiny_world:reviews_train.jsonl", "tiny_world:reviews_dev.jsonl"),
    "question_type": (files / "reading.jsonl", files / "reading_held_out.jsonl"),
    "context_qa": (files / "reading.jsonl", files / "reading_held_out.jsonl"),
    "closed_book_qa": (files / "asked.jsonl", files / "unasked.jsonl"),
    "kelbish": ("tiny_world:kelbish_train.jsonl", "tiny_world:kelbish_dev.jsonl"),
    "summarisation": ("tiny_world:summaries_train.jsonl", "tiny_world:summaries_dev.jsonl"),
}
STEPS = 4 if SMOKE else 400


def learn(out: str, tasks: tuple[str, ...], steps: int, quiet: bool) -> Path:
    return finetune_qa(FinetuneQASettings(
        out=str(runs / out), start_from=str(pretrained), tasks=tasks, mixing="equal",
        train_on=tuple(f"{task}={SOURCES[task][0]}" for task in tasks),
        held_out=tuple(f"{task}={SOURCES[task][1]}" for task in tasks),
        input_length=64, target_length=36, batch_size=8 if SMOKE else 64, steps=steps, warmup=2 if SMOKE else 20,
        optimizer="adamw", learning_rate=5e-4, decay="constant", relative_bias_rate=100.0, dropout=0.0,
        log_every=STEPS // 4, evaluate_every=STEPS, save_every=STEPS,
    ), quiet=quiet)  # fmt: skip


alone = {}
for task in SOURCES:
    print(f"a model for {task.replace('_', ' ')}: {STEPS} steps")
    alone[task] = learn(f"alone_{task}", (task,), STEPS, quiet=True)

# %%
together = learn("together", tuple(SOURCES), len(SOURCES) * STEPS, quiet=False)

# %% [markdown]
# And what does guessing give? The commonest class; the first of the passage's values that is of the right kind; from
# memory, the commonest answer to that sort of question. Who knows no Kelbish leaves a sentence as it is; and the first
# sentence of a passage is often a fair summary (of news it is hard to beat).

# %%
METRIC = {task: TASKS[task].metrics[0] for task in SOURCES}  # accuracy, or exact_match ("em" in a run's metrics)
held_out = {task: read_examples(TASKS[task], str(source)) for task, (_, source) in SOURCES.items()}
rows = {
    name: [json.loads(line) for line in (files / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in ("asked", "unasked", "reading_held_out")
}
commonest = lambda values: Counter(values).most_common(1)[0][0]
by_relation = {
    relation: commonest(row["answer"] for row in rows["asked"] if row["relation"] == relation)
    for relation in street.RELATIONS
}
guesses = {
    "sentiment": [commonest(e.target for e in held_out["sentiment"])] * len(held_out["sentiment"]),
    "question_type": [commonest(e.target for e in held_out["question_type"])] * len(held_out["question_type"]),
    "context_qa": [typed_mentions(row["context"], TYPE_OF[row["relation"]])[0] for row in rows["reading_held_out"]],
    "closed_book_qa": [by_relation[row["relation"]] for row in rows["unasked"]],
    "kelbish": [e.input.split(": ", 1)[1] for e in held_out["kelbish"]],
    "summarisation": [e.input.split(": ", 1)[1].split(". ")[0] + "." for e in held_out["summarisation"]],
}


# %%
def score(run: Path, task: str, step: int = STEPS) -> float:
    name = f"eval_{task}_{METRIC[task].replace('exact_match', 'em')}"
    return next(row[name] for row in read_metrics(run / "metrics.jsonl") if row["step"] == step and name in row)


table = {
    "guessing": {task: TASKS[task].score(guesses[task], held_out[task])[METRIC[task]] for task in SOURCES},
    "a model each": {task: score(alone[task], task) for task in SOURCES},
    "one for all, same steps": {task: score(together, task) for task in SOURCES},
    "one for all, same rows": {task: score(together, task, len(SOURCES) * STEPS) for task in SOURCES},
}

# %%
figure, axes = plt.subplots(figsize=(11, 3.8), layout="constrained")
for number, ((name, scores), colour) in enumerate(zip(table.items(), ("lightgray", "C1", "C9", "C0"), strict=True)):
    bars = axes.bar(np.arange(len(SOURCES)) + 0.2 * number - 0.3, scores.values(), width=0.19, color=colour, label=name)
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
axes.set(xticks=np.arange(len(SOURCES)), ylabel="score, %", ylim=(0, 118), title="Held-out examples of each task")
axes.set_xticklabels([task.replace("_", " ") for task in SOURCES])
axes.legend(ncols=4, fontsize=8, loc="upper center")
show(figure, "10_tasks")
print(f"{'':24}" + "".join(f"{task.replace('_', ' '):>16}" for task in SOURCES))
for name, scores in table.items():
    print(f"{name:24}" + "".join(f"{value:16.1f}" for value in scores.values()))
alone_scores, together_scores = table["a model each"], table["one for all, same rows"]
print("held out:", {task: len(its) for task, its in held_out.items()}, "examples. With 60, chance alone is 13 points")
kept = all(together_scores[task] > alone_scores[task] - 10 for task in ("sentiment", "question_type"))
claim("one model names classes as well as two models do, within 10 points", kept)
lost = alone_scores["closed_book_qa"] - together_scores["closed_book_qa"]
claim(f"one model forgets facts: {lost:.0f} points, more than 10", lost > 10)

# %% [markdown]
# First the gray bars: a model whose bar is no higher than guessing has not learned its task yet.
#
# Compare the orange bar with the dark blue one: the same number of rows of each task, in six models or in one. If they
# are about equal, as for the two tasks of naming a class, one model does the work of six with a sixth of the disk
# and of the memory. If dark blue is higher, as for reading here, one task has helped another, or the larger number of
# steps has helped.
#
# If it is lower, the tasks disturb each other, since they share one set of weights. The facts that a closed-book model
# answers with were learned in *pretraining*; fine-tuning only showed it how questions are asked, with half of the
# residents. The other half is never mentioned any more, and each further step for the other tasks overwrites a little
# of what was known about them: compare the light blue bar, after a sixth of the steps. This is *forgetting*. The
# paper's multi-task mixture therefore contains the self-supervised task as well, as one of many. (Try it: with one more
# task, whose rows are passages with holes, twice as much of the memory stays; reading then takes longer.)
#
# The paper found that training on all tasks at once was somewhat worse than pretraining and then one model for each
# task, whatever the mixture; that fine-tuning the multi-task model again, on one task, closed the gap; and that no
# mixture was the best for all tasks (sections 3.5.2 and 3.5.3). Differences of a few percent in a table of one seed say
# nothing.
#
# ## What the prefix does
#
# One model has learned both to answer a question and to name its type. Ask it the same thing under two prefixes:

# %%
run = open_model(together)
some = random.Random(0).sample(rows["unasked"], 6)


def ask_under(prefix: str) -> list[str]:
    asked = [TextExample(str(n), f"{prefix}: {row['question']}", "", ()) for n, row in enumerate(some)]
    return [written.text for written in run.predict(asked)]


for row, answer, type in zip(some, ask_under("question"), ask_under("question type"), strict=True):
    print(f"{row['question']:46} question: {answer:16} question type: {type}")
everything = {word for example in held_out["question_type"] for word in example.answers}
share = percent([type in everything for type in ask_under("question type")])
print(f"under the second prefix {share.value:.0f} % of {len(some)} answers name a type")
claim("under the second prefix nearly every answer names a type", share.value > 80)

# %% [markdown]
# ## When accuracy misleads
#
# Is a sentence good English? (This is CoLA.) Seven in ten of its sentences are. A model that always says "acceptable"
# has an accuracy of 70 % and has understood nothing. Therefore *Matthews correlation* is used. With TP, FP, FN, TN the
# counts of true and false positives and negatives:
#
# $$\text{MCC} = \frac{TP \cdot TN - FP \cdot FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}}$$
#
# It is 1 if all is right, -1 if all is wrong, and 0 for a guesser that does not look at the sentence, however unequal
# the classes are. If the formula is 0/0 (the same was always said), it is set to 0.
#
# ## Exercise 4: Matthews correlation

# %%
def matthews(said: list[bool], right: list[bool]) -> float:
    # Hint: count the four cases first. Below the line is the square root of a product; if it is 0, the result is 0.
    # Hint: `tp = sum(s and r for s, r in zip(said, right))`, `fp = sum(s and not r for s, r in zip(said, right))`, and
    # so on.
    # BLANK
    pairs = list(zip(said, right))
    tp, tn = sum(s and r for s, r in pairs), sum(not s and not r for s, r in pairs)
    fp, fn = sum(s and not r for s, r in pairs), sum(r and not s for s, r in pairs)
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / below**0.5 if below else 0.0
    # END BLANK


check.matthews(matthews)

# %%
rng = np.random.default_rng(1)
good = rng.random(2000) < 0.7
guessers = {
    "always acceptable": good | True,
    "a coin for each": rng.random(2000) < 0.5,
    "acceptable in 7 of 10": rng.random(2000) < 0.7,
    "right in 8 of 10": np.where(rng.random(2000) < 0.8, good, ~good),
}
for name, said in guessers.items():
    words = ["acceptable" if one else "unacceptable" for one in said]
    gold = [("acceptable" if one else "unacceptable",) for one in good]
    yours, packages = matthews(said.tolist(), good.tolist()), texts.matthews(words, gold) / 100
    print(f"{name:24} accuracy {texts.accuracy(words, gold):5.1f} %   Matthews {yours:6.3f}")
    assert np.isclose(yours, packages)

# %% [markdown]
# ## What you know now
#
# - Any task with an answer is text in, text out. A record says how; the prefix says which.
# - A number is a text, too, if there are few enough of them.
# - In a mixture each task comes at its rate: in proportion, with a cap, with a temperature, or equal. The rate decides
#   how often each example of a small task is seen.
# - One model for many tasks is to be compared both at the same steps and at the same rows.
# - If the classes are of unequal size, accuracy misleads.
#
# *Try next:* two more rates in the comparison (`mixing="temperature=2"`, `"proportional"`: how much does the small
# closed-book task lose?); `learn` with `start_from=None`: which tasks lived on pretraining? Or a task of your own, from
# a file.
#
# *Read on:* Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
# sections 2.4 and 3.5; McCann et al. 2018, "The Natural Language Decathlon: Multitask Learning as Question Answering";
# Wang et al. 2019, "GLUE"; Aribandi et al. 2022, "ExT5: Towards Extreme Multi-Task Scaling for Transfer Learning".

# %% [markdown]
# ## Bonus: a temperature for the smallest task
#
# In the figure of the mixtures: at which temperature, without a cap, is each example of the smallest task seen exactly
# ten times in 2**19 rows? Find it with your `rates`, to two decimals. How often is each example of the largest task
# seen then?
#
# > The number grows with the temperature, so begin with 1 and 100 and halve the interval again and
# > again. It is 5.85, and of 25 translations one is seen.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** Two tasks have 900 and 100 examples. What are their rates in proportion, with a cap of 100, and with a
# temperature of 2?
#
# > 0.9 and 0.1; 0.5 and 0.5; 0.75 and 0.25 (the roots are 30 and 10).
#
# **2.** The right text is "2.4". One model gives all of its other probability to "2.6", and another to "0.0"; both give
# "2.4" the same. Which one has the higher loss, and which one the better correlation?
#
# > The losses are equal: only the probability of the right text counts. When they are wrong, the first one is nearly
# > right, so its correlation is better.
#
# **3.** A model has an accuracy of 70 % on sentences of which 70 % are acceptable, and a Matthews correlation of 0.
# What does it probably do? And with a correlation of -1, what would you do?
#
# > It probably always says "acceptable". With -1 it is always wrong: exchange its two words, and it is always right.
#
# **4.** You add a seventh task, with equal rates, and keep the number of steps. What happens to the six others?
#
# > Each of them has a seventh of the rows instead of a sixth. A worse score may come from fewer rows alone, and not
# > from the new task.
#
# **5.** Only the sentiment task loses its prefix; the others keep theirs. Can the model still tell the tasks apart?
# When does it go wrong?
#
# > Mostly yes: an input without a prefix must be a review. It goes wrong if a second task loses its prefix, or if a
# > review begins like a prefix, "question: …".
