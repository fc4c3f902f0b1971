# %% [markdown]
# # Lesson 5: Pretraining on eight devices
#
# **Time** 80 minutes, of which the computer needs two or three (two CPU cores).
#
# **Know first** T5 and span corruption (lesson 4). Gradient descent. That JAX functions are pure and `jax.jit`
# compiles them.
#
# **You will be able to**
# - say what `jax.pmap` does with a function, and what `psum` adds over;
# - compute the mean loss over all devices correctly, and prove it on gradients;
# - give every device and every step its own noise;
# - pretrain a T5, compare its curve with two guesses, and see what it knows;
# - lose the machine in the middle of a run and continue as if nothing had happened.

# %%
import dataclasses
import inspect
import json
import re
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from matplotlib import pyplot as plt

if jax.config.jax_num_cpu_devices != 8:
    jax.config.update("jax_num_cpu_devices", 8)  # before anything is computed: JAX makes its devices only once

from tlqa_jax.checkpoints.load import load
from tlqa_jax.core.devices import AXIS, replicate, unreplicate
from tlqa_jax.core.dropout import dropout
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.corpus import mark_corpus
from tlqa_jax.data.sources import open_marked_texts
from tlqa_jax.data.tiny_world import VALUES
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.lessons import SMOKE, pretraining_with_pmap as check, show, street
from tlqa_jax.lessons.claims import claim, percent
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config, shift_right
from tlqa_jax.tasks import span_corruption
from tlqa_jax.tasks.span_corruption_rows import SpanCorruptionRows
from tlqa_jax.training.pretrain_spans import pretrain_spans
from tlqa_jax.training.progress import read_metrics
from tlqa_jax.training.sequence_loss import sequence_loss, target_tokens
from tlqa_jax.training.step import accumulated, update

cpus = jax.devices("cpu")
assert len(cpus) == 8, "restart the runtime, and run the cells from the top"
print(len(cpus), "virtual devices on this processor; JAX trains on", jax.local_device_count(), jax.default_backend())

# %% [markdown]
# ## Eight devices out of one
#
# A TPU host has four or eight chips, and a server has several GPUs. You may have one processor, but JAX can pretend
# that it is eight devices. They are no faster than one. But a program that is right on eight virtual devices is right
# on eight real ones, and that is what this lesson is about. (Only the demonstrations ask for `cpus`. The training at
# the end uses what your machine has, such as a TPU or a GPU.)
#
# (For new code JAX's authors recommend `jax.shard_map`, on which today's `pmap` is built and which can also split the
# model. `psum` and `axis_index` are the same there, but one thing is not: the gradient. An optional section after the
# package's step translates our step, and shows the difference.)
#
# `jax.pmap` takes a function of arrays and runs it on all devices at once, **each on its own slice of the leading
# axis**:

# %%
pmap = partial(jax.pmap, axis_name=AXIS, devices=cpus)  # the name of the axis: "devices"
batch = np.arange(24).reshape(8, 3)  # 8 devices, 3 numbers for each

print(pmap(lambda rows: rows.sum())(batch))
assert (np.array(pmap(lambda rows: rows.sum())(batch)) == batch.sum(axis=1)).all()

# %% [markdown]
# Eight sums, one from each device. No device has seen the numbers of another. To train one model together, they have
# to communicate, and the operation for it is `psum`: "add this over all devices, and give every device the result".

# %%
print(pmap(lambda rows: jax.lax.psum(rows.sum(), AXIS))(batch))
print(pmap(lambda rows: jax.lax.axis_index(AXIS))(batch), "is who they are")
assert (np.array(pmap(lambda rows: jax.lax.psum(rows.sum(), AXIS))(batch)) == batch.sum()).all()

# %% [markdown]
# Now training. Every device has a **copy** of the parameters and **its own rows** of the batch. It computes the
# gradient of its rows; `psum` adds these to the gradient of the batch, which is then the same on every device. So every
# device takes the same step, and the copies stay equal without ever being compared. This is *data parallelism*, and
# this picture shows all of it:

