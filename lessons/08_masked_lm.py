# %% [markdown]
# # Lesson 8: The masked language model
#
# **Time** 80 minutes, of which the computer needs one or two (two CPU cores).
#
# **Know first** BERT, `[CLS]`, `[SEP]` and token types (lesson 7); subwords (lesson 2); the global mean and the curve
# beside two guesses (lesson 5).
#
# **You will be able to**
# - make a task with labels out of nothing but text;
# - mask a row by BERT's rules, and say what each of them is for;
# - compute BERT's loss by hand, both halves, and show that it is the package's;
# - count what the vocabulary costs, and pay for 15 % of it;
# - pretrain a BERT, look at what it fills in, and find out by experiment what it goes by.

# %%
import json
import timeit
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.checkpoints.load import load
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.tiny_world import VALUES, bundled
from tlqa_jax.inference.fill_mask import fill_mask
from tlqa_jax.lessons import SMOKE, masked_lm as check, show, street
from tlqa_jax.lessons.claims import claim, percent
from tlqa_jax.lessons.masked_lm_figures import draw_accuracy, draw_bars, draw_rows
from tlqa_jax.lessons.masked_lm_trials import (
    HIDDEN, distance_to_others, fill_places, halves, hidden_kinds, pair_rows, renamed, rows_of_texts, unmasked,
)  # fmt: skip
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.masked_lm import mask_tokens, reassemble
from tlqa_jax.tasks.masked_lm_rows import MaskedLMRows
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.initial_model import bert_config
from tlqa_jax.training.pretrain_mlm import (
    PretrainMLMSettings,
    pretrain_mlm,
    pretraining_logits,
    pretraining_losses,
    pretraining_weights,
)
from tlqa_jax.training.progress import read_metrics

# %% [markdown]
# ## Labels for nothing
#
# A label costs money: somebody has to read a review and write down whether it is kind. A few hundred thousand labels
# are a large data set. Of text, on the other hand, there are terabytes, but without any labels.
#
# **Self-supervision** makes labels out of the text itself: take something away, and ask for it. The question is the
# damaged text, the answer is what was there, and both cost nothing. T5 takes spans away and writes them (lesson 4).
# BERT (Devlin et al. 2019, section 3.1) is an encoder: it has a vector for each token, and it cannot write. So the
# question is asked in place: *which piece stood here?* To answer well a model has to know grammar, what words mean, and
# who lives where.
#
# The text is that of the street of lesson 5: 24 residents, 40 passages about each. For the test there are passages that
# the model never reads: about the same residents, in other words, and about strangers from other places.

