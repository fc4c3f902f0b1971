# %% [markdown]
# # Lesson 15: Features or fine-tuning
#
# **Time** 60 minutes, of which the computer needs three (two CPU cores), and one or two more if lesson 8's run is not
# there.
#
# **Know first** BERT's layers (lesson 7), the masked LM (lesson 8, whose run is used here; without it, this lesson
# makes one), the classifier (lesson 13), transfer and its controls (lesson 14).
#
# **You will be able to**
# - make features of a text from any layers of a frozen encoder, without its padding;
# - keep features on disk under a name that is never wrong;
# - find out which layer carries what, with random weights as the control;
# - compare features with fine-tuning: scores, seconds, and what a second task costs.

# %%
import itertools
import json
import random
import shutil
import time
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.run_record import fingerprint
from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.sources import open_labelled_texts
from tlqa_jax.data.tiny_world import make_people, tell
from tlqa_jax.inference.features import FeatureExtractor
from tlqa_jax.lessons import SMOKE, features_or_finetuning as check, show, street
from tlqa_jax.lessons.claims import claim
from tlqa_jax.models.bert_heads import BertForPreTraining
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.classification import encode_texts
from tlqa_jax.training.finetune_classifier import FinetuneClassifierSettings, finetune_classifier
from tlqa_jax.training.finetune_features import PREDICTIONS, FinetuneFeaturesSettings, finetune_features
from tlqa_jax.training.pretrain_mlm import pretrain_mlm
from tlqa_jax.training.progress import read_metrics

# %% [markdown]
# ## Two ways to use a pretrained encoder
#
# **Fine-tuning** changes all weights of the encoder for the new task. In **feature-based** transfer the encoder stays
# as it is. It reads each text once; what comes out are the text's *features*, a row of numbers; and a small head learns
# from them. Word vectors (lesson 14) are features of this kind, too, but a word has the same vector everywhere. In the
# layers of a BERT, the vector of a word depends on its sentence.
#
# Devlin et al. (2019, section 5.3) compared the two. For finding names in text, fine-tuning scored 96.4 (F1); the
# frozen embeddings 91.0, the last layer 94.9, the last four layers side by side 96.1. This lesson asks the same on a
# small scale, and adds what their table leaves out: random weights, and seconds.
#
# The encoder is the small BERT of lesson 8, which has read the street.

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
pretrained = pretrain_mlm(pretraining)  # lesson 8's run, made here if it is not there
config, tokenizer = load(pretrained).config, load(pretrained).tokenizer
LAYERS = config.num_hidden_layers
print(LAYERS, "layers, vectors of", config.hidden_size, "numbers")

# %% [markdown]
# ## Exercise 1: the features of a text
#
# `hidden_states` are what an encoder returns: `hidden_states[0]` the embeddings, `hidden_states[i]` the output of layer
# i, each [B L D]. The mask is True for the tokens of a text and False for its padding. For each layer of `layers` take
# the mean over the tokens of the text, and put the layers side by side: [B F] with F = D times the number of layers.

# %%
def features(hidden_states: list[jax.Array], mask: jax.Array, layers: list[int]) -> jax.Array:
    # Hint: add up the vectors of the tokens of a text only. By how many tokens is each text to be divided?
    # Hint: `(states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)` is the mean for one layer.
    # `jnp.concatenate(parts, axis=-1)` puts layers side by side.
    # BLANK
    def mean(states):
        return (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)

    return jnp.concatenate([mean(hidden_states[layer]) for layer in layers], axis=-1)
    # END BLANK


check.features(features)

# %% [markdown]
# Yours against the package's `FeatureExtractor`, on a few reviews:

