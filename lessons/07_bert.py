# %% [markdown]
# # Lesson 7: BERT
#
# **Time** 70 minutes, of which the computer needs a minute or two.
#
# **Know first** Attention, heads and masks (lesson 3); T5, its norm and its positions (lesson 4). What a loss and a
# gradient step are.
#
# **You will be able to**
# - draw BERT from memory, and say in what it differs from T5's encoder;
# - write LayerNorm, the block and the whole encoder, and show that they are the package's, number for number;
# - tell from a mask which positions know of which;
# - show by numbers what reading in both directions is worth, and explain them;
# - count the parameters of BERT-base on paper, to the last one.

# %%
import itertools
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib import pyplot as plt

from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.tiny_world import VALUES
from tlqa_jax.errors import UserError
from tlqa_jax.lessons import SMOKE, show
from tlqa_jax.lessons import bert as check
from tlqa_jax.models import bert_heads
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.layers import LayerNorm, gelu
from tlqa_jax.text.wordpiece import WordPieceTokenizer

np.set_printoptions(precision=2, suppress=True)
jax.config.update("jax_default_matmul_precision", "float32")  # a TPU would multiply in bfloat16: too coarse to compare

# %% [markdown]
# ## A reader that never writes
#
# T5 reads a text and writes another. But many questions about a text need no writing: is this review kind? where in
# the passage does the answer stand? For these, all one wants is a good vector for each word, one that knows of the
# words around it. BERT, "Bidirectional Encoder Representations from Transformers" (Devlin et al. 2019), is an encoder
# and nothing else. What comes out are vectors, and a small *head* on top makes of them what is wanted.
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
# You know nearly all of it from T5's encoder. The differences, each of which this lesson meets:
#
# | | T5's encoder | BERT |
# |---|---|---|
# | where is what? | a number for each distance, added to the scores | a vector for each position, added to the word |
# | which text is it from? | (written out: "question: ... context: ...") | a vector for each of two token types |
# | norm | RMSNorm, *before* attention and feed-forward | LayerNorm, *after* each sum |
# | scores | as they are | divided by $\sqrt K$ |
# | biases | none | at every matrix |
# | feed-forward | relu, or gated by gelu | gelu |
#
# ## Twenty trades, twenty tools
#
# To have something to read, we make up a world that fits on half a page. In every sentence there is somebody of a
# trade, and the tool of that trade. In four of the frames the trade comes first, in the other four the tool.

# %%
TOOLS = (
    "oven hive saw awl drill plough rake pane ribbon contract "
    "trowel bandage brush kiln slate anchor map needle blackboard loom"
).split()
TRADES = dict(zip(VALUES["profession"], TOOLS, strict=True))  # baker: oven, beekeeper: hive, ...
FRAMES = [
    "the {trade} {name} from {town} bought a new {tool} .",
    "in {town} a {trade} asked {name} for the {tool} .",
    "a {trade} in {town} told {name} to bring the {tool} .",
    "no {trade} in {town} works for {name} without a good {tool} .",
    "a new {tool} was bought by {name} , the {trade} from {town} .",
    "in {town} {name} sold the {tool} to a {trade} .",
    "the {tool} is of no use to {name} , but a {trade} in {town} needs it .",
    "{name} found a good {tool} in {town} , and the {trade} was glad .",
]
NAMES = "edda otto runa bruno greta hugo lotte nils".split()
TOWNS = [town.lower() for town in VALUES["town"]]

words = sorted({*" ".join(FRAMES).split(), *TRADES, *TOOLS, *NAMES, *TOWNS, *"what did buy paid ?".split()})
vocabulary = Path("runs/lessons/07_vocabulary.txt")
vocabulary.parent.mkdir(parents=True, exist_ok=True)
pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(word for word in words if "{" not in word)]
vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
tokenizer = WordPieceTokenizer(vocabulary)
print(tokenizer.vocab_size, "pieces, each a whole word; five of them special:", *pieces[:5])
print(tokenizer.encode("[CLS] the baker bought a new [MASK] . [SEP]"))

# %% [markdown]
# BERT's real vocabulary has 30,522 pieces, and cuts rare words into several: "runn ##ing", where `##` marks what goes
# on with a word. The five special pieces are the same. `[CLS]` opens every input, `[SEP]` closes each of its one or two
# texts, `[PAD]` fills up, and `[MASK]` stands for a word that is hidden.
#
# Our encoder is a dwarf by every measure but its design. Its parameters, named as in the drawing:

# %%
config = BertConfig(
    vocab_size=tokenizer.vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
    max_position_embeddings=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
D = config.hidden_size


def stirred(params: dict, seed: int = 0) -> dict:
    """As in lesson 4: every parameter so large that it matters, norm scales that are not 1, biases that are not 0."""
    noise = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda x: jnp.array(x + 0.3 * noise(x.shape), x.dtype), params)


