# %% [markdown]
# # Lesson 3: Attention
#
# **Time** 60 minutes, of which the computer needs half a minute.
#
# **Know first** JAX: `einsum`, `vmap` and `jit` (lesson 0). Text is a list of pieces (lesson 2), and to a network each
# piece is a vector. Matrix products; softmax; the variance of a sum.
#
# **You will be able to**
# - write scaled dot-product attention, and say what each of its parts is for;
# - explain why the scores are divided by $\sqrt K$, and why T5 does not need it;
# - keep attention from looking where it must not, with one boolean mask;
# - read a picture of attention weights, and see why several heads are better than one.

# %%
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.core.masks import padding_mask
from tlqa_jax.lessons import SMOKE, attention as check, show
from tlqa_jax.models import layers
from tlqa_jax.models.t5 import T5Config, new_attention

np.set_printoptions(precision=2, suppress=True)
jax.config.update("jax_default_matmul_precision", "float32")  # a TPU would multiply in bfloat16: too coarse to compare

# %% [markdown]
# ## A dictionary that never says "no such key"
#
# A Python dictionary compares a *query* with its *keys* and returns the *value* of the one that is equal. Attention
# (Vaswani et al. 2017, section 3.2) does the same with vectors: it compares the query with every key by a dot product,
# turns the scores into shares that sum to 1, and returns the values mixed in these shares. It always finds something,
# and everything can be differentiated.
#
# $$\text{weights} = \text{softmax}(Q K^\top) \qquad \text{output} = \text{weights}\; V$$
#
# If the keys are far apart, it does act like a dictionary:

# %%
softmax = jax.jit(jax.nn.softmax)  # over the last axis; jit compiles it once for each shape

key = 20 * np.eye(3)  # three keys, each in a direction of its own
value = np.array([[1943.0], [1928.0], [1914.0]])
query = np.array([[0.0, 1.0, 0.0]])  # the direction of the second key

weights = np.array(softmax(query @ key.T))
print("weights", weights, " output", weights @ value)
assert np.allclose(weights @ value, 1928)

half_and_half = np.array(softmax(np.array([[0.0, 0.5, 0.5]]) @ key.T))
assert np.allclose(half_and_half @ value, (1928 + 1914) / 2, atol=0.1)  # a query between two keys gets a mixture

# %% [markdown]
# ## The wrong version first
#
# That is already a working attention layer, and for small vectors a good one. Let us make the vectors longer. Say the
# entries of query and key are independent with mean 0 and variance 1. Their dot product $\sum_{k=1}^{K} q_k k_k$ then
# has variance $K$: its typical size is $\sqrt K$. With $K = 512$ the scores are around $\pm 23$, and a softmax of such
# numbers does not share, it chooses: one weight is 1, the others are 0.
#
# Why is that bad? The derivative of a weight $w$ with respect to its own score is $w (1 - w)$. It vanishes at $w = 0$
# and at $w = 1$. A layer that starts by choosing at random, and has no gradient to learn better, stays where it is.

# %%
def scores_and_gradient(K: int, scale: float) -> tuple[float, float]:
    """Standard deviation of the scores, and the mean w (1 - w) of the weights, with 16 keys per query."""
    rng = np.random.default_rng(K)
    query, key = rng.standard_normal((200, K)), rng.standard_normal((200, 16, K))
    scores = scale * np.einsum("lk,lsk->ls", query, key)
    weights = np.array(softmax(scores))
    return scores.std(), (weights * (1 - weights)).mean()


sizes = [4, 16, 64, 256, 1024]
undivided = np.array([scores_and_gradient(K, 1.0) for K in sizes])
divided = np.array([scores_and_gradient(K, K**-0.5) for K in sizes])
assert np.allclose(undivided[:, 0], np.sqrt(sizes), rtol=0.1)  # the size of the scores is sqrt(K)
assert np.allclose(divided[:, 0], 1, rtol=0.1)  # and 1 after dividing by it
assert undivided[-1, 1] < 0.1 * undivided[0, 1]  # the gradient has all but gone
assert divided[-1, 1] > 0.7 * divided[0, 1]  # the gradient stays

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for axes, column, name in [(left, 0, "standard deviation of the scores"), (right, 1, "mean gradient w (1 - w)")]:
    axes.plot(sizes, undivided[:, column], "o-", color="tab:red", label="q · k")
    axes.plot(sizes, divided[:, column], "o-", color="tab:blue", label="q · k / √K")
    axes.set(xscale="log", xlabel="K, the length of query and key", title=name)
    axes.set_xticks(sizes, sizes, minor=False)
    axes.minorticks_off()
