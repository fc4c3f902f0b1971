# %% [markdown]
# # Lesson 4: T5
#
# **Time** 100 minutes, of which the computer needs half a minute.
#
# **Know first** Attention, heads and masks (lesson 3); subwords (lesson 2). What a residual connection is: $x + f(x)$.
#
# **You will be able to**
# - draw T5 from memory, and say what its encoder and its decoder see;
# - turn a distance into a bucket, and read the picture of relative positions;
# - write RMSNorm, and name the three places where T5 leaves something out;
# - corrupt a text by hand, and restore it;
# - write T5's encoder and decoder from parts, and show that they are the package's, number for number.

# %%
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.core.masks import causal_mask
from tlqa_jax.core.relative_positions import relative_position_bucket
from tlqa_jax.data.tiny_world import bundled
from tlqa_jax.lessons import show, t5 as check
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.layers import RelativeBias, RMSNorm
from tlqa_jax.models.t5 import T5, T5Config, shift_right
from tlqa_jax.tasks import span_corruption
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

np.set_printoptions(precision=2, suppress=True)
jax.config.update("jax_default_matmul_precision", "float32")  # a TPU would multiply in bfloat16: too coarse to compare

# %% [markdown]
# ## One reader, one writer
#
# T5 is the "Text-to-Text Transfer Transformer" (Raffel et al. 2020). Its authors asked what really matters in transfer
# learning, and to compare fairly they put every task into one form: text in, text out. Translation, sentiment,
# questions: one model, one loss, one way of writing answers. The model for it has two halves.
#
# ```
#        inputs                                          targets, one step late
#   "question: Where does Otto live?"                    "<pad> Quarrow"
#            |                                                 |
#        embedding  - - - - - - the same table - - - - -   embedding
#            |                                                 |
#   .--------------------.                          .------------------------.
#   |  norm, attention   |  both ways               |  norm, attention       |  only back
#   |     + residual     |                          |     + residual         |
#   |  norm, feed-forward|                  keys,   |  norm, attention       |  to all of the encoder
#   |     + residual     |                  values  |     + residual         |
#   '--------------------'  x 6          .--------> |  norm, feed-forward    |
#            |                           |          |     + residual         |
#          norm                          |          '------------------------'  x 6
#            |                           |                     |
#         encoded  ----------------------'                   norm
#                                                              |
#                                                      times 1/sqrt(D), the same table again
#                                                              |
#                                                      logits: "Quarrow </s>"
# ```
#
# **Feed-forward** is the part without attention. Attention moves information *between* positions; the feed-forward
# works on each position by itself: a matrix to a larger width F, a relu, a matrix back to D. Most of the parameters are
# there, and much of what a model knows seems to be stored in them (Geva et al. 2021).
#
# The **encoder** reads all of the input at once, in both directions. The **decoder** writes from left to right: it sees
# what is written so far, and, by *cross-attention*, the encoder's output. Here is a small T5; its parameters are a
# dictionary of dictionaries of arrays, with the names of the drawing.

# %%
config = T5Config(vocab_size=1000, d_model=48, d_kv=8, d_ff=96, num_layers=2, num_heads=6, dropout_rate=0.0)
apply, params = as_function(T5(config, rngs=nnx.Rngs(0)))
D, H, K = config.d_model, config.num_heads, config.d_kv  # width, heads, size of a head

print("a T5:             ", *params)
print("a decoder's layer:", *params["decoder_0"])
print("its attention:    ", {name: x.shape for name, x in params["decoder_0"]["self_attention"].items()})