apply, params = as_function(Bert(config, rngs=nnx.Rngs(0)))
params, bert = stirred(params), jax.jit(apply)
print("a BERT:       ", *params)
print("its tables:   ", {name: table["table"].shape for name, table in params["embeddings"].items() if name != "norm"})
print("its attention:", {name: x.shape for name, x in params["layer_0"]["attention"].items()})

# %% [markdown]
# ## What goes in: three tables, one sum
#
# Section 3 of the paper, figure 2. With $W$ the table of words, $P$ that of positions and $T$ that of token types:
#
# $$x_i = \text{norm}\big(W_{\text{token}_i} + P_i + T_{\text{type}_i}\big)$$
#
# The token type is 0 up to the first `[SEP]`, and 1 in the second text, if there is one.

# %%
first, second = "[CLS] what did the baker buy ? [SEP]", "the baker bought a new oven . [SEP]"
tokens = np.array(tokenizer.encode(f"{first} {second}"))
token_types = np.array([0] * len(tokenizer.encode(first)) + [1] * len(tokenizer.encode(second)))

figure, axes = plt.subplots(figsize=(11.5, 2.4), layout="constrained")
for i, (token, kind) in enumerate(zip(tokens, token_types, strict=True)):
    for y, text, colour in [
        (2, tokenizer.piece(token), "lightgray"), (1, f"$P_{{{i}}}$", plt.cm.viridis(i / 18)),
        (0, f"$T_{kind}$", ("tab:blue", "tab:orange")[kind]),
    ]:  # fmt: skip
        box = dict(boxstyle="round", facecolor=colour, alpha=0.5, edgecolor="none")
        axes.text(i, y, text, ha="center", va="center", fontsize=9, bbox=box)
    axes.text(i, 1.5, "+", ha="center", va="center")
    axes.text(i, 0.5, "+", ha="center", va="center")
for y, text in [(2, "word"), (1, "position"), (0, "token type")]:
    axes.text(-0.8, y, text, ha="right", va="center")
axes.set(xlim=(-2.3, len(tokens) - 0.3), ylim=(-0.5, 2.5))
axes.axis("off")
show(figure, "07_embeddings")

# %% [markdown]
# **The wrong version first**: words alone. Attention does not know the order of its keys (lesson 3), so a BERT without
# the table of positions could not tell who paid whom:

# %%
paid = {text: np.array([tokenizer.encode(f"[CLS] {text} [SEP]")]) for text in ("baker paid tailor", "tailor paid baker")}
without = {**params, "embeddings": {**params["embeddings"], "position": {"table": np.zeros((32, D), np.float32)}}}
for name, its_params in [("no positions", without), ("with positions", params)]:
    one, two = (np.array(bert(its_params, text).last[0]) for text in paid.values())
    difference = np.abs(one[1] - two[3]).max()  # the baker who pays, and the baker who is paid
    print(f"{name}: the two bakers differ by {difference:.1e}, the two [CLS] by {np.abs(one[0] - two[0]).max():.1e}")
    assert (difference < 1e-4) == (name == "no positions")

# %% [markdown]
# So $P$ is needed, and it has an end. BERT's has 512 rows; position 513 has no vector, and no training could have given
# it one. T5's buckets know no such limit: there, far is far. (How to read a document that is longer than that is a
# question of lesson 9.)

# %%
try:
    bert(params, np.ones((1, 33), np.int32))
except UserError as error:
    print("33 tokens:", error)

# %% [markdown]
# ## LayerNorm
#
# The norm is BERT's older one (Ba et al. 2016). For each token by itself: subtract the mean of its entries, divide by
# their standard deviation, multiply by a learned scale, add a learned bias. T5's RMSNorm, as you know, has only half of
# that.
#
# $$\text{norm}(x)_d = \frac{x_d - \mu}{\sqrt{\sigma^2 + \epsilon}} \cdot s_d + b_d \qquad
#   \mu = \frac1D \sum_e x_e \qquad \sigma^2 = \frac1D \sum_e (x_e - \mu)^2$$
#
# ## Exercise 1: LayerNorm

# %%
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = 1e-12) -> jax.Array:
    # Hint: x is [L D]. jnp.mean(..., axis=-1, keepdims=True) keeps the axis, so that the subtraction lines up.
    # BLANK
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + epsilon) * scale + bias
    # END BLANK


check.layer_norm(layer_norm)