left.legend()
right.set_ylim(0)
show(figure, "03_why_divide")

# %% [markdown]
# Dividing the scores by $\sqrt K$ makes their size independent of $K$. This is *scaled dot-product attention*:
#
# $$\text{attention}(Q, K, V) = \text{softmax}\!\left(\frac{Q K^\top}{\sqrt{K}}\right) V$$
#
# (The letter $K$ does two jobs in the literature: the matrix of keys, and, in this course, the length of one of them.)
#
# ## Exercise 1: attention
#
# Write it for one head: `query` is [L K], `key` and `value` are [S K], and the result is [L K]. There are L queries and
# S keys (as many where a text looks at itself); each is a vector of K numbers. Einsum gives each axis a letter and sums
# over the letters that are not behind the arrow: `"lk,sk->ls"` multiplies each query with each key, and sums over K.

# %%
def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    # Hint: three steps: the scores of all pairs, divided by the root of K; a softmax over the keys of each query; the
    # values, mixed in these shares.
    # Hint: `jnp.einsum("lk,sk->ls", query, key) / query.shape[-1] ** 0.5` are the scores, one row for each query. Then
    # `jax.nn.softmax(scores, axis=-1)`, and an einsum with "ls,sk->lk".
    # BLANK
    scores = jnp.einsum("lk,sk->ls", query, key) / query.shape[-1] ** 0.5
    weights = jax.nn.softmax(scores, axis=-1)
    return jnp.einsum("ls,sk->lk", weights, value)
    # END BLANK


check.attend(attend)

# %% [markdown]
# ## Why T5 does not divide
#
# In `models/t5.py` you find `scale=1.0`: T5's scores are not divided by anything. Does it have the problem of the red
# line? No. Since queries come from a matrix, $q = x W_Q$, the constant can be a part of the matrix:
#
# $$\frac{(x W_Q) \cdot k}{\sqrt K} = \Big(x \frac{W_Q}{\sqrt K}\Big) \cdot k$$
#
# So T5 draws $W_Q$ with a standard deviation that is $\sqrt K$ times smaller than that of $W_K$ (Raffel et al. 2020 use
# the initialisation of Mesh TensorFlow). Look at an attention layer of a T5 that is not trained yet:

# %%
config = T5Config.small()
layer = new_attention(config, nnx.Rngs(0))
W_Q, W_K, K = np.asarray(layer.query[...]), np.asarray(layer.key[...]), config.d_kv  # [D H K] both
print(f"K = {K}, sqrt(K) = {K**0.5:.0f}; deviation of W_Q {W_Q.std():.5f}, of W_K {W_K.std():.5f}")
assert np.allclose(W_K.std() / W_Q.std(), K**0.5, rtol=0.02)

x = np.random.default_rng(0).standard_normal((200, config.d_model))  # what a norm layer hands on: entries of size 1
query, key = np.einsum("ld,dhk->hlk", x, W_Q), np.einsum("sd,dhk->hsk", x, W_K)
scores = np.einsum("hlk,hsk->hls", query, key)
print(f"deviation of the scores, undivided: {scores.std():.2f}")
assert 0.8 < scores.std() < 1.25

# %% [markdown]
# There are two mistakes to make here: to load T5's weights into a layer that divides (the scores would be 8 times too
# small), or to draw T5's weights as other transformers do and not to divide (training would start on the red line).

# %%
careless = scores * K**0.5  # W_Q as large as W_K, and no division
share = np.array(softmax(careless)).max(axis=-1).mean()
proper = np.array(softmax(scores)).max(axis=-1).mean()
print(f"largest of 200 weights, on average: {share:.2f} if W_Q is drawn like W_K, {proper:.2f} as T5 draws it")
assert share > 5 * proper

# %% [markdown]
# ## Masks: where attention must not look
#
# Two reasons to forbid a look:
#
# - **Padding.** The texts of a batch have different lengths; the shorter ones are filled up. No position may look
#   there.
# - **The future.** A decoder learns to predict the next piece, all positions at once. Position $i$ may use what is at
#   0 to $i$; if it could look at $i + 1$, it would copy instead of predict. Such a mask is called *causal*.
#
# The encoder of T5, and BERT, read in **both directions**: they have the padding mask only. The decoder has both.
# A mask here is a boolean array [L S]; row = query, column = key, and **True means "may attend"**.
#
# ## Exercise 2: the causal mask

