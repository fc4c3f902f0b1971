# %% [markdown]
# # Lesson 11: Public checkpoints
#
# **Time** 60 minutes, of which the computer needs half of one (two CPU cores), and two more if lesson 5's run is not
# there (with `PUBLIC` not yet measured).
#
# **Know first** T5 (lesson 4), pretraining (lesson 5, whose run is used here; without it, this lesson makes one),
# fine-tuning and the probability of an answer (lesson 6).
#
# **You will be able to**
# - open a checkpoint by hand and say what is in it, and where most of its parameters are;
# - translate another library's names, and transpose its matrices;
# - say which T5s share their output matrix with the embedding and which scale their output, and show what a mistake
#   there does and does not change;
# - fine-tune a checkpoint that somebody else trained, and publish yours in a form that others can load.

# %%
import json
import math
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.checkpoints import t5_names
from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.resume import Checkpoints
from tlqa_jax.checkpoints.save import copy_pretrained
from tlqa_jax.checkpoints.weights import read_safetensors, write_safetensors
from tlqa_jax.data.sources import open_questions
from tlqa_jax.errors import UserError
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.lessons import SMOKE, public_checkpoints as check, show, street
from tlqa_jax.lessons.claims import claim
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config, shift_right
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.pretrain_spans import pretrain_spans
from tlqa_jax.training.progress import read_metrics

# %% [markdown]
# ## Whose checkpoint?
#
# Few people can afford to train on a large part of the web, and nobody has to do it twice. That is the point of
# *transfer* learning: somebody trained T5-small on about a trillion tokens (Raffel et al. 2020, section 3.7), wrote its
# numbers into a file, and put it on the Hugging Face hub.
#
# With `PUBLIC = True` this lesson takes that file (it needs a network, and for the training a GPU or TPU). With `False`
# it takes the little T5 of lesson 5. Our runs are *directories of the same form*: all that is said below about names,
# matrices and scales is true of both.

# %%
PUBLIC = False
# With True, runs are kept on your Google Drive, as in lesson 5.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
if PUBLIC:
    pretrained = load("google-t5/t5-small")
else:
    pretrained = load(pretrain_spans(street.pretraining(files, runs / "pretrained")))
directory = pretrained.complete_directory
for file in sorted(file for file in directory.iterdir() if file.is_file()):
    print(f"{file.stat().st_size:12,} bytes   {file.name}")

# %% [markdown]
# ## What is in it
#
# The model is `config.json` and `model.safetensors`, the vocabulary is in the other files. (`run.json`,
# `metrics.jsonl` and `curves.png` are only in a run of ours; other libraries ignore them.) There is no code in it: a
# checkpoint is *numbers with names*, and a few sizes in JSON. (It used to be a Python pickle, and opening one can run
# any program that its author put there. That is why there is a format named *safetensors*.) The format is so simple
# that it can be read by hand: eight bytes that say how long the header is; the header, in JSON; then the arrays, one
# after another.

