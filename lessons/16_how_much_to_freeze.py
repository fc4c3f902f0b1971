# %% [markdown]
# # Lesson 16: How much to freeze
#
# **Time** 60 minutes, of which the computer needs about four (two CPU cores), and one or two more if lesson 8's run is
# not there.
#
# **Know first** Fine-tuning a BERT to point at answers, and frozen features (lesson 9); the transformer's block (lesson
# 7); the masked LM (lesson 8, whose run is used here; without it, this lesson makes one).
#
# **You will be able to**
# - say of each way of fine-tuning what it trains, what it stores, and where its backward pass ends;
# - write an adapter that starts as if it were not there, and say why it must not start at zero;
# - write LoRA, and merge it into its matrix so that it costs nothing afterwards;
# - count what both add, and compare ways of fine-tuning fairly: same questions, same steps, a learning rate for each.

# %%
import json
import random
import re
import statistics
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.save import copy_pretrained
from tlqa_jax.checkpoints.weights import read_safetensors
from tlqa_jax.data.sources import open_questions
from tlqa_jax.data.tiny_world import Person
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.lessons import SMOKE, how_much_to_freeze as check, show, street
from tlqa_jax.lessons.claims import claim, lead, percent
from tlqa_jax.models.adapters import LORA_ALPHA, Adapter, LoRA, add_adapters
from tlqa_jax.models.bert_heads import TASK_HEADS, BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.layers import gelu
from tlqa_jax.training.finetune_spans import FinetuneSpansSettings, finetune_spans
from tlqa_jax.training.freezing import frozen_names, partition, read_train
from tlqa_jax.training.initial_model import ADDERS
from tlqa_jax.training.optimizers import make_optimizer
from tlqa_jax.training.pretrain_mlm import pretrain_mlm
from tlqa_jax.training.progress import read_metrics

jax.config.update("jax_default_matmul_precision", "float32")  # a TPU would multiply in bfloat16: too coarse to compare

# %% [markdown]
# ## A copy for each task?
#
# Fine-tuning changes every number of a model. For ten tasks that makes ten models: ten times the disk, and a server has
# to hold all ten in memory. In lesson 9 the other extreme, a new head on frozen features, learned next to nothing. What
# lies between? In this course it is one setting of the programs that fine-tune, `--train`:
#
# | `--train` | what is trained | source |
# |---|---|---|
# | `all` | everything | Devlin et al. 2019 |
# | `head` | the head alone: frozen features | Devlin et al. 2019, section 5.3 |
# | `last:N` | the head and the last N layers | |
# | `gradual` | from the top, one more layer in each stage; everything in the last one | Howard and Ruder 2018 |
# | `bias` | the bias vectors, and the head ("BitFit") | Ben Zaken et al. 2022 |
# | `adapters:M` | small new layers, M units wide, the norms, and the head | Houlsby et al. 2019 |
# | `lora:R` | new matrices of rank R beside the query and value projections, and the head | Hu et al. 2022 |
#
# The task is lesson 9's: a passage about three people, a question about one of them, and the answer is a place in the
# text. The held-out people are divided in two halves: one to choose settings with, one for the examination.

# %%
# With True, runs are kept on your Google Drive, as in lesson 5.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
strangers = [json.loads(line) for line in (files / "reading_held_out.jsonl").read_text(encoding="utf-8").splitlines()]
people = [Person(*name.split(), ()) for name in sorted({row["title"] for row in strangers})][: 12 if SMOKE else None]
rng = random.Random(16)
street.write_rows(files / "freeze_tuning.jsonl", street.reading(rng, people[::2], rounds=4))
street.write_rows(files / "freeze_exam.jsonl", street.reading(rng, people[1::2], rounds=4))
exam = open_questions(files / "freeze_exam.jsonl")
pretraining = street.masked_lm(files, runs / "masked_lm")
pretrained = pretrain_mlm(pretraining, quiet=True)  # lesson 8's run, made here if it is not there
encoder = load(pretrained).model().encoder
print(len(exam), "questions for the examination. One of them:", exam[0].context, exam[0].question, *exam[0].answers)

# %% [markdown]
# ## What is trained
#
# Here is our BERT, from the embeddings below to the head above, and what each way trains of it. Dark blue: all of the
# part. Light blue: some of it. Orange: new numbers that were not in the pretrained model.

# %%
WAYS = ("head", "all", "bias", "adapters:16", "lora:8", "last:1", "gradual")[: 5 if SMOKE else None]


