# %% [markdown]
# # Lesson 9: Pointing at answers
#
# **Time** 80 minutes, of which the computer needs four (two CPU cores), lesson 8's pretraining among them.
#
# **Know first** Exact match (lesson 1), BERT (lesson 7), the masked LM (lesson 8, whose run is used here; without it,
# this lesson makes one).
#
# **You will be able to**
# - turn an answer into two tokens, and two tokens back into the exact characters of the text;
# - write the loss of the two pointers, and say why the best start and the best end are not the best answer;
# - cut a long text into windows, and say in which window a token is scored;
# - let a model say "there is no answer here", and tune on held-out questions when it should say so;
# - compare fine-tuning with frozen features and with random weights, each beside a guess.

# %%
import dataclasses
import json
import math
import random
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.checkpoints.load import load
from tlqa_jax.core.devices import replicate
from tlqa_jax.data.sources import open_questions
from tlqa_jax.data.tiny_world import TYPE_OF, Person, bundled, typed_mentions
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answer_spans import SpanAnswerer, best_spans, span_logits, span_scores
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.lessons import SMOKE, pointing_at_answers as check, show, street
from tlqa_jax.lessons.claims import claim
from tlqa_jax.metrics.squad import best_threshold, bootstrap_interval, official_report, score_answers, with_threshold
from tlqa_jax.models.bert_heads import BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.extractive_qa import make_windows
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training import finetune_spans as program
from tlqa_jax.training.finetune_spans import FinetuneSpansSettings, finetune_spans
from tlqa_jax.training.initial_model import bert_config, merge_pretrained
from tlqa_jax.training.pretrain_mlm import pretrain_mlm
from tlqa_jax.training.progress import read_metrics

# %% [markdown]
# ## An answer is a place
#
# A T5 *writes* its answer, word by word, and may write anything (lesson 6). BERT cannot write. It has one vector for
# each token that it has read, and that is enough if the answer stands in the text: **point at its first token and at
# its last** (Devlin et al. 2019, section 4.2). What a model points at was said in the text, word for word. It may be
# the wrong place, but it is never invented.
#
# The text is again the street's, and the questions are those of lesson 6: a passage tells one thing about a stranger
# and two of the same kind about others, so that a rule that only knows what a town is gives one right answer in three.
# The people of `held_out` are in no training file.