# %% [markdown]
# Look for what is *not* there: no bias next to any matrix, no table of positions, and (in a moment) no division by
# $\sqrt K$. We go through the parts of the drawing that lesson 3 has not explained.
#
# ## Where is what? Relative positions
#
# Lesson 3 ended with a problem: attention does not know the order of words. The first transformers added a vector for
# "position 7" to the seventh word. T5 adds nothing to the words. It adds *one number to the score* of each pair, which
# depends on the distance between key and query (section 2.1 of the paper):
#
# $$\text{score}_{ij} = q_i \cdot k_j + b_{\text{head},\; \text{bucket}(j - i)}$$
#
# **The wrong version first**: a number for every distance. With texts of 512 pieces this is a table of 1023 rows. Most
# of them are for distances that are rarely seen, and learn little; and for the largest distances in a text of 600
# pieces there is no row at all. But it is not necessary to tell distance 411 from distance 412. So the table has 32
# rows, the *buckets*. Near distances have a bucket each; far distances share one, and the farther they are, the more of
# them share it. With $n$ buckets for a direction, of which $n/2$ are exact:
#
# $$\text{bucket}(d) = \begin{cases} d & d < n/2 \\ \min\!\left(n - 1,\; \Big\lfloor \frac n2 + \frac n2 \cdot
#   \frac{\log(d / \frac n2)}{\log(128 / \frac n2)} \Big\rfloor\right) & \text{else}\end{cases}$$
#
# The encoder looks both ways: it gives 16 of the 32 to keys at or before the query, and the other 16 (add 16 to the
# number) to keys after it. The decoder never looks ahead: all 32 go to the past, and the future, which the mask
# forbids anyway, counts as distance 0.
#
# ## Exercise 1: buckets
#
# `relative` is key position minus query position, so a key before the query is negative.

# %%
def buckets(relative: np.ndarray, bidirectional: bool, number: int = 32, max_distance: int = 128) -> np.ndarray:
    if bidirectional:
        number = number // 2
        start = np.where(relative > 0, number, 0)
        distance = np.abs(relative)
    else:
        start = 0
        distance = np.maximum(-relative, 0)
    exact = number // 2
    # Hint: near distances are their own bucket. The others follow the formula above, and the last bucket takes all that
    # would come after it.
    # Hint: `np.log(np.maximum(distance, 1) / exact) / np.log(max_distance / exact)` grows from 0 to 1; multiply it by
    # `number - exact` and add `exact`. Add 1e-4 before `.astype(int)` rounds down: a logarithm may come out as 1.9999
    # instead of 2. Then `start + np.where(distance < exact, distance, np.minimum(far, number - 1))`.
    # BLANK
    growth = np.log(np.maximum(distance, 1) / exact) / np.log(max_distance / exact)
    far = (exact + growth * (number - exact) + 1e-4).astype(int)
    return start + np.where(distance < exact, distance, np.minimum(far, number - 1))
    # END BLANK


check.buckets(buckets)

# %%
everywhere = np.arange(-600, 601)
for both_ways in (True, False):
    package = relative_position_bucket(jnp.array(everywhere), bidirectional=both_ways)
    assert (buckets(everywhere, both_ways) == np.array(package)).all()
print("Yours and the package's agree at every distance.")

# %%
figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", width_ratios=[1.5, 1, 1])
near = np.arange(-140, 141)
for both_ways, name in [(True, "encoder, both ways"), (False, "decoder, only back")]:
    panels[0].step(near, buckets(near, both_ways), where="mid", label=name)
panels[0].set(xlabel="key position - query position", ylabel="bucket", title="Near: exact. Far: together")
panels[0].legend(loc="center right", fontsize=8)
position = np.arange(48)
for axes, both_ways, name in [(panels[1], True, "encoder"), (panels[2], False, "decoder")]:
    picture = buckets(position[None, :] - position[:, None], both_ways).astype(float)
    picture[~np.array(causal_mask(48)) & (not both_ways)] = np.nan  # what the mask forbids
    image = axes.imshow(picture, cmap="nipy_spectral", vmin=0, vmax=31)
    axes.set(title=f"{name}: bucket of each pair", xlabel="key", ylabel="query")
figure.colorbar(image, ax=panels[2], label="bucket")
show(figure, "04_buckets")

# %% [markdown]
# Every diagonal has one colour: what counts is the distance, not the place. In the left picture, the steps become wider
# with the distance. Are so few numbers enough to tell the order? Let us fill a table by hand: one head prefers the key
# right before it (bucket 1), and one head prefers near keys. The words do not matter at all: all scores of words are 0.

# %%
bias = RelativeBias(2, 32, 128, 0.0, bidirectional=True, rngs=nnx.Rngs(0))
table = np.zeros((32, 2), np.float32)
table[1, 0] = 6.0  # head 0: the key right before me
table[:, 1] = -0.5 * (np.arange(32) % 16)  # head 1: the nearer the better, on both sides
bias.table[...] = jnp.array(table)