def parameters(train: str) -> dict:
    """Those of a model that is trained in this way, with random weights: here only their sizes are of interest."""
    model, (kind, size) = BertForQuestionAnswering(encoder.config, rngs=nnx.Rngs(0)), read_train(train)
    if kind in ADDERS:
        ADDERS[kind](model, size, nnx.Rngs(1))
    return as_function(model)[1]


def part(path: str) -> str:
    """Which part of the model a parameter belongs to."""
    if not (layer := re.match(r"encoder/layer_(\d+)/(.*)", path)):
        return "head" if path.startswith(TASK_HEADS) else "embeddings"
    kinds = {"added": r".*(_lora|/adapter)/", "norms": r".*norm/", "attention": "attention/"}
    kind = next((kind for kind, pattern in kinds.items() if re.match(pattern, layer[2])), "feed-forward")
    return f"layer {layer[1]}: {kind}"


sizes, trained = {}, {}  # (way, part) -> numbers
for way in WAYS:
    params = parameters(way)
    for counts, tree in [(sizes, params), (trained, partition(params, frozen_names(params, way))[0])]:
        for path, array in flatten(tree).items():
            counts[way, part(path)] = counts.get((way, part(path)), 0) + array.size

# %%
layers = range(encoder.config.num_hidden_layers)
kinds = ("attention", "feed-forward", "norms", "added")
parts = ["embeddings", *(f"layer {n}: {kind}" for n in layers for kind in kinds), "head"]
figure, axes = plt.subplots(figsize=(10, 5.6), layout="constrained")
for x, way in enumerate(WAYS):
    for y, name in enumerate(parts):
        some, whole = trained.get((way, name), 0), sizes.get((way, name), 0)
        colour = "white" if not whole else "whitesmoke" if not some else "royalblue" if some == whole else "lightskyblue"
        axes.barh(y, 0.94, 0.9, left=x - 0.47, color="orange" if "added" in name and whole else colour)
        axes.text(x, y, f"{some:,}" if some else "", ha="center", va="center", fontsize=9,
                  color="white" if colour == "royalblue" and "added" not in name else "black")  # fmt: skip
totals = {way: sum(number for (its, _), number in trained.items() if its == way) for way in WAYS}
labels = [f"{way}\n{totals[way]:,}\n{totals[way] / totals['all']:.1%}" for way in WAYS]
axes.set_xticks(range(len(WAYS)), labels)
axes.set_yticks(range(len(parts)), parts)
axes.set(xlim=(-0.5, len(WAYS) - 0.5), title="Trained parameters of each part; below: all together, and their share")
show(figure, "16_what_is_trained")

# %% [markdown]
# (`gradual` ends like `all`; it begins like `last:1`.) Two things differ besides the numbers.
#
# - **Where the backward pass ends.** With `head` and `last:1` nothing below has to learn, so no gradient goes there. With
#   the last three the first layer has something to train: the gradient must come all the way down, through large
#   matrices whose own gradients are not computed.
# - **The optimizer's state.** AdamW keeps two numbers for each parameter that is *trained*: 8 bytes. For a BERT base, 880
#   megabytes with `all`, and a few with LoRA.
#
# ## Adapters
#
# An adapter is a small network after each attention and after each feed-forward of a layer. It makes its input narrow,
# bends it, makes it wide again, and **adds** the result to the input:
#
# $$\text{adapter}(x) = x + \text{gelu}(x W_\text{down} + b_\text{down})\, W_\text{up} + b_\text{up}$$
#
# How should it start? Everything around it is pretrained and expects inputs as they were. So at first it should hardly
# change x. **The wrong version first**: adapters in every layer of the pretrained encoder, with initial numbers of three
# sizes. By how much do the encoder's vectors change before anything was trained?

# %%
def scaled_adapters(params: dict, factor: float) -> dict:
    inside = lambda path: any(getattr(step, "key", None) == "adapter" for step in path)
    return jax.tree_util.tree_map_with_path(lambda path, x: factor * x if inside(path) else x, params)


tokenizer = load(pretrained).tokenizer
tokens = jnp.array([tokenizer.encode(f"[CLS] {example.context} [SEP]")[:16] for example in exam[:8]])
before = encoder(tokens).last
adapted = load(pretrained).model().encoder
add_adapters(adapted, 16, nnx.Rngs(0))
apply, params = as_function(adapted)
for deviation in (0.01, 0.1, 0.5):
    after = apply(scaled_adapters(params, deviation / 0.01), tokens).last  # the package's deviation is 0.01
    print(f"deviation {deviation}: the vectors change by {jnp.linalg.norm(after - before) / jnp.linalg.norm(before):.1%}")