# %%
with (directory / "model.safetensors").open("rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
header.pop("__metadata__", None)
for name in list(header)[:6]:
    print(f"{name:70} {header[name]['dtype']} {header[name]['shape']}")
print("… and", len(header) - 6, "more")
sizes = {name: math.prod(entry["shape"]) for name, entry in header.items()}
begin, end = header["shared.weight"]["data_offsets"]
assert end - begin == 4 * sizes["shared.weight"]  # float32: four bytes a number

# %%
config = json.loads((directory / "config.json").read_text())
wanted = ("architectures", "d_model", "d_kv", "num_heads", "d_ff", "num_layers", "vocab_size", "feed_forward_proj")
print({name: config.get(name) for name in wanted})

# %% [markdown]
# Where are the parameters? Sort them by what they do. Beside them we count T5-small's, without its file: the shapes are
# enough, and shapes need no memory.

# %%
KINDS = {
    "embed": "embedding", "lm_head": "output", "shared": "embedding", "EncDec": "cross-attention",
    "SelfAttention": "self-attention", "Dense": "feed-forward", "norm": "norms",
}  # fmt: skip


def by_kind(sizes: dict[str, int]) -> Counter:
    counts = Counter()
    for name, size in sizes.items():
        counts[next(kind for mark, kind in KINDS.items() if mark in name)] += size
    return counts


shapes = flatten(as_function(nnx.eval_shape(lambda: T5(T5Config.small(), rngs=nnx.Rngs(0))))[1])
names = t5_names.rules("T5ForConditionalGeneration", T5Config.small())  # ours to theirs: see exercise 1
small_sizes = {names[path].theirs: math.prod(shape.shape) for path, shape in shapes.items()}
assert sum(small_sizes.values()) == 60_506_624

# %%
figure, axes = plt.subplots(figsize=(9, 2.6), layout="constrained")
for row, (name, counts) in enumerate({"this one": by_kind(sizes), "t5-small": by_kind(small_sizes)}.items()):
    left = 0.0
    for number, kind in enumerate(dict.fromkeys(KINDS.values())):
        share = counts[kind] / counts.total()
        axes.barh(row, share, left=left, color=f"C{number}", label=kind if row == 0 else None)
        left += share
    print(f"{name}: {counts.total():,} parameters, {counts['embedding'] / counts.total():.0%} of them the embedding")
axes.set(yticks=[0, 1], yticklabels=["this one", "t5-small"], xlabel="share of the parameters", xlim=(0, 1))
axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.35))
show(figure, "11_parameters")
arrays = read_safetensors(directory / "model.safetensors")
assert sizes == {name: array.size for name, array in arrays.items()}  # the library `safetensors` reads the same

# %% [markdown]
# In T5-small every fourth number is in the embedding, before a single layer has done anything. In BERT base it is
# every fifth, in the largest models almost none: vocabularies do not grow with the model.
#
# ## Names
#
# The numbers are T5's; the names are those of the library that wrote them. A program that reads the file has to know
# what each of *its* parameters is called there. In these files a stack has blocks, and a block has the parts of one
# layer, in the order in which they are computed, each with its norm: attention to itself, in the decoder attention to
# the encoder's output (called `EncDecAttention`), the feed-forward (`DenseReluDense`, even if there is no relu).

# %%
for name in ("encoder.block.0.layer.1.DenseReluDense.wi.weight", "decoder.block.0.layer.1.EncDecAttention.o.weight"):
    print(name, sizes.get(name))
print([name for name in sizes if "relative_attention_bias" in name])

# %% [markdown]
# There is one table of relative positions for each stack (lesson 4). It is stored with block 0, and all blocks use it.
#
# ## Exercise 1: what is it called there?
#
# `part` is one of "self_attention", "cross_attention", "feed_forward"; `matrix` one of q, k, v, o, wi, wo.

# %%
def their_name(stack: str, i: int, part: str, matrix: str) -> str:
    # Hint: a block of the decoder has three parts, a block of the encoder two. The number after "layer." is the place
    # of the part in its block.
    # Hint: a list of the parts of a block of this stack, in order: its `.index(part)` is the number. A dictionary from
    # our names to `SelfAttention`, `EncDecAttention` and `DenseReluDense`. Then one f-string.
    # BLANK
    names = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention", "feed_forward": "DenseReluDense"}
    order = [each for each in names if stack == "decoder" or each != "cross_attention"]
    return f"{stack}.block.{i}.layer.{order.index(part)}.{names[part]}.{matrix}.weight"
    # END BLANK


check.their_name(their_name)

# %%
layers = {"encoder": config["num_layers"], "decoder": config.get("num_decoder_layers") or config["num_layers"]}
parts = {"self_attention": "qkvo", "cross_attention": "qkvo", "feed_forward": ["wi", "wo"]}
found = {
    their_name(stack, i, part, matrix)
    for stack, n in layers.items() for i in range(n) for part, matrices in parts.items() for matrix in matrices
    if stack == "decoder" or part != "cross_attention"
}  # fmt: skip
assert found <= sizes.keys()
print("Not named by you:", sorted(name for name in sizes.keys() - found if "layer_norm" not in name), "and the norms")

# %% [markdown]
# A program must be strict here. If a name is missing, a matrix keeps its random initial values; if a name is left over,
# it may be half a layer that was never read. Both give a model that runs and is worthless. The package refuses such a
# file and lists all that is wrong with it:

# %%
damaged = runs / "damaged"
damaged.mkdir(parents=True, exist_ok=True)
renamed = {name.replace("decoder.block.0.layer.1", "decoder.block.0.layer.7"): x for name, x in arrays.items()}
write_safetensors(damaged / "model.safetensors", renamed)
(damaged / "config.json").write_text(json.dumps(config))
try:
    load(damaged).model()
