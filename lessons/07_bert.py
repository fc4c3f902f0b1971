# %% [markdown]
# # Lesson 7: BERT
#
# **Time** 90 minutes, of which the computer needs less than one (two CPU cores).
#
# **Know first** Attention, heads and masks (lesson 3); T5, its norm and its positions (lesson 4). What a gradient step
# is.
#
# **You will be able to**
# - draw BERT from memory, and say in what it differs from T5's encoder;
# - write BERT's embeddings, its LayerNorm, its block, its whole encoder and pooler, and show that they are the
#   package's, number for number;
# - tell from a mask which positions can use which others;
# - measure the effect of reading in both directions, and explain it;
# - count the parameters of BERT-base on paper, to the last one.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.traverse_util import flatten_dict
from matplotlib import pyplot as plt

from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.lessons import SMOKE, bert as check, show, trades
from tlqa_jax.lessons.claims import claim
from tlqa_jax.models import bert_heads
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.layers import LayerNorm, gelu

np.set_printoptions(precision=2, suppress=True)
jax.config.update("jax_default_matmul_precision", "float32")  # a TPU would multiply in bfloat16: too coarse to compare

# %% [markdown]
# ## A reader that never writes
#
# T5 reads a text and writes another. But many questions about a text need no writing: is this review kind? where in
# the passage is the answer? For these, a good vector for each word is enough, one that depends on the words around it.
# BERT, "Bidirectional Encoder Representations from Transformers" (Devlin et al. 2019), is an encoder and nothing else.
# Its output is vectors, and a small *head* on top computes from them what is wanted.
#
# ```
#    [CLS] what did the baker buy ? [SEP] the baker bought a new oven . [SEP]
#                                   |
#          words  +  positions  +  token types      three tables, one sum
#                                   |
#                                 norm
#                                   |
#                  .--------------------------------.
#                  |  attention, both ways          |
#                  |     + residual, then norm      |
#                  |  feed-forward with gelu        |
#                  |     + residual, then norm      |
#                  '--------------------------------'  x 12
#                                   |
#                    one vector for each token: last
#                       |                       |
#             that of [CLS]: pooled         all of them
#                       |                       |
#                 heads: which class?     heads: which word? where does the answer begin?
# ```
#
# You know nearly all of it from T5's encoder. These are the differences, and this lesson explains each of them:
#
# | | T5's encoder | BERT |
# |---|---|---|
# | where is what? | a number for each distance, added to the scores | a vector for each position, added to the word |
# | which text is it from? | it is written there: "question: ... context: ..." | a vector for each of two token types |
# | norm | RMSNorm, *before* attention and feed-forward | LayerNorm, *after* each sum |
# | scores | as they are | divided by $\sqrt K$ |
# | biases | none | at every matrix |
# | feed-forward | relu, or gated by gelu | gelu |
#
# As text we use an invented world that fits on half a page: twenty trades, and the tool of each. Its vocabulary has
# whole words only. BERT's real one has 30,522 pieces, and writes `##` before a piece that continues a word:
# "runn ##ing". The five special pieces are the same: `[CLS]` begins every input, `[SEP]` ends each of its one or two
# texts, `[PAD]` fills up, `[MASK]` stands for a word that is hidden, `[UNK]` for one that is not in the vocabulary.

# %%
tokenizer = trades.write_vocabulary("runs/lessons/07_vocabulary.txt")
print(tokenizer.vocab_size, "pieces;", trades.TRADES)
print(tokenizer.encode("[CLS] the baker bought a new [MASK] . [SEP]"))

config = BertConfig(
    vocab_size=tokenizer.vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
    max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
D = config.hidden_size


def stirred(params: dict, seed: int = 0) -> dict:
    """As in lesson 4: every parameter so large that it matters, norm scales that are not 1, biases that are not 0."""
    noise = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda x: jnp.array(x + 0.3 * noise(x.shape), x.dtype), params)


apply = {way: as_function(Bert(config, rngs=nnx.Rngs(0), attention=way))[0] for way in ("plain", "causal")}
apply = {way: jax.jit(function) for way, function in apply.items()}  # what the two are, you will see
params = stirred(as_function(Bert(config, rngs=nnx.Rngs(0)))[1])
print("a BERT:       ", *params)
print("its tables:   ", {name: table["table"].shape for name, table in params["embeddings"].items() if name != "norm"})
print("its attention:", {name: x.shape for name, x in params["layer_0"]["attention"].items()})