# %%
def causal_mask(length: int) -> jax.Array:
    # Hint: compare the position of the query with the position of the key. Which of the two must not be the larger one?
    # Hint: `position = jnp.arange(length)`; `position[:, None]` is that of the query, `position[None, :]` that of the
    # key.
    # BLANK
    position = jnp.arange(length)
    return position[:, None] >= position[None, :]
    # END BLANK


check.causal_mask(causal_mask)

# %% [markdown]
# How is a mask applied? The wrong version first: compute the weights, then set the forbidden ones to 0.

# %%
scores = np.array([[2.0, 1.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.5, 2.0], [0.0, 1.0, 2.0, 1.0]])
struck_out = np.array(softmax(scores)) * np.array(causal_mask(4))
print(struck_out, "\nrows sum to", struck_out.sum(axis=-1))
assert not np.allclose(struck_out.sum(axis=-1), 1)

# %% [markdown]
# The rows do not sum to 1 any more. The first query may look at one key only, and gives it a quarter of its attention:
# the rest was lost to keys that it must not see. Worse, *how much* was lost depends on their scores: the future still
# has an influence. Forbidden keys must be excluded **before** the softmax.
#
# ## Exercise 3: softmax with a mask
#
# Give forbidden pairs a score so low that softmax makes them exactly 0. There can be a row in which everything is
# forbidden (of a text that is nothing but padding, to fill up a batch): it must not become NaN. Otherwise its content
# does not matter, since nothing uses it.

# %%
def masked_weights(scores: jax.Array, mask: jax.Array) -> jax.Array:
    # Hint: replace the forbidden scores before the softmax. By which number, if even a row in which all are forbidden
    # must stay finite?
    # Hint: `jnp.where(mask, scores, jnp.finfo(scores.dtype).min)` has the lowest finite number there. Then a softmax
    # over the last axis.
    # BLANK
    scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1)
    # END BLANK


check.masked_weights(masked_weights)

# %% [markdown]
# The same scores under the three masks of this course. The text is five pieces long and has two places of padding.

# %%
tokens = np.array([12, 7, 31, 5, 9, 0, 0])
real, length = padding_mask(tokens), len(tokens)  # [True, True, True, True, True, False, False]
both_ways = np.ones((length, length), bool)
masks = {
    "no mask": both_ways,
    "encoder: both ways, no padding": both_ways & real[None, :],
    "decoder: causal, no padding": np.array(causal_mask(length)) & real[None, :],
}
scores = np.random.default_rng(3).standard_normal((length, length), np.float32)
figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for axes, (name, mask) in zip(panels, masks.items(), strict=True):
    weights = np.array(masked_weights(scores, mask))
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=name, xlabel="key", ylabel="query", xticks=range(length), yticks=range(length))
    for i, j in np.argwhere(~mask):
        axes.text(j, i, "×", ha="center", va="center", color="tab:red")
    assert np.allclose(weights.sum(axis=-1), 1) and (weights[~mask] == 0).all()
figure.colorbar(image, ax=panels, label="weight", shrink=0.8)
show(figure, "03_masks")

# %% [markdown]
# Does the causal mask keep its promise? The sharpest test: change the last piece, and see that no earlier output
# moves.

# %%
def masked_attend(query, key, value, mask):
    scores = jnp.einsum("lk,sk->ls", query, key) / query.shape[-1] ** 0.5
    return jnp.einsum("ls,sk->lk", masked_weights(scores, mask), value)


x = np.random.default_rng(4).standard_normal((7, 8), np.float32)
changed = x.copy()
changed[-1] += 100
before, after = (np.array(masked_attend(y, y, y, causal_mask(7))) for y in (x, changed))
assert (before[:-1] == after[:-1]).all()  # bit for bit
assert not np.allclose(before[-1], after[-1])
print("The past does not know what will come.")