figure, panels = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for axes, head, length in [(panels[0], 0, 16), (panels[1], 1, 16), (panels[2], 1, 300)]:
    position = jnp.arange(length)
    weights = np.array(jax.nn.softmax(bias(position, position)[0, head], axis=-1))
    axes.imshow(weights, cmap="Blues", vmin=0)
    axes.set(title=f"head {head}, {length} pieces", xlabel="key", ylabel="query")
    if head == 0:
        assert (weights.argmax(axis=-1)[1:] == np.arange(length - 1)).all()
show(figure, "04_bias_alone")

# %% [markdown]
# Thirty-two numbers are enough for "the word before me" and for "the nearer the better", at any length: the right
# picture has 300 pieces and needed no new row. All layers of the encoder share one table, and all layers of the decoder
# another.
#
# ## RMSNorm: T5 leaves out the mean
#
# Before each part of a layer the vectors are brought to one size. BERT uses LayerNorm: subtract the mean of the
# entries, divide by their standard deviation, multiply by a learned scale, add a learned bias. T5 only divides by the
# *root of the mean of the squares* and multiplies by the scale (Zhang and Sennrich 2019 found that the rest is hardly
# needed):
#
# $$\text{norm}(x)_d = \frac{x_d}{\sqrt{\frac1D \sum_{e} x_e^2 + \epsilon}} \cdot s_d$$
#
# And it stands *before* attention and feed-forward, at their input; the residual connection goes around it unchanged.
# In BERT it stands after the sum.
#
# ## Exercise 2: RMSNorm

# %%
def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float = 1e-6) -> jax.Array:
    # Hint: nothing is subtracted. What is the mean of, and over which axis?
    # Hint: `x` is [L D]. `jnp.mean(x**2, axis=-1, keepdims=True)` keeps the axis, so that the division lines up.
    # Epsilon is added under the root.
    # BLANK
    mean_square = jnp.mean(x**2, axis=-1, keepdims=True)
    return x / jnp.sqrt(mean_square + epsilon) * scale
    # END BLANK


check.rms_norm(rms_norm)

# %%
x, scale = np.random.default_rng(0).standard_normal((2, 5, D), np.float32), np.ones(D, np.float32)
assert np.allclose(rms_norm(x[0], scale), RMSNorm(D)(x)[0], atol=1e-6)  # the package's
assert np.allclose(rms_norm(100 * x[0], scale), rms_norm(x[0], scale), atol=1e-4)  # the size goes
assert not np.allclose(rms_norm(x[0] + 3, scale), rms_norm(x[0], scale), atol=0.1)  # the mean stays

# %% [markdown]
# ## No $1/\sqrt K$, and why the logits are divided after all
#
# Lesson 3 showed that T5 has the division in its initial $W_Q$. This is one part of a recipe in which every matrix is
# drawn so that its output has about the size of its input:

# %%
small = T5Config.small(num_layers=1)
fresh = as_function(T5(small, rngs=nnx.Rngs(0)))[1]
layer = fresh["encoder_0"]
recipe = {
    "embedding": (fresh["embedding"]["table"], 1.0),
    "query": (layer["attention"]["query"], (small.d_model * small.d_kv) ** -0.5),
    "key": (layer["attention"]["key"], small.d_model**-0.5),
    "value": (layer["attention"]["value"], small.d_model**-0.5),
    "attention's output": (layer["attention"]["out"], (small.num_heads * small.d_kv) ** -0.5),
    "feed-forward, into": (layer["feed_forward"]["up"], small.d_model**-0.5),
    "feed-forward, out of": (layer["feed_forward"]["down"], small.d_ff**-0.5),
}
for name, (array, wanted) in recipe.items():
    print(f"{name:22} {str(array.shape):16} deviation {array.std():.4f}, by the recipe {wanted:.4f}")
    assert np.isclose(array.std(), wanted, rtol=0.02)

# %% [markdown]
# One line is unusual: the embedding has deviation 1. In T5 1.0 the same table is also the *output* matrix: the logit
# of a word is the dot product of the decoder's last vector with the word's row. **The wrong version first**: just
# multiply. The vector comes from a norm, so its entries have size 1; the entries of the row have size 1 as well; so
# the product has size $\sqrt D$. For a model that has learned nothing, the loss should be that of a uniform guess,
# $\log V$:

