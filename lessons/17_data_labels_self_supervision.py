# %% [markdown]
# # Lesson 17: Data, labels and self-supervision
#
# **Time** 60 minutes, of which the computer needs about four (two CPU cores), and one or two more if lesson 8's run is
# not there.
#
# **Know first** The masked LM (lesson 8, whose run is used here; without it, this lesson makes one), pointing at answers
# (lesson 9), the causal mask (lesson 3). Span corruption (lesson 4) is repeated in one picture.
#
# **You will be able to**
# - make three kinds of training rows from the same text, and say how many targets each has;
# - write the rows of a causal language model, and its perplexity on held-out text;
# - say what a model that looks back only can do that a masked one cannot, and the other way round;
# - read from a curve how many labels a pretraining is worth, and which comparison is fair.

# %%
import json
import math
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

import tlqa_jax
from tlqa_jax.checkpoints.load import load
from tlqa_jax.data.sources import open_questions
from tlqa_jax.data.tiny_world import Person
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.lessons import SMOKE, self_supervision as check, show, street
from tlqa_jax.lessons.claims import claim, lead, percent
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.causal_lm import CausalLMRows
from tlqa_jax.tasks.masked_lm import most_predictions
from tlqa_jax.tasks.span_corruption import tokens_length_for
from tlqa_jax.training.finetune_spans import FinetuneSpansSettings, finetune_spans
from tlqa_jax.training.pretrain_clm import PretrainCLMSettings, pretrain_clm
from tlqa_jax.training.pretrain_mlm import pretrain_mlm
from tlqa_jax.training.progress import read_metrics

# %% [markdown]
# ## Two kinds of data
#
# **Labeled data** are inputs with the outputs that are wanted: a passage, a question, and the place of the answer. Each
# label costs somebody's time. **Unlabeled data** are texts as they are, and there is far more of them. Pretraining uses
# the second kind, fine-tuning the first. How much of each, and what should be asked of the text?

# %%
# With True, runs are kept on your Google Drive, as in lesson 5.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
pretraining = street.masked_lm(files, runs / "masked_lm")
masked = pretrain_mlm(pretraining, quiet=True)  # lesson 8's run, made here if it is not there
tokenizer = load(masked).tokenizer
labeled = [json.loads(line) for line in (files / "reading.jsonl").read_text(encoding="utf-8").splitlines()]
text = CausalLMRows(str(files / "texts.jsonl"), tokenizer, input_length=48)
print(f"unlabeled: {text.report()}")
print(f"labeled: {len(labeled):,} questions with a passage and the place of the answer")

# %% [markdown]
# ## One text, three tasks
#
# All three take something away and ask for it. They differ in what is taken away, and in what the model may look at:
#
# - **causal LM** (GPT; Radford et al. 2018): every token is asked for, and only what stands before it may be seen;
# - **masked LM** (BERT): 15 % of the tokens are asked for, and everything else may be seen, on both sides;
# - **span corruption** (T5): 15 % in short spans; an encoder sees the rest on both sides, and a decoder writes the spans.

# %%
WORDS = "Mira plays the zither and lives in Oss .".split()
TASKS = {
    "causal LM": (["[CLS]", *WORDS], [*WORDS, "[SEP]"]),
    "masked LM": ([w if i not in (3, 7) else "[MASK]" for i, w in enumerate(WORDS)], [w if i in (3, 7) else "" for i, w in enumerate(WORDS)]),
    "span corruption": ("Mira plays <X> and lives in <Y> .".split(), "<X> the zither <Y> Oss <Z>".split()),
}  # fmt: skip
figure, panels = plt.subplots(3, 1, figsize=(10, 4.8), layout="constrained")
for axes, (task, (inputs, targets)) in zip(panels, TASKS.items(), strict=True):
    for y, line, colour in [(1, inputs, "lightskyblue"), (0, targets, "orange")]:
        for x, word in enumerate(line):
            taken = word in ("[MASK]", "<X>", "<Y>") and y == 1
            axes.barh(y, 0.94, 0.7, left=x, color="lightgray" if taken else colour if word else "white")
            axes.text(x + 0.47, y, word, ha="center", va="center", fontsize=10)
    axes.set(xlim=(0, 10.2), ylim=(-0.5, 1.5))
    axes.set_title(task, loc="left", fontsize=11)
    axes.set_yticks([0, 1], ["targets", "inputs"])
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
show(figure, "17_rows")
length = 48
tokens_taken, span_targets = tokens_length_for(length)
for task, number in [("causal LM", length), ("masked LM", most_predictions(length)), ("span corruption", span_targets)]:
    print(f"{task:16} {length} inputs, {number} targets: {number / length:.0%}")