# %%
reviews, held_out = (open_labelled_texts(f"tiny_world:reviews_{part}.jsonl") for part in ("train", "dev"))
some = [review.text for review in held_out[:16]]
how = dict(input_length=64, batch_size=16, dtype="float32")
every = [str(layer) for layer in range(LAYERS + 1)]
with jax.default_matmul_precision("float32"):  # a TPU would multiply in bfloat16: too coarse to compare
    packages, _ = FeatureExtractor(str(pretrained), layers=every, pooling="mean", **how)(some)
    encode, params = as_function(load(pretrained).model().encoder)
    tokens = encode_texts(tokenizer, some, input_length=64)[0]
    mask = tokens != tokenizer.pad_id
    yours = features(jax.jit(encode)(params, tokens, mask=mask).hidden_states, mask, list(range(LAYERS + 1)))
print("features:", yours.shape, " largest difference:", np.abs(yours - packages).max())
assert np.allclose(yours, packages, atol=1e-4)

# %% [markdown]
# ## Computed once
#
# A frozen encoder gives the same features today and tomorrow, for this head and for the next. So they are computed once
# and kept in a file. The danger is in the file's **name**. If two different things get the same name, the head learns
# from features of another model or of other texts. Nothing fails: only the score is strange. So the name must depend on
# all that the features depend on: the weights, the texts and their order, the layers and their order, the pooling.
#
# ## Exercise 2: the name of what is kept
#
# `weights` is a fingerprint of the model's file, a text. Return a text of at most 200 characters that can be the name
# of a file. It must be the same for the same features, in every process, and another one for others.

# %%
def cache_name(weights: str, texts: list[str], layers: list[int], pooling: str) -> str:
    # Hint: make one text of all four, in which nothing can be confused, and a short name of that text.
    # Hint: `json.dumps([weights, texts, layers, pooling])` keeps the parts apart; `sha256(text.encode()).hexdigest()`
    # makes 64 characters of any text.
    # BLANK
    return sha256(json.dumps([weights, texts, layers, pooling]).encode()).hexdigest()
    # END BLANK


check.cache_name(cache_name)


# %%
kept = runs / "features_kept"
shutil.rmtree(kept, ignore_errors=True)  # so that the seconds below are those of a first time
kept.mkdir(parents=True)


@lru_cache  # loaded and compiled once, too
def extractor(base: Path, layers: tuple[int, ...], pooling: str) -> FeatureExtractor:
    return FeatureExtractor(str(base), layers=list(map(str, layers)), pooling=pooling, input_length=64)


def kept_features(base: Path, texts: list[str], layers: list[int], pooling: str) -> np.ndarray:
    file = kept / f"{cache_name(fingerprint(base), texts, layers, pooling)}.npy"
    if not file.exists():
        np.save(file, extractor(base, tuple(layers), pooling)(texts)[0])
    return np.load(file)


everything = list(range(LAYERS + 1))
for attempt in ("computed", "read"):
    begin = time.perf_counter()
    its = kept_features(pretrained, [review.text for review in reviews], everything, "mean")
    print(f"{attempt:8} {its.shape}: {time.perf_counter() - begin:.2f} s")

# %% [markdown]
# ## Which layer carries what?
#
# Now we ask the features four questions, each with a head that is trained on some texts and examined on others. This is
# called **probing**:
#
# - *who*: which of the 24 residents is the sentence about? The name is in it.
# - *what*: which of five things does a sentence about a stranger tell?
# - *kind*: is a review kind?
# - *order*: are the words of a sentence in their order, or have they been shuffled? No bag of words can know.
#
# The control is an encoder of the **same size with random weights**. It has learned nothing, but its features are not
# nothing: each word has its own random vector, and attention mixes them. What a head can do with those, pretraining
# need not have done.

# %%
def shuffled(rng: random.Random, text: str) -> str:
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


rng = random.Random(15)
N = 60 if SMOKE else 900  # texts of a task; a third of them is held out
residents = street.people_of_the_street()
strangers = make_people(rng, N, exclude=residents)
one = lambda person, number: tell(rng, [person], relations=(street.RELATIONS[number % 5],)).text
about = [(residents[rng.randrange(24)], rng.randrange(5)) for _ in range(N)]
plain = [one(person, rng.randrange(5)) for person in strangers]
tasks = {
    "who": ([one(*row) for row in about], [residents.index(person) for person, _ in about]),
    "what": ([one(person, number) for number, person in enumerate(strangers)], [i % 5 for i in range(N)]),
    "kind": ([review.text for review in reviews[:N]], [int(review.label == "positive") for review in reviews[:N]]),
    "order": ([text if i % 2 else shuffled(rng, text) for i, text in enumerate(plain)], [i % 2 for i in range(N)]),
}
if SMOKE:
    tasks = {name: tasks[name] for name in ("who", "order")}