# %%
table = np.asarray(fresh["embedding"]["table"])
last = np.random.default_rng(1).standard_normal((64, small.d_model), np.float32)  # 64 vectors as a norm makes them
targets = np.random.default_rng(2).integers(0, small.vocab_size, 64)
uniform = np.log(small.vocab_size)
for name, factor in [("just multiplied", 1.0), ("times 1/sqrt(D)", small.d_model**-0.5)]:
    loss, count = cross_entropy(jnp.array(factor * last @ table.T), jnp.array(targets), jnp.ones(64))
    print(f"{name}: loss {loss / count:6.1f}    (a uniform guess: {uniform:.1f})")
assert abs(loss / count - uniform) < 1.0

# %% [markdown]
# The wrong version is very sure, and wrong: its first steps would only undo this. So T5 1.0 multiplies by $1/\sqrt D$
# before the table. T5 1.1, which has an output matrix of its own, does *not*; if the two are confused, the model runs,
# and answers nonsense.
#
# ## One step late: `shift_right`
#
# To learn, the decoder is given the right targets and predicts all of them at once. Position $i$ must predict target
# $i$; its causal mask lets it see its own input and all inputs before it. **The wrong version first**: give it the
# targets as they are. Then position $i$ sees target $i$. It would learn to copy its input, with a loss of 0, and when
# it has to write by itself, there is nothing to copy. So the inputs are the targets one step late, after the start
# token (T5 uses the padding token, 0):

# %%
inputs = jnp.array([[17, 250, 31, 999, 64, 1]])
targets = jnp.array([[999, 12, 13, 998, 15, 1]])
compiled = jax.jit(apply)
print("targets      ", targets[0], "\nshifted right", shift_right(targets)[0])

changed = targets.at[0, 2].set(500)  # another word at position 2: whose prediction changes?
moved = {}
for name, decoder_input in {"as they are": lambda y: y, "shifted right": shift_right}.items():
    before, after = (np.array(compiled(params, inputs, decoder_input(y))) for y in (targets, changed))
    moved[name] = [i for i in range(6) if (before[0, i] != after[0, i]).any()]
    print(f"{name}: target 2 is seen by the predictions of targets {moved[name]}")
assert moved == {"as they are": [2, 3, 4, 5], "shifted right": [3, 4, 5]}

# %% [markdown]
# ## Span corruption, by hand
#
# What can such a model learn from text alone? Hide something and ask for it. BERT replaces single words by `[MASK]` and
# predicts each in its place. T5 hides *spans*, and since it can write, it writes them (sections 3.1.4 and 3.3 of the
# paper, whose figure 2 has this example):
#
# ```
# the text   Thank you  for inviting  me to your party  last  week .
# hidden                ^^^ ^^^^^^^^                    ^^^^
# inputs     Thank you      <X>       me to your party  <Y>   week .  </s>
# targets    <X> for inviting <Y> last </s>
# ```
#
# Each hidden span becomes *one* token that occurs nowhere else, a **sentinel**; the targets say which sentinel stood
# for what. Nothing in the inputs tells how long a gap is. (The paper's figure closes the targets with a third
# sentinel; its code, and ours, with `</s>`.) Sentinels are the topmost ids of the vocabulary, counted downward.
#
# ## Exercise 3: corrupt
#
# One row, plain lists. The end token is 1.

# %%
def corrupt(tokens: list[int], mask: list[bool], sentinels: list[int]) -> tuple[list[int], list[int]]:
    # Hint: go through the tokens one by one. A span begins where a token is hidden, and the one before it (is there
    # one?) is not.
    # Hint: where a span begins, append `sentinels[spans]` to both lists and count the span. Then append the token: to
    # the targets if it is hidden, else to the inputs. Both lists end with 1.
    # BLANK
    inputs, targets, spans = [], [], 0
    for i, (token, hidden) in enumerate(zip(tokens, mask, strict=True)):
        if hidden and (i == 0 or not mask[i - 1]):
            inputs.append(sentinels[spans])
            targets.append(sentinels[spans])
            spans += 1
        (targets if hidden else inputs).append(token)
    return inputs + [1], targets + [1]
    # END BLANK