# %%
figure, axes = plt.subplots(figsize=(10, 4.2), layout="constrained")
colours = plt.get_cmap("tab10").colors
centred = dict(ha="center", va="center", fontsize=9)
box = lambda x, y, width, text, colour: axes.text(
    x + width / 2, y, text, **centred, bbox=dict(boxstyle="round", facecolor=colour, alpha=0.45)
)
axes.text(-0.3, 4, "batch [8 rows of 2]", ha="right", va="center")
for device in range(8):
    box(device, 4, 1, f"rows\n{2 * device}, {2 * device + 1}", colours[device])
    box(device, 3, 1, "params", "lightgray")
    box(device, 2, 1, f"gradient\nshare {device}", colours[device])
    box(device, 0, 1, "params'", "lightgray")
    for top in (3.6, 2.7, 1.65, 0.75):
        axes.annotate("", (device + 0.5, top - 0.3), (device + 0.5, top), arrowprops=dict(arrowstyle="->"))
box(0, 1, 8, " " * 45 + 'psum over "devices": the same gradient everywhere' + " " * 45, "gold")
for y, text in [(3, "the same copy"), (2, "each its own"), (0, "the same copy again")]:
    axes.text(-0.3, y, text, ha="right", va="center")
axes.set(xlim=(-2.6, 8.2), ylim=(-0.4, 4.5))
axes.axis("off")
show(figure, "05_pmap")

# %% [markdown]
# ## The wrong version first: a mean of means
#
# The loss of a batch is the mean over its tokens. There is a tempting way to compute it on several devices: each takes
# the mean of its own tokens, then `pmean` takes the mean of these means. Many programs do this. With the same number of
# tokens on each device it is even right. But texts have different lengths; they are filled up with padding, which does
# not count. Two devices are enough to see the problem:
#
# | | token losses | sum | tokens | mean |
# |---|---|---|---|---|
# | device 0 | 1, 1, 1, 1, 1, 1, 1, 1, 1 | 9 | 9 | 1 |
# | device 1 | 5, and eight of padding | 5 | 1 | 5 |
# | **all** | | 14 | 10 | **1.4** |

# %%
losses = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1], [5, 0, 0, 0, 0, 0, 0, 0, 0]], np.float32)
weights = np.array([[1] * 9, [1] + [0] * 8], np.float32)  # 1 for a token, 0 for padding
two = partial(jax.pmap, axis_name=AXIS, devices=cpus[:2])

mean_of_means = two(lambda loss, weight: jax.lax.pmean((loss * weight).sum() / weight.sum(), AXIS))(losses, weights)
print("the mean of the means:", mean_of_means, "  the mean:", (losses * weights).sum() / weights.sum())
assert mean_of_means[0] == 3.0

# %% [markdown]
# 3.0 instead of 1.4. Why does it matter, if it is only a number to print? Because its *gradient* changes the model. How
# much influence does each token have?

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
pulls = {
    "mean of means": (weights / weights.sum(axis=1, keepdims=True) / 2)[weights > 0],
    "sum over sum": (weights / weights.sum())[weights > 0],
}
for axes, (name, pull) in zip(panels, pulls.items(), strict=True):
    axes.bar(range(10), 100 * pull, color=["tab:blue"] * 9 + ["tab:orange"])
    axes.set(title=name, xlabel="token (orange: the one on device 1)", ylabel="share of the gradient, %")
    assert np.isclose(pull.sum(), 1)
show(figure, "05_mean_of_means")

# %% [markdown]
# One token has half of the influence because it happened to be on the emptier device. If the rows are shuffled, another
# token will have it; with another number of devices, the model learns something else. The solution needs no new idea:
# a mean is a sum divided by a number, and **sums may be added**. With $w_t$ the weight of token $t$ and $\ell_t$ its
# loss:
#
# $$\text{loss} = \frac{\sum_\text{devices} \sum_t w_t \ell_t}{\sum_\text{devices} \sum_t w_t}
#   = \frac{\text{psum}\big(\sum_t w_t \ell_t\big)}{\text{psum}\big(\sum_t w_t\big)}$$
#
# ## Exercise 1: the global mean
#
# It is called on every device with its own rows. (`AXIS` is the name of the axis, "devices".)

# %%
def global_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    # Hint: sums may be added over devices, means may not. Which two sums does this device know?
    # Hint: `jax.lax.psum(x, AXIS)` adds x over the devices. It takes one number, or a tuple: `(losses * weights).sum()`
    # and `weights.sum()`.
    # BLANK
    total, weight = jax.lax.psum(((losses * weights).sum(), weights.sum()), AXIS)
    return total / weight
    # END BLANK