except UserError as error:
    print(str(error)[:400])
else:
    raise AssertionError("nobody noticed")

# %% [markdown]
# ## The wrong version first: only the shape
#
# PyTorch's linear layer stores [outputs, inputs] and computes $x W^T$. Here a query matrix is [D, H, K]: width, heads,
# size of a head. It is tempting to trust the shapes:

# %%
D, H, K = config["d_model"], config["num_heads"], config["d_kv"]
theirs = arrays["encoder.block.0.layer.0.SelfAttention.q.weight"]
tempting = theirs.reshape(-1, H, K) if H * K == D else None
print("theirs", theirs.shape, "wanted", (D, H, K), "reshaped", None if tempting is None else tempting.shape)

# %% [markdown]
# Where H K = D, no error is raised, and all numbers are in the wrong place.
#
# ## Exercise 2: transpose and split

# %%
def our_query(theirs: np.ndarray, heads: int) -> np.ndarray:
    """[H * K, D] -> [D, H, K]; the K rows of a head stand together in `theirs`."""
    # Hint: in `theirs` the outputs come first. Bring the D inputs to the front before you split anything.
    # Hint: `theirs.T` is [D, H * K]. A `reshape` to `(D, heads, -1)` splits its last axis.
    # BLANK
    return theirs.T.reshape(theirs.shape[1], heads, -1)
    # END BLANK


check.our_query(our_query)

# %%
model, tokenizer = pretrained.model(), pretrained.tokenizer
assert (our_query(theirs, H) == model.encoder_0.attention.query[...]).all()
print("Yours is the package's.")

# %% [markdown]
# ## One matrix or two, and a factor
#
# The last step of a T5 turns a vector of width $D$ into a score for each word of the vocabulary, by a matrix [V, D].
# T5 1.0 uses its *embedding* for that: the same numbers read words and write them ("tied"). T5 1.1 and Flan-T5 have a
# matrix of their own, called `lm_head.weight`.
#
# At the start of its training the embedding's entries have a deviation of 1, so that a product with it is a sum of $D$
# numbers of about that size: its own deviation is $\sqrt{D}$, far too much for a softmax. So T5 1.0 was trained with a
# scale, and its weights are right only with it; T5 1.1 was trained without:
#
# $$\text{logits} = \frac{h E^T}{\sqrt{D}} \quad\text{or, with a matrix of its own,}\quad \text{logits} = h W^T$$
#
# Nothing in the names tells you of this factor. **The wrong version first**: without it, on sentences of the tiny world
# with a hole.

# %%
class States(T5):
    """A T5 that stops before its last step."""

    def logits(self, x):
        return x


rows = [json.loads(line) for line in (files / "texts.jsonl").read_text().splitlines()]
rows = rows[: 8 if SMOKE else 64]
holes = [row["spans"][0] for row in rows]
ids = lambda texts: [tokenizer.encode(text) + [tokenizer.eos_id] for text in texts]
pad = lambda lists: jnp.array([row + [0] * (max(map(len, lists)) - len(row)) for row in lists])
inputs = pad(ids(row["text"][:a] + "<extra_id_0>" + row["text"][b:] for row, (a, b) in zip(rows, holes)))
targets = pad(ids(f"<extra_id_0> {row['text'][a:b]} <extra_id_1>" for row, (a, b) in zip(rows, holes)))

apply, params = as_function(model)
states = as_function(nnx.eval_shape(lambda: States(model.config, rngs=nnx.Rngs(0))))[0]
with jax.default_matmul_precision("float32"):  # a TPU would multiply in bfloat16: too coarse to compare
    hidden = np.array(jax.jit(states)(params, inputs, shift_right(targets), input_mask=inputs != 0))  # [B, L, D]
wrong = hidden @ arrays["shared.weight"].T
print("deviation of the logits:", wrong.std(), "  root of D:", math.sqrt(D))


def loss(logits: np.ndarray) -> float:
    """-log p of the targets, in nats a token."""
    log_p = np.array(jax.nn.log_softmax(jnp.array(logits), axis=-1))
    each = -np.take_along_axis(log_p, np.array(targets)[..., None], axis=-1)[..., 0]
    return float(each[np.array(targets) != 0].mean())