# %% [markdown]
# ## Heads: several questions at once
#
# One softmax makes one distribution: a position can look at the word before it, or at an earlier mention of the same
# name, but a single head has to mix the two. *Multi-head* attention (section 3.2.2) runs several small ones side by
# side, each with its own projections, and adds up their results:
#
# $$\text{head}_h = \text{attention}(x W_Q^h,\; x W_K^h,\; x W_V^h) \qquad \text{output} = \sum_h \text{head}_h W_O^h$$
#
# Training finds the projections. To see that two heads can do different work, here are two made by hand. A word is
# described by *which* word it is and *where* it stands, both one-hot. Head 0 asks "who is at my position minus one?",
# head 1 asks "who is the same word as I am?".

# %%
text = "Edda plays the harp . Otto plays the lute . What does Otto play ?".split()
L, names = len(text), sorted(set(text))
N = len(names)
which, where = np.eye(N)[[names.index(word) for word in text]], np.eye(L)
x = np.concatenate([which, where], axis=1)  # [L D], D = different words + positions

D, H, K = N + L, 2, L
W_Q, W_K = np.zeros((D, H, K)), np.zeros((D, H, K))
W_Q[N:, 0] = 20 * np.eye(L, k=-1)  # head 0: position i asks for i - 1,
W_K[N:, 0] = np.eye(L)  # and position i answers to i
W_Q[:N, 1] = 20 * np.eye(N, K)  # head 1: a word asks for itself,
W_K[:N, 1] = np.eye(N, K)  # and answers to itself

query, key = np.einsum("ld,dhk->hlk", x, W_Q), np.einsum("sd,dhk->hsk", x, W_K)
weights = np.array(softmax(np.einsum("hlk,hsk->hls", query, key) / K**0.5))

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
for axes, w, name in zip(panels, weights, ["head 0: the word before", "head 1: the same word"], strict=True):
    image = axes.imshow(w, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(L), text, rotation=90)
    axes.set_yticks(range(L), text)
    axes.set(title=name, xlabel="key", ylabel="query")
figure.colorbar(image, ax=panels, label="weight", shrink=0.8)
show(figure, "03_two_heads")

# %%
assert (weights[0].argmax(axis=-1)[1:] == np.arange(L - 1)).all()  # head 0: always one to the left
asked, told = 12, 5  # "Otto" in the question, and in the passage
assert text[asked] == text[told] == "Otto"
assert weights[1, asked, told] > 0.4  # head 1: the question's Otto finds the passage's Otto

# %% [markdown]
# Read row 12 of the right picture, the question's "Otto": half of its attention is on the passage's "Otto", six words
# away. This is how a question finds its place in a passage. (And row 0 on the left? There is no word before the first
# one: all its scores are 0, so it looks at all positions equally. Attention has to look somewhere.) Heads that look at
# the word before or after are found in trained models too: Clark et al. 2019 show them in BERT.
#
# ### The wrong version first: cutting heads
#
# Many programs keep all heads in one matrix, [L, H·K], and cut it up. The tempting cut runs, and has the right shape:

# %%
L, H, K = 4, 2, 3
together = np.arange(L * H * K).reshape(L, H * K)
tempting = together.reshape(H, L, K)
proper = together.reshape(L, H, K).swapaxes(0, 1)
assert tempting.shape == proper.shape == (H, L, K)
print("what each position has, for both heads:", *together, sep="\n")
print("tempting: head 0 has", *tempting[0], " and proper:", *proper[0])
assert (tempting[0, 1] == together[0, K:]).all()  # head 0 at position 1 has what head 1 should have at position 0
assert (proper[0, 1] == together[1, :K]).all()

# %% [markdown]
# `reshape` never moves a number in memory, it only divides them in another way. The tempting cut gives head 0 all of
# the first two positions, and head 1 the last two. If the weights have a head axis of their own, [D H K], and an
# einsum names every axis, there is nothing to cut and nothing to confuse.
#
# ## The whole, and three ways to the same numbers
#
# Batch, heads, padding and the future together. Your function is for one head of one text; `jax.vmap` makes of it a
# function for all heads, and once more for all texts. Yours against the package's `attention`, and against `jax.nn`'s,
# which has fast kernels on some hardware:

# %%
@jax.jit
def multi_head(query, key, value, mask):
    """[B H L K], [B H S K], [B H S K], [B L S] -> [B H L K]: your attention for each head of each text."""
    heads = jax.vmap(masked_attend, in_axes=(0, 0, 0, None))
    return jax.vmap(heads)(query, key, value, mask)