check.global_mean(global_mean)

# %%
print(two(global_mean)(losses, weights))
assert np.allclose(two(global_mean)(losses, weights), 1.4)

# %% [markdown]
# ## Gradients
#
# For training we need the gradient of that. It is a sum of shares: with $W$ the weight of *all* devices, a constant,
#
# $$\nabla\, \text{loss} = \sum_\text{devices} \nabla \Big( \frac{1}{W} \sum_t w_t \ell_t \Big)$$
#
# So: `psum` the weight; differentiate this device's share, its own sum divided by $W$; `psum` the gradients. The order
# matters. If you `psum` the loss first and differentiate that, JAX differentiates through the `psum` as well. This
# device's loss is a part of the sum on every device, so its gradient is its *own share, eight times*: without a second
# `psum` the copies of the parameters drift apart, and with one the step is eight times too large. Adam hides that,
# since it divides by the gradient's size. But the clipping of the gradient acts on the wrong number, and so do you when
# you read it.
#
# ## Exercise 2: the gradient of the global mean

# %%
def gradients(loss_sum, params, rows: dict):
    """`loss_sum(params, rows)` is the sum over this device's tokens, `rows["weights"]` [B L] is 1 for a token.

    `params` is a dictionary of arrays, and so is the result.
    """
    # Hint: three steps, in this order: the weight of all devices; the gradient of this device's sum, divided by that
    # weight; the gradients, added over the devices.
    # Hint: `weight = jax.lax.psum(rows["weights"].sum(), AXIS)`. `jax.grad(lambda params: loss_sum(params, rows) /
    # weight)(params)` is this device's share. `jax.lax.psum` takes dictionaries as well.
    # BLANK
    weight = jax.lax.psum(rows["weights"].sum(), AXIS)
    share = jax.grad(lambda params: loss_sum(params, rows) / weight)(params)
    return jax.lax.psum(share, AXIS)
    # END BLANK


check.gradients(gradients)

# %% [markdown]
# Now on a real T5, with rows of very different lengths. The judge is one device that gets the whole batch at once:

# %%
small = T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4, dropout_rate=0.0)
apply, params = as_function(T5(small, rngs=nnx.Rngs(0)))
params = jax.tree.map(np.asarray, params)
rng = np.random.default_rng(0)
lengths = np.array([1, 9, 2, 8, 1, 1, 3, 9, 9, 9, 2, 1, 1, 2, 1, 1])[:, None]
rows = {name: rng.integers(2, 64, (16, 9)).astype(np.int32) for name in ("inputs", "targets")}
rows["targets"] *= np.arange(9) < lengths
rows["weights"] = (rows["targets"] != 0).astype(np.float32)
shared = {name: x.reshape(8, 2, 9) for name, x in rows.items()}  # two rows for each device


def loss_sum(params: dict, rows: dict) -> jax.Array:
    logits = apply(params, rows["inputs"], shift_right(rows["targets"]), input_mask=rows["inputs"] != 0)
    return cross_entropy(logits, rows["targets"], rows["weights"])[0]


def largest_difference(a: dict, b: dict) -> float:
    """Leaf by leaf, as a share of the leaf's largest entry; of the leaf where it is largest."""
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(abs(x - y).max() / abs(y).max()), a, b)))

# %%
def mean_of_means_gradients(loss_sum, params, rows):
    return jax.lax.pmean(jax.grad(lambda params: loss_sum(params, rows) / rows["weights"].sum())(params), AXIS)


def gradients_of_the_summed_loss(loss_sum, params, rows):
    mean = lambda params: jax.lax.psum(loss_sum(params, rows), AXIS) / jax.lax.psum(rows["weights"].sum(), AXIS)
    return jax.lax.psum(jax.grad(mean)(params), AXIS)


with jax.default_device(cpus[0]):
    whole = jax.jit(jax.grad(lambda params: loss_sum(params, rows) / rows["weights"].sum()))(params)