# %% [markdown]
# ## What goes in: three tables, one sum
#
# With $W$ the table of words, $P$ that of positions and $T$ that of token types (section 3 of the paper, figure 2):
#
# $$x_i = \text{norm}\big(W_{\text{token}_i} + P_i + T_{\text{type}_i}\big)$$
#
# ```
#   [CLS]  what  did  the  baker  buy   ?   [SEP]   the  baker  bought   a   new   oven   .   [SEP]
#     P0    P1    P2   P3    P4    P5   P6    P7     P8    P9     P10   P11  P12   P13   P14   P15
#     T0    T0    T0   T0    T0    T0   T0    T0     T1    T1     T1    T1   T1    T1    T1    T1
# ```
#
# **The wrong version first**: words alone. Attention does not know the order of its keys (lesson 3), so a BERT without
# the table of positions could not tell who paid whom:

# %%
paid = [np.array([tokenizer.encode(f"[CLS] {text} [SEP]")]) for text in ("baker paid tailor", "tailor paid baker")]
without = {**params, "embeddings": {**params["embeddings"], "position": {"table": np.zeros((32, D), np.float32)}}}
for name, its_params in [("no positions", without), ("with positions", params)]:
    one, two = (np.array(apply["plain"](its_params, text).last[0]) for text in paid)
    difference = np.abs(one[1] - two[3]).max()  # the baker who pays, and the baker who is paid
    print(f"{name}: the two bakers differ by {difference:.1e}, the two [CLS] by {np.abs(one[0] - two[0]).max():.1e}")
    assert (difference < 1e-4) == (name == "no positions")

# %% [markdown]
# So $P$ is needed, and its length is limited. BERT's has 512 rows: the 513th token would have no vector, and the
# package raises an error. T5's buckets have no such limit. (Lesson 9 shows how to read a longer document.)
#
# The norm is LayerNorm (Ba et al. 2016). For each token by itself: subtract the mean of its entries, divide by their
# standard deviation, multiply by a learned scale, add a learned bias. T5's RMSNorm is half of that.
#
# $$\text{norm}(x)_d = \frac{x_d - \mu}{\sqrt{\sigma^2 + \epsilon}} \cdot s_d + b_d \qquad
#   \mu = \frac1D \sum_e x_e \qquad \sigma^2 = \frac1D \sum_e (x_e - \mu)^2$$
#
# ## Exercise 1: LayerNorm

# %%
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = 1e-12) -> jax.Array:
    # Hint: mean and variance are those of one token's entries. Epsilon is added to the variance, under the root.
    # Hint: `x` is [L D]. `jnp.mean(x, axis=-1, keepdims=True)` keeps the axis, so that the subtraction lines up. The
    # variance is the mean of the squares of what is left.
    # BLANK
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + epsilon) * scale + bias
    # END BLANK


check.layer_norm(layer_norm)

# %%
x, ones, zeros = np.random.default_rng(0).standard_normal((5, D), np.float32), np.ones(D), np.zeros(D)
assert np.allclose(layer_norm(x, ones, zeros), LayerNorm(D)(x[None])[0], atol=1e-5)
off = np.abs(layer_norm(0.02 * x, ones, zeros, epsilon=1e-6) - layer_norm(0.02 * x, ones, zeros)).max()
print(f"Your norm is the package's. With an epsilon of 1e-6, a fresh BERT's would be off by up to {off:.4f}.")
assert off > 1e-3

# %% [markdown]
# The last line is a trap when one ports BERT. Flax's own LayerNorm has $\epsilon = 10^{-6}$. BERT's embeddings begin
# with deviation 0.02, so with a variance of 0.0004. Compared with that a millionth changes the third digit, and twelve
# layers follow. Such a port runs, its answers are nearly right, and it is never equal to the original.
#
# ## Exercise 2: the embeddings
#
# Each token takes one row from each of the three tables. Add the three rows, and apply your norm to the sum. `p` has
# `word`, `position` and `token_type`, each with its `table`, and `norm` with its scale and bias. `tokens` and
# `token_types` are both [L].

# %%
def embed(p: dict, tokens: np.ndarray, token_types: np.ndarray) -> jax.Array:
    # Hint: three rows for each token, added up, then the norm. Which rows does the table of positions give?
    # Hint: `p["word"]["table"][tokens]` are the rows of the words, [L D]. `layer_norm(x, **p["norm"])` hands over scale
    # and bias.
    # BLANK
    x = p["word"]["table"][tokens] + p["position"]["table"][: len(tokens)] + p["token_type"]["table"][token_types]
    return layer_norm(x, **p["norm"])
    # END BLANK


check.embed(embed)