guess = {name: 100 * np.bincount(labels).max() / N for name, (_, labels) in tasks.items()}
for name, (texts, labels) in tasks.items():
    print(f"{name:6} {labels[0]:2}  {texts[0]}   (the commonest class: {guess[name]:.0f} %)")

# %% [markdown]
# The head is one matrix and a softmax (lesson 13). It is so cheap that we train each with several seeds, side by side
# with `vmap`. `lax.scan` makes one compiled loop of all steps:

# %%
@partial(jax.jit, static_argnames=("classes", "steps"))
def learn_head(x: jax.Array, labels: jax.Array, key: jax.Array, *, classes: int, steps: int) -> dict:
    """Features [N F] and labels [N] -> a head, after so many steps with 32 texts each."""
    optimizer = optax.adam(optax.linear_schedule(0.01, 0.0, steps))
    head = {"matrix": jnp.zeros((x.shape[-1], classes)), "bias": jnp.zeros(classes)}

    def step(state, key):
        head, memory = state
        rows = jax.random.randint(key, (32,), 0, len(x))
        logits = lambda head: x[rows] @ head["matrix"] + head["bias"]
        gradient = jax.grad(lambda head: cross_entropy(logits(head), labels[rows], jnp.ones(32))[0] / 32)(head)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(head, updates), memory), None

    return jax.lax.scan(step, (head, optimizer.init(head)), jax.random.split(key, steps))[0][0]


def probe(x: np.ndarray, labels: list[int], steps: int) -> np.ndarray:
    """Percent right of the held-out third, with each of three seeds."""
    train, labels, classes = 2 * len(x) // 3, np.array(labels), max(labels) + 1
    learn = partial(learn_head, x[:train], labels[:train], classes=classes, steps=steps)
    heads = jax.vmap(learn)(jax.random.split(jax.random.key(0), 3))
    logits = jnp.einsum("nf,sfc->snc", x[train:], heads["matrix"]) + heads["bias"][:, None]
    return 100 * (np.array(logits).argmax(axis=-1) == labels[train:]).mean(axis=1)


# %%
STEPS = 20 if SMOKE else 1500
bases = {"pretrained": [pretrained], "random weights": []}
for seed in range(1 if SMOKE else 3):  # random weights are a draw, too
    fresh = BertForPreTraining(config, rngs=nnx.Rngs(100 + seed))
    bases["random weights"].append(save_pretrained(fresh, runs / f"features_of_{seed}", tokenizer, overwrite=True))
D = config.hidden_size
views = {f"layer {layer}": ("mean", slice(layer * D, (layer + 1) * D)) for layer in everything}
views |= {"all side by side": ("mean", slice(None)), "[CLS] of the last": ("cls", slice(LAYERS * D, None))}
probed = {}
for (model, its), (task, (texts, labels)) in itertools.product(bases.items(), tasks.items()):
    pooled = {pooling: [kept_features(base, texts, everything, pooling) for base in its] for pooling in ("mean", "cls")}
    for view, (pooling, columns) in views.items():
        probed[model, view, task] = np.concatenate([probe(x[:, columns], labels, STEPS) for x in pooled[pooling]])

# %%
figure, panels = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", sharey=True)
for axes, model in zip(panels, bases, strict=True):
    table = np.array([[probed[model, view, task].mean() for task in tasks] for view in views])
    axes.imshow(table, cmap="Blues", vmin=0, vmax=130, aspect="auto")
    for (row, column), score in np.ndenumerate(table):
        axes.text(column, row, f"{score:.0f}", ha="center", va="center", color="white" if score > 70 else "black")
    axes.set_xticks(range(len(tasks)), [f"{task}\n(guess {guess[task]:.0f})" for task in tasks])
    axes.set_yticks(range(len(views)), views)
    axes.set_title(f"{model}: held out, % right")