whole = jax.tree.map(np.asarray, whole)
differences = {}
for function in (mean_of_means_gradients, gradients_of_the_summed_loss, gradients):
    result = pmap(partial(function, loss_sum), in_axes=(None, 0))(params, shared)
    first = jax.tree.map(lambda x: np.asarray(x)[0], result)
    differences[function.__name__] = largest_difference(first, whole)
    print(f"{function.__name__}: off by up to {100 * differences[function.__name__]:.4f} % of a leaf's largest entry")
assert differences["gradients"] < 1e-4 < 0.05 < differences["mean_of_means_gradients"]
assert abs(differences["gradients_of_the_summed_loss"] - 7) < 1e-3  # eight times the true one is off by seven times it

# %% [markdown]
# Eight devices and one give the same gradient, to the rounding of float32. (So does *gradient accumulation*, where each
# device splits its rows into micro-batches to save memory: the same sums, added one after the other.)
#
# ## Noise: a key for each device and each step
#
# T5 trains with dropout: one value in ten is set to zero, at random. JAX has no hidden random state: a function that
# needs noise gets a key. **The wrong version first**: the same key for all devices, as the parameters are the same for
# all.

# %%
ones = jnp.ones(40)
drop = lambda key: dropout(ones, 0.1, key)
same = pmap(lambda _: drop(jax.random.key(0)))(np.arange(8))
own = pmap(lambda _: drop(jax.random.fold_in(jax.random.key(0), jax.lax.axis_index(AXIS))))(np.arange(8))

figure, panels = plt.subplots(1, 2, figsize=(10, 2.6), layout="constrained", sharey=True)
for axes, masks, name in zip(panels, (same, own), ("one key for all", "a key for each"), strict=True):
    axes.imshow(np.array(masks) > 0, cmap="gray", aspect="auto", interpolation="none")
    axes.set(title=f"{name}: what is dropped (black)", xlabel="unit", ylabel="device")
show(figure, "05_dropout")
assert (np.array(same) == np.array(same)[0]).all() and not (np.array(own) == np.array(own)[0]).all()

# %% [markdown]
# On the left all eight devices have the same noise, so it does not average out over the batch. `fold_in` makes a new
# key from a key and a number. The key has to be a function of (seed, step, device) and of nothing else: then a run that
# was stopped can continue with exactly the noise that it would have had.
#
# ## Exercise 3: the dropout key

# %%
def dropout_key(seed: int, step: jax.Array) -> jax.Array:
    """Called on each device; `step` counts the steps of the training."""
    # Hint: the key is a function of three numbers: seed, step and device. They go in one after the other.
    # Hint: `jax.random.key(seed)`; then `jax.random.fold_in(key, number)` for the step, and once more for
    # `jax.lax.axis_index(AXIS)`, the device's own number.
    # BLANK
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.random.fold_in(key, jax.lax.axis_index(AXIS))
    # END BLANK


check.dropout_key(dropout_key)

# %% [markdown]
# ## State that stays on the devices
#
# Parameters and the optimizer's state must not be copied to the devices at every step. They are *replicated* once and
# stay there: every device has all of them. So they are not split along a first axis, neither as arguments
# (`in_axes=None`, as for the parameters above) nor as results: `out_axes=None` says that all devices have computed the
# same, which `psum` makes sure of. Without it, the result has a row from each device:

# %%
mean = lambda rows: jax.lax.pmean(rows.mean(), AXIS)
print("a copy from each device:", pmap(mean)(batch), " once:", pmap(mean, out_axes=None)(batch))

# %% [markdown]
# Adam keeps two numbers for each parameter, so the state is three times the model: 2.7 GB for T5-base in float32. A
# step makes a new state from the old one, so for a moment there are two, unless the memory of the old one is reused:
# then it is **donated**.

# %%
copies = pmap(lambda _, x: x, in_axes=(0, None), out_axes=None)(np.arange(8), np.ones(1000, np.float32))
print("shape:", copies.shape, " copies:", len(copies.addressable_shards))

shrink = partial(pmap, lambda state, rows: 0.99 * state, in_axes=(None, 0), out_axes=None)
shrunk = shrink()(copies, batch)
assert not copies.is_deleted()  # two states now
shrunk_again = shrink(donate_argnums=0)(shrunk, batch)
assert shrunk.is_deleted()  # its memory holds shrunk_again
print("old state after a donating step: deleted is", shrunk.is_deleted())