B, H, L, K = (2, 3, 7, 5) if SMOKE else (4, 8, 64, 32)
query, key, value = np.random.default_rng(6).standard_normal((3, B, H, L, K), np.float32)
lengths = np.arange(L - B + 1, L + 1)  # every text of another length
real = np.arange(L)[None, :] < lengths[:, None]  # [B S]
mask = np.array(causal_mask(L))[None] & real[:, None, :]  # [B L S]

yours = multi_head(query, key, value, mask)
package = layers.attention(query, key, value, scale=K**-0.5, mask=mask[:, None])
length_second = lambda x: np.swapaxes(x, 1, 2)  # jax.nn's layout is [B L H K]
jax_nn = jax.nn.dot_product_attention(*map(length_second, (query, key, value)), mask=mask[:, None])
assert np.allclose(yours, package, atol=1e-5)
assert np.allclose(yours, length_second(jax_nn), atol=1e-5)

# jax.nn divides by sqrt(K) unless told otherwise. T5 has to tell it:
as_t5 = layers.attention(query, key, value, scale=1.0, mask=mask[:, None])
told = jax.nn.dot_product_attention(*map(length_second, (query, key, value)), mask=mask[:, None], scale=1.0)
assert np.allclose(as_t5, length_second(told), atol=1e-5)
assert not np.allclose(as_t5, yours, atol=1e-2)
print("Yours, the package's and jax.nn's agree.")

# %% [markdown]
# ## What you know now
#
# - Attention is a soft dictionary: shares by softmax over the keys, values mixed in these shares.
# - Scores of longer vectors are larger, by $\sqrt K$; undivided they make the gradient vanish. T5 divides inside $W_Q$.
# - A mask is boolean, True = may attend, and is applied to the scores, before the softmax, as the lowest finite number.
# - Encoders look both ways, decoders only back; no position looks at padding.
# - Heads look for different things at once; never let a reshape mix heads and positions.
#
# One thing is missing: nothing in attention knows about *order*. If the keys and values are shuffled together, the
# output is the same. In our example, the position was part of the vector. Lesson 4 begins with how T5 does it.

# %%
shuffled = np.random.default_rng(7).permutation(L)
everywhere = np.ones((B, L, L), bool)
ordered = multi_head(query, key, value, everywhere)
assert np.allclose(ordered, multi_head(query, key[:, :, shuffled], value[:, :, shuffled], everywhere), atol=1e-5)
print("Attention alone does not know the order of words.")

# %% [markdown]
# *Read on:* Vaswani et al. 2017, "Attention Is All You Need", section 3.2; Raffel et al. 2020, "Exploring the Limits
# of Transfer Learning with a Unified Text-to-Text Transformer", section 2.1.

# %% [markdown]
# ## Bonus: one key for all heads
#
# In *multi-query attention* (Shazeer 2019) each head has its own queries, but all heads share one key and one value for
# each position. Write it from `masked_attend`, with `query` [B H L K], `key` and `value` [B S K]. Show that it equals
# `multi_head` if the same key and value are repeated for every head. A decoder keeps keys and values of everything that
# it has written. How much less has it to keep with 8 heads?
#
# > `jax.vmap(masked_attend, in_axes=(0, None, None, None))` for the heads. `np.repeat(key[:, None], H, axis=1)`
# > repeats. An eighth has to be kept.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** You add 100 to all scores of one query. What happens to its weights?
#
# > Nothing. Softmax depends on the differences of the scores only: the factor exp(100) is above and below the line.
#
# **2.** A layer divides its scores by 8, which was right for K = 64. You make the vectors longer, K = 256, and keep the
# 8. What happens?
#
# > The scores have a deviation of 16 / 8 = 2 instead of 1. The softmax is sharper from the start, and its gradient
# > smaller.
#
# **3.** Forbidden scores are set to 0, and all allowed scores happen to be about -5. Who gets the attention?
#
# > The forbidden keys: exp(0) is 148 times exp(-5). A mask must use the lowest number there is, and not 0.
#
# **4.** You forget the causal mask of a decoder and train it. What do you see in the training loss, and what when it
# writes?
#
# > The loss falls nearly to 0, because each position can look at the token that it has to predict. When it writes, this
# > token is not there yet, and the text is nonsense.
#
# **5.** Keys at padding are masked. What is the output *at* a position of padding, and why does it do no harm?
#
# > Some mixture of the values of real tokens, because its query is not masked. Nobody looks at this position, and the
# > loss gives it the weight 0.