show(figure, "15_layers")
for view, task in itertools.product(views, tasks):
    a, b = (probed[model, view, task] for model in bases)
    print(f"{view:18} {task:6} pretrained {a.mean():5.1f} ({a.min():.0f} to {a.max():.0f})"
          f"   random weights {b.mean():5.1f} ({b.min():.0f} to {b.max():.0f})")  # fmt: skip

# %% [markdown]
# Read the two tables against each other, cell by cell, and not the left one alone.
#
# - *who* and *what* are written in the words, so the mean of the embeddings (layer 0) knows them, and that of random
#   weights as well: a word that stands for a person does not need a good vector, only one of its own. A high score here
#   says nothing about pretraining.
# - *order* cannot be known at layer 0: the mean of the embeddings is nearly the same for all orders. It arises where
#   tokens have looked at each other, and only if they have learned how to look: random weights stay at a guess in every
#   layer. This is what pretraining has put into the features. It is not at its best in the *last* layer: that one is
#   for guessing masked words.
# - `[CLS]` is another matter. It was trained for the second task of lesson 8, which is solved by the name: it knows
#   *who* better than any random one, and *what* no better. That is the explanation of lesson 13, seen once more.
# - *kind* is in no layer: nothing in the pretraining asked for it.
#
# So "the last layer" is a habit, not a law. Which layer is best depends on the question, and side by side the head can
# choose by itself, for a wider matrix. The next cell says which one is best in this run:

# %%
for task in tasks:
    best = max(list(views)[: LAYERS + 1], key=lambda view: probed["pretrained", view, task].mean())
    print(f"{task:6} best: {best}, {probed['pretrained', best, task].mean():.1f} %")
mean = lambda view, task, model="pretrained": probed[model, view, task].mean()
claim("the embeddings tell who it is about: over 80 %, with random weights too",
      min(mean("layer 0", "who"), mean("layer 0", "who", "random weights")) > 80)  # fmt: skip
below = max(mean("layer 0", "order"), mean("layer 1", "order", "random weights"))
claim("layer 1 tells the order over 20 points better than the embeddings, and than layer 1 of random weights",
      mean("layer 1", "order") > below + 20)  # fmt: skip
cls = "[CLS] of the last"
claim("[CLS] says who over 10 points better than that of random weights", mean(cls, "who") > 10 + mean(
    cls, "who", "random weights"))  # fmt: skip

# %% [markdown]
# ## The package's program, and a cache that changes nothing
#
# `tlqa finetune-features` does all this in one command: it extracts, keeps, and trains the head with lesson 5's
# `update`. A cache may save time; it must not change the result. We train the same head three times: features computed
# on the fly, computed and kept, and read.

# %%
def timed(program, settings) -> tuple[float, float, Path]:
    """Percent right of the held-out reviews, seconds (loading and compilation among them), and the run."""
    begin = time.perf_counter()
    run = program(settings, quiet=True)
    seconds = time.perf_counter() - begin
    scores = [row["eval_accuracy"] for row in read_metrics(run / "metrics.jsonl") if "eval_accuracy" in row]
    return 100 * scores[-1], seconds, run


steps = 6 if SMOKE else 350
same = dict(steps=steps, batch_size=32, input_length=64, dropout=0.0, weight_decay=0.0, evaluate_every=1000,
            overwrite=True)  # fmt: skip


def learn_from_features(out: str, base: Path, cache: Path | None, **settings) -> tuple[float, float, Path]:
    layers = {"layers": tuple(every)} | settings
    return timed(finetune_features, FinetuneFeaturesSettings(
        out=str(runs / out), start_from=str(base), cache=cache and str(cache), **same, **layers))  # fmt: skip