# %% [markdown]
# With 0.5 hardly anything is left of what pretraining has learned. Then why not start at exactly zero?
#
# ## Exercise 1: an adapter and its start
#
# First `new_adapter(key, width, size)`: a dictionary of `down` [D M], `down_bias` [M], `up` [M D] and `up_bias` [D]. It
# should hardly change its input, *and be able to learn*: think of the gradient of each matrix. Then the formula above.

# %%
def new_adapter(key: jax.Array, width: int, size: int) -> dict[str, jax.Array]:
    # Hint: small random matrices change x little, and are not zero; the biases may be. In `adapter`, x comes through
    # as it is, and what the two matrices make of it is added.
    # Hint: `one, other = jax.random.split(key)`, then `0.01 * jax.random.normal(one, (width, size))`, and the same with
    # `other` for `up`. In `adapter`: `inner = gelu(x @ weights["down"] + weights["down_bias"])`, and x plus the rest.
    # BLANK
    one, other = jax.random.split(key)
    down, up = 0.01 * jax.random.normal(one, (width, size)), 0.01 * jax.random.normal(other, (size, width))
    return {"down": down, "down_bias": jnp.zeros(size), "up": up, "up_bias": jnp.zeros(width)}
    # END BLANK


def adapter(x: jax.Array, weights: dict[str, jax.Array]) -> jax.Array:
    # BLANK
    inner = gelu(x @ weights["down"] + weights["down_bias"])
    return x + inner @ weights["up"] + weights["up_bias"]
    # END BLANK


check.adapter(new_adapter, adapter)

# %%
package = Adapter(128, 16, rngs=nnx.Rngs(3))
own = {"down": package.down.matrix[...], "down_bias": package.down.bias[...]}
own |= {"up": package.up.matrix[...], "up_bias": package.up.bias[...]}
x = jax.random.normal(jax.random.key(0), (2, 5, 128))
assert jnp.allclose(adapter(x, own), package(x), atol=1e-5)
print("Yours and the package's adapter agree.")

# %% [markdown]
# If both matrices are zero, the gradient of each is multiplied by the other, which is zero: they would stay zero. **One**
# of them may be zero. The next method does exactly that.
#
# ## LoRA
#
# An adapter stays in the model for ever, and each text must pass it. LoRA ("low-rank adaptation") needs no new layer: it
# learns a **change of a matrix**. The full change would have as many numbers as the matrix. LoRA writes it as a product
# of two thin matrices, A [D R] and B [R F], with a small rank R:
#
# $$x W + \tfrac{\alpha}{R}\, x A B \qquad (D + F)\, R \text{ numbers instead of } D F$$
#
# (The paper has column vectors, and writes W + BA for the same thing.) A is random at first, and B is zero, so the model
# starts exactly as it was. The factor α / R is there so that a learning rate that suits one rank suits another.
#
# ## Exercise 2: LoRA beside a matrix

# %%
def with_lora(x: jax.Array, matrix: jax.Array, a: jax.Array, b: jax.Array, alpha: float) -> jax.Array:
    """x [B L D], matrix [D F], a [D R], b [R F] -> [B L F]."""
    # Hint: x goes two ways, through W and through A and B, and both results are added. The factor belongs to one of them.
    # Hint: the rank R is `a.shape[1]`. `x @ matrix` plus the factor times `(x @ a) @ b`.
    # BLANK
    return x @ matrix + alpha / a.shape[1] * (x @ a) @ b
    # END BLANK


check.with_lora(with_lora)

# %%
package, matrix = LoRA((128, 4, 32), 8, rngs=nnx.Rngs(0)), jax.random.normal(jax.random.key(1), (128, 128))
a, b = package.a[...], jax.random.normal(jax.random.key(2), (8, 128))
package.b = nnx.Param(b.reshape(8, 4, 32))  # as if it had learned
yours, packages = with_lora(x, matrix, a, b, LORA_ALPHA), x @ matrix + package(x).reshape(2, 5, 128)
assert jnp.allclose(yours, packages, rtol=1e-4, atol=1e-3)
print("Yours and the package's LoRA agree.")

# %% [markdown]
# After training, nothing is between A and B, and nothing between them and W. So all three can become one matrix of W's
# size. It does the same, and costs not a single multiplication more than the model had before. With an adapter this is
# impossible, because of the gelu.
#
# ## Exercise 3: merge
#
# Return the one matrix that does what `with_lora` does.