# %% [markdown]
# What was donated is gone: `shrunk` cannot be read any more.
#
# ## The package's step
#
# These are all the parts. Here is the one `update` of all training programs, read from the package as you have it. Look
# for your three exercises:

# %%
print(inspect.getsource(update))
print(inspect.getsource(accumulated))

# %% [markdown]
# `share` is this device's share of the mean: the sums of the losses, each divided by the weight on all devices.
# `accumulated` differentiates it, in one piece or in micro-batches; `psum` adds. (`partition` and `combine` set aside
# the parameters that are not trained, or not yet. They have no gradient.) What the loss is, and what it is a mean over,
# are arguments: for a T5 `sequence_loss` sums over the target tokens, and `target_tokens` counts them. Every program
# wraps `update` in `pmap` as in the next cell, with the donation.
#
# To see that it is *your* gradient, let it take one step of plain gradient descent with a learning rate of 1: the
# parameters must move by exactly that.

# %%
devices = jax.local_device_count()  # from here on no demonstration: what the machine has
sgd = optax.sgd(1.0)
train_step = jax.pmap(
    partial(update, partial(sequence_loss, apply), target_tokens, sgd, seed=0),
    axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
)  # fmt: skip
state = {"params": params, "opt_state": sgd.init(params), "step": np.int32(0)}
its_rows = {name: rows[name].reshape(devices, 16 // devices, 9) for name in ("inputs", "targets")}
with jax.default_matmul_precision("float32"):  # on a TPU too
    state, metrics = train_step(replicate(state), its_rows)
moved = jax.tree.map(lambda old, new: old - new, params, unreplicate(state["params"]))
print(f"moved by your gradient, to within {largest_difference(moved, whole):.1e}")
assert largest_difference(moved, whole) < 1e-3

# %% [markdown]
# ## Optional: the same step with `jit` and `shard_map`
#
# `jax.shard_map` also runs a function on all devices, each on its part of the arrays, and it is used *inside*
# `jax.jit`. Three things are written differently:
#
# - the devices are named by a **mesh**, here a line of eight with the name of our axis;
# - `in_specs` and `out_specs` say for each argument along which axis it is split. `PartitionSpec(AXIS)`: along its
#   first axis. `PartitionSpec()`: not at all, so every device has all of it;
# - the split axis **stays**: 16 rows on eight devices arrive as [2, 9], not as a slice of [8, 2, 9]. No reshape is
#   needed.
#
# **The wrong version first**: take your `gradients` from above as it is.

# %%
mesh = Mesh(np.array(cpus), (AXIS,))
everywhere, split = PartitionSpec(), PartitionSpec(AXIS)


def on_mesh(function, **options):
    """`function(params, rows)` on the mesh: parameters everywhere, rows split, the result the same everywhere."""
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=(everywhere, split), out_specs=everywhere, **options))


def without_the_last_psum(loss_sum, params, rows):
    weight = jax.lax.psum(rows["weights"].sum(), AXIS)
    return jax.grad(lambda params: loss_sum(params, rows) / weight)(params)