# %%
folder = runs / "features_cache"
shutil.rmtree(folder, ignore_errors=True)
three = {
    "on the fly": learn_from_features("features_fly", pretrained, None),
    "computed and kept": learn_from_features("features_first", pretrained, folder),
    "read": learn_from_features("features_again", pretrained, folder),
}
for name, (score, seconds, _) in three.items():
    print(f"{name:18} {score:.2f} %  {seconds:5.1f} s")
said = [json.loads((run / PREDICTIONS).read_text()) for _, _, run in three.values()]
assert said[0] == said[1] == said[2], "a cache changed an answer"
assert len({score for score, _, _ in three.values()}) == 1

# %% [markdown]
# ## Against fine-tuning
#
# The same reviews, the same 350 steps with 32 texts each. Features of pretrained and of random weights, and all of the
# model fine-tuned from both.

# %%
def finetune(out: str, start_from: Path, seed: int) -> tuple[float, float, Path]:
    return timed(finetune_classifier, FinetuneClassifierSettings(
        out=str(runs / out), start_from=str(start_from), learning_rate=1e-3, seed=seed, **same))  # fmt: skip


compared = {name: [] for name in ("features,\nrandom", "features,\npretrained", "fine-tuned\nfrom random",
                                  "fine-tuned,\npretrained")}  # fmt: skip
for seed in range(1 if SMOKE else 3):
    rest = dict(cache=folder, seed=seed)
    compared["features,\npretrained"].append(learn_from_features("features_head", pretrained, **rest))
    control = bases["random weights"][seed]
    compared["features,\nrandom"].append(learn_from_features("features_control", control, **rest))
for seed in range(1 if SMOKE else 2):
    compared["fine-tuned,\npretrained"].append(finetune("features_tuned", pretrained, seed))
    compared["fine-tuned\nfrom random"].append(finetune("features_tuned_control", bases["random weights"][0], seed))

# %%
figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
colours = ("navajowhite", "tab:orange", "lightskyblue", "tab:blue")
for (name, results), colour in zip(compared.items(), colours, strict=True):
    scores, seconds, _ = zip(*results, strict=True)
    axes.plot(seconds, scores, "o", markersize=9, color=colour, alpha=0.85, label=name.replace("\n", " "))
    print(f"{' '.join(name.split()):24} {np.mean(scores):5.1f} %  ({min(scores):.1f} to {max(scores):.1f})"
          f"   {np.mean(seconds):5.1f} s")  # fmt: skip
axes.axhline(50, color="tab:gray", linestyle=":")
axes.set(xscale="log", xlabel="seconds, loading and compilation among them", ylabel="held-out reviews: right, %")
axes.set(ylim=(45, 100), title=f"{steps} steps with the same {len(reviews):,} labels; dotted: guessing")
axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
show(figure, "15_seconds")
score = {name: np.array([result[0] for result in results]) for name, results in compared.items()}
ahead = score["fine-tuned,\npretrained"].mean() - score["features,\npretrained"].mean()
gain = score["features,\npretrained"].mean() - score["features,\nrandom"].mean()
print(f"fine-tuning ahead of features by {ahead:.1f} points; pretrained features ahead of random ones by {gain:.1f}")
claim("every fine-tuned one is ahead of every head on features",
      score["fine-tuned,\npretrained"].min() > score["features,\npretrained"].max())  # fmt: skip

# %% [markdown]
# Fine-tuning wins here, and the second printed difference says how much the pretrained features are worth at all. This
# encoder has read the lives of 24 people and no review. What a review needs ("but", "not", how one half of a sentence
# turns the other) was never asked of it, so it is not in its features, and a matrix cannot put it there. Fine-tuning
# can. Compare the two fine-tuned ones as well: where frozen features were no better than random ones, the same weights
# may still be the better place to *begin*: here two seeds of each overlap, so this run does not decide it. (The heads
# on random features took longer because those features were not in the cache yet.)
#
# The nearer the pretraining is to the task, the smaller is the distance. With a real BERT and names in text it is 0.3
# points (section 5.3 of the paper), because what names need is in its features already.
#
# ## What a second task costs
#
# Seconds of a small model are mostly loading and compilation. For a large one, count **passes**: the encoder reads a
# text once forward, which costs 1; going backward costs twice as much, 2. The head costs next to nothing.
#
# ## Exercise 3: count passes
#
# There are `texts` texts, `epochs` passes over them in training, and `tasks` different tasks on the same texts. How
# many passes does the encoder need with features, kept and shared by all tasks? How many with fine-tuning, one model a
# task?