# %%
def merge(matrix: jax.Array, a: jax.Array, b: jax.Array, alpha: float) -> jax.Array:
    # Hint: x W + s x A B = x (W + s A B), and the pretrained matrix itself must stay as it is.
    # Hint: a new matrix: `matrix` plus `alpha / a.shape[1]` times `a @ b`.
    # BLANK
    return matrix + alpha / a.shape[1] * a @ b
    # END BLANK


check.merge(merge)

# %%
difference = jnp.abs(x @ merge(matrix, a, b, LORA_ALPHA) - yours).max() / jnp.abs(yours).max()
print(f"merged and beside it: the largest difference is {difference:.1e} of the largest output")
assert difference < 1e-5

# %% [markdown]
# ## Exercise 4: count
#
# How many numbers does each method add to a BERT with `layers` layers of width D? `kind` is `"adapters"` or `"lora"`, and
# `size` is the adapter's M or LoRA's R. Count the new numbers only: neither the head nor the norms.

# %%
def new_parameters(kind: str, size: int, width: int, layers: int) -> int:
    # Hint: count one adapter and one LoRA first, then how many there are: two adapters in a layer; LoRA beside the query
    # and the value projection, both [D D]. Do they have biases?
    # Hint: an adapter has `2 * width * size + size + width` numbers, a LoRA `2 * width * size`.
    # BLANK
    if kind == "lora":
        return layers * 2 * (2 * width * size)
    return layers * 2 * (2 * width * size + size + width)
    # END BLANK


check.new_parameters(new_parameters)

# %%
for way in ("adapters:16", "lora:8"):
    added = sum(number for (its, name), number in trained.items() if its == way and "added" in name)
    assert new_parameters(*read_train(way), encoder.config.hidden_size, encoder.config.num_hidden_layers) == added
print("Yours are the package's. In a BERT base, with 109,482,240 parameters:")
for kind, size in [("adapters", 64), ("lora", 8)]:
    number = new_parameters(kind, size, 768, 12)
    print(f"  {kind}:{size}  {number:9,}  {number / 109_482_240:.2%}")

# %% [markdown]
# ## The comparison
#
# Seven ways, the same pretrained BERT, the same questions, 300 steps each. A fair comparison needs one more thing: a
# **learning rate of its own for each way**. A few small matrices bear, and need, larger steps than a whole model. The
# rates below are given. We chose them by exact match on the *tuning* half, in one training each:
#
# | way | 0.001 | 0.003 | 0.01 |
# |---|---|---|---|
# | `all` | **99.6** | | |
# | `gradual` | **97.2** | | |
# | `last:1` | 83.7 | **92.9** | |
# | `lora:8` | | 87.3 | **94.8** |
# | `adapters:16` | | 83.7 | **96.4** |
# | `bias` | | 40.9 | **66.7** |
# | `head` | | | **34.1** |
#
# Had we taken 0.003 for LoRA, adapters and biases, as seemed reasonable, the conclusion would have been another one.
# (Empty: not tried. A rate that was not tried may be better still: the best one of each way lies at an edge of what was
# tried, so these are good rates, and not shown to be the best.)

# %%
RATES = {"head": 0.01, "last:1": 0.003, "gradual": 0.001, "all": 0.001, "bias": 0.01, "adapters:16": 0.01, "lora:8": 0.01}