print(f"loss without the factor: {loss(wrong):.2f} nats a token; guessing blindly: {math.log(wrong.shape[-1]):.2f}")

# %% [markdown]
# ## Exercise 3: the logits of any T5
#
# `arrays` are those of the file, `config` is its `config.json`. Two questions, and each has its own answer:
#
# - Which matrix? The file says it: there is a `lm_head.weight`, or there is none. (`tie_word_embeddings` does not help:
#   Transformers 5 writes `true` for both kinds.)
# - Scaled? `scale_decoder_outputs` says it where config.json has it (Transformers 5 writes it), else
#   `tie_word_embeddings`, and `true` where there is neither.

# %%
def checkpoint_logits(hidden: np.ndarray, arrays: dict[str, np.ndarray], config: dict) -> np.ndarray:
    # Hint: two decisions, one after the other: which matrix, and which factor. Each has evidence of its own.
    # Hint: `arrays.get("lm_head.weight", arrays["shared.weight"])` is the matrix. `config.get(name, what to take where
    # it is missing)`, one inside the other, says whether it is scaled. `hidden.shape[-1]` is D.
    # BLANK
    matrix = arrays.get("lm_head.weight", arrays["shared.weight"])
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    return hidden @ matrix.T * (hidden.shape[-1] ** -0.5 if scaled else 1.0)
    # END BLANK


check.checkpoint_logits(checkpoint_logits)

# %%
yours = checkpoint_logits(hidden, arrays, config)
with jax.default_matmul_precision("float32"):  # as `hidden` was made
    ours = np.array(jax.jit(apply)(params, inputs, shift_right(targets), input_mask=inputs != 0))
assert np.abs(yours - ours).max() < 1e-4 * np.abs(ours).max()
same = (wrong.argmax(-1) == yours.argmax(-1))[np.array(targets) != 0].mean()
print(f"loss {loss(yours):.2f} nats a token, {loss(wrong):.2f} without the factor; the same word first: {same:.0%}")
assert same > 0.99, "a factor changes no order, so the most probable word must stay the same"
claim("without the factor the loss is higher, by more than a tenth", loss(wrong) > 1.1 * loss(yours))

# %%
softmax = lambda x: np.array(jax.nn.softmax(jnp.array(x), axis=-1))
real = np.array(targets) != 0
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
both = [softmax(x)[real].max(-1) for x in (yours, wrong)]
axes.hist(both, bins=10, range=(0, 1), label=["scaled", "not scaled"], density=True)
axes.set(xlabel="probability of the most probable word", ylabel="density", title="How sure is it, word for word?")
axes.legend()
show(figure, "11_scaling")
assert both[1].mean() > both[0].mean()

# %% [markdown]
# This is the worst kind of mistake. *Greedy decoding writes exactly the same words*: a factor changes no order. All
# demos look right. But the model is sure of everything, right or wrong: its probabilities mean nothing, beam search,
# which compares products of them, finds the wrong texts, and fine-tuning begins with a loss that is too high. Only a
# comparison with somebody else's numbers finds it. (The package's loader is compared with Transformers, on random T5s
# of each kind, to five digits.)
#
# ## Fine-tuning what somebody else trained
#
# From here on it is a run like any other: `start_from` takes a run, a Hugging Face directory or a hub name. With
# `PUBLIC` it is SQuAD, through TensorFlow Datasets, with the passage, and the program's defaults: T5's own optimizer at
# a constant rate. Otherwise it is the street, from memory, with the settings of lesson 6 (the residents about whom no
# question was asked in training are held out, as there).

# %%
if PUBLIC:
    task = dict(context_questions="tfds:squad:train", held_out_context="tfds:squad:validation")
    task |= dict(input_length=512, target_length=32, steps=2700, batch_size=64, evaluate_every=900)
    group = "context_qa"