# %%
# With True, runs are kept on your Google Drive, as in lesson 5.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
reading, strangers = (
    [json.loads(line) for line in (files / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in ("reading", "reading_held_out")
)
held_out_people = [Person(*name.split(), ()) for name in sorted({row["title"] for row in strangers})]
held_out = list(street.reading(random.Random(9), held_out_people, rounds=4))[: 48 if SMOKE else None]
assert not {row["title"] for row in reading} & {row["title"] for row in held_out}
street.write_rows(files / "pointing_held_out.jsonl", held_out)
print(len(reading), "questions to learn from,", len(held_out), "held out. One of them:")
print(held_out[0]["context"], "\n", held_out[0]["question"], "->", held_out[0]["answer"])

# %% [markdown]
# Question and context go into one row, a `[SEP]` after each and `[CLS]` in front. The token types tell the model
# which is which. Blue is the question, green the context, and orange what it is to point at:

# %%
tokenizer = WordPieceTokenizer(bundled("wordpiece.txt"))
lengths = dict(input_length=64, stride=16, max_question_length=24)
windows = make_windows(tokenizer, open_questions(files / "reading.jsonl"), **lengths)
row = {name: array[0] for name, array in windows.batch(np.array([0])).items()}
used = int((row["tokens"] != tokenizer.pad_id).sum())

figure, axes = plt.subplots(figsize=(10, 2.6), layout="constrained")
x, y = 0.0, 0
for position, (token, kind) in enumerate(zip(row["tokens"][:used].tolist(), row["token_types"].tolist())):
    piece = tokenizer.piece(token)
    colour = "lightgray" if token in tokenizer.special_ids else "palegreen" if kind else "lightskyblue"
    colour = "orange" if row["start"] <= position <= row["end"] else colour
    width = len(piece) + 1.2
    if x + width > 100:
        x, y = 0.0, y - 1
    axes.barh(y, width - 0.3, 0.5, left=x, color=colour, align="center")
    axes.text(x + width / 2 - 0.15, y, piece, family="monospace", fontsize=10, ha="center", va="center")
    axes.text(x + width / 2 - 0.15, y - 0.4, position, fontsize=7, color="gray", ha="center", va="center")
    x += width
axes.set(xlim=(-0.5, 100.5), ylim=(y - 0.6, 0.5))
axes.axis("off")
show(figure, "09_row")
print("start", row["start"], "end", row["end"], "of", used, "tokens")

# %% [markdown]
# ## The wrong version first: decode the tokens
#
# The model points at tokens, and a person wants text. The tempting way is to decode the tokens:

# %%
menu = "At Renée Ångström's café (since 1910) the soup costs 2.50 crowns."
ids, offsets = tokenizer.encode_with_offsets(menu)
print(tokenizer.decode(ids))
assert tokenizer.decode(ids) != menu

# %% [markdown]
# Capitals, accents and the spaces around punctuation are gone: the tokenizer removed them before the model read a word.
# No rule brings them back. So one keeps, for each token, **the characters that it came from**, `[start, end)`, and
# takes the answer from the text itself:

# %%
first, last = 1, next(i for i, (_, end) in enumerate(offsets) if end == menu.index(" ("))
answer = menu[offsets[first][0] : offsets[last][1]]
print(answer)
assert answer == "Renée Ångström's café"

# %% [markdown]
# Training needs the opposite direction: the data say at which characters an answer stands, and the model has to be told
# at which tokens. Often that is simple. But an answer may begin or end in the middle of a token: the people who marked
# the answers in SQuAD did not know how the text would be cut. Then one takes the fewest tokens that cover all of it.
#
# ## Exercise 1: the tokens of an answer
#
# `offsets[i]` are the characters `[start, end)` of token i. Return the first and the last token of the answer that has
# the characters `[start, end)`. The last one itself, not the one after it: it will have a logit of its own.

# %%
def answer_tokens(offsets: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    # Hint: a token belongs to the answer if their characters overlap, even by one.
    # Hint: token `(s, e)` has some of the answer exactly if `e > start` and `s < end`. Collect the numbers of these
    # tokens; the first and the last are wanted.
    # BLANK
    inside = [i for i, (s, e) in enumerate(offsets) if e > start and s < end]
    return inside[0], inside[-1]
    # END BLANK


check.answer_tokens(answer_tokens)

# %% [markdown]
# There and back again, on every training question; and they are the tokens that the package trains on:

# %%
for number, row in enumerate(reading):
    offsets = tokenizer.encode_with_offsets(row["context"])[1]
    first, last = answer_tokens(offsets, row["answer_start"], row["answer_start"] + len(row["answer"]))
    assert row["context"][offsets[first][0] : offsets[last][1]] == row["answer"]
    assert (first, last) == tuple(windows.answers[number])
print("All", len(reading), "answers, to the character.")

# %% [markdown]
# ## Two numbers for each token
#
# All that is new in the model is a matrix of two columns. It turns each token's vector $T_i$ into two numbers, a start
# logit $s_i$ and an end logit $e_i$: how well could an answer begin here, and how well could it end here? Two softmaxes
# over **all positions of the row** turn them into probabilities, and the loss is the mean of two classification losses,
# with as many classes as there are positions:
#
# $$p_\text{start}(i) = \frac{e^{s_i}}{\sum_j e^{s_j}} \qquad p_\text{end}(i) = \frac{e^{e_i}}{\sum_j e^{e_j}} \qquad
#   \text{loss} = -\tfrac12 \big( \log p_\text{start}(\text{start}) + \log p_\text{end}(\text{end}) \big)$$
#
# ## Exercise 2: the loss by hand

# %%
def span_loss(start_logits: jax.Array, end_logits: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
    """Logits [B L], right positions [B] -> [B]."""
    # Hint: two classification losses, in which the positions of the row are the classes, and their mean.
    # Hint: `jax.nn.log_softmax(x, axis=-1)`; one entry of each row is `jnp.take_along_axis(x, i[:, None], axis=-1)[:,
    # 0]`. Mind the sign.
    # BLANK
    loss = 0.0
    for logits, target in [(start_logits, start), (end_logits, end)]:
        log_p = jax.nn.log_softmax(logits, axis=-1)
        loss -= jnp.take_along_axis(log_p, target[:, None], axis=-1)[:, 0]
    return loss / 2
    # END BLANK


check.span_loss(span_loss)

# %% [markdown]
# Yours against the package's, on a BERT that has learned nothing. What must its loss be, roughly? All 64 positions are
# about equally probable to it, so about $\log 64 = 4.16$:

# %%
pretraining = street.masked_lm(files, runs / "masked_lm")  # the settings of lesson 8's run
model_config = bert_config(pretraining.model, tokenizer)
apply, fresh = as_function(BertForQuestionAnswering(model_config, rngs=nnx.Rngs(0)))
batch = windows.batch(np.arange(32))
predict = partial(span_logits, apply, tokenizer.pad_id)
with jax.default_matmul_precision("float32"):  # a TPU would multiply in bfloat16: too coarse to compare
    logits = jax.jit(predict)(fresh, batch["tokens"], batch["token_types"])
    packages = jax.jit(partial(program.span_loss, predict))(fresh, batch)
yours = span_loss(*logits, batch["start"], batch["end"])
print(f"{yours.mean():.2f}, uniform {math.log(64):.2f}")
assert np.allclose(yours, packages, atol=1e-5) and abs(yours.mean() - math.log(64)) < 0.5

# %% [markdown]
# ## The wrong version first: the best start and the best end
#
# Now choose. The start is where $p_\text{start}$ is largest, the end where $p_\text{end}$ is largest. This needs no
# search, and many notebooks do it. Ask *Where was Mira born?* of a model that is undecided between two towns, with
# these numbers (the rest is divided among the other words):

# %%
words = "Mira was born in Oss and moved on to Kelby".split()
p_start = np.array([0.02, 0.01, 0.01, 0.02, 0.42, 0.02, 0.02, 0.02, 0.01, 0.45])
p_end = np.array([0.02, 0.01, 0.01, 0.01, 0.52, 0.01, 0.03, 0.02, 0.02, 0.35])
LONGEST = 3
i, j = p_start.argmax(), p_end.argmax()
print(f"from {words[i]!r}, token {i}, to {words[j]!r}, token {j}: {words[i : j + 1]}")
assert i > j  # it ends before it begins

# %% [markdown]
# Each of the two is a good choice by itself, and together they are no answer. The start says Kelby, the end says Oss,
# and neither knows of the other. What has to be chosen is a *pair*. If the two choices are independent, as the loss
# assumes, the pair's probability is the product, and the best pair has the largest product **among the pairs that are
# answers**: $i \le j$, and not too long.

# %%
pairs = np.outer(p_start, p_end)
i, j = np.indices(pairs.shape)
allowed = (i <= j) & (j < i + LONGEST)
figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
axes.imshow(np.where(allowed, pairs, np.nan), cmap="Blues", vmin=0, vmax=0.3)
axes.imshow(np.where(allowed, np.nan, 1.0), cmap="Greys", vmin=0, vmax=6)
for a, b in np.argwhere(pairs > 0.1):
    axes.text(b, a, f"{pairs[a, b]:.2f}", ha="center", va="center", color="white" if allowed[a, b] else "dimgray")
axes.text(2, 6.5, "ends before it begins", ha="center", color="dimgray", style="italic")
axes.text(6.6, 1.5, "longer than three tokens", ha="center", color="dimgray", style="italic")
axes.set(xticks=range(len(words)), yticks=range(len(words)), xlabel="last token", ylabel="first token")
axes.set_title("p(first) x p(last)")
axes.set_xticklabels(words, rotation=40, ha="right")
axes.set_yticklabels(words)
show(figure, "09_pairs")
a, b = np.unravel_index(np.where(allowed, pairs, 0).argmax(), pairs.shape)
print("the best allowed pair:", words[a : b + 1])
assert words[a : b + 1] == ["Oss"]

# %% [markdown]
# With probabilities one takes the product, with logits the **sum**: the two softmaxes divide by the same number for all
# pairs, so $s_i + e_j$ has the same order as $p_\text{start}(i)\, p_\text{end}(j)$.
#
# ## Exercise 3: the best span
#
# Return `(i, j)` with the largest `start[i] + end[j]` of all pairs with `i <= j` and at most `max_length` tokens.

# %%
def best_span(start: np.ndarray, end: np.ndarray, max_length: int) -> tuple[int, int]:
    # Hint: only allowed pairs may compete: list them all, or put -inf where a pair is not allowed.
    # Hint: the pairs are `(i, j) for i in range(L) for j in range(i, min(i + max_length, L))`. Then `max(pairs,
    # key=lambda pair: start[pair[0]] + end[pair[1]])`.
    # BLANK
    L = len(start)
    spans = [(i, j) for i in range(L) for j in range(i, min(i + max_length, L))]
    return max(spans, key=lambda span: start[span[0]] + end[span[1]])
    # END BLANK


check.best_span(best_span)

# %%
rng = np.random.default_rng(0)
for _ in range(100):  # the package: the table of all spans in one array, of which it can take the n best
    start, end = rng.standard_normal((2, 1, 30)).astype(np.float32)
    everywhere = np.ones((1, 30), bool)
    scores = span_scores(start, end, everywhere, everywhere, max_answer_length=5)[0]
    (_, i, j), *others = best_spans(scores, 3, lambda i, j: f"{i} to {j}")
    assert (i, j) == best_span(start[0], end[0], 5) and len(others) == 2
print("Yours is the first of the package's n best, on every one.")

# %% [markdown]
# ## A text that is too long
#
# Our BERT has 64 positions, the real one 512, and a Wikipedia article has thousands of tokens. So the context is cut
# into **windows**: each has the whole question and as many tokens of the context as there is room for. An answer that
# lies across the cut would be whole in neither window, so neighbours *share* `stride` tokens. (Mind the word: in
# BERT's own script the same "doc stride" is how far a window *moves*; in Transformers, as here, it is what is shared.)
#
# ## Exercise 4: windows
#
# The first window begins at token 0; each next one shares `stride` tokens with the one before; the last is the first
# that reaches the end, and may be shorter. Return `(first token, number of tokens)` of each.

# %%
def cut(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    # Hint: how far does a window move if `room` tokens fit and `stride` of them were in the window before?
    # Hint: begin with `(0, min(room, length))`. While first + number of the last window is below `length`, the next one
    # begins `room - stride` later and has `min(room, length - first)` tokens.
    # BLANK
    found = [(0, min(room, length))]
    while sum(found[-1]) < length:
        first = found[-1][0] + room - stride
        found.append((first, min(room, length - first)))
    return found
    # END BLANK


check.windows(cut)

# %% [markdown]
# Let us make long texts: a held-out passage, and around it sentences of ten other passages, all those that name nobody.
# The package's windows over the first one are yours:

# %%
def hidden(row: dict, rows: list[dict], rng: random.Random) -> QAExample:
    """The question of `row`, and its passage among sentences of ten others."""
    sentences = [text for other in rng.sample(rows, 10) for text in re.split(r"(?<=[.]) ", other["context"])
                 if other["title"] not in text]  # fmt: skip
    sentences.insert(rng.randrange(len(sentences) + 1), row["context"])
    text = " ".join(sentences)
    start = text.index(row["context"]) + row["answer_start"]
    return QAExample(f"{row['title']} {start} {row['question']}", row["question"], (row["answer"],), text, (start,))


rng = random.Random(1)
long_texts = [hidden(row, held_out, rng) for row in held_out]
long_windows = make_windows(tokenizer, long_texts[:1], **lengths)
W = np.arange(len(long_windows.example))
room = 64 - 3 - len(long_windows.questions[0])
shown = long_windows.context_tokens(W)  # [W L]: which token of the context stands at each position; -1 where none does
extents = [(int(tokens.min()), len(tokens)) for tokens in (row[row >= 0] for row in shown)]
print(len(long_windows.contexts[0].tokens), "tokens, room for", room, "->", extents)
assert cut(len(long_windows.contexts[0].tokens), room, 16) == extents

# %% [markdown]
# A token in two windows is scored twice. Which score counts? In the window where it is the very first, the model has
# not seen the name that stood just before it. BERT's rule: a token's score is taken from the window that shows
# **most context around it**, and what is counted is its shorter side. So each token is scored in exactly one window,
# the dark parts here:

# %%
speaks = long_windows.most_context(W)
figure, axes = plt.subplots(figsize=(10, 3), layout="constrained")
for number, (first, size) in enumerate(extents):
    axes.barh(number, size, 0.75, left=first, color="lightskyblue")
    own = shown[number][speaks[number]]
    axes.barh(number, own.max() - own.min() + 1, 0.75, left=own.min(), color="tab:blue")
axes.set(xlabel="token of the context", ylabel="window", ylim=(len(extents) - 0.4, -0.6), xlim=(0, None))
axes.set_title("Windows of one text; dark: the tokens that are scored in this window")
show(figure, "09_windows")
owned = np.sort(shown[speaks])
assert (owned == np.arange(len(long_windows.contexts[0].tokens))).all()  # every token once

# %% [markdown]
# ## Before any training
#
# Three things to compare with. Two rules that understand nothing: the first or the last value of the right kind that
# the passage names. And the BERT from above, with random weights: it points anywhere.

# %%
def scored(answers: list[str], examples: list[QAExample]) -> tuple[float, float, float, float]:
    """Exact match in percent, its 95% interval, and F1."""
    score = score_answers({example.id: text for example, text in zip(examples, answers, strict=True)}, examples)
    return (score.exact_match, *bootstrap_interval(score.exact_match_per_example), score.f1)


examples = open_questions(files / "pointing_held_out.jsonl")
of_its_kind = [typed_mentions(row["context"], TYPE_OF[row["relation"]]) for row in held_out]
answerer = SpanAnswerer(apply, tokenizer, **lengths, max_answer_length=8, no_answer_threshold=math.inf)  # always
untrained = [answer.text for answer in answerer(replicate(fresh), examples)]
table = {
    "untrained": scored(untrained, examples),
    "first of\nits kind": scored([values[0] for values in of_its_kind], examples),
    "last of\nits kind": scored([values[-1] for values in of_its_kind], examples),
}


def show_table(table: dict) -> None:
    for name, (score, low, high, f1) in table.items():
        print(f"{name.replace(chr(10), ' '):24} {score:5.1f}  ({low:.1f} to {high:.1f})   F1 {f1:5.1f}")


show_table(table)

# %% [markdown]
# ## Fine-tuning, twice
#
# The program is the package's `training/finetune_spans.py`: lesson 5's `update` with your loss in it. It runs twice
# with the same questions, steps and learning rate: once from the BERT that has read the street's passages in lesson 8,
# and once from random weights. (As in lesson 5, the same call again continues, and of a run that is complete it returns
# at once.)

# %%
pretrained = pretrain_mlm(pretraining)


def learn_to_point(out: str, start_from: Path | None, questions: str, held_out: str, **settings) -> Path:
    settings = dict(steps=300) | settings | (dict(steps=6) if SMOKE else {})
    return finetune_spans(FinetuneSpansSettings(
        out=str(runs / out), start_from=start_from and str(start_from), model=pretraining.model, **lengths,
        questions=str(files / f"{questions}.jsonl"), held_out=str(files / f"{held_out}.jsonl"), max_answer_length=8,
        batch_size=32, learning_rate=1e-3, dropout=0.0, weight_decay=0.0, evaluate_every=50, **settings,
    ))  # fmt: skip


pointing = learn_to_point("pointing", pretrained, "reading", "pointing_held_out")

# %%
from_nothing = learn_to_point("pointing_from_nothing", None, "reading", "pointing_held_out")

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for axes, key, name, guess, label in [
    (panels[0], "loss", "training loss, nats", math.log(3), "log 3: one of three places"),
    (panels[1], "eval_em", "held out: exact match, %", table["first of\nits kind"][0], "first of its kind"),
]:
    for start, run in [("pretrained", pointing), ("from random weights", from_nothing)]:
        points = [(row["step"], row[key]) for row in read_metrics(run / "metrics.jsonl") if key in row]
        axes.plot(*zip(*points, strict=True), ".-", label=start)
    axes.axhline(guess, color="tab:gray", linestyle=":")
    text = dict(transform=axes.get_yaxis_transform(), ha="right", color="dimgray", fontsize=9)
    axes.text(0.98, 0.96 * guess, label, va="top", **text)
    axes.set(xlabel="step", ylabel=name, ylim=(0, None))
panels[1].legend(loc="center right")
show(figure, "09_curves")

# %% [markdown]
# Look at the left picture first. Both find out quickly that the answer is one of the three things of the right kind:
# then the loss is $\log 3$. To get below it, the model has to see *who* a sentence is about, and there the two differ.
# BERT's positions are learned; with random weights, nothing tells it that the next word is nearer than the last one. To
# fill in masked words, a model has to know what stands beside what. The pretraining took some time to learn that, and
# it need not be learned again.
#
# ## Frozen: features instead of fine-tuning
#
# There are two ways to use a pretrained encoder. **Fine-tuning** changes all of it. In the **feature-based** way, its
# vectors are used as they are, computed once for all texts, and only the new head is trained: 258 numbers here. It is
# cheap, and a thousand tasks can share one encoder. How good is it? (Devlin et al. 2019, section 5.3, ask the same.)
# Your loss trains it:

# %%
def learn_the_head(encoder: nnx.Module, steps: int) -> dict:
    """The parameters of a BertForQuestionAnswering around a frozen encoder, with a trained head."""
    apply, frozen = as_function(encoder)
    encode = jax.jit(lambda tokens, types: apply(frozen, tokens, token_types=types, mask=tokens != 0).last)
    rows = windows.batch(windows.learnable)
    parts = [np.array_split(rows[name], 20) for name in ("tokens", "token_types")]
    features = np.concatenate([encode(*part) for part in zip(*parts, strict=True)])
    head = {"matrix": jnp.zeros((features.shape[-1], 2)), "bias": jnp.zeros(2)}
    optimizer = optax.adam(optax.linear_schedule(0.02, 0.0, steps))

    @jax.jit
    def step(head, memory, x, start, end):
        loss = lambda head: span_loss(*jnp.moveaxis(x @ head["matrix"] + head["bias"], -1, 0), start, end).mean()
        updates, memory = optimizer.update(jax.grad(loss)(head), memory)
        return optax.apply_updates(head, updates), memory

    rng, memory = np.random.default_rng(0), optimizer.init(head)
    for _ in range(steps):
        picked = rng.choice(len(features), 32, replace=False)
        head, memory = step(head, memory, features[picked], rows["start"][picked], rows["end"][picked])
    return merge_pretrained(fresh, {"encoder": frozen, "span": head})  # without what only pretraining needed

# %% [markdown]
# There is also something between all and nothing: here the embeddings and the first of the two layers are **frozen**,
# and the upper layer is fine-tuned with the head. For what is frozen, no gradient is computed and the optimizer keeps
# no state, and after training not a bit of it has changed. (`tlqa finetune-spans --train last:1` does the
# same, and `--train head` trains the head alone.)

# %%
lower = ("encoder/embeddings", "encoder/layer_0")
upper = learn_to_point("pointing_upper", pretrained, "reading", "pointing_held_out", freeze=lower)
before, after = load(pretrained).model().encoder, load(upper).model().encoder
assert (before.layer_0.attention.query[...] == after.layer_0.attention.query[...]).all()

# %%
reader = open_model(pointing)  # the model, its parameters on all devices, and what makes answers of its logits
steps = 20 if SMOKE else 2000
frozen = {
    "frozen,\npretrained": learn_the_head(load(pretrained).model().encoder, steps),
    "frozen,\nrandom": learn_the_head(BertForQuestionAnswering(model_config, rngs=nnx.Rngs(0)).encoder, steps),
}
given = {name: answerer(replicate(params), examples) for name, params in frozen.items()}
given["upper half,\npretrained"] = open_model(upper)(examples)
given |= {"fine-tuned\nfrom random": open_model(from_nothing)(examples), "fine-tuned,\npretrained": reader(examples)}
table |= {name: scored([answer.text for answer in answers], examples) for name, answers in given.items()}

# %%
figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
score, low, high, _ = np.array(list(table.values())).T
colours = ["lightgray"] * 3 + ["tab:orange"] * 2 + ["tab:cyan"] + ["tab:blue"] * 2
bars = axes.bar(list(table), score, color=colours, yerr=[score - low, high - score], capsize=4)
axes.bar_label(bars, fmt="%.1f", padding=2)
axes.set(ylabel="exact match, %", ylim=(0, 110))
axes.set_title("Held-out strangers. Learned: nothing (gray), the head (orange), the upper layer too (cyan), all (blue)")
show(figure, "09_scores")
show_table(table)
best_rule = max(table[name][0] for name in ("first of\nits kind", "last of\nits kind"))
low = {name: row[1] for name, row in table.items()}  # of the intervals
claim("fine-tuned, it is over 20 points ahead of the best rule", low["fine-tuned,\npretrained"] > best_rule + 20)
frozen_score = table["frozen,\npretrained"][0]
claim("the upper half is over 20 points ahead of the frozen one", low["upper half,\npretrained"] > frozen_score + 20)

# %% [markdown]
# The head on the frozen encoder has learned what a town looks like, and a year. The rules know that too. But a matrix
# of two columns cannot read from a token's vector whether this town is *the* town: nothing in pretraining asked for
# that. Fine-tuning changes the encoder until it can. The upper layer alone comes most of the way, from what the
# frozen layer below gives it, and it has a third of the parameters.
#
# That is true of this task and this head; it is no law. For finding names in texts, where much depends on the word
# itself, Devlin et al. put a two-layer LSTM over the frozen vectors and scored (table 7, F1): with the embeddings
# 91.0, with the last layer 94.9, with the last four side by side 96.1. Fine-tuning: 96.4. Before BERT, features were
# the usual way (ELMo, Peters et al. 2018; word vectors before that), and where one encoder serves many tasks they
# still are.
#
# And how often would the best start and the best end, each taken alone, have been no answer at all?

# %%
held_out_windows = make_windows(tokenizer, examples, **lengths)
rows = held_out_windows.batch(np.arange(len(held_out_windows.example)))


def probabilities(run: Path, rows: dict) -> tuple[np.ndarray, np.ndarray]:
    """p(start) and p(end) [B L] over all positions."""
    apply, params = as_function(load(run).model())
    predict = jax.jit(partial(span_logits, apply, tokenizer.pad_id))
    logits = predict(params, rows["tokens"], rows["token_types"])
    return tuple(np.array(jax.nn.softmax(x, axis=-1)) for x in logits)


for name, run in [("from random weights", from_nothing), ("pretrained", pointing)]:
    p_start, p_end = probabilities(run, rows)
    i, j = p_start.argmax(axis=1), p_end.argmax(axis=1)
    print(f"{name}: the end before the start in {(i > j).sum()} of {len(i)}, over 8 tokens in {(j >= i + 8).sum()}")

# %% [markdown]
# If a model is sure, its two choices agree. If it is undecided, they may not, and then the search over pairs is needed.
#
# ## Looking at it
#
# The bars above each word show how probable it is that the answer begins there (blue), those below it that it ends
# there (orange). A right answer, and the same question to the model from random weights:

# %%
def strip(axes, example: QAExample, run: Path) -> None:
    """`[CLS]` and the context with the scores of their tokens, of a question whose context fits into one window."""
    own = make_windows(tokenizer, [example], **lengths)
    p_start, p_end = (p[0] for p in probabilities(run, own.batch(np.array([0]))))
    places = np.flatnonzero(own.context_tokens(np.array([0]))[0] >= 0)
    first, last = (6 + characters[0][places] for characters in own.characters(np.array([0])))  # 6: after "[CLS] "
    text, x, y, before = "[CLS] " + example.context, 0, 0.0, 0
    for place, start, end in zip([0, *places], [0, *first], [5, *last], strict=True):
        x += start - before
        if x + end - start > 84 and start > before:
            x, y = 0, y - 3.3
        middle, width = x + (end - start) / 2, end - start
        style = dict(family="monospace", fontsize=13.2, color="black" if place else "gray")
        axes.text(middle, y, text[start:end], ha="center", va="center", **style)
        axes.bar(middle, p_start[place], width, bottom=y + 0.55, color="tab:blue")
        axes.bar(middle, -p_end[place], width, bottom=y - 0.55, color="tab:orange")
        x, before = x + width, end
    axes.set(xlim=(-1, 86), ylim=(y - 1.7, 1.7))
    axes.axis("off")


# %%
def strips(name: str, shown: list[tuple[str, Path, QAExample]]) -> None:
    figure, panels = plt.subplots(len(shown), 1, figsize=(10, 2.6 * len(shown)), layout="constrained")
    for axes, (model, run, example) in zip(panels, shown, strict=True):
        strip(axes, example, run)
        answer = open_model(run)([example])[0]
        said = f"“{answer.text}”, {100 * answer.probability:.0f} %" if answer.text else "no answer"
        wanted = example.answers[0] if example.answers else "no answer"
        verdict = "" if answer.text in (example.answers or ("",)) else f"   (right: {wanted})"
        axes.set_title(f"{example.question}   {model}: {said}{verdict}", fontsize=11, loc="left")
    show(figure, name)

# %%
answers = given["fine-tuned,\npretrained"]
fits = np.bincount(held_out_windows.example) == 1
others = given["fine-tuned\nfrom random"]
only_one = [
    i for i, example in enumerate(examples)
    if fits[i] and answers[i].text in example.answers and others[i].text not in example.answers
]  # fmt: skip
torn = examples[max(only_one, key=lambda i: answers[i].probability, default=0)]
strips("09_strips", [("pretrained", pointing, torn), ("from random weights", from_nothing, torn)])
for candidate in open_model(from_nothing)([torn])[0].n_best[:4]:
    print(f"{candidate.text:30} {candidate.probability:.3f}  from character {candidate.start}")

# %% [markdown]
# The second model has found out what kind of thing is asked for, and divides its probability. The lines are its **n
# best**, with their probabilities: a softmax over the sums of logits of these n. If one of them begins in one candidate
# and ends in another, it is just short enough for the limit of eight tokens: longer ones of this kind were never
# candidates. And note what the numbers say: how the model divides its belief *if one of these is right*, and nothing
# about whether one is.
#
# ## What the stride is worth
#
# Now the long texts. First they are cut off where the model's room ends, as happens without windows; then they are read
# with windows that share more and more:

# %%
room = 64 - 3 - 12  # 12: the longest of these questions
cut_off = []
for example in long_texts:
    ends = [end for _, end in tokenizer.encode_with_offsets(example.context)[1]]
    cut_off.append(dataclasses.replace(example, context=example.context[: ends[room - 1]]))
by_stride = {"cut off": (scored([answer.text for answer in reader(cut_off)], cut_off), len(cut_off))}
for stride in (0, 32) if SMOKE else (0, 4, 8, 16, 24, 32):
    own = lengths | {"stride": stride}
    sharing = SpanAnswerer(reader.apply, tokenizer, **own, max_answer_length=8, no_answer_threshold=math.inf)
    texts = [answer.text for answer in sharing(reader.params, long_texts)]
    by_stride[f"share {stride}"] = scored(texts, long_texts), len(make_windows(tokenizer, long_texts, **own).example)

# %%
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
score, low, high, _ = np.array([scores for scores, _ in by_stride.values()]).T
error = [score - low, high - score]
labels = [f"{name}\n{number / len(long_texts):.1f} windows" for name, (_, number) in by_stride.items()]
bars = axes.bar(labels, score, color=["lightgray"] + ["tab:blue"] * (len(score) - 1), yerr=error, capsize=4)
axes.bar_label(bars, fmt="%.0f", padding=2)
axes.set(ylabel="exact match, %", ylim=(0, 110), title="One passage in a long text: tokens that windows share")
show(figure, "09_stride")
for name, ((score, low, high, _), number) in by_stride.items():
    print(f"{name:10} {score:5.1f}  ({low:.1f} to {high:.1f})   {number / len(long_texts):.1f} windows for a question")
much, none, cut_short = (by_stride[name][0] for name in ("share 32", "share 0", "cut off"))
claim("windows that share 32 tokens find more answers than windows that share none", much[1] > none[0])
claim("windows that share none find more answers than a text that is cut off", none[1] > cut_short[0])

# %% [markdown]
# The answers are a word or two, and hardly one is cut in two. Even so, a third of them is lost if the windows share
# nothing, because *sentences* are cut in two. If the name is in one window and the town in the next, no window shows
# both. The cost stands under the bars: more windows, more work.
#
# ## Has it read the question?
#
# Nearly all answers are right. Has the model understood the questions, then? There is an experiment for that, of one
# line: **take the question away**, and put a "?" in its place.

# %%
no_question = [dataclasses.replace(example, question="?") for example in examples]
for name, asked in [("with the question", examples), ("without", no_question)]:
    score, low, high, _ = scored([answer.text for answer in reader(asked)], examples)
    print(f"{name:18} {score:5.1f}  ({low:.1f} to {high:.1f})")

# %% [markdown]
# It hardly needs the question. In every passage there is one person with a full name, and the question is always about
# that one: so on this data "what stands beside the full name" is as good as reading. The model has learned what the
# data asked for and nothing more. Real data sets have such shortcuts as well; Kaushik and Lipton (2018) looked for them
# in just this way. Now ask about somebody whom the passage does not name:

# %%
def about_somebody_else(rows: list[dict], seed: int) -> list[dict]:
    """The same passages, and questions that they do not answer: another name is in them."""
    others = random.Random(seed).sample(rows, len(rows))
    return [
        {"question": row["question"].replace(row["title"], other["title"]), "answers": []}
        | {"context": row["context"], "title": row["title"]}
        for row, other in zip(rows, others, strict=True) if row["title"] != other["title"]
    ]  # fmt: skip


unanswerable = about_somebody_else(held_out, seed=1)
street.write_rows(files / "pointing_unanswerable.jsonl", unanswerable)
before = reader(open_questions(files / "pointing_unanswerable.jsonl"))
for row, answer in list(zip(unanswerable, before, strict=True))[:3]:
    print(f"{row['context']}\n  {row['question']} -> {answer.text} ({100 * answer.probability:.0f} %)\n")
print(len(unanswerable), "questions without an answer, answers given:", sum(answer.text != "" for answer in before))
assert all(answer.text for answer in before)

# %% [markdown]
# ## No answer
#
# It answers every question, and it is sure of the answer. No test without such questions would have shown that. SQuAD
# 2.0 was made for it (Rajpurkar et al. 2018): a third of its training questions have no answer in their text, and look
# as if they had.
#
# If there is no answer, where should the model point? BERT's solution: at `[CLS]`, position 0, with both pointers. The
# loss stays as it is; `[CLS]` is a place like any other. (Our windows do it already: if a window does not hold the
# answer, its targets are 0 and 0.) So here is the training once more, from the same pretrained run, and a third of the
# questions are of this kind. The held-out people are divided: one half for *tuning*, the other for the *examination*.

# %%
street.write_rows(files / "pointing_none.jsonl", [*reading, *about_somebody_else(reading, seed=2)[::2]])
first_half = {person.name for person in held_out_people[::2]}
both = [*held_out, *unanswerable]
for name, side in [("tuning", True), ("exam", False)]:
    street.write_rows(files / f"pointing_{name}.jsonl", [row for row in both if (row["title"] in first_half) is side])
with_none = learn_to_point("pointing_with_none", pretrained, "pointing_none", "pointing_tuning", steps=500)

# %% [markdown]
# ## When to say nothing
#
# "No answer" has a score as every span has one, $s_0 + e_0$ at `[CLS]`. This minus the score of the best span is the
# **no-answer score**: how much the model prefers to give no answer. Above a *threshold* it gives none. If the threshold
# is too low, the model is silent about what it knows; if it is too high, it answers where there is no answer. The right
# value cannot be known beforehand, so all are tried, on the questions that are for tuning:

# %%
careful = open_model(with_none)
tuning, exam = (open_questions(files / f"pointing_{name}.jsonl") for name in ("tuning", "exam"))


def spans_and_scores(examples: list[QAExample]) -> tuple[dict, dict]:
    """For each question, what the model would answer if it had to, and the no-answer score."""
    answers = dict(zip([example.id for example in examples], careful(examples), strict=True))
    said = {id: next(candidate.text for candidate in answer.n_best if candidate.text) for id, answer in answers.items()}
    return said, {id: answer.no_answer_score for id, answer in answers.items()}


said, scores = spans_and_scores(tuning)
has_answer = np.array([bool(example.answers) for example in tuning])
score = np.array([scores[example.id] for example in tuning])
right_if_said = np.array([said[example.id] in example.answers for example in tuning])
thresholds = np.linspace(score.min() - 0.5, score.max() + 0.5, 1000)
answered = score <= thresholds[:, None]  # [threshold, question]
curves = {
    "all": np.where(answered, right_if_said, ~has_answer).mean(axis=1),
    "with an answer": (answered & right_if_said)[:, has_answer].mean(axis=1),
    "without": (~answered)[:, ~has_answer].mean(axis=1),
}
best, threshold = best_threshold(said, scores, tuning)  # the package: at every score that occurs
own = load(with_none).usage["no_answer_threshold"]  # what the program has written into the run
assert np.isclose(threshold, own, atol=1e-3)

# %%
figure, (top, below) = plt.subplots(2, 1, figsize=(9, 5.6), layout="constrained", sharex=True)
for (name, curve), colour in zip(curves.items(), ("black", "tab:blue", "tab:red"), strict=True):
    top.plot(thresholds, 100 * curve, color=colour, label=name, linewidth=2.5 if name == "all" else 1.5)
top.set(ylabel="exact match, %", ylim=(0, 105), title="No answer above the threshold")
figure.legend(loc="outside upper right", ncols=3)
below.hist([score[has_answer], score[~has_answer]], bins=50, stacked=True, color=["tab:blue", "tab:red"])
below.set(xlabel="no-answer score; dashed: the threshold", ylabel="questions")
for axes in (top, below):
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
show(figure, "09_threshold")
print(f"threshold {threshold:.2f}: F1 {best:.1f} on the questions that it was tuned on")

# %% [markdown]
# Where the histogram has both colours at the same place, no threshold can separate them; it only decides which of the
# two kinds of questions loses.
#
# Now the examination, about the other half of the people. (The height of the black curve at the dashed line is *not*
# the score: the threshold was chosen to make it high.) Beside it stand the two that need no threshold, the model that
# always answers and the one that never does:

# %%
said, scores = spans_and_scores(exam)
always = {example.id: answer.text for example, answer in zip(exam, reader(exam), strict=True)}
candidates = {
    "always answers": always,
    "never answers": dict.fromkeys(always, ""),
    "threshold from tuning": with_threshold(said, scores, threshold),
}
reports = {name: official_report(predictions, exam) for name, predictions in candidates.items()}
print(" " * 22, "  all   with an answer   without")
for name, report in reports.items():
    print(f"{name:22} {report['exact']:5.1f}   {report['HasAns_exact']:14.1f}   {report['NoAns_exact']:7.1f}")
exact = {name: report["exact"] for name, report in reports.items()}
better = max(exact["always answers"], exact["never answers"])
claim("with the threshold it is over 10 points ahead of both", exact["threshold from tuning"] > better + 10)

# %% [markdown]
# The model compares the name in the question with the name in the passage, though both are new to it. In lesson 8 it
# did not learn that: there it was asked about the same 24 people again and again, and to know them was enough. Here
# nearly every question is about somebody else, and only comparing helps. Look at two of the questions without an
# answer: at one the model is silent, at the other it should be:

# %%
unknown = [example for example in exam if not example.answers]
unknown = [e for e, n in zip(unknown, np.bincount(make_windows(tokenizer, unknown, **lengths).example)) if n == 1]
unknown.sort(key=lambda example: scores[example.id])  # the least silent first
strips("09_no_answer", [("with none", with_none, unknown[-1]), ("with none", with_none, unknown[0])])

# %% [markdown]
# Does it know now when there is no answer? Only for the kind of question that it was trained with. Ask about the right
# person something that the passage does not tell, such as the employer where it tells of a birth:

# %%
about_something_else = [
    QAExample(f"something else {number}", other["question"].replace(other["title"], row["title"]), (), row["context"])
    for number, (row, other) in enumerate(zip(held_out, held_out[1:]))
    if row["relation"] != other["relation"]
]
silent = [answer.text == "" for answer in careful(about_something_else)]
with_question_away = scored([answer.text for answer in careful(no_question)], examples)[0]
print(f"silent where it was asked for something else: {100 * np.mean(silent):.1f} %")
print(f"right with the question taken away: {with_question_away:.1f} %")

# %% [markdown]
# The name in the question matters now; what is asked for does not, since in this training it never made a difference. A
# model knows only those kinds of missing answers that it has met. Whoever offers a "no-answer threshold" should say
# which kinds these were.
#
# ## What you know now
#
# - An extractive answer is two positions. Offsets bring it back to the exact characters; decoding does not.
# - The loss is two classifications over the positions; the answer is the best *allowed pair*, and not two best ends.
# - Windows share tokens, and each token is scored where most context is around it.
# - An n-best list divides one probability among candidates. Whether there is an answer is another question. It is
#   learned at `[CLS]` and decided by a threshold, which is tuned on other questions than those of the score.
# - In a few hundred steps pretraining makes the difference: from random weights the same fine-tuning is still at one of
#   three. A head alone gets no further than that in 2,000 steps.
# - A score does not say what was read. Take the question away, exchange the name, and see what changes.
#
# *Try next:* the same program with a real BERT on SQuAD:
# `tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json`.
#
# *Read on:* Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
# sections 4.2, 4.3 and 5.3; Rajpurkar et al. 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD";
# Kaushik and Lipton 2018, "How Much Reading Does Reading Comprehension Require?"

# %% [markdown]
# ## Bonus: a wrong answer costs three
#
# The best threshold depends on what a mistake costs. Give one point for a right answer, none for silence, and take
# three points away for a wrong answer (every answer to a question without an answer is wrong). Choose the threshold
# with the most points on `tuning`. How many points does it get in the examination, and how many does the threshold from
# above get?
#
# > `said, scores = spans_and_scores(tuning)`, and the thresholds to try are `scores.values()`. Expect a lower one: the
# > model should be silent more often.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** You add 5 to all start logits of a row. What happens to the probabilities, and to the best span?
#
# > Nothing happens to either: a softmax depends on differences only, and each span's score rises by the same 5.
#
# **2.** A text of 100 tokens, and room for 40. How many windows are there with a stride of 10, and how many with a
# stride of 39?
#
# > With 10 a window moves by 30: 0 to 40, 30 to 70, 60 to 100, so three. With 39 it moves by one token: 61 windows.
#
# **3.** You raise the longest allowed answer from 8 tokens to 30. Can the score of the best span fall? Can the exact
# match?
#
# > The score cannot: more pairs compete, and the old ones are still among them. The exact match can: a long pair that
# > is wrong may now win.
#
# **4.** What are the scores on questions with an answer and without one, if the threshold is higher than every
# no-answer score? And if it is lower than all?
#
# > Higher than all: it always answers, so it has 0 % on those without an answer. Lower than all: it is always silent,
# > so it has 100 % on these and 0 % on the others.
#
# **5.** A model has 94 %, and 92 % if the question is replaced by "?". Is it a good reader? What would you do to the
# data?
#
# > The score does not show it: the passages can nearly be answered without the question. Ask several different
# > questions about one passage, so that the question decides.