def times_too_large(gradient: dict) -> float:
    """By which factor a gradient is too large, from all of its entries together."""
    dot = lambda a, b: sum(float(np.vdot(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    return dot(gradient, whole) / dot(whole, whole)


# %%
times = {}
for function, checked in [(gradients, True), (gradients, False), (without_the_last_psum, True)]:
    gradient = on_mesh(partial(function, loss_sum), check_vma=checked)(params, rows)
    times[function.__name__, checked] = times_too_large(jax.tree.map(np.asarray, gradient))
    print(f"{function.__name__:22} check_vma={checked!s:5}  {times[function.__name__, checked]:.4f} times the gradient")
assert np.allclose(list(times.values()), [8, 1, 1], rtol=1e-3)

# %% [markdown]
# Your function is right with `pmap`, and here its result is eight times too large. Why? With `check_vma=True`, which is
# the default, JAX keeps account of what *varies* over the devices ("varying manual axes"). It knows that the parameters
# are the same on all of them. The derivative with respect to one shared number is the sum over all devices, so
# `jax.grad` has already added the shares, and the `psum` after it adds eight equal gradients. There are two right ways:
#
# | | `jax.grad` gives | after it |
# |---|---|---|
# | `pmap`, or `check_vma=False` | this device's share | `psum` |
# | `shard_map` with `check_vma=True` | the sum over all devices | nothing |
#
# The package's `update` follows the first line. So with `check_vma=False` it runs on the mesh unchanged, the donation
# included, and takes the step that it took with `pmap`:

# %%
mesh_step = jax.jit(
    jax.shard_map(
        partial(update, partial(sequence_loss, apply), target_tokens, sgd, seed=0),
        mesh=mesh, in_specs=(everywhere, split), out_specs=everywhere, check_vma=False,
    ), donate_argnums=0,
)  # fmt: skip
state = {"params": params, "opt_state": sgd.init(params), "step": np.int32(0)}
with jax.default_matmul_precision("float32"):
    state, metrics = mesh_step(state, {name: rows[name] for name in ("inputs", "targets")})
moved = jax.tree.map(lambda old, new: old - np.asarray(new), params, state["params"])
print(f"jit and shard_map: moved by your gradient, to within {largest_difference(moved, whole):.1e}")
assert largest_difference(moved, whole) < 1e-3

# %% [markdown]
# ## Pretraining
#
# Now a real run, if a small one. One street of the tiny world has 24 residents; 40 passages tell about each, always in
# other words. The T5 reads them again and again with holes, by span corruption as in lesson 4. Two in ten rows mask
# random spans. The others mask what matters, half of the towns, years, trades, firms and instruments: *salient* spans
# (Guu et al. 2020; for closed-book T5: Roberts et al. 2020). A random hole can mostly be filled by grammar; a salient
# one only by knowledge.
#
# Before you start it, a word on Colab: you have its machine for some hours only, and what is on it is lost afterwards.

# %%
# With True, runs go to your Google Drive, and you can continue them tomorrow on another machine.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
marked = list(open_marked_texts(files / "texts.jsonl"))
print(len(marked), "passages. The first:", marked[0].text)
print("worth masking:", [marked[0].text[start:end] for start, end in marked[0].spans])

# %% [markdown]
# The settings of a run are a frozen dataclass, and the program is one function. Two of the settings need an
# explanation. `relative_bias_rate=100`: the position biases of lesson 4 begin near 0 and must reach several units, but
# in a step Adam moves no number by much more than the learning rate. In a run as short as this they would never get
# there, so their steps are multiplied. And `dropout=0.0`: dropout keeps a model from learning by heart, and here
# learning by heart is what we want.
#
# **The same call again continues.** If you have run this cell before and the run was interrupted, it continues from the
# newest checkpoint. If the run is complete, the call returns at once: lessons 6, 10, 11 and 12 begin with the same
# call. So whatever happens to the machine, run the cells from the top.

# %%
config = street.pretraining(files, runs / "pretrained")
print({field: value for field, value in vars(config).items() if value != getattr(type(config)(), field)})
run = pretrain_spans(config)

# %% [markdown]
# ## Reading the curve
#
# Is a loss of 2 good? Compare it with guesses that need no network, on the same held-out text:
#
# - **uniform**: each of the $V$ tokens is as probable as any other, $\log V$;
# - **by frequency**: how often a token is masked in the training text, whatever stands around the hole.

# %%
pretrained = load(run)  # a run is a directory that `load` opens, and Hugging Face's Transformers too
tokenizer = pretrained.tokenizer
hidden = {}
for name, texts in [("train", config.texts), ("held out", config.held_out)]:
    data = SpanCorruptionRows(
        texts, tokenizer, input_length=config.input_length, seed=config.seed, batch_size=config.batch_size
    )
    targets = data.build_evaluation(np.arange(data.size), slice(0, data.size), 0)["targets"]
    hidden[name] = targets[targets != 0]
counts = 1 + np.bincount(hidden["train"], minlength=tokenizer.vocab_size)  # 1 for what was never seen
uniform = np.log(tokenizer.vocab_size)
by_frequency = -np.log(counts / counts.sum())[hidden["held out"]].mean()

# %%
metrics = read_metrics(run / "metrics.jsonl")
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for name, label in [("loss", "training (random and salient holes)"), ("eval_loss", "held out (random holes)")]:
    axes.plot(*zip(*[(row["step"], row[name]) for row in metrics if name in row], strict=True), ".-", label=label)
for value, label in [(uniform, "uniform guess"), (by_frequency, "guess by frequency")]:
    axes.axhline(value, color="tab:gray", linestyle=":")
    axes.text(config.steps, value, f"{label}, {value:.2f}", ha="right", va="bottom")
axes.set(xlabel="step", ylabel="loss, nats a token", ylim=(0, 1.12 * uniform), title="Pretraining on one street")
axes.legend(loc="center right", bbox_to_anchor=(1, 0.28))
show(figure, "05_curve")
held_out_loss = [row["eval_loss"] for row in metrics if "eval_loss" in row][-1]
print(f"held out {held_out_loss:.2f}, by frequency {by_frequency:.2f}, uniform {uniform:.2f}")
claim("the held-out loss is half a nat and more below both guesses", held_out_loss + 0.5 < by_frequency < uniform)

# %% [markdown]
# The curve falls steeply while the model learns what words there are and which follow which. That part is *language*,
# and it is also right for the people of the held-out text. Then the training loss keeps falling, but the held-out loss
# does not: what is learned now is *who lives where*, and that does not help with strangers. In most of machine learning
# this gap is called overfitting, and people try to avoid it. For a model that has to answer from memory, it is what we
# want.
#
# ## What does it fill in?
#
# Mask half of the values of a passage, let the model write, and compare: once for residents, of whom it has read, and
# once for people of whom nothing was told.

# %%
apply, trained = as_function(pretrained.model())
write = jax.jit(partial(greedy, apply, max_new_tokens=24))


def holes(passages: list, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets [n L] of the passages, each with half of its values hidden."""
    rng, rows = np.random.default_rng(seed), []
    for passage in passages:
        corpus = mark_corpus([passage], tokenizer)
        mask = span_corruption.salient_spans_mask(rng, corpus.spans[None], 0.5)
        lengths = dict(inputs_length=128, targets_length=24)
        rows.append(span_corruption.corrupt(corpus.tokens[None], mask, sentinels=tokenizer.sentinels, **lengths))
    return tuple(np.concatenate(arrays) for arrays in zip(*rows, strict=True))


def values(ids: np.ndarray) -> list[str]:
    """What is written after each sentinel."""
    return [part.strip() for part in re.split(r"<extra_id_\d+>", tokenizer.decode(ids))[1:]]

# %%
kind_of = {value: kind for kind, values_of_kind in VALUES.items() for value in values_of_kind}
shares = {}
for group, texts in [("residents", marked), ("others", list(open_marked_texts(files / "held_out.jsonl")))]:
    passages = texts[: 8 if SMOKE else 40]
    inputs, targets = holes(passages, seed=1)
    written = np.array(write(trained, inputs, inputs != 0).tokens)
    pairs = [pair for a, b in zip(targets, written, strict=True) for pair in zip(values(a), values(b) + [""] * 9)]
    right = percent([wanted == got for wanted, got in pairs])
    right_kind = percent([kind_of.get(wanted) == kind_of.get(got, "nothing") for wanted, got in pairs])
    shares[group] = right, right_kind
    print(f"{group}: {tokenizer.decode(inputs[0])}")
    print(f"    stood there: {values(targets[0])}\n    it writes:   {values(written[0])}")
    print(f"    {len(pairs)} holes, right kind of thing {right_kind} %, right thing {right} %\n")
residents, others = shares["residents"], shares["others"]
claim("it fills more of the residents' holes rightly than of the strangers'", residents[0].low > others[0].high + 10)
claim("for strangers, too, most fillings are of the right kind", others[1].low > 50)

# %% [markdown]
# It knows that a trade belongs where a trade is missing, for anybody: that is language. But whose trade it is, it can
# know only of the residents. For strangers it does not stay silent, though. It writes a trade, any trade, just as
# fluently. Keep this in mind for lesson 6.
#
# ## Losing the machine
#
# A checkpoint holds the parameters, the optimizer's state and the number of the step; the order of the data and all
# noise are functions of (seed, step). So a run that was interrupted and continued must be *the same run*, on the same
# kind and number of devices. (On others it continues as well, but sums are added in another order there, so the last
# digits differ.) Here is an experiment, with a run of its own that is short enough to be repeated: first all of it
# without an interruption.

# %%
steps = 4 if SMOKE else 40
short = dataclasses.replace(
    config, out=str(runs / "uninterrupted"), steps=steps, save_every=steps // 2, warmup=0, overwrite=True
)
uninterrupted = pretrain_spans(short, quiet=True)
print("checkpoints:", sorted(path.name for path in (uninterrupted / "checkpoints").glob("[0-9]*")))

# %% [markdown]
# Now a copy of it as it was when the machine was lost, after half of the steps: the last checkpoint is not there yet,
# and the run's record does not say that it is finished. Then the same call again:

# %%
interrupted = runs / "interrupted"
shutil.rmtree(interrupted, ignore_errors=True)
shutil.copytree(uninterrupted, interrupted)
shutil.rmtree(interrupted / f"checkpoints/{steps}")
record = json.loads((interrupted / "run.json").read_text())
(interrupted / "run.json").write_text(json.dumps(record | {"finished": False}))

pretrain_spans(dataclasses.replace(short, out=str(interrupted), overwrite=False), quiet=True)
assert (interrupted / f"checkpoints/{steps}").exists()  # it has trained again what was lost
one, two = (as_function(load(directory).model())[1] for directory in (uninterrupted, interrupted))
same = all(jax.tree.leaves(jax.tree.map(np.array_equal, one, two)))
print("parameters equal, bit for bit:", same)
if jax.default_backend() == "cpu":  # on a GPU, XLA_FLAGS=--xla_gpu_deterministic_ops=true makes it hold as well
    assert same, "interrupted and continued, the run has other parameters"

# %% [markdown]
# ## What you know now
#
# - `pmap` runs one function on all devices, each on its slice; `psum` adds over them and gives all of them the result.
# - A mean over devices is a sum divided by a sum. A mean of means weighs tokens by the device they are on.
# - Differentiate this device's share, then `psum` the gradients: eight devices take the step of one.
# - Noise is a function of (seed, step, device), the order of the data of (seed, step): then a run can be interrupted
#   and continued, and nothing is different.
# - A loss means something when it stands beside a guess. And a model that fills every hole does not know everything it
#   says.
#
# The run is in `runs/lessons/pretrained`. In lesson 6 it learns to answer.
#
# *Read on:* Raffel et al. 2020, section 3.1; Roberts et al. 2020, "How Much Knowledge Can You Pack Into the Parameters
# of a Language Model?"; Guu et al. 2020, "REALM: Retrieval-Augmented Language Model Pre-Training", section 3.4.

# %% [markdown]
# ## Bonus: gradient accumulation
#
# A device may have too little memory for its two rows at once. Write `accumulated_gradients(loss_sum, params, rows)`,
# which goes through its rows one at a time and adds the gradients up. Call it in the place of `gradients` above: it
# must be off by less than 1e-4 as well. The question behind it: by which weight is each of the small gradients divided?
#
# > By the weight of *all* rows on all devices, so `psum` comes first. Then a Python loop over the rows, slices `x[i : i
# > + 1]`, and `jax.tree.map(jnp.add, ...)`.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** All devices have the same number of real tokens in every batch. Is the mean of means wrong?
#
# > No. With equal weights it is the global mean. It goes wrong where the weights differ: texts of different lengths,
# > masks, the last batch of an epoch.
#
# **2.** You train with a batch of 16 rows on eight devices, and then with the same batch on four. What happens to the
# gradient, and to the memory?
#
# > The gradient is the same, to rounding. Each device has four rows instead of two, so it needs more memory for them
# > and more time.
#
# **3.** You forget the last `psum`, the one of the gradients. Is there an error? What happens to the eight copies?
#
# > There is no error. Each device takes the step of its own rows, so after the first step the copies are eight
# > different models. `out_axes=None` shows only one of them.
#
# **4.** Checkpoints are saved every 600 steps, and the machine is lost at step 700. What does the continued run do in
# step 601, and what is lost?
#
# > The same as the lost run in step 601: the same rows and the same noise, because both are functions of (seed, step).
# > Lost is the time of 100 steps, and nothing else.
#
# **5.** You take a vocabulary twice as large, all else alike. How much higher is the loss of a model that has learned
# nothing?
#
# > By log 2, which is 0.69 nats: a uniform guess costs log V. So losses of models with different vocabularies cannot be
# > compared.