else:
    with Checkpoints(directory, read_only=True) as checkpoints:  # what the run would continue with
        same_parameters = jax.tree.map(np.array_equal, params, checkpoints.restore({"params": params})["params"])
    assert all(jax.tree.leaves(same_parameters))  # model.safetensors has the same numbers, bit for bit
    task = dict(closed_book_questions=str(files / "asked.jsonl"), held_out_closed_book=str(files / "unasked.jsonl"))
    task |= dict(input_length=24, target_length=6, optimizer="adamw", decay="linear")
    task |= dict(dropout=0.0, relative_bias_rate=30.0)
    task |= dict(steps=6, evaluate_every=3, warmup=2) if SMOKE else dict(steps=200, evaluate_every=50, warmup=20)
    group = "closed_book_qa"
out = runs / ("squad" if PUBLIC else "from_directory")
run = finetune_qa(FinetuneQASettings(out=str(out), start_from=str(directory), **task))

# %%
metrics = read_metrics(run / "metrics.jsonl")
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for key, label in (("loss", "training"), (f"eval_{group}_loss", "held out")):
    axes.plot(*zip(*[(row["step"], row[key]) for row in metrics if key in row], strict=True), "o-", label=label)
axes.set(xlabel="step", ylabel="loss, nats a token", ylim=(0, None), title="Fine-tuning a checkpoint")
axes.legend()
show(figure, "11_finetuning")

# %% [markdown]
# ## The score, beside the paper's
#
# Raffel et al. 2020 (table 14) give for SQuAD, on the held-out questions whose answers are public:

# %%
PAPER = {"T5-small": (79.10, 87.24), "T5-base": (85.44, 92.08), "T5-large": (86.66, 93.79)}
last = [row for row in metrics if f"eval_{group}_em" in row][-1]
print(f"{'SQuAD, dev':34} {'EM':>6} {'F1':>6}")
for name, (em, f1) in PAPER.items():
    print(f"{name + ', Raffel et al. 2020':34} {em:6.2f} {f1:6.2f}")
mine = (last[f"eval_{group}_em"], last[f"eval_{group}_f1"])
if PUBLIC:
    print(f"{'T5-small, this run':34} {mine[0]:6.2f} {mine[1]:6.2f}")
else:
    print(f"{'T5-small, this lesson':34} not yet measured")
    print(f"(The street's T5, on the street: {mine[0]:.2f} {mine[1]:.2f}. That is another task: not to be compared.)")

# %% [markdown]
# Before you compare, read the conditions. The T5 1.0 files on the hub were trained on *SQuAD's training questions too*,
# among many other tasks, before you fine-tune them: for a claim about transfer one should start from T5 1.1, which saw
# only text. The paper fine-tuned for 262,144 steps and took the best checkpoint by held-out score. And a score on text
# that was lower-cased, cut or normalised differently is another score.
#
# ## More data, better models
#
# BERT had read 3.3 billion words. T5's authors measured the effect of each ingredient of transfer learning, one at a
# time. All numbers here are theirs (tables 1, 9, 10 and 14), exact match on SQuAD:

# %%
SIZES = {"small": 79.10, "base": 85.44, "large": 86.66, "3B": 88.53, "11B": 91.26}  # 60 million to 11 billion
REPEATED = {"once": 80.88, "64 x": 80.97, "256 x": 79.78, "1,024 x": 76.27, "4,096 x": 70.92}
TRAINED = {"nothing\npretrained": 50.31, "only\nadapters": 79.32, "layer\nby layer": 79.17, "everything": 80.88}

figure, panels = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained", sharey=True)
titles = "Larger models", "The same text over and over", "What of it is fine-tuned"
for axes, numbers, title in zip(panels, (SIZES, REPEATED, TRAINED), titles, strict=True):
    axes.bar_label(axes.bar(list(numbers), list(numbers.values()), color="tab:gray"), fmt="%.1f")
    axes.set(title=title, ylim=(0, 100))
panels[0].set_ylabel("SQuAD, exact match, %")
show(figure, "11_from_the_paper")

# %% [markdown]
# A larger model is better at every step. Text can be repeated 64 times without harm; with more repetitions the model
# learns it by heart and the transfer suffers. That is why T5 came with a corpus of its own, C4, of hundreds of
# gigabytes. And what if only small parts are trained (*adapters*, Houlsby et al. 2019) and the rest is frozen? On SQuAD
# nearly all of the gain is there. That is not so on every task. The same table 10 has, for adapters (of 32 dimensions)
# against the whole model: SuperGLUE 60.4 against 71.4, translation from English to German 13.8 against 27.0. The
# farther a task is from what was pretrained, the more has to change. ("Layer by layer" is gradual unfreezing: first the
# top one, in the end all. In the settings above `train="gradual"` does that, `train="adapters:32"` trains adapters, and
# `freeze=("embedding", "encoder_*")` would train the decoder alone.)
#
# ## Publishing it
#
# The run is such a directory already. `copy_pretrained` (on the command line `tlqa export`) copies only what others
# need, without checkpoints and metrics: the same names, the same orientation, `spiece.model` for the vocabulary. The
# lengths of inputs and answers that the model was trained with are in config.json as well, where other programs ignore
# them.