check.corrupt(corrupt)

# %%
words = "Thank you for inviting me to your party last week .".split()
names = dict(enumerate(["<pad>", "</s>", *words])) | {99: "<X>", 98: "<Y>"}
tokens, mask = list(range(2, 2 + len(words))), [word in ("for", "inviting", "last") for word in words]
example_inputs, example_targets = corrupt(tokens, mask, [99, 98])
print("inputs ", *(names[i] for i in example_inputs))
print("targets", *(names[i] for i in example_targets))
assert [names[i] for i in example_targets] == "<X> for inviting <Y> last </s>".split()

both = np.array([example_inputs]), np.array([example_targets])
restored = span_corruption.reassemble(*both, sentinels=np.array([99, 98]))
assert restored[0].tolist() == tokens  # nothing is lost: inputs and targets together are the text

# %% [markdown]
# How much is hidden? 15 % of the tokens, in spans of 3 on average (the paper tried others: its tables 6 and 7). From
# this all lengths follow. To fill an encoder of 512 without padding, one cuts the text into pieces of 568 tokens:
#
# | | |
# |---|---|
# | tokens | 568 |
# | hidden, 15 % | 85, in 28 spans |
# | inputs | 568 - 85 + 28 sentinels + end = **512** |
# | targets | 85 + 28 sentinels + end = **114** |
#
# The decoder, which is the slow half, writes only a fifth of the text. And your function gives what the package's
# `corrupt` gives, row by row:

# %%
assert span_corruption.tokens_length_for(512) == (568, 114)
tokens_length, targets_length = span_corruption.tokens_length_for(64)
text = bundled("pretraining.txt").read_text(encoding="utf-8")
tokenizer = SentencePieceTokenizer(bundled("vocabulary.model"))
rows = np.array(tokenizer.encode(text[:40_000])[: 50 * tokens_length], np.int32).reshape(50, tokens_length)
mask = span_corruption.random_spans_mask(np.random.default_rng(0), *rows.shape)
batch_inputs, batch_targets = span_corruption.corrupt(
    rows, mask, sentinels=tokenizer.sentinels, inputs_length=64, targets_length=targets_length
)
sentinels = tokenizer.sentinels.tolist()
for row, its_mask, *package in zip(*(x.tolist() for x in (rows, mask, batch_inputs, batch_targets)), strict=True):
    assert tuple(package) == corrupt(row, its_mask, sentinels)
print(tokenizer.decode(batch_inputs[0]), "\n\n->", tokenizer.decode(batch_targets[0]))

# %% [markdown]
# ## T5 1.0 and T5 1.1
#
# There are two models of this name. The first is the paper's. The second was released later with some improvements (the
# gate is from Shazeer 2020; Flan-T5 is built on it):
#
# | | 1.0 | 1.1 |
# |---|---|---|
# | feed-forward | $\text{relu}(x W) \, W_2$ | $\big(\text{gelu}(x W_0) \cdot x W_1\big) \, W_2$ |
# | output matrix | the embedding, with $1/\sqrt D$ | its own, without |
# | pretrained on | text and tasks mixed | text only, without dropout |
#
# A gate needs a third matrix. Let us count parameters, without making any (`eval_shape` computes shapes only):

# %%
def parameters(config: T5Config) -> int:
    shapes = as_function(nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0))))[1]
    return sum(x.size for x in jax.tree.leaves(shapes))


t5_small = T5Config.small()
t5_1_1_small = T5Config(
    d_ff=1024, num_layers=8, num_heads=6, feed_forward_proj="gated-gelu", tie_word_embeddings=False
)
print(f"t5-small       {parameters(t5_small):,}\nt5-v1_1-small  {parameters(t5_1_1_small):,}")
embedding, attention, feed_forward = 32128 * 512, 4 * 512 * 512, 2 * 512 * 2048  # 32,100 pieces, filled up to 251 * 128
norms, tables = 6 * 2 * 512 + 6 * 3 * 512 + 2 * 512, 2 * 32 * 8
assert parameters(t5_small) == embedding + (6 + 12) * attention + 12 * feed_forward + norms + tables