# %%
question, passage = "[CLS] what did the baker buy ? [SEP]", "the baker bought a new oven . [SEP]"
tokens = np.array(tokenizer.encode(f"{question} {passage}") + 3 * [tokenizer.pad_id])
token_types = np.repeat([0, 1, 0], [8, 8, 3])
real = tokens != tokenizer.pad_id
states = apply["plain"](params, tokens[None], token_types=token_types[None], mask=real[None]).hidden_states
assert np.allclose(embed(params["embeddings"], tokens, token_types), states[0][0], atol=1e-5)

# %% [markdown]
# ## The block
#
# Attention and feed-forward with all their biases, for one text, without dropout. `may_see` [L L] says who may look at
# whom; we shall come to it.

# %%
def attention_weights(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    """[H L L]: how each token shares out its attention, head by head."""
    heads = lambda name: jnp.einsum("ld,dhk->hlk", x, p[name]) + p[f"{name}_bias"].reshape(p[name].shape[1:])[:, None]
    scores = jnp.einsum("hlk,hsk->hls", heads("query"), heads("key")) / p["query"].shape[-1] ** 0.5
    return jax.nn.softmax(jnp.where(may_see, scores, jnp.finfo(scores.dtype).min), axis=-1)


def attend(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    value = jnp.einsum("sd,dhk->hsk", x, p["value"]) + p["value_bias"].reshape(p["value"].shape[1:])[:, None]
    return jnp.einsum("hls,hsk,hkd->ld", attention_weights(p, x, may_see), value, p["out"]) + p["out_bias"]


def feed_forward(p: dict, x: jax.Array) -> jax.Array:
    return gelu(x @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]


grid = jnp.linspace(-4, 4, 801)
off = jnp.abs(jax.nn.gelu(grid) - gelu(grid)).max()
print(f"jax.nn.gelu and BERT's gelu differ by up to {off:.5f}")
assert off > 1e-4 and np.allclose(jax.nn.gelu(grid, approximate=False), gelu(grid), atol=1e-6)

# %% [markdown]
# `gelu(x)` is $x$ times the share of a normal distribution that lies below $x$: a relu without the corner (Hendrycks
# and Gimpel 2016). And the second trap: by default `jax.nn.gelu` computes the approximation by tanh that T5 1.1 has.
# BERT's is the exact one.
#
# The third trap is how the parts are put together. BERT is *post-norm*, as the first transformer was: each part is
# added to its input, and the norm stands **after the sum**, in the residual stream itself.
#
# $$h = \text{norm}_1\big(x + \text{attention}(x)\big) \qquad
#   \text{block}(x) = \text{norm}_2\big(h + \text{feedforward}(h)\big)$$
#
# T5 is *pre-norm*: $x + \text{attention}(\text{norm}(x))$. The parts have the same shapes, so weights of the one run in
# the other without an error.
#
# ## Exercise 3: the block
#
# `p` is the dictionary of one layer: `p["attention"]`, `p["attention_norm"]`, `p["feed_forward"]`,
# `p["feed_forward_norm"]`.

# %%
def block(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    # Hint: two lines, one for each of the two formulas. A norm takes the sum of a part and of what went into this part.
    # Hint: `layer_norm(x + attend(p["attention"], x, may_see), **p["attention_norm"])` is the first: `**` hands over
    # scale and bias. The second has the same form, with `feed_forward(p["feed_forward"], x)`.
    # BLANK
    x = layer_norm(x + attend(p["attention"], x, may_see), **p["attention_norm"])
    return layer_norm(x + feed_forward(p["feed_forward"], x), **p["feed_forward_norm"])
    # END BLANK


check.block(block)

# %% [markdown]
# What is the effect of the difference? Run one random layer twelve times, both ways, and look at the size of the
# vectors:

# %%
def pre_norm_block(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    x = x + attend(p["attention"], layer_norm(x, **p["attention_norm"]), may_see)
    return x + feed_forward(p["feed_forward"], layer_norm(x, **p["feed_forward_norm"]))


untrained = {"scale": jnp.ones(D), "bias": jnp.zeros(D)}
layer = {**params["layer_0"], "attention_norm": untrained, "feed_forward_norm": untrained}
for name, its_block in [("post-norm", jax.jit(block)), ("pre-norm", jax.jit(pre_norm_block))]:
    sizes, x = [], embed({**params["embeddings"], "norm": untrained}, tokens, token_types)
    for _ in range(12):
        x = its_block(layer, x, real[None])
        sizes.append(float(x.std()))
    print(f"{name:9} deviation after 1, 6 and 12 blocks:", *(f"{sizes[i]:.1f}" for i in (0, 5, 11)))
    assert np.allclose(sizes, 1, atol=1e-3) == (name == "post-norm")

# %% [markdown]
# In a pre-norm network the residual stream grows with every layer, which is why T5 needs one more norm at its very end.
# After a post-norm block all is of size 1 again. The disadvantage: the gradient has to pass every norm on its way back,
# and a deep post-norm network easily diverges in its first steps, unless the learning rate is warmed up (Xiong et al.
# 2020).
#
# ## Which token sees which
#
# BERT's attention is *unmasked*: every token looks at every other, before it and after it. Only padding is excluded.
# `Bert(..., attention="causal")` is the same encoder with one difference: no token sees a later one. That changes no
# parameter. It changes one boolean array.
#
# ## Exercise 4: the mask of both
#
# `real` [S] is True for a token, False for padding. Row = query, column = key, True = may attend.

# %%
def may_see(real: np.ndarray, causal: bool) -> np.ndarray:
    # Hint: two conditions, and both must hold: the key is no padding; and, if it is causal, the key does not come after
    # the query.
    # Hint: `position = np.arange(len(real))`; `position[:, None]` is of the query, `position[None, :]` and `real[None,
    # :]` are of the key. `&` is "and", entry by entry. If it is not causal, begin with `np.ones((L, L), bool)`.
    # BLANK
    position = np.arange(len(real))
    earlier = position[:, None] >= position[None, :]
    everyone = np.ones((len(real), len(real)), bool)
    return (earlier if causal else everyone) & real[None, :]
    # END BLANK


check.may_see(may_see)

# %% [markdown]
# ## Exercise 5: the whole encoder
#
# You have all the parts. The embeddings come first, then one block after the other; their parameters are
# `p["embeddings"]`, `p["layer_0"]`, `p["layer_1"]`, ... The result is called *last*, a vector for each token.
#
# On top of it is the **pooler**, one vector for the whole text. It reads the vector of the first token, `[CLS]`:
#
# $$\text{pooled} = \tanh\big(\text{last}_{0} \, W + b\big)$$
#
# with `p["pooler"]["matrix"]` and `p["pooler"]["bias"]`. Below you see what it is for.

# %%
def encode(
    p: dict, tokens: np.ndarray, token_types: np.ndarray, may_see: np.ndarray, layers: int
) -> tuple[jax.Array, jax.Array]:
    """tokens and token_types [L], may_see [L L] -> last [L D], pooled [D]"""
    # Hint: the embeddings, then one block after the other. Does a norm follow after the last block, as in T5?
    # Hint: `embed(p["embeddings"], ...)` once, then `block` in a loop over `p[f"layer_{i}"]`.
    # BLANK
    x = embed(p["embeddings"], tokens, token_types)
    for i in range(layers):
        x = block(p[f"layer_{i}"], x, may_see)
    return x, jnp.tanh(x[0] @ p["pooler"]["matrix"] + p["pooler"]["bias"])
    # END BLANK


check.encode(encode)

# %% [markdown]
# That is the whole BERT. Compare it with the package's model at the size of this lesson: compiled, both ways, with two
# texts and padding.

# %%
compiled = jax.jit(encode, static_argnames="layers")
for way in ("plain", "causal"):
    package = apply[way](params, tokens[None], token_types=token_types[None], mask=real[None])
    yours = compiled(params, tokens, token_types, may_see(real, way == "causal"), layers=config.num_hidden_layers)
    for name, its, wanted in zip(("last", "pooled"), yours, (package.last[0], package.pooled[0]), strict=True):
        difference = float(jnp.abs(its - wanted).max() / jnp.abs(wanted).max())
        print(f"{way}, {name}: largest difference {difference:.1e} of the largest entry")
        assert difference < 1e-4

# %% [markdown]
# A mask tells which token sees which in *one* block. After two blocks, a token also depends on everything that the
# tokens it saw had seen. Predict before you continue: in "[CLS] a baker needs it . [SEP] [PAD] [PAD]" we replace
# "needs" by another word. Which vectors change in the plain BERT, and which in the causal one? And if we change the
# last `[PAD]`? (A vector counts as changed if a single bit of it has changed.)

# %%
padded = np.array(tokenizer.encode("[CLS] a baker needs it . [SEP]") + 2 * [tokenizer.pad_id])
names, L, seen = [tokenizer.piece(token) for token in padded], len(padded), padded != tokenizer.pad_id
itself = np.eye(L, dtype=bool)
as_it_was, changed = np.tile(padded, (L, 1)), np.where(itself, tokenizer.encode("otto")[0], padded)  # row j: token j

figure, panels = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for axes, way in zip(panels, ("plain", "causal"), strict=True):
    before, after = (np.array(apply[way](params, x, mask=np.tile(seen, (L, 1))).last) for x in (as_it_was, changed))
    moved = (before != after).any(axis=-1).T  # row: the output; column: the input that was changed
    axes.imshow(moved, cmap="Blues", vmin=0, vmax=1.5)
    axes.set(title=f'attention="{way}"', xlabel="input changed", ylabel="output changed")
    axes.set_xticks(range(L), names, rotation=60)
    axes.set_yticks(range(L), names)
    assert (moved == (may_see(seen, way == "causal") | itself)).all()
show(figure, "07_who_sees_whom")

# %% [markdown]
# Left, every real column is full: each word has an effect on every vector, that of `[CLS]` included. Padding changes
# only its own vector, which nothing uses. Right, the upper triangle stays empty, however many blocks there are: if a
# token sees nothing later than itself, and neither do the tokens that it sees, then nothing later ever reaches it.
#
# ## Both ways or one way: the numbers
#
# Why did such a small change, leaving out a mask, make BERT famous? Before it, language models read from left to right,
# for a good reason: a model that has to predict the next word must not see it. BERT's authors changed the task instead.
# Hide a word *inside* the text, ask for it, and let the model look at both sides.
#
# In our world we can say beforehand which model can solve which sentences. Every sentence has a trade and its tool, in
# eight frames, four of them with the trade first. One of the two is hidden; the other is the clue:
#
# ```
# the [MASK] otto from kelby bought a new oven .      the clue comes after the gap
# the baker otto from kelby bought a new [MASK] .     the clue came before
# ```
#
# Held out are 800 sentences that the model is not trained on.

# %%
TRAINING, HELD_OUT = (200, 64) if SMOKE else (6000, 800)
sentences = trades.sentences()
held_out = trades.with_gaps(tokenizer, sentences[:HELD_OUT], seed=2)
training = trades.with_gaps(tokenizer, sentences[HELD_OUT:][:TRAINING], seed=1)
after = held_out["clue_after"]
for row, target in list(zip(held_out["tokens"], held_out["targets"][:, 0], strict=True))[:4]:
    print(*(tokenizer.piece(id) for id in row if id != tokenizer.pad_id), "->", tokenizer.piece(target))
print(f"the clue comes after the gap in {100 * after.mean():.0f} % of {HELD_OUT} held-out sentences")

# %% [markdown]
# The program is as simple as possible: one device, Adam, a warm-up. `BertForMaskedLM` is the encoder with the head that
# predicts words, used at the gap only. (The real task, which hides 15 % of everything, and the real program, with
# everything from lesson 5, are in lesson 8.)

# %%
STEPS, BATCH, EVERY = (6, 16, 2) if SMOKE else (500, 128, 20)


def train(way: str) -> tuple[dict, np.ndarray]:
    """Trained parameters, and rows of: step, held-out accuracy in % with the clue before the gap, and after it."""
    apply, params = as_function(bert_heads.BertForMaskedLM(config, rngs=nnx.Rngs(0), attention=way))
    logits = lambda params, rows: apply(
        params, rows["tokens"], positions=rows["positions"], mask=rows["tokens"] != tokenizer.pad_id
    )

    def loss(params, rows):
        total, count = cross_entropy(logits(params, rows), rows["targets"], jnp.ones(rows["targets"].shape))
        return total / count

    @jax.jit
    def step(params, opt_state, rows):
        updates, opt_state = optimizer.update(jax.grad(loss)(params, rows), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    right = jax.jit(lambda params, rows: (logits(params, rows).argmax(axis=-1) == rows["targets"])[:, 0])
    optimizer = optax.adam(optax.linear_schedule(0.0, 2e-3, transition_steps=50))
    opt_state, rng, curve = optimizer.init(params), np.random.default_rng(0), []
    for i in range(STEPS + 1):
        if i % EVERY == 0:
            hits = 100 * np.array(right(params, held_out))
            curve.append((i, hits[~after].mean(), hits[after].mean()))
        batch = rng.integers(TRAINING, size=BATCH)
        params, opt_state = step(params, opt_state, {name: rows[batch] for name, rows in training.items()})
    return params, np.array(curve)


trained = {way: train(way) for way in ("plain", "causal")}

# %% [markdown]
# The two began with the same parameters and saw the same rows in the same order. As a baseline: there are twenty trades
# and twenty tools, so a guess that knows only which of the two is missing is right in 5 % of the cases.

# %%
GUESS = 100 / len(trades.TRADES)
print("held out    clue before the gap    clue after it     all")
for way, (_, curve) in trained.items():
    _, before, behind = curve[-1]
    together = after.mean() * behind + (1 - after.mean()) * before
    print(f"{way:8} {before:18.1f} % {behind:16.1f} % {together:7.1f} %")
    claim(f"{way}, clue before the gap: over 90 %", before > 90)
    if way == "plain":
        claim("plain, clue after the gap: over 90 %", behind > 90)
    else:  # of 400 sentences, a guesser who is right in 5 % comes to 8 % or more once in a hundred times
        claim(f"causal, clue after the gap: within chance of a guess, under {2 * GUESS:.0f} %", behind < 2 * GUESS)

figure, panels = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=[1.6, 1])
for (way, (_, curve)), colour, offset in zip(trained.items(), ("tab:blue", "tab:red"), (-0.2, 0.2), strict=True):
    panels[0].plot(curve[:, 0], curve[:, 1], "-", color=colour, label=f"{way}, clue before the gap")
    panels[0].plot(curve[:, 0], curve[:, 2], "--", color=colour, label=f"{way}, clue after it")
    panels[1].bar_label(panels[1].bar(np.arange(2) + offset, curve[-1, 1:], 0.38, color=colour), fmt="%.0f", padding=5)
for axes in panels:
    axes.axhline(GUESS, color="tab:gray", linestyle=":")
    axes.set(ylim=(0, 110))
panels[0].text(0, GUESS + 1, "a guess", color="tab:gray")
panels[0].set(xlabel="step", ylabel="held-out accuracy, %", title="The same encoder, the same task")
panels[0].legend(loc="center right", fontsize=8)
panels[1].set(title=f"After {STEPS} steps")
panels[1].set_xticks([0, 1], ["clue before the gap", "clue after it"])
show(figure, "07_both_ways")

# %% [markdown]
# Both learn which tool belongs to which trade. (The blue lines lie on each other.) The causal model cannot *use* it if
# the clue comes after the gap: one red line is at the top, one at the level of a guess. Neither longer training nor a
# larger model will change that, because what it would need never reaches the gap. And the other red line rises late:
# half of the gradient asks for what cannot be known, and that is noise.
#
# Where does the gap look? With your own functions, one held-out sentence, and the gap on either side. Of all heads, the
# picture shows the one with most attention on the clue; if the clue may not be seen, with most on any other word.

# %%
text, trade, tool = next(told for told in sentences[:HELD_OUT] if told.text.startswith(f"the {told.trade}"))
strips, labels = [], []
figure, axes = plt.subplots(figsize=(10.5, 3.2), layout="constrained")
for way, (its_params, _) in trained.items():
    for hidden, clue in [(tool, trade), (trade, tool)]:
        ids = np.array(tokenizer.encode(f"[CLS] {text.replace(hidden, '[MASK]')} [SEP]"))
        gap, at_clue = (int(np.argmax(ids == id)) for id in (tokenizer.mask_id, tokenizer.encode(clue)[0]))
        p, seen = its_params["encoder"], may_see(ids > 0, way == "causal")
        x = embed(p["embeddings"], ids, 0 * ids)
        first = attention_weights(p["layer_0"]["attention"], x, seen)
        second = attention_weights(p["layer_1"]["attention"], block(p["layer_0"], x, seen), seen)
        weights = np.concatenate([first, second])[:, gap]  # [heads of both layers, L]
        hardest = weights[:, at_clue] if weights[:, at_clue].any() else np.delete(weights, gap, axis=1).max(axis=1)
        strips.append(weights[hardest.argmax()])
        labels.append(f"{way}: {hidden}?")
        axes.text(gap, len(strips) - 1, "?", ha="center", va="center", color="tab:red", fontsize=14)
        share = 100 * weights[:, at_clue].max()
        print(f"{way}, {hidden} hidden: up to {share:.1f} % of the gap's attention is on the clue")
        assert weights[:, at_clue].any() != (way == "causal" and hidden == trade)
figure.colorbar(axes.imshow(np.array(strips), cmap="Blues", vmin=0, vmax=1, aspect="auto"), ax=axes, label="weight")
axes.set_xticks(range(len(ids)), ["[CLS]", *text.split(), "[SEP]"], rotation=45, ha="right")
axes.set_yticks(range(4), labels)
axes.set(title="Where the gap (?) looks")
show(figure, "07_where_the_gap_looks")

# %% [markdown]
# In real text the clues are many, and some are always on the left, so the difference is smaller. The paper's table 5
# has the same model trained from left to right: fine-tuned on SQuAD it comes to an F1 of 77.8, where the one that
# reads both ways, trained alike, has 87.9. (With an LSTM on top that reads both ways: 84.9. Both ways at the end is
# not both ways at every layer; that is the "deep" in "deep bidirectional".)
#
# What is the causal mask good for, then? A causal model can be asked at *every* position in one pass, since no position
# sees its own answer: all of the words are training targets, and in the masked task only 15 %. And it can write. T5's
# decoder is causal for that reason, and its encoder, which only reads, is not.
#
# ## One vector for a text: `[CLS]`, the pooler, the heads
#
# "Is this review kind?" needs one vector, not one for each word. BERT takes the first. `[CLS]` is not a word and has no
# meaning of its own, so training can use its vector to collect what the text as a whole is about. The pooler of
# exercise 5 reads it, and a head reads the pooler's output. Here are 50 texts: how much does `pooled` depend on the
# text?

# %%
for way in ("plain", "causal"):
    pooled = apply[way](params, held_out["tokens"][:50], mask=held_out["tokens"][:50] != tokenizer.pad_id).pooled
    spread = np.ptp(pooled, axis=0).max()
    print(f"{way}: between 50 sentences, an entry of pooled differs by up to {spread:.2f}")
    assert (spread < 1e-5) == (way == "causal")

# %% [markdown]
# The second line is no accident: look at the first row of the triangle above. In a causal model `[CLS]` comes before
# everything that it should sum up, and is the same for every text. With such models one uses the *last* token instead.
#
# The package has four heads (`models/bert_heads.py`). Here they are at BERT-base's size, with the shapes of their
# output for two texts of seven tokens. No number is computed: shapes are enough.
#
# | head | reads | asks |
# |---|---|---|
# | `BertForMaskedLM` | every token | which word was here? (lesson 8) |
# | `BertForPreTraining` | every token, and pooled | the same, and: does the second text follow the first? (lesson 8) |
# | `BertForQuestionAnswering` | every token | does the answer begin here? does it end here? (lesson 9) |
# | `BertForSequenceClassification` | pooled | which class? (lesson 13) |

# %%
def shapes(model: type, config: BertConfig) -> tuple:
    """The function, and its parameters without their numbers."""
    return as_function(nnx.eval_shape(lambda: model(config, rngs=nnx.Rngs(0))))


def count(params: dict) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


base = BertConfig.base(id2label=("unkind", "kind"))
for name in ("BertForMaskedLM", "BertForPreTraining", "BertForQuestionAnswering", "BertForSequenceClassification"):
    its_apply, its_params = shapes(getattr(bert_heads, name), base)
    outputs = jax.tree.leaves(jax.eval_shape(its_apply, its_params, np.zeros((2, 7), np.int32)))
    own = count(its_params) - count(its_params["encoder"])
    print(f"{name:30} {own:7,} parameters of its own; out come", *(x.shape for x in outputs))

# %% [markdown]
# One or two thousand parameters for the heads that answer and classify, on top of an encoder with millions: this is why
# transfer learning is cheap. And should a head that chooses among 30,522 words not have a matrix of 23 million numbers?
# It has one: as in T5 1.0, it is the table of words again. New are a matrix D x D, a norm, and a bias for each word.
#
# ## Exercise 6: how many parameters?
#
# On paper first, for BERT-base: width $D = 768$, 12 layers, 12 heads, $F = 3072$, a vocabulary of 30,522, 512
# positions, 2 token types. What do the heads change? Then write it for any size: the encoder alone, with its pooler.

# %%
def parameters(config: BertConfig) -> int:
    D, F = config.hidden_size, config.intermediate_size
    # Hint: embeddings (three tables and a norm), then for each layer attention (four matrices), feed-forward (two) and
    # two norms, then the pooler. Every matrix has a bias, every norm a scale and a bias.
    # Hint: a norm is `2 * D`, attention `4 * (D * D + D)` whatever the number of heads, the way into the feed-forward
    # `D * F + F`. The sizes are `config.vocab_size`, `.max_position_embeddings`, `.type_vocab_size` and
    # `.num_hidden_layers`.
    # BLANK
    norm = 2 * D
    tables = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size) * D
    layer = 4 * (D * D + D) + (D * F + F) + (F * D + D) + 2 * norm
    return tables + norm + config.num_hidden_layers * layer + (D * D + D)
    # END BLANK


check.parameters(parameters)

# %%
assert parameters(BertConfig.base()) == 109_482_240
figure, axes = plt.subplots(figsize=(10, 3.2), layout="constrained")
for y, size in enumerate(["large", "base", "small", "mini", "tiny"]):
    arrays = flatten_dict(shapes(Bert, getattr(BertConfig, size)())[1], sep="/")
    total, left = parameters(getattr(BertConfig, size)()), 0.0
    assert total == count(arrays)
    for part, colour in [("/word/", "tab:blue"), ("/attention/", "tab:orange"), ("/feed_forward/", "tab:green")]:
        number = count({path: x for path, x in arrays.items() if part in path})
        label = part.strip("/") if y == 0 else None
        axes.barh(y, 100 * number / total, left=left, color=colour, alpha=0.7, label=label)
        if number > 0.05 * total:
            axes.text(left + 50 * number / total, y, f"{number / 1e6:.1f}", ha="center", va="center")
        left += 100 * number / total
    axes.barh(y, 100 - left, left=left, color="tab:gray", label="all else" if y == 0 else None)
    axes.text(101, y, f"{total:,}", va="center")
axes.set_yticks(range(5), ["large", "base", "small", "mini", "tiny"])
axes.set(xlim=(0, 114), xticks=range(0, 101, 20), xlabel="share, %", title="Where BERT's parameters sit, in millions")
axes.legend(loc="upper center", bbox_to_anchor=(0.44, -0.2), ncols=4)
show(figure, "07_parameters")

# %% [markdown]
# Half of BERT-base is feed-forward, a quarter attention, a fifth the table of words. The tiny one is nearly all table
# of words. And the heads change nothing: twelve of size 64 are as wide as one of 768.
#
# ## A real one
#
# Now that you understand it, you can have it in two lines. If you have a network, set `DOWNLOAD` to True: 440 MB,
# once. The name may also be a directory that Hugging Face's Transformers has saved.

# %%
DOWNLOAD = False

if DOWNLOAD:
    from tlqa_jax import load

    pretrained = load("bert-base-uncased", architecture="BertForMaskedLM")
    model, wordpieces = pretrained.model(), pretrained.tokenizer

    ids = np.array(wordpieces.encode("[CLS] the baker put the bread into the [MASK] . [SEP]"))
    chances = np.array(jax.nn.softmax(model(ids[None])[0, np.argmax(ids == wordpieces.mask_id)]))
    for id in np.argsort(-chances)[:5]:
        print(f"{wordpieces.piece(id):12} {100 * chances[id]:5.1f} %")
else:
    print("not run: DOWNLOAD is False")

# %% [markdown]
# ## What you know now
#
# - BERT is T5's encoder with vectors for positions and token types, biases, and its norms after the sums.
# - Epsilon, gelu and the place of the norm are three traps: with a mistake in any of them the model runs, and is wrong.
# - With unmasked attention every word has an effect on every vector; a causal mask excludes the later ones, at any
#   depth.
# - The same encoder, the same task: if the clue comes later, a causal model can only guess, and no training helps.
# - `[CLS]` sums up a text because it sees all of it. A head is small; the encoder is what is transferred.
# - BERT-base has 109,482,240 parameters: half feed-forward, a quarter attention, a fifth words.
#
# Our gaps were made by hand, with a clue for each. Lesson 8 makes them from raw text, without any manual work.
#
# *Read on:* Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
# sections 3 and 5.1; Ba et al. 2016, "Layer Normalization"; Hendrycks and Gimpel 2016, "Gaussian Error Linear Units";
# Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture".

# %% [markdown]
# ## Bonus: both ways in the first part, one way after it
#
# A third mask is in use, the *prefix* mask. The first `n` tokens, a question, see each other in both directions; those
# after them, the answer, see the whole prefix and what is before them. Write `prefix_mask(length, n)`. How many entries
# are True with 8 tokens and n = 4? Predict it, then count. With n = 0 and with n = 8 it must equal two masks that you
# know.
#
# > A key may be seen if it does not come after the query, or if it is in the prefix: `|` is "or", entry by entry. 42
# > entries are True.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** You set the table of positions of the *causal* BERT to zeros. Can it still tell "baker paid tailor" from
# "tailor paid baker"?
#
# > Yes. The first token sees one token, the second sees two, and so on, so what a token sees depends on its place. In
# > the plain BERT all see the same, and the order is lost.
#
# **2.** In a BERT of two layers the first has the causal mask and the second has none. Does the vector of `[CLS]`
# depend on the last word?
#
# > Yes, through the second layer: there `[CLS]` looks at the last word directly. One layer without the mask is enough.
#
# **3.** You exchange 12 heads of size 64 for 6 heads of size 128. How many parameters are added or lost, and what
# changes?
#
# > None: each matrix is still 768 x 768. There are 6 distributions of attention instead of 12 in each layer.
#
# **4.** The causal model cannot fill the gap if the clue comes after it. Which would help: more layers, more steps, or
# asking at the last `[SEP]` instead of at the gap?
#
# > Only the last one. The clue never reaches the gap, with any number of layers or steps. `[SEP]` stands after the
# > clue, so it can see both.
#
# **5.** Somebody loads the weights of BERT into pre-norm blocks. Is there an error? How would you find the mistake?
#
# > There is none: all shapes are the same. Compare the vectors with those of another implementation, number by number,
# > on the same text.