# %% [markdown]
# (Span corruption's targets include the sentinels and the end token.) A step of the causal LM asks six times as many
# questions as one of the masked LM. Keep this in mind: **"equal steps" is not "equal targets"**.
#
# ## Exercise 1: the rows of a causal LM
#
# The documents stand one after the other in one long array; each ends with `[SEP]`. Cut it into rows of `length`. Return
# three arrays [R L]: the `inputs`, the `targets`, and `counts`, which targets count. Position i of the inputs is the
# last token that the model has seen when it must name target i, and each row begins with `[CLS]`. The last row is filled
# up with padding, which does not count. (The causal mask of lesson 3 then lets position i see inputs 0 to i.)

# %%
def next_token_rows(
    tokens: np.ndarray, length: int, cls_id: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Hint: first the targets: the text itself, filled up with padding and cut into rows. The inputs are the same, one place
    # later, with `[CLS]` in front. What counts is what is no padding.
    # Hint: `np.full(rows * length, pad_id)`, the first `len(tokens)` of it replaced, and `.reshape(rows, length)`;
    # `np.roll(targets, 1, axis=1)` and its column 0; `np.arange(rows * length) < len(tokens)`.
    # BLANK
    rows = -(-len(tokens) // length)
    targets = np.full(rows * length, pad_id)
    targets[: len(tokens)] = tokens
    targets = targets.reshape(rows, length)
    inputs = np.roll(targets, 1, axis=1)
    inputs[:, 0] = cls_id
    counts = (np.arange(rows * length) < len(tokens)).reshape(rows, length)
    return inputs, targets, counts
    # END BLANK


check.next_token_rows(next_token_rows)

# %%
inputs, targets, counts = next_token_rows(text.tokens, length, tokenizer.cls_id, tokenizer.pad_id)
packages = text.build(np.arange(text.size))
assert (inputs == packages["tokens"]).all() and (targets == packages["targets"]).all()
assert (counts == packages["weights"]).all()
print("Yours are the package's,", len(inputs), "rows. The first:")
for name, row in [("inputs", inputs[0]), ("targets", targets[0])]:
    print(f"{name:8}", *(tokenizer.piece(int(token)) for token in row[:14]), "...")

# %% [markdown]
# ## Causal pretraining
#
# The program is `training/pretrain_clm.py`, `tlqa pretrain-clm`. It is BERT's encoder with a causal mask, and the loss
# is cross-entropy at every target that counts. Same text, same sizes and same rate as lesson 8's masked LM. It gets 800
# steps, and the other has 2,000: we come back to that.

# %%
steps = 6 if SMOKE else 800
causal = pretrain_clm(PretrainCLMSettings(
    out=str(runs / "data_causal"), texts=str(files / "texts.jsonl"), held_out=str(files / "unread_residents.jsonl"),
    model=pretraining.model, input_length=length, batch_size=32, learning_rate=3e-3, warmup=min(50, steps // 3),
    weight_decay=0.0, dropout=0.0, steps=steps, evaluate_every=-(-steps // 8), log_every=-(-steps // 16),
))  # fmt: skip
print(f"the text was read {steps * 32 * length / len(text.tokens):.0f} times")

# %% [markdown]
# ## Exercise 2: perplexity
#
# A loss in nats is hard to imagine. **Perplexity** is e to the mean loss over all targets that count: the number of
# equally probable tokens among which it would be as hard to guess. From `losses` [B L], each $-\log p$ of a target, and
# `counts` [B L] (1.0 or 0.0):

# %%
def perplexity(losses: np.ndarray, counts: np.ndarray) -> float:
    # Hint: one mean over all targets that count, whatever row they are in; e comes last.
    # Hint: `(losses * counts).sum()` divided by the number of targets that count, then `np.exp`.
    # BLANK
    return float(np.exp((losses * counts).sum() / counts.sum()))
    # END BLANK


check.perplexity(perplexity)

# %%
apply, params = as_function(load(causal).model())
losses_of = jax.jit(lambda inputs, targets: -jnp.take_along_axis(
    jax.nn.log_softmax(apply(params, inputs), axis=-1), targets[..., None], axis=-1
)[..., 0])  # fmt: skip
measured = {}
for name in ("texts", "unread_residents", "unread_strangers"):
    rows = CausalLMRows(str(files / f"{name}.jsonl"), tokenizer, input_length=length)
    some = rows.build(np.arange(min(rows.size, 160)))
    measured[name] = perplexity(np.asarray(losses_of(some["tokens"], some["targets"])), some["weights"])
    print(f"{name:18} perplexity {measured[name]:5.2f}")
curve = [row for row in read_metrics(causal / "metrics.jsonl") if "eval_perplexity" in row]
print("by the program, after each evaluation:", {row["step"]: round(row["eval_perplexity"], 2) for row in curve})
first, last = curve[0]["eval_perplexity"], curve[-1]["eval_perplexity"]
claim("text that was trained on is less perplexing than new text about the same people",
      measured["texts"] < 0.9 * measured["unread_residents"])  # fmt: skip
claim("strangers are more perplexing than residents", measured["unread_strangers"] > 1.2 * measured["unread_residents"])

# %% [markdown]
# Three texts, three numbers. New passages about residents are easy, because who lives where was in the text. Names of
# strangers are new. And does the held-out perplexity only fall? Look at the left picture: while the training loss still
# falls, the held-out curve may rise again. The text has been read dozens of times, and the model learns it **by heart**.
# Only held-out text shows that.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
training = [(row["step"], math.exp(min(row["loss"], 9))) for row in read_metrics(causal / "metrics.jsonl") if "loss" in row]
left.plot(*zip(*training, strict=True), ".-", label="training")
left.plot([row["step"] for row in curve], [row["eval_perplexity"] for row in curve], "o-", label="held out")
left.set(xlabel="step", ylabel="perplexity", yscale="log", title="causal LM")
left.set_yticks(ticks := [1, 2, 4, 8, 16, 32, 64], ticks)
left.minorticks_off()
left.legend()
of_masked = [row for row in read_metrics(masked / "metrics.jsonl") if "eval_mlm_accuracy" in row]
for rows, key, label in [(curve, "eval_accuracy", "causal: the next token"), (of_masked, "eval_mlm_accuracy", "masked")]:
    right.plot([row["step"] for row in rows], [100 * row[key] for row in rows], "o-", label=label)
right.set(xlabel="step", ylabel="held-out tokens right, %", ylim=(0, 100), title="two different questions")
right.legend(loc="lower right")
show(figure, "17_pretraining")

# %% [markdown]
# The causal LM learns in fewer steps: it has six times as many targets in each. The masked LM needs hundreds of steps
# before it begins to use its context, and ends higher. But the two curves **must not be compared** with each other. A
# token in the middle of a known sentence is an easier question than the next one, when nobody can know what will be
# told. A score of a pretraining task says how well *this task* is done. What a pretraining is worth, another task has to
# show.
#
# ## What only the causal one can do
#
# It can write. Take the most probable token, append it, ask again:

# %%
residents = street.people_of_the_street()
prompts = [f"{residents[0].name} was born in", f"{residents[1].name} works as", "In the evening"]
for prompt, written in zip(prompts, tlqa_jax.generate(prompts, run=causal, max_new_tokens=16), strict=True):
    print(f"{prompt} | {written[0].text}")

# %% [markdown]
# A masked LM could fill a `[MASK]` at the end of a text, but it was never trained to write without the words that follow.
# What it can do is to look ahead. Is that worth anything? It depends on the task.
#
# ## Fine-tuning: who has to look ahead?
#
# Lesson 9's task again: point at the answer. In "Anton Stroud works as a farmer" the name stands before the answer; in
# "The town of Oss is where Anton Stroud was born" it stands behind. A model that looks back only has to decide whether
# "Oss" is the answer *before* it has read who was born there. (The question stands in front, so both have read it.)
#
# Three starts, the same questions, the same 200 steps of fine-tuning, the same rate; and for the curve below with 100,
# with 500 and with all labels.

# %%
random.Random(0).shuffle(labeled)
amounts = (40,) if SMOKE else (100, 500, len(labeled))
for number in amounts:
    street.write_rows(files / f"data_first_{number}.jsonl", labeled[:number])
rng = random.Random(17)
strangers = [json.loads(line) for line in (files / "reading_held_out.jsonl").read_text(encoding="utf-8").splitlines()]
people = [Person(*name.split(), ()) for name in sorted({row["title"] for row in strangers})][: 12 if SMOKE else None]
exam_rows = list(street.reading(rng, people, rounds=3))
street.write_rows(files / "data_exam.jsonl", exam_rows)
exam = open_questions(files / "data_exam.jsonl")
answer_first = np.array([row["answer_start"] < row["context"].index(row["title"]) for row in exam_rows])
print(f"{len(exam)} questions for the examination; the answer stands before the name in {answer_first.mean():.0%}")


# %%
def learn(start: str, start_from: Path | None, labels: int) -> np.ndarray:
    """Which answers of the examination are right after fine-tuning with that many labels."""
    print(f"{start}, {labels} labels", flush=True)
    steps = 6 if SMOKE else 200
    run = finetune_spans(FinetuneSpansSettings(
        out=str(runs / f"data_point_{start}_{labels}"), start_from=start_from and str(start_from), steps=steps,
        model=pretraining.model, questions=str(files / f"data_first_{labels}.jsonl"), input_length=64, stride=16,
        max_question_length=24, max_answer_length=8, batch_size=32, learning_rate=1e-3, dropout=0.0, weight_decay=0.0,
        log_every=max(1, steps // 10), save_every=1000, keep=1,
    ), quiet=True)  # fmt: skip
    return np.array([a.text in example.answers for a, example in zip(open_model(run)(exam), exam, strict=True)])


starts = {"random": None, "causal": causal, "masked": masked}
hits = {(start, n): learn(start, run, n) for n in amounts for start, run in starts.items()}

# %%
everything = amounts[-1]
print("with all labels        all questions              name first                 answer first")
parts = {"all": np.ones(len(exam), bool), "name first": ~answer_first, "answer first": answer_first}
table = {start: [percent(hits[start, everything][part]) for part in parts.values()] for start in starts}
for start, row in table.items():
    print(f"{start:20}", *(f"{cell!s:26}" for cell in row))
causals = {name: hits["causal", everything][part] for name, part in parts.items()}
claim("the causal one is over 10 points better where the name stands first",
      percent(causals["name first"]).low > percent(causals["answer first"]).high + 10)  # fmt: skip
ahead = lead("masked", hits["masked", everything], "causal", hits["causal", everything])
claim("with all labels the masked one is ahead of the causal one", ahead.low > 0)
ahead = lead("causal", hits["causal", everything], "random weights", hits["random", everything])
claim("the causal one is over 10 points ahead of random weights", ahead.low > 10)

# %% [markdown]
# So the causal pretraining transfers as well, and where the name stands first it is as good as the other. Where the
# answer stands first, it cannot know: when it reads the place it has not read whose place it is. It is above one of three
# there all the same, perhaps because it can rule out what was told about others before. The rest is no matter of
# learning, but of what the mask lets it see. Decoders like GPT have the same limit. There one puts the question *behind*
# the passage, and lets the model *write* its answer after both.
#
# Is the comparison fair? Steps of fine-tuning, labels and sizes are equal. Steps of *pretraining* are not: 800 against
# 2,000, with about 1.2 million targets against 0.4; and the masked one learned next sentences as well. The difference
# between "name first" and "answer first" is of one model, so it does not depend on that; the one between the two models
# does. An experiment makes both alike: `tlqa experiment pretraining-task`, and `tlqa experiment bidirectional`, where
# nothing differs but the mask.
#
# ## How many labels is a pretraining worth?
#
# Read the curve of scores against labels from the side: how many labels does each start need for the same score?
#
# ## Exercise 3: the labels for a score
#
# `labels` and `scores` are the points of a curve, from few labels to many. Return the number of labels at which the
# curve first comes to `wanted`. Between two points the line is straight on a **logarithmic** axis of labels: half-way
# between 10 and 1,000 lies 100. If the first point is there already, return its labels. If no point is, return
# `math.inf`: what was not measured, nobody knows.

# %%
def labels_needed(labels: list[int], scores: list[float], wanted: float) -> float:
    # Hint: find the first point at or above `wanted`. How far up between the point before and this one is `wanted`? Go as
    # far to the right, on the logarithmic axis.
    # Hint: `share = (wanted - below) / (above - below)`, and from n to m labels: `n * (m / n) ** share`.
    # BLANK
    if scores[0] >= wanted:
        return labels[0]
    for i in range(1, len(labels)):
        if scores[i] >= wanted:
            share = (wanted - scores[i - 1]) / (scores[i] - scores[i - 1])
            return labels[i - 1] * (labels[i] / labels[i - 1]) ** share
    return math.inf
    # END BLANK


check.labels_needed(labels_needed)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=(3, 2))
colours = {"random": "tab:orange", "causal": "tab:green", "masked": "tab:blue"}
for number, start in enumerate(starts):
    values = np.array([percent(hits[start, n]) for n in amounts]).T
    error = [values[0] - values[1], values[2] - values[0]]
    left.errorbar(amounts, values[0], yerr=error, fmt="o-", capsize=3, color=colours[start], label=start)
    values = np.array(table[start][1:]).T
    error = [values[0] - values[1], values[2] - values[0]]
    bars = right.bar(np.arange(2) + 0.27 * (number - 1), values[0], 0.25, yerr=error, capsize=3, color=colours[start])
    right.bar_label(bars, fmt="%.0f", padding=2)
for axes in (left, right):
    axes.axhline(100 / 3, color="tab:gray", linestyle=":")
left.set(xscale="log", xlabel="labels", ylabel="exact match, %", ylim=(0, 110), title="200 steps (dotted: one of three)")
left.set_xticks(amounts, [f"{n:,}" for n in amounts])
left.minorticks_off()
left.legend(loc="upper left")
right.set_xticks(range(2), ["name first", "answer first"])
right.set(ylim=(0, 118), title=f"with all {everything:,} labels")
show(figure, "17_labels")

# %%
for start in starts:
    curve_of = [100 * hits[start, n].mean() for n in amounts]
    needed = {wanted: labels_needed(list(amounts), curve_of, wanted) for wanted in (50, 70, 90)}
    print(f"{start:8}", ", ".join(f"{wanted} %: {n:,.0f} labels" for wanted, n in needed.items()))
ahead = lead("masked", hits["masked", everything], "random weights", hits["random", everything])
claim("with all labels and 200 steps, pretraining is over 30 points ahead of random weights", ahead.low > 30)

# %% [markdown]
# "inf" stands where a start never came to the score. **Do not conclude** that random weights cannot learn the task. At
# 200 steps they have not begun to read, however many labels there are: steps are what they lack, not labels. With many
# more steps and rows of questions they come far (`tlqa experiment quickstart-controls` counts them). What this curve
# shows is true of *200 steps*; every such curve is true of its budget, and should name it.
#
# ## More text, or more labels?
#
# Three questions that take longer than a lesson have an experiment of their own. Each prints its claims with intervals,
# and takes minutes with `--quick`:
#
# | question | command |
# |---|---|
# | Does more text help, at equal steps and at equal epochs? | `tlqa experiment more-data --quick` |
# | Ten times the text, or twice the labels? | `tlqa experiment labeled-or-unlabeled --quick` |
# | The whole curve of labels, and that of steps | `tlqa experiment fewer-labels --quick` |
#
# How often may a text be repeated? Raffel et al. (2020, table 9) trained T5 at equal steps on less and less text.
# Exact match on SQuAD afterwards:
#
# | the text is read | once | 64 times | 256 times | 1,024 times | 4,096 times |
# |---|---|---|---|---|---|
# | SQuAD | 80.9 | 81.0 | 79.8 | 76.3 | 70.9 |
#
# Some repetition does no harm; then the model learns the text by heart, as ours did, and it transfers less.
#
# ## What you know now
#
# - Self-supervised tasks differ in what they ask and in what may be seen. A causal row has a target at every place.
# - Perplexity is e to the mean loss over all targets, on text that was not trained on; padding does not count.
# - A causal model writes and cannot look ahead; a masked one looks both ways and does not write.
# - Scores of two pretraining tasks cannot be compared with each other. The same fine-tuning can compare them.
# - A curve of scores against labels holds for its number of steps. Where a start never reached a score, say so.
#
# *Try next:* `tlqa pretrain-clm --texts corpus.txt --vocabulary vocab.txt --out runs/clm`, then `tlqa generate runs/clm
# "Once"`, and `tlqa evaluate runs/clm --texts other.txt` for its perplexity on a text of yours.
#
# *Read on:* Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 3.1; Devlin et
# al. 2019, "BERT", section 5.1, where a left-to-right model is compared; Raffel et al. 2020, "T5", sections 3.3 and
# 3.4.2; Howard and Ruder 2018, "ULMFiT", section 4 on few labels.

# %% [markdown]
# ## Bonus: earlier is better?
#
# The causal model's held-out perplexity was lowest early, and then rose. Does a shorter pretraining transfer better, too?
# Pretrain one with 200 steps in a folder of its own, and fine-tune it as above with all labels.
#
# > Another `out`, `steps=200`, then `learn("causal_early", run, everything)`, and `lead` between the two. We have not
# > measured it. Perplexity and transfer are two things, so either answer is possible; that is why one measures.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** Two models have a perplexity of 20 and of 30 on the same text, the first with a vocabulary of 1,000 pieces, the
# second with 50,000. Is the first one better?
#
# > Nobody can tell from that. Longer pieces are harder to guess, and there are fewer of them. Compare the loss of the whole
# > text, or per character.
#
# **2.** A model assigns p = 1/V to each of V tokens, always. What is its perplexity?
#
# > V: it is as hard as guessing among V equally probable tokens.
#
# **3.** You forget the shift, so that inputs and targets of a causal LM are equal. What does the training loss do, and what
# does the model write?
#
# > It falls to nearly 0 at once: the answer is in the input. The model has learned to copy, and repeats its last token.
#
# **4.** At equal steps the causal LM learned faster than the masked one. Which reason has nothing to do with which task is
# better?
#
# > It has a target at every place, the masked one at 15 % of them: six times as many in each step.
#
# **5.** "With 100 labels pretraining is useless: both are at one of three." What is wrong with this sentence?
#
# > It was seen with 200 steps of one task. With other steps, another rate, or an easier task, 100 labels may be enough, and
# > the intervals are several points wide.