# %% [markdown]
# Check the sum in the assertion with a pencil: six layers with one attention, six with two, a feed-forward in each.
#
# ## T5 from parts
#
# Now you write it: a layer of the encoder, a layer of the decoder, and the whole. Here are the parts, for one text,
# without batch and without dropout. `attend` is lesson 3's attention for all heads, with projections, and with a bias
# on the scores. It can be used in any transformer, and its arguments say what is special about T5: `scale` multiplies
# the scores, the relative `bias` is added to them, and `mask` says who may look at whom. Without `bias` nothing is
# added; without `mask` every query may look at every key.

# %%
def attend(p: dict, x: jax.Array, seen: jax.Array, *, scale: float, bias=0.0, mask=True) -> jax.Array:
    """Queries from x [L D], keys and values from `seen` [S D]; bias [H L S], mask [L S] -> [L D]."""
    query = jnp.einsum("ld,dhk->hlk", x, p["query"])
    key, value = (jnp.einsum("sd,dhk->hsk", seen, p[name]) for name in ("key", "value"))
    scores = scale * jnp.einsum("hlk,hsk->hls", query, key) + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1)
    return jnp.einsum("hls,hsk,hkd->ld", weights, value, p["out"])


def feed_forward(p: dict, x: jax.Array) -> jax.Array:
    into = jax.nn.relu(x @ p["up"]) if "gate" not in p else jax.nn.gelu(x @ p["gate"]) * (x @ p["up"])
    return into @ p["down"]


def relative_bias(p: dict, length: int, bidirectional: bool) -> jax.Array:
    position = np.arange(length)
    rows = buckets(position[None, :] - position[:, None], bidirectional)  # [L L]
    return jnp.moveaxis(p["table"][rows], -1, 0)  # [H L L]

# %% [markdown]
# ## Exercise 4: a layer of the encoder
#
# Look at the left box of the first drawing: self-attention, then feed-forward. Each part reads a *normed* copy of x,
# and its result is added to x itself:
#
# $$h = x + \text{attention}\big(\text{norm}_1(x)\big) \qquad
#   \text{layer}(x) = h + \text{feedforward}\big(\text{norm}_2(h)\big)$$
#
# In self-attention, queries, keys and values come from the same vectors. `p` is the dictionary of one layer:
# `p["attention_norm"]`, `p["attention"]`, `p["feed_forward_norm"]`, `p["feed_forward"]`.

# %%
def encoder_layer(p: dict, x: jax.Array, bias: jax.Array) -> jax.Array:
    # Hint: two parts, each with its norm before it and a residual around both. By what does T5 multiply the scores? Is
    # there a mask?
    # Hint: `rms_norm(x, **p["attention_norm"])` hands over its scale; then `attend(p["attention"], ..., ..., scale=...,
    # ...)`.
    # BLANK
    normed = rms_norm(x, **p["attention_norm"])
    x = x + attend(p["attention"], normed, normed, scale=1.0, bias=bias)
    return x + feed_forward(p["feed_forward"], rms_norm(x, **p["feed_forward_norm"]))
    # END BLANK


check.encoder_layer(encoder_layer)

# %% [markdown]
# ## Exercise 5: a layer of the decoder
#
# The right box has three parts. Self-attention looks at what is written so far, so it has the causal mask of lesson 3,
# `causal_mask(length)`. **Cross-attention** asks the input: the queries come from the decoder, keys and values from
# `encoded`, the encoder's output. Then feed-forward. Each part has its norm before it and its residual around it. The
# relative bias is for self-attention only: a distance between a word of the output and a word of the input has no
# meaning.
#
# The names in `p` are `self_attention`, `cross_attention`, `feed_forward`, and each of them with `_norm`.

# %%
def decoder_layer(p: dict, x: jax.Array, encoded: jax.Array, bias: jax.Array) -> jax.Array:
    # Hint: three parts, each with its norm before it. In cross-attention, which of `x` and `encoded` has to be normed
    # here? The encoder ends with a norm of its own.
    # Hint: `x = x + ...` three times: `attend` to itself with the causal mask, `attend` to `encoded`, `feed_forward`.
    # BLANK
    normed = rms_norm(x, **p["self_attention_norm"])
    x = x + attend(p["self_attention"], normed, normed, scale=1.0, bias=bias, mask=causal_mask(len(x)))
    x = x + attend(p["cross_attention"], rms_norm(x, **p["cross_attention_norm"]), encoded, scale=1.0)
    return x + feed_forward(p["feed_forward"], rms_norm(x, **p["feed_forward_norm"]))
    # END BLANK