# %%
def passes(texts: int, epochs: int, tasks: int) -> tuple[int, int]:
    # Hint: what changes from epoch to epoch, and from task to task? A frozen encoder does not.
    # Hint: with features each text is read once, forward. With fine-tuning each text costs 1 + 2 passes, in each epoch
    # of each task.
    # BLANK
    return texts, 3 * texts * epochs * tasks
    # END BLANK


check.passes(passes)

# %%
for texts, epochs, number in [(1500, 8, 1), (1500, 8, 10), (100_000, 3, 50)]:
    one, other = passes(texts, epochs, number)
    times = other // one
    print(f"{texts:7,} texts, {epochs} epochs, {number:2} tasks: {one:7,} passes against {other:10,}: {times} times")

# %% [markdown]
# And at the end there is *one* encoder on the disk and in memory, with as many small heads as there are tasks, instead
# of as many encoders. The next lesson looks for what lies between: a few trained layers, biases, adapters, LoRA.
#
# ## What you know now
#
# - Features: the states of some layers, the mean over the tokens of the text (never the padding), side by side.
# - They are computed once and kept under a name that depends on all that they depend on. The score must not change.
# - Which layer is best depends on the question. Words are at the bottom; what arises between words is further up.
# - Random weights are the control: a head can do a good deal with features that know nothing.
# - Fine-tuning is better where the task asks for what pretraining did not. Features are cheaper, most of all for many
#   tasks.
#
# *Try next:* `tlqa finetune-features --start-from bert-base-uncased --layers last:4 --texts train.jsonl --held-out
# dev.jsonl`, and a T5 in its place: `--start-from google-t5/t5-small`, whose encoder has features as well (`--pooling
# mean`: it has no `[CLS]`).
#
# *Read on:* Devlin et al. 2019, "BERT", section 5.3; Peters et al. 2019, "To Tune or Not to Tune?"; Tenney et al. 2019,
# "BERT Rediscovers the Classical NLP Pipeline", on which layer carries what.

# %% [markdown]
# ## Bonus: a layer of your own choice
#
# The head on all layers side by side has three times as many weights as the one on a single layer. ELMo (Peters et al.
# 2018) did something cheaper: a *weighted mean* of the layers, with one trained number for each layer, and a softmax
# over these numbers. Add it to `learn_head`, and look at the weights that each of the four questions learns.
#
# > Reshape the features to [N, layers, D]. `head["layers"]` begins with zeros, and
# > `jnp.einsum("nld,l->nd", x, jax.nn.softmax(head["layers"]))` goes into the matrix.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** The same text has other features in a batch with a long text than in a batch with a short one. What is wrong?
#
# > The padding is in the mean, or the encoder attends to it: a mask is missing.
#
# **2.** You fine-tune the encoder a little and go on using the cache. What happens, and what prevents it?
#
# > The head learns from the features of the old weights, and nothing fails. A fingerprint of the weights in the name
# > prevents it.
#
# **3.** A head on features of layer 0 finds out in 97 % who a sentence is about. Does this show what pretraining has
# taught?
#
# > No. The head on random weights does it as well: the name is one of the words, and any vector of its own will do.
#
# **4.** You have one large encoder, 40 tasks with 500 labels each, and one small computer. Features or fine-tuning?
#
# > Try features first: each text is read once, and there are 40 small heads with one encoder. Fine-tune where the
# > features score no better than those of random weights.
#
# **5.** Fine-tuning is 20 points ahead of frozen features. Does it follow that pretraining was worth a lot?
#
# > No. For that, compare fine-tuning from pretrained weights with fine-tuning from random ones. Here most of the 20
# > points come from training the encoder at all.