# %%
given_back = copy_pretrained(run, runs / "given_back", overwrite=True)
print(sorted(file.name for file in given_back.iterdir()))
again = read_safetensors(given_back / "model.safetensors")
assert {name: array.shape for name, array in again.items()} == {name: array.shape for name, array in arrays.items()}

questions = open_questions("tfds:squad:validation" if PUBLIC else files / "unasked.jsonl")[:20]
ask = lambda name: open_model(name)(questions, use_context=PUBLIC)
assert ask(given_back) == ask(run)  # the directory answers as the run does, probabilities and all
for question, answer in list(zip(questions, ask(given_back), strict=True))[:4]:
    print(f"{question.question} -> {answer.text}   ({100 * answer.probability:.0f} %)")

# %% [markdown]
# Transformers loads it like one of its own:
#
# ```python
# from transformers import AutoTokenizer, T5ForConditionalGeneration
#
# tokenizer = AutoTokenizer.from_pretrained("runs/lessons/given_back")
# model = T5ForConditionalGeneration.from_pretrained("runs/lessons/given_back")
# ids = model.generate(**tokenizer("question: Who plays the flute?", return_tensors="pt"))
# ```
#
# ## What you know now
#
# - A checkpoint is numbers with names, and a few sizes: no code. A quarter of T5-small is its embedding.
# - Names have to fit one to one, in both directions; shapes that agree prove nothing about orientation.
# - The file says whether a T5 is tied, its configuration whether it is scaled. If the factor is missing, no greedy
#   answer changes, and every probability is wrong.
# - A score may stand beside the paper's only if the conditions are the same.
#
# *Try next:* `PUBLIC = True` on Colab; or a BERT: `load("bert-base-uncased")` opens it, and lesson 9's `finetune_spans`
# starts from it.
#
# *Read on:* Raffel et al. 2020, section 3.7; Shazeer 2020, "GLU Variants Improve Transformer", on what changed in T5
# 1.1; Roberts et al. 2020 on why closed-book questions want 1.1.

# %% [markdown]
# ## Bonus: half of the bytes
#
# Many checkpoints on the hub are stored in bfloat16, which has two bytes a number and two or three digits. Round all
# parameters to it and back. By how much does the loss on the sentences with a hole change, and for how many of the
# tokens is another word the most probable one? Compare this with the mistake of the missing factor.
#
# > `jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), params)`, then `jax.jit(apply)(...,
# > input_mask=inputs != 0)` as above, and `loss`.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** A matrix has the shape [512, 512] and the dtype float32. How far apart are the two numbers of its
# `data_offsets`? And in bfloat16?
#
# > 4 x 512 x 512 = 1,048,576 bytes, and half of that in bfloat16.
#
# **2.** A matrix is square, and you forget to transpose it. Which of these notices: the check of names, the check of
# shapes, a comparison of logits with another library?
#
# > Only the comparison of logits. Names and shapes are right.
#
# **3.** The factor 1/sqrt(D) is missing. Which of these give other texts: greedy decoding, beam search, sampling at
# temperature 1?
#
# > Greedy decoding does not: the order of the words stays. Beam search may, since it compares products of sharpened
# > probabilities. Sampling does: it is as if the temperature were much lower.
#
# **4.** A program that loads a file silently skips names that it does not know. Somebody has renamed the layers of one
# block. What do you notice?
#
# > No error. One block has random weights, and the model is worse than it should be. You may take that for a weakness
# > of the model.
#
# **5.** You fine-tune the public T5-small on SQuAD and get 79, and 50 from random weights. May you say that reading the
# web explains the 29 points?
#
# > No. The T5 1.0 files were trained on SQuAD's training questions as well. Start from T5 1.1, which saw text only.