check.decoder_layer(decoder_layer)

# %% [markdown]
# Does it see what it should, and nothing else? Change one vector at a time, and look at which outputs change:

# %%
states, written = np.random.default_rng(8).standard_normal((2, 6, D), np.float32)
one_layer = jax.jit(lambda x, encoded: decoder_layer(params["decoder_0"], x, encoded, 0.0))
before = one_layer(written, states)
for place in (0, 4):
    changed = states.copy(), written.copy()
    for vectors in changed:
        vectors[place] += 1
    by_input, by_output = one_layer(written, changed[0]), one_layer(changed[1], states)
    reached = [np.flatnonzero((after != before).any(axis=-1)).tolist() for after in (by_input, by_output)]
    print(f"place {place} of the input changes outputs {reached[0]}, place {place} of what is written {reached[1]}")
    assert reached == [[0, 1, 2, 3, 4, 5], list(range(place, 6))]

# %% [markdown]
# ## Exercise 6: the whole T5
#
# Only the parts around the layers are missing now.
#
# - The **encoder** begins with the rows of the embedding table for the inputs. Then come the layers, which all get the
#   same relative bias, and one more norm at the end.
# - The **decoder** begins with the targets one step late (a 0, the start token, stands in front) and the same table.
#   Then come its layers, with a relative bias of their own, a norm at the end, and the logits. T5 1.0 multiplies by
#   $1/\sqrt D$ and by the embedding table; T5 1.1 has a matrix of its own, `p["output"]` [D V], and no factor.
#
# Write both. The names in `p` are `embedding` (with its `table`), `encoder_bias`, `encoder_0`, `encoder_1`, ...,
# `encoder_norm`, and the same with `decoder`.

# %%
def encode(p: dict, inputs: jax.Array, layers: int) -> jax.Array:
    """inputs [S] -> [S D]"""
    # Hint: encoder: rows of the table, one bias for all layers, the layers one after the other, the last norm.
    # Hint: `relative_bias(p["encoder_bias"], len(inputs), bidirectional=...)`, then a loop over `p[f"encoder_{i}"]`.
    # BLANK
    x = p["embedding"]["table"][inputs]
    bias = relative_bias(p["encoder_bias"], len(inputs), bidirectional=True)
    for i in range(layers):
        x = encoder_layer(p[f"encoder_{i}"], x, bias)
    return rms_norm(x, **p["encoder_norm"])
    # END BLANK


def decode(p: dict, targets: jax.Array, encoded: jax.Array, layers: int) -> jax.Array:
    """targets [L], not yet shifted, encoded [S D] -> logits [L V]"""
    # Hint: decoder: its inputs are one step late; at the end, logits. Is there an "output" in `p`, or is it T5 1.0?
    # Hint: `jnp.pad(targets[:-1], (1, 0))` puts a 0 in front. T5 1.0 multiplies by 1/sqrt(D), then by the table again.
    # BLANK
    x = p["embedding"]["table"][jnp.pad(targets[:-1], (1, 0))]
    bias = relative_bias(p["decoder_bias"], len(targets), bidirectional=False)
    for i in range(layers):
        x = decoder_layer(p[f"decoder_{i}"], x, encoded, bias)
    x = rms_norm(x, **p["decoder_norm"])
    return x @ p["output"] if "output" in p else x.shape[-1] ** -0.5 * x @ p["embedding"]["table"].T
    # END BLANK


check.whole_t5(encode, decode)

# %% [markdown]
# Is that all of T5? Compare it with the package's model once more, compiled, at the size of the beginning. In a new
# model some parameters have hardly any effect, so first every parameter is changed so that it matters: norm scales that
# are not 1, relative biases as large as the scores.

# %%
def stirred(params: dict, seed: int = 0) -> dict:
    noise = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda x: jnp.array(x + 0.5 * noise(x.shape) * max(x.std(), 0.5), x.dtype), params)