# %%
x, ones, zeros = np.random.default_rng(0).standard_normal((5, D), np.float32), np.ones(D), np.zeros(D)
assert np.allclose(layer_norm(x, ones, zeros), LayerNorm(D)(x[None])[0], atol=1e-5)  # the package's
assert np.allclose(layer_norm(100 * x, ones, zeros), layer_norm(x, ones, zeros), atol=1e-4)  # the size goes
assert np.allclose(layer_norm(x + 3, ones, zeros), layer_norm(x, ones, zeros), atol=1e-4)  # and so does the mean


def embed(p: dict, tokens: np.ndarray, token_types: np.ndarray) -> jax.Array:
    x = p["word"]["table"][tokens] + p["position"]["table"][: len(tokens)] + p["token_type"]["table"][token_types]
    return layer_norm(x, **p["norm"])


package = bert(params, tokens[None], token_types=token_types[None]).hidden_states[0][0]
assert np.allclose(embed(params["embeddings"], tokens, token_types), package, atol=1e-5)
print("Three tables, one sum, your norm: the package's embeddings.")

# %% [markdown]
# Flax's own LayerNorm has $\epsilon = 10^{-6}$, and many a port of BERT has left it at that. Does it matter? BERT begins
# with small embeddings, of deviation 0.02, so a variance of 0.0004 each:

# %%
small = 0.02 * x
for epsilon in (1e-12, 1e-6):
    moved = np.abs(layer_norm(small, ones, zeros, epsilon) - layer_norm(small, ones, zeros)).max()
    print(f"epsilon {epsilon:.0e}: the norm of such a vector is off by {moved:.1e}")
    assert (moved > 1e-4) == (epsilon > 1e-12)

# %% [markdown]
# At $10^{-6}$ it is off in the third digit, and twelve layers come after it. Such a port runs, answers nearly right, and
# is never equal to the original. This is why the package is held against golden numbers, layer by layer.
#
# ## The block
#
# Attention and feed-forward with all their biases, one text, no dropout. `may_see` [L L] says who may look at whom;
# we shall come to it.