# %%
# With True, runs go to your Google Drive, and you can continue them tomorrow on another machine.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
unread = street.unread_passages()  # which are in unread_residents.jsonl and unread_strangers.jsonl
residents, strangers = street.people_of_the_street(), [person for person, _ in unread["strangers"]]
people_of = {"residents": residents, "strangers": strangers}
texts = [json.loads(line)["text"] for line in (files / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
print(len(texts), "passages to learn from. The first:", texts[0])

# %% [markdown]
# ## WordPiece in one cell
#
# BERT's subwords are a list of pieces, and one rule: from the left, always the longest piece that fits. A piece that
# continues a word is written with `##`. (Such a list is *learned* in nearly the same way as BPE, lesson 2.)

# %%
tokenizer = WordPieceTokenizer(bundled("wordpiece.txt"))
pieces = [tokenizer.piece(id) for id in range(tokenizer.vocab_size)]


def wordpiece(word: str, vocabulary: set[str]) -> list[str]:
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(len(word), start, -1)  # the longest first
        end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        found.append(prefix + word[start:end])
        start = end
    return found


words = sorted({word.strip(".,'").lower() for text in texts for word in text.replace("'", " ").split()} - {""})
for word in ("zither", "newspaper", "trumpeter", "neighbourliness", "naïve"):
    print(f"{word:16}", *wordpiece(word, set(pieces)))
assert all(wordpiece(word, set(pieces)) == tokenizer.pieces(word) for word in words)
print(f"{len(words)} words of the street: yours and the package's agree on each.")

# %% [markdown]
# The vocabulary was made for the tiny world. A word that is frequent there, `zither`, is one piece; a rare word
# consists of several pieces; and a letter that was never seen makes the whole word unknown. (The package removes
# accents first, so there `naïve` is `naive`.) Remember `ne ##w ##s ##p ##a ##per`: we shall need it again.
#
# ## What to hide
#
# **The wrong version first**: ask about every token of the text as it stands. The encoder sees all of its input, also
# the token that it is asked about. It would learn to copy, with a loss of 0, and nothing else. So a token must be
# hidden before the model is asked for it. But if all tokens are hidden, nothing is left to predict them from. BERT's
# recipe, for each row:
#
# 1. of the tokens that are text (no `[CLS]`, no `[SEP]`, no padding) choose **15 %** at random;
# 2. of the chosen, **80 %** become `[MASK]`, **10 %** a random ordinary piece (no special one), **10 %** stay as they
#    are;
# 3. the loss is on the chosen **and only on them**, on all three kinds.
#
# Why not simply `[MASK]` for all? Because the model that answers questions later never meets a `[MASK]`. If only masks
# were ever asked about, the last layer could leave all other tokens' vectors empty: no loss would look at them. With
# rule 2 any token may be asked about, and any may be wrong, so that the model cannot rely on any single token. (How
# much it matters is another question, and the paper asked it, in its table 8. Fine-tuned, masks alone did as well on
# MNLI, 84.3 against 84.2. Where BERT's vectors were used as they are, on named entities, they were a little worse: 94.0
# against 94.9.)
#
# ## Exercise 1: mask a row
#
# Return what the model sees [L], the chosen positions, ascending [P], and what stood there [P].

# %%
def mask_row(
    rng: np.random.Generator, tokens: np.ndarray, special_ids: tuple, mask_id: int, vocab_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Hint: find the positions that are text, and choose 15 % of them, at least one. Then one throw for each: below 0.8
    # it is hidden, below 0.9 replaced, otherwise kept. Change a copy of the tokens.
    # Hint: `text = np.flatnonzero(~np.isin(tokens, special_ids))`; `rng.choice(text, max(1, round(0.15 * len(text))),
    # replace=False)`, sorted. `np.setdiff1d(np.arange(vocab_size), special_ids)` are the ordinary pieces. With `throw =
    # rng.random(number)`, two `np.where` in each other make the three cases.
    # BLANK
    text = np.flatnonzero(~np.isin(tokens, special_ids))
    positions = np.sort(rng.choice(text, max(1, round(0.15 * len(text))), replace=False))
    targets = tokens[positions]
    ordinary = np.setdiff1d(np.arange(vocab_size), special_ids)
    throw, replacement = rng.random(len(positions)), rng.choice(ordinary, len(positions))
    seen = tokens.copy()
    seen[positions] = np.where(throw < 0.8, mask_id, np.where(throw < 0.9, replacement, targets))
    return seen, positions, targets
    # END BLANK


check.mask_row(mask_row)

# %% [markdown]
# Now on real rows, beside the package's `mask_tokens`, which does a whole batch at once and hands out arrays of one
# shape: [B P] positions and targets, and weights that are 0 where a row has fewer predictions than P.

# %%
rows = rows_of_texts(tokenizer, texts)  # [CLS] text [SEP], and padding
is_text = ~np.isin(rows, tokenizer.special_ids)
rules = dict(mask_id=tokenizer.mask_id, vocab_size=tokenizer.vocab_size, special_ids=tokenizer.special_ids)
package = mask_tokens(np.random.default_rng(0), rows, maskable=is_text, max_predictions=12, **rules)
given = tokenizer.special_ids, tokenizer.mask_id, tokenizer.vocab_size
yours = [mask_row(np.random.default_rng(i), row, *given) for i, row in enumerate(rows)]


def shares(seen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of what was chosen: hidden, replaced, kept."""
    hidden, kept = seen == tokenizer.mask_id, seen == targets
    return np.array([hidden.mean(), (~hidden & ~kept).mean(), kept.mean()])


there = package.weights > 0
counted = {
    "yours": shares(np.concatenate([seen[at] for seen, at, _ in yours]), np.concatenate([x for *_, x in yours])),
    "package": shares(np.take_along_axis(package.tokens, package.positions, 1)[there], package.targets[there]),
}
for name, share in counted.items():
    print(f"{name:8}", "  ".join(f"{what} {100 * x:4.1f} %" for what, x in zip(("[MASK]", "random", "kept"), share)))
    assert np.allclose(share, [0.8, 0.1, 0.1], atol=0.02)
assert [len(at) for _, at, _ in yours] == package.weights.sum(axis=1).tolist()  # as many, row by row
assert (reassemble(package) == rows).all()  # targets and what is seen together are the text: nothing is lost

# %% [markdown]
# We draw the masks anew in each epoch, as RoBERTa does (Liu et al. 2019): a text read ten times is ten different
# exercises. BERT's own were drawn beforehand, in ten copies of the text.
#
# ## The second task: does it follow?
#
# Many questions are about *two* texts: a question and its passage. So BERT was given a second task with free labels,
# **next-sentence prediction**: `[CLS] A [SEP] B [SEP]`. In half of the rows B is what follows A, and in the other half
# it comes from another document. `[CLS]` has to tell which. A and B are whole stretches of text, several sentences
# each, so that the row is full. The package's two labels are 0, "follows", and 1, "from elsewhere", as in Google's
# code.
#
# `MaskedLMRows` makes such rows. The settings are those of the run that comes at the end, which lessons 9 and 13 use as
# well. Sizes first: two layers of width 128. One number is not BERT's. The recipe draws every matrix with deviation
# 0.02, at a width of 768. What comes out of a matrix has the size $0.02\sqrt{768} = 0.55$ of what went in, and at width
# 128 only 0.23: at first the layers would hardly have an effect. With 0.05 it is 0.57 again. (It matters: halfway
# through this run, 76 % of the held-out pieces were right; with 0.02 and all else alike, 43 %.)

# %%
config = street.masked_lm(files, runs / "masked_lm")
print(json.loads(Path(config.model).read_text(encoding="utf-8")))
row_settings = dict(input_length=config.input_length, seed=config.seed, batch_size=config.batch_size)
data = MaskedLMRows(config.texts, tokenizer, **row_settings)
batch = data.build_evaluation(np.arange(64), slice(0, 64), 0)
print(data.size, "rows. A batch:", {name: x.shape for name, x in batch.items()})

# %% [markdown]
# Six rows of it, as the model gets them. Two are short on purpose: one row in ten is cut, so that the model also meets
# short inputs.

# %%
ends = batch["tokens"] == tokenizer.sep_id
assert (ends.sum(axis=1) == 2).all() and (batch["tokens"][:, 0] == tokenizer.cls_id).all()
behind = np.cumsum(ends, axis=1) - ends == 1  # after the first [SEP], up to and with the second
assert (batch["token_types"] == behind).all()

shown = [row for label in (0, 1) for row in np.flatnonzero(batch["next_sentence"] == label)[:3]]
figure, axes = plt.subplots(figsize=(16, 7.5), layout="constrained")
draw_rows(axes, batch, shown, tokenizer)
axes.set_yticks(range(6), ["follows"] * 3 + ["from elsewhere"] * 3)
show(figure, "08_batch")

# %% [markdown]
# ## The loss by hand
#
# The model gives a logit for each piece of the vocabulary at each chosen position, $z_{bpv}$, and two logits for each
# row. With $w_{bp}$ the weight of a prediction, 1 or 0, $t_{bp}$ its target, and $n_b$ the label of the row:
#
# $$\text{loss} = \frac{\sum_{b,p} w_{bp} \big({-\log \text{softmax}(z_{bp})_{t_{bp}}}\big)}{\sum_{b,p} w_{bp}}
#   \;+\; \frac 1B \sum_b \big({-\log \text{softmax}(y_b)_{n_b}}\big)$$
#
# The first is a mean over *predictions*, the second one over *rows*; they are added as they are.
#
# ## Exercise 2: BERT's loss
#
# In numpy. `targets` and `next_sentence` are the columns of the right answers.

# %%
def pretraining_loss(
    mlm_logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, nsp_logits: np.ndarray, next_sentence: np.ndarray
) -> float:
    # Hint: one function for both halves: logits and right answers in, one loss for each answer out. Then a weighted
    # mean over predictions, and a plain mean over rows.
    # Hint: log softmax of z is `z - m - log(sum(exp(z - m)))`, with m the largest logit, over the last axis,
    # `keepdims=True`. `np.take_along_axis(x, targets[..., None], axis=-1)[..., 0]` picks the target's entry of each row
    # of logits.
    # BLANK
    def losses(logits, answers):
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return -np.take_along_axis(log_probabilities, answers[..., None], axis=-1)[..., 0]

    masked_lm = (losses(mlm_logits, targets) * weights).sum() / weights.sum()
    return masked_lm + losses(nsp_logits, next_sentence).mean()
    # END BLANK


check.pretraining_loss(pretraining_loss)

# %% [markdown]
# On the batch of the picture, with the model that the run will begin with. The judge is what the package's training
# step sums up. And you know what the loss of a model should be that has learned nothing: $\log V$ for the piece,
# $\log 2$ for the pair.

# %%
its_sizes = bert_config(config.model, tokenizer)
untrained = BertForPreTraining(its_sizes, rngs=nnx.Rngs(config.seed))
apply, fresh = as_function(untrained)
predict = jax.jit(partial(pretraining_logits, apply, tokenizer.pad_id))
logits = predict(fresh, batch)
mlm_logits, nsp_logits = np.array(logits.masked_lm), np.array(logits.next_sentence)
by_hand = pretraining_loss(mlm_logits, batch["targets"], batch["weights"], nsp_logits, batch["next_sentence"])
losses, weights = pretraining_losses(predict, fresh, batch), pretraining_weights(batch)  # what `update` divides
of_package = sum(float(losses[name] / weights[name]) for name in losses)
for name, loss in losses.items():
    print(f"{name}: mean of {weights[name]:.0f}, {loss / weights[name]:.3f} nats")
knows_nothing = np.log(its_sizes.vocab_size) + np.log(2)
print(f"by hand {by_hand:.5f}, package {of_package:.5f}; log V + log 2 = {knows_nothing:.3f}")
assert np.isclose(by_hand, of_package, rtol=1e-4)

# %% [markdown]
# ## What the vocabulary costs
#
# The logits were asked for at the chosen positions only: [B P V], not [B L V]. That is more than tidiness. The last
# product of the network is one with the whole table of words, $D \times V$, and BERT's V is 30,522. Multiplications
# for one row of L tokens, on the way forward:
#
# - **encoder**, each of its layers: four matrices $D \times D$ (query, key, value, output) and two $D \times F$ for
#   each token; for each *pair* of tokens, D for the score and D for the weighted value;
# - **head**, for each position asked: a matrix $D \times D$, then the table, $D \times V$.
#
# ## Exercise 3: count

# %%
def multiplications(L: int, P: int, D: int, F: int, layers: int, V: int) -> tuple[int, int]:
    """(of the encoder, of the head at P positions)."""
    # Hint: the sentences above, as products and sums. What is multiplied by L, what by L * L, and what by P?
    # Hint: in a layer, each of the L tokens costs `4 * D * D + 2 * D * F`, and each of the L * L pairs costs D twice.
    # In the head each position costs `D * D + D * V`.
    # BLANK
    layer = L * (4 * D * D + 2 * D * F) + 2 * L * L * D
    return layers * layer, P * (D * D + D * V)
    # END BLANK


check.multiplications(multiplications)

# %%
print("  rows of 128 tokens, 20 asked      encoder   head at 20   head at 128   all / asked only")
saved = {}
for name in ("tiny", "mini", "small", "base", "large"):
    c = getattr(BertConfig, name)()
    size = (c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.vocab_size)
    encoder, asked = multiplications(128, 20, *size)
    everywhere = multiplications(128, 128, *size)[1]
    saved[name] = (encoder + everywhere) / (encoder + asked)
    millions = " M ".join(f"{number / 1e6:9,.0f}" for number in (encoder, asked, everywhere))
    print(f"{name:>6}: {c.num_hidden_layers:2} layers of {c.hidden_size:4}       {millions} M {saved[name]:12.2f}")
assert saved["tiny"] > 4 and saved["large"] < 1.1

# %% [markdown]
# For BERT-large the table hardly counts. In BERT-tiny it is nearly everything: with logits at all positions, the model
# would spend its time on numbers that no loss ever looks at. We can measure it. The same loss, the same gradient,
# computed in both ways, with BERT-tiny and the full vocabulary:

# %%
tiny = BertConfig.tiny(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
masked_lm, its_params = as_function(BertForMaskedLM(tiny, rngs=nnx.Rngs(0)))
draw = np.random.default_rng(0)
tokens = jnp.array(draw.integers(5, tiny.vocab_size, (8, 128)))
positions = jnp.array(np.sort([draw.permutation(128)[:20] for _ in range(8)]))
targets = jnp.take_along_axis(tokens, positions, axis=1)


def loss(everywhere: bool, params: dict) -> jax.Array:
    if everywhere:
        logits = jnp.take_along_axis(masked_lm(params, tokens), positions[..., None], axis=1)
    else:
        logits = masked_lm(params, tokens, positions=positions)
    total, weight = cross_entropy(logits, targets, jnp.ones(targets.shape))
    return total / weight


# %%
seconds = {}
for everywhere in (True, False):
    step = jax.jit(jax.value_and_grad(partial(loss, everywhere)))
    value, gradient = jax.block_until_ready(step(its_params))  # compiles
    again = lambda step=step: jax.block_until_ready(step(its_params))
    seconds[everywhere] = min(timeit.repeat(again, number=1, repeat=2 if SMOKE else 7)), float(value), gradient
    where = "all 128 positions" if everywhere else "the 20 chosen ones"
    print(f"{where:18}  {seconds[everywhere][0] * 1000:6.0f} ms, loss {value:.5f}")
print(f"{seconds[True][0] / seconds[False][0]:.1f} times as fast; counted were {saved['tiny']:.1f}")
assert np.isclose(seconds[True][1], seconds[False][1], rtol=1e-5)
same = jax.tree.map(lambda a, b: float(abs(a - b).max() / max(abs(a).max(), 1e-6)), seconds[True][2], seconds[False][2])
print(f"gradients differ by {max(jax.tree.leaves(same)):.0e} of a leaf's largest entry")

# %% [markdown]
# The calculation was about right. And nothing is lost: the same loss, the same gradient.
#
# ## Pretraining
#
# Now a real run, with the package's program, `training/pretrain_mlm.py`. You know its parts: the rows, the masks, the
# loss with its two means, each over all devices (`update` of lesson 5 takes a dictionary of sums, one for each task).
# Read its `train_step` while the bar is running: it takes a minute or two. As in lesson 5, **the same call again
# continues**.

# %%
print({field: value for field, value in vars(config).items() if value != getattr(PretrainMLMSettings(), field)})
run = pretrain_mlm(config)

# %% [markdown]
# ## Reading the curve
#
# Accuracy is easier to grasp than nats. But is 30 % good? Again, beside guesses that need no network, on the same
# held-out rows:
#
# - the **commonest piece** of the training text, always;
# - the commonest piece **after the one before**: what the left neighbour alone can tell. (It sees that neighbour even
#   where it is masked for the model.)
# - for the pairs: **half**.

# %%
held_out = MaskedLMRows(config.held_out, tokenizer, **row_settings)
rows = held_out.build_evaluation(np.arange(held_out.size), slice(0, held_out.size), 0)
before = np.take_along_axis(unmasked(rows), np.maximum(rows["positions"] - 1, 0), axis=1)
learned = reassemble(package)  # the passages of the training text, one a row
pairs = np.zeros((tokenizer.vocab_size, tokenizer.vocab_size), int)
np.add.at(pairs, (learned[:, :-1][is_text[:, 1:]], learned[:, 1:][is_text[:, 1:]]), 1)
asked = rows["weights"] > 0
commonest = pairs.sum(axis=0).argmax()
guesses = {
    f'always "{pieces[commonest]}"': (rows["targets"] == commonest)[asked].mean(),
    "by the piece before": (rows["targets"] == pairs.argmax(axis=1)[before])[asked].mean(),
}
print({name: f"{100 * share:.1f} %" for name, share in guesses.items()}, f"of {asked.sum()} predictions")

# %%
start = predict(fresh, rows)
starts = {
    "mlm_accuracy": (start.masked_lm.argmax(axis=-1) == rows["targets"])[asked].mean(),
    "nsp_accuracy": (start.next_sentence.argmax(axis=-1) == rows["next_sentence"]).mean(),
}
evaluations = [row for row in read_metrics(run / "metrics.jsonl") if "eval_mlm_accuracy" in row]
steps = [0, *(row["step"] for row in evaluations)]
figure, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharex=True)
for axes, name, its_guesses in zip(panels, starts, (guesses, {"half": 0.5}), strict=True):
    draw_accuracy(axes, steps, [starts[name], *(row[f"eval_{name}"] for row in evaluations)], its_guesses)
panels[0].set_title("Which piece stood here?")
panels[1].set_title("Does it follow?")
show(figure, "08_curves")
final = {name: evaluations[-1][f"eval_{name}"] for name in starts}
print({name: f"{100 * share:.1f} %" for name, share in final.items()})
claim("it is over 20 points better than both guesses", final["mlm_accuracy"] > max(guesses.values()) + 0.2)
claim("it tells what follows in over 75 % of the pairs", final["nsp_accuracy"] > 0.75)

# %% [markdown]
# The left curve has two parts. The model reaches a fifth quickly: it knows which pieces are frequent, and what they
# stand next to. There it stays for a while, and then it climbs above both guesses. To see further than the neighbour
# it has to learn where to look, and it begins to know who is who. The right curve leaves its half a little earlier.
# Why can both become so high? The rest of the lesson asks that.
#
# ## What does it fill in?
#
# `fill_mask` gives the most probable pieces for each `[MASK]`. The sentences are of kinds that the text has, and their
# passages are new. Before training, and after; a resident, and a stranger:

# %%
pretrained = load(run)
model, tokenizer = pretrained.model(), pretrained.tokenizer
robin, elsewhere = next(p for p in residents if p.name == "Robin Wade"), strangers[0]
FRAMES = {
    "birthplace": "The birthplace of {name} is [MASK].",
    "birth_year": "The year of {name}'s birth was [MASK].",
    "profession": "{name} earns a living as a [MASK].",
    "instrument": "On Sundays {name} plays the [MASK].",
}
listed = lambda top: "  ".join(f"{piece} {100 * probability:.0f} %" for piece, probability in top)
for who, person in [("before", robin), ("after", robin), ("after", elsewhere)]:
    print(f"\n{who} training, {person.name}")
    asked_of = [frame.format(name=person.name) for frame in FRAMES.values()]
    filled = fill_mask(untrained if who == "before" else model, tokenizer, asked_of, n=3)
    for relation, text, [top] in zip(FRAMES, asked_of, filled, strict=True):
        print(f"   {text:45} {listed(top):42} (true: {person[relation].lower()})")

# %% [markdown]
# The untrained model gives every piece about one in a thousand. The trained one knows for everybody *what kind of
# thing* belongs there. Let us count it, for all of the street and for the strangers: how often is the first guess of
# the right kind, and how often is it right?

# %%
kind_of = {value.lower(): kind for kind, values in VALUES.items() for value in values}
table = {}
for group, people in people_of.items():
    for relation, frame in FRAMES.items():
        filled = fill_mask(model, tokenizer, [frame.format(name=person.name) for person in people], n=1)
        first = [top[0].piece for [top] in filled]
        truth = [person[relation].lower() for person in people]
        kinds = np.mean([kind_of.get(a) == kind_of[b] for a, b in zip(first, truth, strict=True)])
        table[group, relation] = kinds, np.mean([a == b for a, b in zip(first, truth, strict=True)])
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
for axes, group in zip(panels, people_of, strict=True):
    right_kind, right = zip(*(table[group, relation] for relation in FRAMES), strict=True)
    draw_bars(axes, [name.replace("_", " ") for name in FRAMES], {"right kind of thing": right_kind, "right": right})
    axes.set(title=f"{group}: the first guess", ylabel="%", ylim=(0, 112))
figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
show(figure, "08_fills")

# %%
known, guessed = (np.mean([table[group, relation] for relation in FRAMES], axis=0) for group in people_of)
for group, (right_kind, right) in {"residents": known, "strangers": guessed}.items():
    print(f"{group}: right kind {100 * right_kind:.0f} %, right {100 * right:.0f} %")
claim("it is right about residents more than twice as often as about strangers", known[1] > 2 * guessed[1])
claim("for strangers, too, over 80 % of the first guesses are of the right kind", guessed[0] > 0.8)

# %% [markdown]
# For residents nearly every guess is right: this model has learned the street by heart. A stranger gets a trade where a
# trade belongs, and the right one as often as chance would give it. The T5 of lesson 5 did the same, and learned it in
# another way. Note the probabilities: the stranger's are often lower, and divided among several answers. But not
# always: do not rely on it.
#
# ## Where it fails, and why
#
# Two sentences that are not so easy. One has two right answers, the other an answer of two pieces.

# %%
print(f"two answers, one place: {robin.name} was born in {robin['birthplace']}, and in {robin['birth_year']}")
text = f"{robin.name} was born in [MASK]."
print("  ", text, listed(fill_mask(model, tokenizer, text, n=4)[0]))

firms = {tuple(tokenizer.pieces(firm)) for firm in VALUES["employer"]}
split = {}
for group, people in people_of.items():
    people = [person for person in people if len(tokenizer.encode(person["employer"])) == 2]
    filled = fill_mask(model, tokenizer, [f"{person.name} works for [MASK] [MASK]." for person in people], n=1)
    written = [(first[0].piece, second[0].piece) for first, second in filled]
    truth = [tuple(tokenizer.pieces(person["employer"])) for person in people]
    right = np.mean([pair == firm for pair, firm in zip(written, truth, strict=True)])
    split[group] = percent([pair not in firms for pair in written])
    counted = f"right {100 * right:.0f} %, no firm at all {split[group]} %"
    print(f"two masks for a firm, {len(people)} {group}: {counted}")
    for person, pair, firm in list(zip(people, written, truth, strict=True))[:4]:
        print(f"   {person.name} works for {' '.join(pair)}   (true: {' '.join(firm)})")
claim("two masks make more firms that do not exist for strangers", split["strangers"].low > split["residents"].value)

# %% [markdown]
# The first is no failure: the model divides its probability between two answers, as it should. But then the probability
# of each right answer is less than one, and only one of them is counted as right.
#
# The second is a weakness of BERT. Each mask is filled on its own: both halves of the firm are asked for at the same
# time, and neither sees what the other becomes. Where the model knows the firm, both mostly agree. Where it does not,
# the first mask takes the first half of one firm, or a firm of one word, and the second takes anything. Two good
# guesses do not make a good pair. (And somebody had to know that there are two.) T5 writes its second token when the
# first is there. BERT, which does not write, needs another way to give answers of several words: it *points* at them in
# a text. That is lesson 9.
#
# ## What makes it say "follows"?
#
# The accuracy on the second task has risen as well. Before one believes that the model understands what follows from
# what, one should ask what it uses to decide. An experiment: new passages of residents, cut in the middle. The second
# half is left as it is, or gets another person's name; or it is the second half of another person's passage, as it is
# or with *this* person's name.

# %%
names, firsts, seconds = halves(tokenizer, unread["residents"])
shift = distance_to_others(names)
others, their_seconds = names[shift:] + names[:shift], seconds[shift:] + seconds[:shift]
trials = {
    "its own second half": seconds,
    "another's second half": their_seconds,
    "its own, another's name in it": renamed(seconds, names, others),
    "another's, this name in it": renamed(their_seconds, others, names),
}
for name, second_halves in trials.items():
    print(f"{name + ':':31} {firsts[0].split('. ')[-1]} | {second_halves[0].split('. ')[0]}.")

# %% [markdown]
# Which of these does the model say follow?

# %%
answer = partial(predict, as_function(model)[1])  # a batch -> the trained model's logits for both tasks


def follows(firsts: list[str], seconds: list[str]) -> np.ndarray:
    """For each pair of texts the probability that the second follows the first."""
    logits = answer(pair_rows(tokenizer, firsts, seconds)).next_sentence
    return np.array(jax.nn.softmax(logits)[:, 0])


said = {name: (follows(firsts, second) > 0.5).mean() for name, second in trials.items()}
figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
bars = axes.barh(list(said), [100 * share for share in said.values()], color=["tab:blue"] * 2 + ["tab:orange"] * 2)
axes.invert_yaxis()
axes.bar_label(bars, fmt=" %.0f")
axes.set(xlabel=f"said to follow, % of {len(names)}", xlim=(0, 108))
show(figure, "08_follows")
print({name: f"{100 * share:.0f} %" for name, share in said.items()})
own, another, own_renamed, another_renamed = said.values()
claim("with the right name in it, over 60 % are said to follow, whoever's half it is", min(own, another_renamed) > 0.6)
claim("with a wrong name in it, under 30 % are", max(another, own_renamed) < 0.3)

# %% [markdown]
# And how often is it right about pairs from new passages, of the street's residents and of strangers?

# %%
for group in people_of:
    held_out = MaskedLMRows(str(files / f"unread_{group}.jsonl"), tokenizer, **row_settings)
    rows = held_out.build_evaluation(np.arange(held_out.size), slice(0, held_out.size), 0)
    right = answer(rows).next_sentence.argmax(axis=-1) == rows["next_sentence"]
    print(f"{group}: {100 * right.mean():.0f} % of {held_out.size} pairs right")

# %% [markdown]
# It decides by the name. The second half of another text counts as a continuation if the name fits, although the two
# halves may now tell two birthplaces; and a real continuation is refused if the name does not fit. And it has not even
# learned to compare names: it knows the 24 names of the street, and for strangers it is not far from guessing. (Lesson
# 13 shows the effect on a classifier.)
#
# This is not special to our street. In real text, too, two documents differ in *what they are about*, and to see that
# is much easier than to see what follows from what. Liu et al. (2019, RoBERTa) left the task out and lost nothing; Lan
# et al. (2020, ALBERT) made it harder: both segments from one document, in the right order or the wrong one. The BERT
# paper had found it of some use (its table 5: without it, 87.9 instead of 88.5 F1 on SQuAD).
#
# ## Whole words
#
# One more look at `ne ##w ##s ##p ##a ##per`. If `##p` alone is hidden, no context is needed to fill it in, and nothing
# is learned.

# %%
ask = partial(fill_places, answer, tokenizer)  # text, places -> the first guess at each, and the truth's probability
text = next(text for text in texts if "newspaper" in text)
row = ["[CLS]", *tokenizer.pieces(text), "[SEP]"]
print(text, "\n", *row)

# %% [markdown]
# **Whole-word masking** chooses words and not pieces: all of a word's pieces are hidden together, or none. (Google
# released BERTs trained in this way in 2019; those of the paper choose pieces.) It needs to know which pieces make a
# word.
#
# ## Exercise 4: whole words

# %%
def whole_words(pieces: list[str]) -> list[list[int]]:
    """For each word the positions of its pieces. Special pieces such as [SEP] are no words."""
    # Hint: a piece that begins with two hash signs goes on with the word before it. Any other begins a new word, unless
    # it is special.
    # Hint: for each `place, piece`: `words[-1].append(place)` if `piece.startswith("##")`, else
    # `words.append([place])`. Skip `[CLS]`, `[SEP]` and `[PAD]`.
    # BLANK
    words = []
    for place, piece in enumerate(pieces):
        if piece.startswith("##"):
            words[-1].append(place)
        elif piece not in ("[CLS]", "[SEP]", "[PAD]"):
            words.append([place])
    return words
    # END BLANK


check.whole_words(whole_words)

# %%
word = next(word for word in whole_words(row) if row[word[0]] == "ne")
print("one at a time:", *(f"{ask(text, [place])[0][0]} ({100 * ask(text, [place])[1][0]:.0f} %)" for place in word))
print("all at once:  ", *(f"{guess} ({100 * p:.0f} %)" for guess, p in zip(*ask(text, word), strict=True)))
print("(in brackets: the probability of the true piece)")

# the package's masks with whole words: yours tell which pieces must go together
starts = ~tokenizer.continuation[learned]
whole_word_masks = mask_tokens(
    np.random.default_rng(1), learned, maskable=is_text, max_predictions=12, word_starts=starts, **rules
)
for tokens, positions, weights in zip(learned, whole_word_masks.positions, whole_word_masks.weights, strict=True):
    chosen = set(positions[weights > 0].tolist())
    for its_word in whole_words([pieces[id] for id in tokens]):
        assert chosen.issuperset(its_word) or chosen.isdisjoint(its_word)

# %% [markdown]
# How much of the curve above was of that kind? Here is the accuracy on new passages again, separately by what was
# hidden: one of several pieces of a word, a value, a name, or any other word.

# %%
score = {}
for group, whole in [(group, whole) for group in people_of for whole in (False, True)]:
    held_out = MaskedLMRows(str(files / f"unread_{group}.jsonl"), tokenizer, **row_settings, whole_words=whole)
    rows = held_out.build_evaluation(np.arange(held_out.size), slice(0, held_out.size), 0)
    hits = np.array(answer(rows).masked_lm.argmax(axis=-1) == rows["targets"])
    kinds = hidden_kinds(rows, tokenizer, [*residents, *strangers])
    for what, these in kinds.items():
        score[group, whole, what] = hits[these].mean() if these.any() else np.nan
names_there = kinds["name"]  # after the loop: those of the strangers
in_sight = (rows["tokens"][:, None, :] == rows["targets"][:, :, None]).any(axis=2)[names_there].mean()

figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
series = {
    group + ", whole words hidden" * whole: [score[group, whole, what] for what in HIDDEN]
    for group in people_of for whole in (False, True)
}  # fmt: skip
draw_bars(axes, HIDDEN, series)
axes.set(ylabel="accuracy on new passages, %", ylim=(0, 125), yticks=range(0, 101, 20), title="What was hidden?")
axes.legend(ncols=2, loc="upper center", fontsize=8)
show(figure, "08_what_was_hidden")

# %%
for (group, hidden, what), share in score.items():
    print(f"{group}, {what}{', whole words hidden' * hidden}: {100 * share:.0f} %")
print(f"of the hidden names of strangers {100 * in_sight:.0f} % stand elsewhere in their row, to be seen")
lost = [score[group, False, HIDDEN[0]] - score[group, True, HIDDEN[0]] for group in people_of]
known, guessed = (score[group, False, "value"] for group in people_of)
claim("parts of words are over 10 points harder if the whole word is hidden", min(lost) > 0.1)
claim("values of residents are filled in more than twice as often as those of strangers", known > 2 * guessed)

# %% [markdown]
# Parts of words are easy as long as the rest of the word can be seen, even in passages about strangers, and they raise
# the accuracy without anything being learned. Hidden as whole words, a third of them is wrong.
#
# And look at the names of strangers. In most rows the name occurs a second time and can be seen, so that it would only
# have to be copied. The model does not do that: with residents it has never needed to, since a piece of the name or a
# fact was enough to know who is meant. A model learns what training asks for, in the cheapest way that works. For a
# model that *reads*, one has to train where memorising does not help. (The tiny world's own pretraining text has people
# who occur once; a real one has millions.)
#
# ## What you know now
#
# - Text is its own label: hide something and ask for it. Nobody has to write labels.
# - 15 % are chosen, never special tokens; 80 % of these are hidden, 10 % replaced, 10 % kept, so that the model cannot
#   rely on any single token. The loss is on the chosen tokens only.
# - BERT's loss is a mean over predictions plus a mean over pairs. The vocabulary costs something only at the positions
#   that are asked about.
# - Each mask is filled on its own. BERT points at probable pieces; it does not write.
# - A rising accuracy says that something is learned, not what. Change one thing in the input, and see what moves.
#
# The run is in `runs/lessons/masked_lm`. `tlqa fill-mask` asks it from the command line.
#
# *Read on:* Devlin et al. 2019, "BERT", sections 3.1 and 5.1, appendices A.1, A.2 and C.2; Liu et al. 2019, "RoBERTa",
# section 4; Lan et al. 2020, "ALBERT", section 3.1; Clark et al. 2020, "ELECTRA".

# %% [markdown]
# ## Bonus: how much of a text is ever asked about?
#
# Mask one row ten times, with ten seeds. Which share of its text tokens was chosen at least once? Predict it first,
# from 15 %, then count it with your `mask_row` over many rows of `learned`. How many epochs does it take until 99 % of
# the tokens were asked about? Compare that with masks that are drawn once and kept.
#
# > A token is not chosen ten times in a row with probability 0.85 to the power of 10, which is 0.20. And 0.85 to the
# > power of 29 is below 0.01.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** A row has 100 text tokens. On average, how many of them are `[MASK]` in the end, how many are wrong, how many
# are as they were? How many count in the loss?
#
# > 12 are `[MASK]`, 1.5 are replaced at random, and 86.5 are as they were. 15 count in the loss, 1.5 of those unchanged
# > among them.
#
# **2.** A model only copies its input. In which share of the predictions is it right? And how often with BERT's rules
# replaced by "always `[MASK]`"?
#
# > In about 10 %: those that were kept. With masks only it is never right.
#
# **3.** You compute logits at all positions, and give those that were not chosen the weight 0. What changes in the
# loss, the gradient and the time?
#
# > Loss and gradient stay the same. The time grows, most in a small model with a large vocabulary.
#
# **4.** The second segment of a wrong pair now comes from *later in the same document*. Does the accuracy of "follows"
# rise or fall, and why?
#
# > It falls. The name fits in both cases, so the cheap way is closed, and the model would have to understand order.
#
# **5.** In a hundred words of three pieces, one piece each is hidden. The accuracy is 95 %. What may you conclude about
# what the model knows of these words?
#
# > Little. The two pieces that can be seen nearly determine the third. Hide whole words, and measure again.