def learn(way: str) -> Path:
    steps = 6 if SMOKE else 300
    print(f"{way}: {steps} steps", flush=True)
    return finetune_spans(FinetuneSpansSettings(
        out=str(runs / f"how_much_{way.replace(':', '_')}"), start_from=str(pretrained), train=way, steps=steps,
        questions=str(files / "reading.jsonl"), held_out=str(files / "freeze_tuning.jsonl"), input_length=64, stride=16,
        max_question_length=24, max_answer_length=8, batch_size=32, learning_rate=RATES[way], dropout=0.0,
        weight_decay=0.0, evaluate_every=-(-steps // 3), log_every=max(1, steps // 15), save_every=1000, keep=1,
    ), quiet=True)  # fmt: skip


run_of = {way: learn(way) for way in WAYS}
hits = {
    way: np.array([answer.text in example.answers for answer, example in zip(open_model(run)(exam), exam, strict=True)])
    for way, run in run_of.items()
}

# %%
def milliseconds(run: Path) -> float:
    """Of a step: the median of the run's reports after the first one, in which the program is compiled."""
    reports = [row["tokens_per_second"] for row in read_metrics(run / "metrics.jsonl") if "tokens_per_second" in row]
    return 1000 * 32 * 64 / statistics.median(reports[1:])


def state_bytes(way: str) -> int:
    """Of AdamW's state."""
    params = parameters(way)
    state = make_optimizer("adamw", lambda step: 1e-3, weight_decay=0.0, clip=1.0, relative_bias_rate=1.0).init(
        partition(params, frozen_names(params, way))[0]
    )
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


scores = {way: percent(its) for way, its in hits.items()}
times, state_sizes = {way: milliseconds(run_of[way]) for way in WAYS}, {way: state_bytes(way) for way in WAYS}
stored = {way: max(file.stat().st_size for file in run_of[way].glob("*.safetensors")) for way in WAYS}
print("way            exact match, exam            trained   state, kB   file, kB   ms a step")
for way in WAYS:
    numbers = f"{totals[way]:9,}   {state_sizes[way] / 1e3:9,.0f}   {stored[way] / 1e3:8,.0f}   {times[way]:9.0f}"
    print(f"{way:14} {scores[way]!s:26} {numbers}")

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained", sharey=True, width_ratios=(3, 2, 2))
y = np.arange(len(WAYS))[::-1]
values = np.array([scores[way] for way in WAYS]).T
error = [values[0] - values[1], values[2] - values[0]]
panels[0].barh(y, values[0], color="tab:blue", xerr=error, capsize=3)
for place, value, high in zip(y, values[0], values[2], strict=True):
    panels[0].text(high + 2, place, f"{value:.0f}", va="center")
panels[0].axvline(100 / 3, color="tab:gray", linestyle=":")
panels[0].set(xlim=(0, 118), title="exact match, % (dotted: one of three)")
panels[0].set_yticks(y, WAYS)
for axes, numbers, title in [(panels[1], totals, "trained parameters"), (panels[2], times, "milliseconds a step")]:
    bars = axes.barh(y, [numbers[way] for way in WAYS], color="tab:orange" if numbers is totals else "tab:green")
    axes.bar_label(bars, [f"{numbers[way]:,.0f}" for way in WAYS], padding=3)
    axes.set_title(title)
    if numbers is totals:
        axes.set(xscale="log", xlim=(100, 5e7))
    else:
        axes.set_xlim(0, 1.25 * max(numbers.values()))
show(figure, "16_ways")

# %%
everything = lead("all", hits["all"], "the head", hits["head"])
claim("training everything is over 30 points ahead of the head alone", everything.low > 30)
for way in ("lora:8", "adapters:16"):
    ahead = lead(way, hits[way], "the head", hits["head"])
    claim(f"{way} is over 20 points ahead of the head alone", ahead.low > 20)
for way in WAYS[2:]:
    lead("all", hits["all"], way, hits[way])

# %% [markdown]
# Read the last lines one by one. If an interval lies above 0, then `all` is better here by more than the choice of
# questions explains. What may be concluded, and what may not?
#
# - **A small part of the model can learn most of a task.** LoRA and adapters train few numbers and come far above the
#   head. They are *not* equal to training everything here, in 300 steps; in longer trainings the gap is often smaller.
#   (On GLUE a large BERT lost 0.4 points with adapters, 80.0 against 80.4: Houlsby et al. 2019.)
# - **Biases are not nearly enough here.** Ben Zaken et al. found them nearly as good as everything, with a large model
#   that can do much already. Ours is 128 wide and has to learn something new, to compare names.
# - **Fewer trained numbers do not mean as much less time.** Compare the milliseconds (measured while the ways trained, one
#   after the other: they mean something only if nothing else ran on this machine). `head` saves most, because it has
#   no backward pass through the layers. LoRA has the fewest numbers but for the head and the biases, and still a gradient
#   through all layers.
# - **The optimizer's state shrinks** with the number of trained parameters, whatever the time does. The *file* is small
#   with adapters and LoRA alone. The other ways save a whole model, most of it equal to the pretrained one.
#
# An interval is over questions, and this is one seed of each way: differences of a few points may turn around with
# another. `tlqa experiment features-or-finetuning` repeats the comparison with three seeds on reviews.
#
# ## Frozen means frozen
#
# What is not trained is the same bit by bit. What LoRA has learned is a small file beside the model that it was trained
# with, in the layout of the library PEFT: `lora_A` [R in] and `lora_B` [out R], the transposes of our A and B.

# %%
lora, base = run_of["lora:8"], load(pretrained).model().encoder
assert (load(lora).model().encoder.embeddings.word.table[...] == base.embeddings.word.table[...]).all()
assert (load(run_of["bias"]).model().encoder.layer_0.attention.query[...] == base.layer_0.attention.query[...]).all()
print(*sorted(file.name for file in lora.iterdir() if file.is_file()), sep="\n")
small = read_safetensors(lora / "adapter_model.safetensors")
for name, array in small.items():
    print(f"{name:75} {list(array.shape)}")

# %% [markdown]
# `load` merges it, and `tlqa export RUN --merge --out DIR` writes the merged model as a whole one, for those who know
# nothing of LoRA. Does *your* `merge` make the same matrices from the small file?

# %%
def stored_lora(layer: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    module = f"base_model.model.bert.encoder.layer.{layer}.attention.self.{name}"
    return tuple(small[f"{module}.lora_{letter}.weight"].T for letter in "AB")


merged = load(lora).model().encoder
for number in layers:
    for name in ("query", "value"):
        own, packages = (getattr(getattr(e, f"layer_{number}").attention, name)[...] for e in (base, merged))
        yours = merge(own.reshape(len(own), -1), *stored_lora(number, name), LORA_ALPHA)
        assert jnp.allclose(yours, packages.reshape(len(own), -1), atol=1e-5)
whole = copy_pretrained(lora, runs / "how_much_merged", overwrite=True, merge=True)  # what `tlqa export --merge` does
same = [a.text == b.text for a, b in zip(open_model(whole)(exam), open_model(lora)(exam), strict=True)]
print(f"the exported model gives the same answer to {np.mean(same):.0%} of the questions")
assert all(same)

# %% [markdown]
# ## What you know now
#
# - How much is trained is a choice with four prices: score, memory of the optimizer, time of a step, size of the file.
# - Only `head` and `last:N` shorten the backward pass. Biases, adapters and LoRA save memory and disk.
# - A new part starts as if it were not there, and yet not at zero everywhere, or it could not learn.
# - LoRA is a change of a matrix and can be merged; an adapter has a gelu inside and cannot.
# - A comparison of ways without a learning rate for each compares learning rates.
#
# *Try next:* `tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --train lora:8`, and `--train
# adapters:64`. A T5 takes the same settings (`tlqa finetune-qa`), but for `bias`: it has none.
#
# *Read on:* Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", section 2; Hu et al. 2022, "LoRA",
# sections 4 and 7; Ben Zaken et al. 2022, "BitFit"; Howard and Ruder 2018, "Universal Language Model Fine-tuning",
# section 3.3; Raffel et al. 2020, section 3.5.1, where T5 is fine-tuned in three of these ways.

# %% [markdown]
# ## Bonus: which rank?
#
# LoRA had rank 8 here, and its change of a matrix [128, 128] can have rank 128 at most. Train `lora:1`, `lora:2` and
# `lora:32` in the same way (`RATES` and `learn` take them), and draw the score against the rank. What does the factor
# α / R do for you in this comparison?
#
# > `RATES |= {"lora:1": 0.01, ...}`, then the lines under `run_of`. Without α / R each rank would need a learning rate of
# > its own: with R columns, x A B is a sum of R parts. Hu et al. (section 7.2) found that rank 1 or 2 is often enough.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** LoRA trains 0.3 % of a BERT base. Somebody expects its training step to take 0.3 % of the time. What do you say?
#
# > The forward pass is the same, and the gradient still goes through all layers to the first one. Only the gradients of
# > the frozen matrices and the optimizer's work are saved.
#
# **2.** Why does B start at zero in LoRA, and A not?
#
# > With B at zero the model starts exactly as it was, and B's gradient, which has A in it, is not zero. With both at zero
# > neither would ever learn.
#
# **3.** Fifty tasks share one base model on a server. Would you merge their LoRA?
#
# > No: merging makes fifty whole models. Beside the base, each task is a small file. Merge where one task is served alone
# > and each millisecond counts.
#
# **4.** A paper compares four ways of fine-tuning, all with a learning rate of 2e-5, and finds LoRA poor. What do you ask?
#
# > What LoRA scores with larger rates. In this lesson a rate of 0.01 instead of 0.003 was worth 7 points to it.
#
# **5.** You freeze the encoder by setting its gradients to zero, and AdamW has weight decay. Is it frozen?
#
# > No. Weight decay makes every matrix smaller in each step, whatever its gradient. Leave frozen parameters out of what
# > the optimizer sees.