# %%
def attention_weights(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    """[H L L]: how each token shares out its attention, head by head."""
    shape = p["query"].shape[1:]  # [H K]: the bias is one long vector, H * K
    query, key = (
        jnp.einsum("ld,dhk->hlk", x, p[name]) + p[f"{name}_bias"].reshape(shape)[:, None] for name in ("query", "key")
    )
    scores = jnp.einsum("hlk,hsk->hls", query, key) / shape[1] ** 0.5
    return jax.nn.softmax(jnp.where(may_see, scores, jnp.finfo(scores.dtype).min), axis=-1)


def attend(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    value = jnp.einsum("sd,dhk->hsk", x, p["value"]) + p["value_bias"].reshape(p["value"].shape[1:])[:, None]
    mixed = jnp.einsum("hls,hsk->hlk", attention_weights(p, x, may_see), value)
    return jnp.einsum("hlk,hkd->ld", mixed, p["out"]) + p["out_bias"]


def feed_forward(p: dict, x: jax.Array) -> jax.Array:
    return gelu(x @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]

# %% [markdown]
# `gelu(x)` is $x$ times the share of a normal distribution that lies below $x$: a relu without the corner (Hendrycks and
# Gimpel 2016). Here is the second trap for whoever ports BERT. `jax.nn.gelu` computes, unless told otherwise, an
# approximation by tanh; that one was T5 1.1's, and GPT's. BERT's is the exact one:

# %%
grid = jnp.linspace(-4, 4, 801)
off = jnp.abs(jax.nn.gelu(grid) - gelu(grid)).max()
print(f"the two gelus differ by at most {off:.1e}; jax.nn's with approximate=False is BERT's")
assert 1e-4 < off < 1e-3 and np.allclose(jax.nn.gelu(grid, approximate=False), gelu(grid), atol=1e-6)

# %% [markdown]
# And this is how a block is put together. BERT is *post-norm*, as the first transformer was: each part is added to what
# it read, and the norm stands **after the sum**, on the residual road itself.
#
# $$h = \text{norm}_1\big(x + \text{attention}(x)\big) \qquad \text{block}(x) = \text{norm}_2\big(h + \text{feedforward}(h)\big)$$
#
# T5 is *pre-norm*: $x + \text{attention}(\text{norm}(x))$. All parts are the same and have the same shapes, so weights of
# the one run in the other without complaint.
#
# ## Exercise 2: the block
#
# `p` is the dictionary of one layer: `p["attention"]`, `p["attention_norm"]`, `p["feed_forward"]`,
# `p["feed_forward_norm"]`. A norm's dictionary has `scale` and `bias`.

# %%
def block(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    # Hint: attend(p["attention"], x, may_see); feed_forward(p["feed_forward"], x); layer_norm(x, **p["attention_norm"]).
    # BLANK
    x = layer_norm(x + attend(p["attention"], x, may_see), **p["attention_norm"])
    return layer_norm(x + feed_forward(p["feed_forward"], x), **p["feed_forward_norm"])
    # END BLANK


check.block(block)

# %% [markdown]
# What is the difference good for? A pre-norm network adds and adds, and what travels along the residual road grows with
# every layer; T5 needs one more norm at its very end. Behind a post-norm block everything is of size 1 again. The price:
# the gradient has to pass through every norm on its way down, and a deep post-norm network blows up in its first steps
# unless the learning rate is warmed up (Xiong et al. 2020). BERT warms up.

# %%
def pre_norm_block(p: dict, x: jax.Array, may_see: jax.Array) -> jax.Array:
    x = x + attend(p["attention"], layer_norm(x, **p["attention_norm"]), may_see)
    return x + feed_forward(p["feed_forward"], layer_norm(x, **p["feed_forward_norm"]))


everyone = jnp.ones((len(tokens), len(tokens)), bool)
plain_norm = {"scale": jnp.ones(D), "bias": jnp.zeros(D)}  # as they are before training
layer = {**params["layer_0"], "attention_norm": plain_norm, "feed_forward_norm": plain_norm}
for name, its_block in [("post-norm", jax.jit(block)), ("pre-norm", jax.jit(pre_norm_block))]:
    x = embed({**params["embeddings"], "norm": plain_norm}, tokens, token_types)
    sizes = [float(x.std())]
    for _ in range(12):
        x = its_block(layer, x, everyone)
        sizes.append(float(x.std()))
    print(f"{name:9} deviation of the vectors after 0, 1, 6, 12 blocks:", *(f"{sizes[i]:.1f}" for i in (0, 1, 6, 12)))
    assert np.allclose(sizes, 1, atol=1e-3) == (name == "post-norm")

# %% [markdown]
# ## Who sees whom
#
# BERT's attention is *unmasked*: every token looks at every other, before it and after it. Only padding is looked at by
# nobody. Turn one switch, and the same encoder reads in one direction:
#
# ```python
# Bert(config, rngs=rngs)                          # attention="plain": both ways
# Bert(config, rngs=rngs, attention="causal")      # nobody sees what comes later
# ```
#
# The switch changes no parameter. It changes one boolean array.
#
# ## Exercise 3: the mask of both
#
# `real` [S] is True for a token, False for padding. Row = query, column = key, True = may attend.

# %%
def may_see(real: np.ndarray, causal: bool) -> np.ndarray:
    # Hint: position = np.arange(len(real)); position[:, None] is of the query, position[None, :] of the key. `&` is "and".
    # BLANK
    position = np.arange(len(real))
    earlier = position[:, None] >= position[None, :]
    everyone = np.ones((len(real), len(real)), bool)
    return (earlier if causal else everyone) & real[None, :]
    # END BLANK


check.may_see(may_see)

# %% [markdown]
# A mask tells who sees whom in *one* block. After two blocks, a token has seen what those it saw had seen. Predict,
# before you go on: we change token 3 of this text, "[CLS] a baker needs it . [SEP] [PAD] [PAD]". The vectors of which
# positions move, in the plain BERT and in the causal one? And if we change position 8, which is padding?
#
# The picture answers for each changed position (column) which outputs have moved (row). No estimate: a vector counts
# as moved if a single bit of it is another.

# %%
padded = np.array(tokenizer.encode("[CLS] a baker needs it . [SEP]") + 2 * [tokenizer.pad_id])
names, L = [tokenizer.piece(token) for token in padded], len(padded)
real = padded != tokenizer.pad_id
changed = np.where(np.eye(L, dtype=bool), tokenizer.encode("otto")[0], padded)  # row j: position j is another word

figure, panels = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for axes, attention in zip(panels, ("plain", "causal"), strict=True):
    its_bert = jax.jit(as_function(Bert(config, rngs=nnx.Rngs(0), attention=attention))[0])
    before, after = (np.array(its_bert(params, x, mask=np.tile(real, (L, 1))).last) for x in (np.tile(padded, (L, 1)), changed))
    moved = (before != after).any(axis=-1).T  # [L L]: row = the output, column = what was changed
    axes.imshow(moved, cmap="Blues", vmin=0, vmax=1.5)
    axes.set(title=f'attention="{attention}"', xlabel="changed", ylabel="moved")
    axes.set_xticks(range(L), names, rotation=60)
    axes.set_yticks(range(L), names)
    assert (moved == (may_see(real, attention == "causal") | np.eye(L, dtype=bool))).all()
show(figure, "07_who_sees_whom")

# %% [markdown]
# Left, every real column is full: each word is in every vector, that of `[CLS]` included. Padding moves only its own
# vector, which nobody reads. Right, the upper triangle is empty, however many blocks there are: if I see nothing later
# than myself, and neither do those I see, then nothing later ever reaches me. Look at the first row: **the causal
# `[CLS]` knows of nothing but itself**. We shall come back to it.
#
# ## The whole BERT in one cell
#
# You have all parts. (The judge is the package's model, both ways, with two texts and padding.)

# %%
def encode(p: dict, tokens: np.ndarray, token_types: np.ndarray, may_see: np.ndarray, layers: int) -> jax.Array:
    x = embed(p["embeddings"], tokens, token_types)
    for i in range(layers):
        x = block(p[f"layer_{i}"], x, may_see)
    return x


padded_tokens, padded_types = np.append(tokens, [0, 0, 0]), np.append(token_types, [0, 0, 0])
real = padded_tokens != tokenizer.pad_id
yours = jax.jit(encode, static_argnames="layers")
for attention in ("plain", "causal"):
    model = jax.jit(as_function(Bert(config, rngs=nnx.Rngs(0), attention=attention))[0])
    package = model(params, padded_tokens[None], token_types=padded_types[None], mask=real[None]).last[0]
    mine = yours(params, padded_tokens, padded_types, may_see(real, attention == "causal"), config.num_hidden_layers)
    difference = float(jnp.abs(mine - package).max() / jnp.abs(package).max())
    print(f"{attention}: largest difference {difference:.1e} of the largest entry")
    assert difference < 1e-4

# %% [markdown]
# ## Both ways or one way: the numbers
#
# Why did this small thing, a mask left out, make BERT famous? Before it, language models read from left to right, for a
# good reason: whoever is to predict the next word must not see it. BERT's authors changed the task instead. Hide a word
# *inside* the text, ask for it, and let the model look at both sides.
#
# In our world we can say beforehand who can solve what. Hide the trade or the tool. The other one is the clue, and
# it stands to the left of the gap in half of the sentences and to the right of it in the other half:
#
# ```
# the [MASK] otto from kelby bought a new oven .      the clue comes later
# the baker otto from kelby bought a new [MASK] .     the clue came before
# ```
#
# Same knowledge, same frames, same words. A sentence is held out if it is not among those that the model is trained on.

# %%
TRAINING, HELD_OUT = (200, 64) if SMOKE else (6000, 800)
sentences = list(itertools.product(FRAMES, TRADES, NAMES, TOWNS))
random.Random(7).shuffle(sentences)


def with_gaps(chosen: list, seed: int) -> dict[str, np.ndarray]:
    """Rows [n L] with one gap each, where it is, what stood there, and where the clue stands."""
    rng, length = random.Random(seed), 20
    rows = {name: [] for name in ("tokens", "positions", "targets", "clues")}
    for frame, trade, name, town in chosen:
        text = frame.format(trade=trade, tool=TRADES[trade], name=name, town=town)
        hidden, clue = rng.sample([trade, TRADES[trade]], 2)
        ids = tokenizer.encode(f"[CLS] {text} [SEP]")
        target, clue = tokenizer.encode(f"{hidden} {clue}")
        rows["positions"].append([ids.index(target)])
        rows["targets"].append([target])
        rows["clues"].append(ids.index(clue))
        ids[ids.index(target)] = tokenizer.mask_id
        rows["tokens"].append(ids + [tokenizer.pad_id] * (length - len(ids)))
    return {name: np.array(values, np.int32) for name, values in rows.items()}


training = with_gaps(sentences[HELD_OUT:][:TRAINING], seed=1)
held_out = with_gaps(sentences[:HELD_OUT], seed=2)
clue_comes_later = held_out["clues"] > held_out["positions"][:, 0]
for i in range(3):
    print(*(tokenizer.piece(id) for id in held_out["tokens"][i] if id), " ->", tokenizer.piece(held_out["targets"][i, 0]))
print(f"the clue comes later in {100 * clue_comes_later.mean():.0f} % of {len(clue_comes_later)} held-out sentences")

# %% [markdown]
# The program is as plain as can be: one device, Adam, a warm-up. `BertForMaskedLM` is the encoder with the head that
# predicts words, and is asked at the gap only. (The real task, which hides 15 % of everything, and the real loop, with
# all that lesson 5 taught, are lesson 8.)

# %%
STEPS, BATCH = (6, 16) if SMOKE else (500, 128)


def train(attention: str) -> tuple[dict, list]:
    """Trained parameters, and (step, held-out accuracy with the clue before the gap, and behind it)."""
    apply, params = as_function(bert_heads.BertForMaskedLM(config, rngs=nnx.Rngs(0), attention=attention))
    optimizer = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 2e-3, warmup_steps=STEPS // 10, decay_steps=STEPS))
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
    opt_state, rng, curve = optimizer.init(params), np.random.default_rng(0), []
    for i in range(STEPS + 1):
        if i % (STEPS // 5 if SMOKE else 20) == 0:
            hits = np.array(right(params, held_out))
            curve.append((i, hits[~clue_comes_later].mean(), hits[clue_comes_later].mean()))
        batch = rng.integers(TRAINING, size=BATCH)
        params, opt_state = step(params, opt_state, {name: rows[batch] for name, rows in training.items()})
    return params, curve


results = {attention: train(attention) for attention in ("plain", "causal")}

# %% [markdown]
# The two began with the same parameters and saw the same rows in the same order. What a guess would give: there are
# twenty trades and twenty tools, so 5 % for whoever knows which of the two is missing.

# %%
CHANCE = 100 / len(TRADES)
print("held out          clue before the gap   clue behind it   all")
final = {}
for attention, (_, curve) in results.items():
    before, behind = (100 * x for x in curve[-1][1:])
    every = clue_comes_later.mean() * behind + (1 - clue_comes_later.mean()) * before
    final[attention] = before, behind
    print(f"{attention:17} {before:16.1f} % {behind:15.1f} % {every:7.1f} %")
assert SMOKE or (min(final["plain"]) > 95 and final["causal"][0] > 95 and final["causal"][1] < 2 * CHANCE)

# %%
figure, panels = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained", width_ratios=[1.6, 1])
for attention, colour in [("plain", "tab:blue"), ("causal", "tab:red")]:
    steps, before, behind = np.array(results[attention][1]).T
    panels[0].plot(steps, 100 * before, "-", color=colour, label=f"{attention}, clue before the gap")
    panels[0].plot(steps, 100 * behind, "--", color=colour, label=f"{attention}, clue behind it")
    offset = 0.2 if attention == "causal" else -0.2
    bars = panels[1].bar(np.arange(2) + offset, final[attention], 0.38, color=colour, label=attention)
    panels[1].bar_label(bars, fmt="%.0f")
for axes in panels:
    axes.axhline(CHANCE, color="tab:gray", linestyle=":")
    axes.set(ylim=(0, 108))
panels[0].text(0, CHANCE + 1, "a guess", color="tab:gray")
panels[0].set(xlabel="step", ylabel="held-out accuracy, %", title="The same encoder, the same task")
panels[0].legend(loc="center right", fontsize=8)
panels[1].set_xticks([0, 1], ["clue before the gap", "clue behind it"])
panels[1].legend(loc="center right")
show(figure, "07_both_ways")

# %% [markdown]
# Both learn which tool goes with which trade. The one-directional reader cannot *use* it where the clue comes too
# late: its two lines tell the whole story, one at the top, one on the floor. No longer training and no larger model
# will lift it, because what it would need never reaches the gap. It is slower on the other half, too: half of
# the gradient tells it to know what it cannot know, and that is noise.
#
# Where does it look? With your own `attention_weights`: the same held-out sentence with the gap on either side, and
# the head in which the gap looks hardest at something other than itself.

# %%
frame, trade, name, town = next(row for row in sentences[:HELD_OUT] if row[0] == FRAMES[0])
text = frame.format(trade=trade, tool=TRADES[trade], name=name, town=town)
figure, axes = plt.subplots(figsize=(10.5, 3.2), layout="constrained")
strips, labels = [], []
for attention, (its_params, _) in results.items():
    for hidden, clue in [(TRADES[trade], trade), (trade, TRADES[trade])]:
        ids = np.array(tokenizer.encode(f"[CLS] {text.replace(hidden, '[MASK]')} [SEP]"))
        gap, p = int(np.argmax(ids == tokenizer.mask_id)), its_params["encoder"]
        seen = may_see(ids > 0, attention == "causal")
        first = attention_weights(p["layer_0"]["attention"], x := embed(p["embeddings"], ids, 0 * ids), seen)
        later = attention_weights(p["layer_1"]["attention"], block(p["layer_0"], x, seen), seen)
        weights = np.concatenate([first, later])[:, gap]  # [heads of both layers, L]
        others = np.delete(weights, gap, axis=1).max(axis=1)
        strips.append(weights[others.argmax()])
        labels.append(f"{attention}: {hidden}?")
        axes.text(gap, len(strips) - 1, "?", ha="center", va="center", color="tab:red", fontsize=14)
        at_clue = weights[:, ids == tokenizer.encode(clue)].max()
        print(f"{attention}, {hidden} hidden: the most that any head of the gap gives to the clue is {100 * at_clue:.1f} %")
        assert SMOKE or (at_clue == 0) == (attention == "causal" and hidden == trade)
image = axes.imshow(np.array(strips), cmap="Blues", vmin=0, vmax=1, aspect="auto")
axes.set_xticks(range(len(ids)), ["[CLS]", *text.split(), "[SEP]"], rotation=45, ha="right")
axes.set_yticks(range(4), labels)
axes.set(title="Where the gap (?) looks")
figure.colorbar(image, ax=axes, label="weight")
show(figure, "07_where_the_gap_looks")

# %% [markdown]
# Is the comparison fair? On *this* task it is, and the paper made it on real ones: its table 5 has the same model
# trained from left to right. On SQuAD, fine-tuned, it comes to an F1 of 77.8 where the one that reads both ways, with
# all else alike, has 87.9. (With an LSTM that reads both ways on top of it: 84.9. Both ways at the end is not both ways
# at every layer, which is what "deeply bidirectional" means in the paper.)
#
# What is the causal mask good for, then? A causal model can be asked at *every* position in one pass, since none sees
# its own answer: 100 % of the words teach, where the masked task uses 15 %. And it can write. T5's decoder is causal for
# that reason, and its encoder, which only reads, is not.
#
# ## One vector for a text: `[CLS]` and the pooler
#
# "Is this review kind?" asks for one vector, not for one per word. BERT takes the first. `[CLS]` is no word and has
# nothing to say of itself, so training can use its vector to collect what the text as a whole is about. One more
# matrix and a tanh, the *pooler*, and a head reads that:
#
# $$\text{pooled} = \tanh\big(\text{last}_{0} \, W + b\big)$$

# %%
output = bert(params, padded_tokens[None], token_types=padded_types[None], mask=real[None])
pooled = jnp.tanh(output.last[0, 0] @ params["pooler"]["matrix"] + params["pooler"]["bias"])
assert np.allclose(pooled, output.pooled[0], atol=1e-5)

texts = np.stack([row for row in held_out["tokens"][:50]])
for attention in ("plain", "causal"):
    model = jax.jit(as_function(Bert(config, rngs=nnx.Rngs(0), attention=attention))[0])
    spread = np.array(model(params, texts).pooled).std(axis=0).max()
    print(f"{attention}: pooled differs between 50 sentences by a deviation of up to {spread:.2f}")
    assert (spread == 0) == (attention == "causal")

# %% [markdown]
# There it is again. In a causal model `[CLS]` comes before all it should sum up, and is the same for every text. Models
# of that kind read the *last* token instead.
#
# ## The heads
#
# A head is a few thousand parameters on top of an encoder with millions: that is the whole economy of transfer learning.
# The package has four (`models/bert_heads.py`):
#
# | head | reads | asks | where |
# |---|---|---|---|
# | `BertForMaskedLM` | the gaps | which word was here? | lesson 8 |
# | `BertForPreTraining` | the gaps, and pooled | the same, and: does the second text follow the first? | lesson 8 |
# | `BertForQuestionAnswering` | every token | does the answer begin here? does it end here? | lesson 9 |
# | `BertForSequenceClassification` | pooled | which class? | sentiment, type of question |
#
# Here they are at BERT-base's size, with what comes out for two texts of seven tokens. No number is computed: shapes are
# enough.

# %%
base = BertConfig.base(id2label=("unkind", "kind"))
count = lambda params: sum(x.size for x in jax.tree.leaves(params))
totals = {}
for head in ("BertForMaskedLM", "BertForPreTraining", "BertForQuestionAnswering", "BertForSequenceClassification"):
    its_apply, its_params = as_function(nnx.eval_shape(lambda: getattr(bert_heads, head)(base, rngs=nnx.Rngs(0))))
    outputs = jax.tree.leaves(jax.eval_shape(its_apply, its_params, np.zeros((2, 7), np.int32)))
    totals[head] = count(its_params)
    own = totals[head] - count(its_params["encoder"])
    print(f"{head:30} {own:8,} parameters of its own; out come", *(x.shape for x in outputs))

# %% [markdown]
# The masked-LM head looks expensive, with 622,650. It should cost 24 million more, a matrix from 768 entries to 30,522
# words; but as in T5 1.0 that matrix is the table of words once more, and only a bias is new.
#
# ## Exercise 4: how many parameters?
#
# On paper first, for BERT-base: width $D = 768$, 12 layers, 12 heads, $F = 3072$, a vocabulary of 30,522, 512 positions, 2
# token types. What do the 12 heads change? Then write it for any size; the encoder alone, with its pooler.

# %%
def parameters(config: BertConfig) -> int:
    D, F = config.hidden_size, config.intermediate_size
    # Hint: embeddings (three tables and a norm), then for each layer attention (four matrices), feed-forward (two) and
    # two norms, then the pooler. Every matrix has a bias, every norm a scale and a bias.
    # BLANK
    norm = 2 * D
    tables = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size) * D
    attention = 4 * (D * D + D)
    feed_forward = D * F + F + F * D + D
    return tables + norm + config.num_hidden_layers * (attention + feed_forward + 2 * norm) + D * D + D
    # END BLANK


check.parameters(parameters)

# %%
assert parameters(BertConfig.base()) == 109_482_240
print(f"BERT-base {parameters(BertConfig.base()):,}; BERT-large {parameters(BertConfig.large()):,}")


def where_they_sit(config: BertConfig) -> dict[str, int]:
    params = as_function(nnx.eval_shape(lambda: Bert(config, rngs=nnx.Rngs(0))))[1]
    layers = [params[f"layer_{i}"] for i in range(config.num_hidden_layers)]
    return {
        "words": count(params["embeddings"]["word"]),
        "attention": sum(count(layer["attention"]) for layer in layers),
        "feed-forward": sum(count(layer["feed_forward"]) for layer in layers),
        "all else": count(params["embeddings"]) - count(params["embeddings"]["word"]) + count(params["pooler"])
        + sum(count(layer["attention_norm"]) + count(layer["feed_forward_norm"]) for layer in layers),
    }  # fmt: skip

# %%
figure, axes = plt.subplots(figsize=(10, 3.2), layout="constrained")
for y, size in enumerate(["large", "base", "small", "mini", "tiny"]):
    parts, left = where_they_sit(getattr(BertConfig, size)()), 0.0
    total = sum(parts.values())
    assert total == parameters(getattr(BertConfig, size)())
    for (part, number), colour in zip(parts.items(), plt.get_cmap("tab10").colors, strict=False):
        axes.barh(y, 100 * number / total, left=left, color=colour, alpha=0.7, label=part if y == 0 else None)
        if number / total > 0.04:
            axes.text(left + 50 * number / total, y, f"{number / 1e6:.1f}", ha="center", va="center")
        left += 100 * number / total
    axes.text(101, y, f"{total / 1e6:.1f} million", va="center")
axes.set_yticks(range(5), ["large", "base", "small", "mini", "tiny"])
axes.set(xlim=(0, 118), xticks=range(0, 101, 20), xlabel="share, %", title="Where BERT's parameters sit, in millions")
axes.legend(loc="upper center", bbox_to_anchor=(0.43, -0.2), ncols=4)
show(figure, "07_parameters")

# %% [markdown]
# Half of BERT-base is feed-forward, a quarter attention, a fifth the table of words. In the tiny one the words are nearly
# all there is, and a parameter count says little about how much it can think. That the heads change nothing is no
# accident: twelve of size 64 are as wide as one of 768.
#
# ## A real one
#
# All of this was to understand what you can have in two lines. If you have a network, set `DOWNLOAD` to True: 440 MB,
# once. The name can also be a directory that Hugging Face's Transformers has saved.

# %%
DOWNLOAD = False

if DOWNLOAD:
    from tlqa_jax import from_pretrained, load_tokenizer

    model = from_pretrained("bert-base-uncased")  # a BertForMaskedLM; from_pretrained(name, attention="causal") as well
    wordpieces = load_tokenizer("bert-base-uncased")

    question = np.array([wordpieces.encode("[CLS] the baker put the bread into the [MASK] . [SEP]")])
    logits = model(question)[0, int(np.argmax(question[0] == wordpieces.mask_id))]
    for piece in np.argsort(-np.array(logits))[:5]:
        print(f"{wordpieces.piece(piece):12} {100 * jax.nn.softmax(logits)[piece]:5.1f} %")
else:
    print("not run: DOWNLOAD is False")

# %% [markdown]
# Try the gap in front of its clue, "the [MASK] put the bread into the oven", and then both with `attention="causal"`. The
# second pair is not the comparison of this lesson: that model was trained to look both ways, and has one eye shut now.
#
# ## What you know now
#
# - BERT is T5's encoder with vectors for positions and token types, biases, and its norms after the sums.
# - Epsilon, gelu and the place of the norm are three traps: each runs, and each is wrong.
# - Unmasked attention puts every word into every vector; a causal mask keeps the later ones out, at any depth.
# - The same encoder on the same task: where the clue comes later, one direction is a guess, and no training helps.
# - `[CLS]` sums up a text because it sees all of it. A head is small; the encoder is what is transferred.
# - BERT-base has 109,482,240 parameters: half feed-forward, a quarter attention, a fifth words.
#
# Our gaps were made by hand, with a clue for each. Lesson 8 makes them from raw text, without anybody's help.
#
# *Read on:* Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
# sections 3 and 5.1; Ba et al. 2016, "Layer Normalization"; Hendrycks and Gimpel 2016, "Gaussian Error Linear Units";
# Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture"; Turc et al. 2019, "Well-Read Students Learn
# Better", for the small sizes.