variants = {
    "1.0": config,
    "1.1": T5Config(**{**vars(config), "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
}
for name, its_config in variants.items():
    apply, params = as_function(T5(its_config, rngs=nnx.Rngs(3)))
    params, count = stirred(params), its_config.num_layers
    whole = lambda params: decode(params, targets[0], encode(params, inputs[0], count), count)
    yours, package = jax.jit(whole)(params), jax.jit(apply)(params, inputs, shift_right(targets))[0]
    difference = float(jnp.abs(yours - package).max() / jnp.abs(package).max())
    print(f"T5 {name}: largest difference {difference:.1e} of the largest logit")
    assert difference < 1e-4

# %% [markdown]
# You have written T5, number for number. (The gelu of 1.1 is its approximation by tanh, which is what `jax.nn.gelu`
# computes by default; BERT's is the exact one.)
#
# And what is its loss on the example above? A model that has learned nothing should be about as surprised by each token
# as by a throw of a fair die with 1000 sides:

# %%
apply, params = as_function(T5(config, rngs=nnx.Rngs(0)))
example = jnp.array([example_inputs]), jnp.array([example_targets])
logits = jax.jit(apply)(params, example[0], shift_right(example[1]))
loss, weight = cross_entropy(logits, example[1], jnp.ones(example[1].shape))
print(f"loss {loss / weight:.2f} a token; log 1000 = {np.log(1000):.2f}")
assert abs(loss / weight - np.log(1000)) < 2

# %% [markdown]
# ## What you know now
#
# - The encoder sees all of the input, the decoder what is written so far and all of the encoder.
# - The order of words enters as one number for each bucket of distances, added to the scores; near distances have a
#   bucket each, far ones share.
# - T5 leaves out the mean and the bias in its norm, the biases at its matrices, the division in attention.
# - The decoder's input is one step late. What a model can copy, it does not learn.
# - Span corruption hides spans behind sentinels; inputs and targets together are the text.
# - 1.0 and 1.1 differ in the gate and in the output matrix, and in whether the logits are scaled.
#
# That the loss goes *down* from $\log V$ is the subject of lesson 5, on several devices at once.
#
# *Read on:* Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
# sections 2.1 and 3.1 to 3.3; Zhang and Sennrich 2019, "Root Mean Square Layer Normalization"; Shazeer 2020, "GLU
# Variants Improve Transformer".

# %% [markdown]
# ## Bonus: an encoder that does not know order
#
# Set the table of the encoder's relative positions to zeros, all else as it is. Encode a row of tokens, and the same
# row reversed. The second output must be the first one reversed, to rounding. With the table as it was it must not be.
# So these few numbers are all that tells the encoder the order of its words.
#
# > `apply(params, inputs, method="encode")` is [B L D]. The table is `params["encoder_bias"]["table"]`; make new
# > dictionaries with `{**params, ...}`. A fresh table is small, so use `stirred(params)`.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** Can the encoder tell a word that is 500 pieces ahead from one that is 600 pieces ahead?
#
# > Not by the bias: both distances are in the last bucket. It knows that both are far, and on which side.
#
# **2.** You multiply the input of RMSNorm by 10. Then instead you add 10 to each entry. Which of the two changes the
# output?
#
# > Adding does. A factor goes away in the division, but RMSNorm does not subtract the mean, so what is added stays.
#
# **3.** The targets are 5, 9, 1. What are the decoder's inputs? If 9 is replaced by 7, which predictions can change?
#
# > The inputs are 0, 5, 9. The 9 is the third input, so only the third prediction, the one of the end token, can
# > change.
#
# **4.** A text has 12 tokens. You hide three neighbours, or three tokens that are far from each other. How long are
# inputs and targets, with their end tokens?
#
# > Neighbours: one sentinel, so inputs 9 + 1 + 1 = 11 and targets 1 + 3 + 1 = 5. Far from each other: three sentinels,
# > so 9 + 3 + 1 = 13 and 3 + 3 + 1 = 7. Then the inputs are longer than the text was.
#
# **5.** A vocabulary gets 10,000 pieces more. How many parameters are added to a T5 1.0 of width 512, and how many to a
# T5 1.1?
#
# > 10,000 times 512, so 5.12 million, in T5 1.0. Twice as many in T5 1.1, because its output matrix is not the
# > embedding.
