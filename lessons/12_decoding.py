# %% [markdown]
# # Lesson 12: Decoding
#
# **Time** 70 minutes; the computer needs less than one of them (two CPU cores), and two more if lesson 5's run is not
# there.
#
# **Know first** How a decoder writes greedily, and the probability of a text (lesson 6). The run of lesson 5 is used
# here; without it, this lesson makes one.
#
# **You will be able to**
# - show a case in which greedy decoding misses the most probable text, and say why;
# - do a step of beam search by hand, and say what a length penalty compares;
# - draw the distribution that temperature, top-k and top-p leave to sample from;
# - choose among them for a purpose: an answer, or variety.

# %%
import json
from collections import Counter
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from tlqa_jax.inference.beam_search import beam_search
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.inference.sampling import warp_logits
from tlqa_jax.lessons import SMOKE, decoding as check, show, street
from tlqa_jax.training.pretrain_spans import pretrain_spans

# %% [markdown]
# ## A model one can read
#
# A decoder is a table: for each beginning, the distribution of the next word. A T5 computes its table, which is
# endless. Here is one with four lines; if a beginning is not in it, the text ends.

# %%
for beginning, after in check.TABLE.items():
    following = "   ".join(f"{word} {p}" for word, p in after.items())
    print(f"Mira plays {' '.join(beginning):8} …   {following}")

# %% [markdown]
# All texts that this table can write are the paths of a tree, and the probability of a text is the product along its
# path.

# %%
def all_texts(beginning: tuple = ()) -> dict[tuple, list[float]]:
    """{words: the probability of each} of every text of the table, the end among the words."""
    texts = {}
    for word, p in check.TABLE.get(beginning, {"<end>": 1.0}).items():
        after = {("<end>",): [1.0]} if (*beginning, word) not in check.TABLE else all_texts((*beginning, word))
        texts |= {(word, *rest): [p, *ps] for rest, ps in after.items()}
    return texts


texts = all_texts()
for text, ps in sorted(texts.items(), key=lambda item: -np.prod(item[1])):
    print(f"{np.prod(ps):.3f}   {' '.join(text)}")
assert np.isclose(sum(np.prod(ps) for ps in texts.values()), 1.0)

# %% [markdown]
# ## The wrong version first: greedy
#
# Greedy decoding takes the most probable word at each step. The package's `greedy` can write with our table as it does
# with a T5 (the table only has to have the same three methods: `encode`, `start_cache`, `decode_step`).

# %%
table, nothing = check.TableModel(), jnp.zeros((1, 1), jnp.int32)
greedily = greedy(table, {}, nothing, max_new_tokens=5)
greedy_text = check.words(greedily.tokens[0].tolist())
most_probable = max(texts, key=lambda text: np.prod(texts[text]))
print("greedy:", greedy_text, "    most probable:", " ".join(most_probable[:-1]))

figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
check.draw_tree(axes, texts, {("a", "lute", "<end>"): "tab:orange", most_probable: "tab:blue"})
axes.set_title("Mira plays …   orange: the greedy path; blue: the most probable text")
show(figure, "12_tree")
assert greedy_text == "a lute" and most_probable[:2] == ("the", "flute")

# %% [markdown]
# "a" is more probable than "the": 0.5 against 0.4. But the probability after "a" is divided among three instruments,
# and no text with "a" gets more than $0.5 \cdot 0.4 = 0.2$, while "the flute" has $0.4 \cdot 0.58 = 0.232$. Greedy
# decoding has decided before it could see that, and it never goes back. *The best beginning need not be the beginning
# of the best text.*
#
# ## Beam search
#
# It is impossible to try all texts: there are $V^T$ of them. Beam search keeps the `width` best beginnings. In each
# step every one of them is continued in all $V$ ways, and of all these continuations together the `width` best are
# kept. What is compared is $\log p$ of the whole beginning, the sum over its tokens.
#
# ## Exercise 1: one step
#
# `beams` is a list of (tokens, score), with tokens a tuple and score the sum of their log-probabilities so far.
# `log_p(tokens)` gives the log-probabilities of the next token, an array [V]. Return the `width` best continuations in
# the same form, best first.

# %%
def beam_step(beams: list, log_p, width: int) -> list:
    # Hint: all continuations of all beams compete in one list. The score of a continuation is its beam's plus the
    # log-probability of the new token.
    # Hint: `((*tokens, v), score + x)` for each beam and each `v, x` of `enumerate(log_p(tokens))`; then `sorted(found,
    # key=lambda beam: -beam[1])`, cut to `width`.
    # BLANK
    found = [((*tokens, v), score + x) for tokens, score in beams for v, x in enumerate(log_p(tokens))]
    return sorted(found, key=lambda beam: -beam[1])[:width]
    # END BLANK


check.beam_step(beam_step)

# %% [markdown]
# Your step with the table (a text that has ended is taken out of the search):

# %%
def search(width: int, steps: int = 5) -> list:
    log_p = lambda tokens: np.log(np.maximum(check.table_probabilities([check.WORDS[t] for t in tokens]), 1e-30))
    beams, done = [((), 0.0)], []
    for step in range(steps):
        found = beam_step(beams, log_p, 2 * width)  # twice as many: as many as `width` may have ended
        done += [beam for beam in found[:width] if beam[0][-1] == check.END]
        beams = [beam for beam in found if beam[0][-1] != check.END][:width]
        seen = [f"{check.words(tokens)} {np.exp(score):.3f}" for tokens, score in beams if score > -9]
        print(f"width {width}, step {step}:", "  ".join(seen) or "all have ended")
        if not seen:
            break
    return sorted(done, key=lambda beam: -beam[1])


for width in (1, 2, 3):
    best, score = search(width)[0]
    package = jax.jit(partial(beam_search, table, num_beams=width, max_new_tokens=5, length_penalty=0.0))({}, nothing)
    assert package.tokens[0, 0, : len(best)].tolist() == list(best)
    assert np.isclose(package.scores[0, 0], score, atol=1e-4)
    print(f"width {width}: {check.words(best)}, {np.exp(score):.3f}\n")

# %% [markdown]
# One beam is greedy decoding. Two find the most probable text. A wider beam looks at more beginnings, but there is no
# guarantee: what one beam keeps, two may drop for beginnings that look better at that step, and a beginning that is
# dropped never comes back, however good its continuations are.
#
# ## What is better, a long text or a short one?
#
# Every further token multiplies by a number below 1. So the sum of $\log p$ favours short texts, and the search ends
# early if it can. The usual remedy compares
#
# $$\frac{\sum_t \log p(y_t)}{T^{\,\alpha}}$$
#
# with $T$ the number of tokens, the end token counted, and $\alpha$ the *length penalty* (an odd name: a larger one
# favours longer texts).
#
# ## Exercise 2: the score of a text

# %%
def text_score(log_p: np.ndarray, penalty: float) -> float:
    # Hint: with a penalty of 0 it is the sum, with 1 the mean.
    # Hint: divide `log_p.sum()` by `len(log_p)` to the power of `penalty`.
    # BLANK
    return log_p.sum() / len(log_p) ** penalty
    # END BLANK


check.text_score(text_score)

# %%
penalties = np.linspace(-2, 3, 101)
candidates = {text: [text_score(np.log(ps), penalty) for penalty in penalties] for text, ps in texts.items()}
best = [max(candidates, key=lambda text: candidates[text][i]) for i in range(len(penalties))]
figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
for text in dict.fromkeys([*best, ("a", "lute", "<end>")]):
    share = [100 * candidates[best[i]][i] / candidates[text][i] for i in range(len(penalties))]  # both are negative
    axes.plot(penalties, share, label=" ".join(text[:-1]))
axes.set(xlabel="length penalty", ylabel="score, % of the best text's", ylim=(40, 104))
axes.set_title("At the top: the best text")
figure.legend(loc="outside right upper")
show(figure, "12_length_penalty")
for penalty in (-2.0, 0.0, 1.0):
    print(f"penalty {penalty:4}: {' '.join(best[int(np.argmin(abs(penalties - penalty)))][:-1])}")
assert len(set(best)) >= 3

# %% [markdown]
# Three penalties, three "best" texts, one model. None of them is the true one: which text is better is a decision, and
# the penalty makes it. Even between 0 and 1 the best text changes here, where no text has more than four tokens. So a
# score of answers has to say which penalty was used, and for summaries it is tuned on held-out texts.
#
# ## Sampling instead of searching
#
# The most probable text is what one wants if there is *one* right text: an answer. A story is different. The most
# probable story is dull (and ends soon, or repeats itself: Holtzman et al. 2020). There, each token is *sampled* from
# its distribution, as it is, or changed before: **temperature** divides the logits, **top-k** keeps the k most probable
# tokens, **top-p** keeps the fewest tokens that together have the share p.
#
# ## Exercise 3: temperature

# %%
def with_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    # Hint: temperature divides the logits. What makes probabilities of logits?
    # Hint: `jax.nn.softmax(jnp.array(logits) / ...)`.
    # BLANK
    return np.array(jax.nn.softmax(jnp.array(logits) / temperature))
    # END BLANK


check.with_temperature(with_temperature)

# %% [markdown]
# ## Exercise 4: the nucleus
#
# `p` are probabilities, in no order. Return a boolean array: True for the fewest tokens that together have at least
# `share`. (No two are alike.)

# %%
def nucleus(p: np.ndarray, share: float) -> np.ndarray:
    # Hint: sort them, the most probable first. The token that reaches the share belongs to the nucleus: so ask what the
    # tokens *before* it have together.
    # Hint: `order = np.argsort(-p)`, and `np.cumsum(p[order]) - p[order]` is what the more probable ones have together.
    # `kept = np.zeros(len(p), bool)`, then set `kept[order[...]]`.
    # BLANK
    order = np.argsort(-p)
    before = np.cumsum(p[order]) - p[order]  # what the more probable ones have together
    kept = np.zeros(len(p), bool)
    kept[order[before < share]] = True
    return kept
    # END BLANK


check.nucleus(nucleus)

# %% [markdown]
# In pictures, for a distribution with a head and a long tail, and compared with the package's `warp_logits`, which
# makes the logits to sample from:

# %%
p = np.array([0.34, 0.22, 0.15, 0.09, 0.06, 0.05, 0.04, 0.03, 0.02])
logits = np.log(p)
settings = [dict(temperature=0.5), dict(), dict(temperature=2.0), dict(top_k=3), dict(top_p=0.75), dict(top_p=0.3)]
figure, panels = plt.subplots(2, 3, figsize=(10, 4.4), layout="constrained", sharey=True)
for axes, setting in zip(panels.flat, settings, strict=True):
    sampled_from = np.array(jax.nn.softmax(warp_logits(jnp.array(logits)[None], **setting)))[0]
    axes.bar(range(len(p)), p, color="lightgray")
    axes.bar(range(len(p)), sampled_from, width=0.5)
    axes.set(title=", ".join(f"{k}={v}" for k, v in setting.items()) or "as it is", xticks=range(len(p)))
    if "temperature" in setting:
        assert np.allclose(sampled_from, with_temperature(logits, setting["temperature"]), atol=1e-6)
    if "top_p" in setting:
        assert ((sampled_from > 0) == nucleus(p, setting["top_p"])).all()
figure.supxlabel("token, the most probable first", fontsize=10)
figure.supylabel("probability (gray: before, blue: after)", fontsize=10)
show(figure, "12_shaped")

# %% [markdown]
# Temperature changes every probability and excludes nothing: the tail, tens of thousands of tokens in a real
# vocabulary, has some share together even if each of them has almost none. Top-k and top-p cut off the tail. Top-k
# keeps the same number of tokens whether the model is sure or not; top-p keeps the same share, so few tokens when it
# is sure and many when it is not.
#
# ## A real one
#
# Now the T5 of lesson 5 (the same call as there: it makes the run, continues it, or finds it complete). It has learned
# to fill in the facts of a passage, all of them at once. It has read about its own street, but not about strangers.

# %%
# With True, runs are kept on your Google Drive, as in lesson 5.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
model = open_model(pretrain_spans(street.pretraining(files, runs / "pretrained")))


def with_holes(row: dict) -> str:
    """The passage, with its facts hidden."""
    text, at = "", 0
    for number, (start, end) in enumerate(row["spans"]):
        text, at = f"{text}{row['text'][at:start]}<extra_id_{number}>", end
    return text + row["text"][at:]


holes, facts = {}, {}
for name in ("texts", "held_out"):
    rows = [json.loads(line) for line in (files / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if len(model.tokenizer.encode(with_holes(row))) < model.input_length][:36]
    holes[name] = [with_holes(row) for row in rows]
    facts[name] = [", ".join(row["text"][start:end] for start, end in row["spans"]) for row in rows]
for name, title in (("texts", "of the street"), ("held_out", "strangers")):
    for text, hidden in list(zip(holes[name], facts[name], strict=True))[:2]:
        written = model.generate([text], GenerationConfig(max_new_tokens=16))[0][0].text
        print(f"{title}: {text}\n    {written}\n    (hidden: {hidden})")

# %% [markdown]
# Does it know the facts, and does it know which belongs where? These are two things, as you see.
#
# How often is the greedy text not the most probable one that can be found? Each point is a passage: what greedy
# decoding wrote, and what four beams found, compared by the probability of the whole text (a length penalty of 0).

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharex=True, sharey=True)
better = {}
for axes, (name, title) in zip(panels, {"texts": "told about in pretraining", "held_out": "strangers"}.items()):
    one, four = (
        [best[0] for best in model.generate(holes[name], GenerationConfig(max_new_tokens=16, **beams))]
        for beams in ({}, {"num_beams": 4, "length_penalty": 0.0})
    )
    logs = np.log([[max(text.probability, 1e-30) for text in found] for found in (one, four)])
    better[name] = float((logs[1] > logs[0] + 0.01).mean())
    axes.plot(*logs, "o", alpha=0.5)
    axes.axline((-4, -4), slope=1, color="black", linewidth=0.8)
    axes.set(title=f"{title}: beams better in {better[name]:.0%}", xlabel="log p, greedy", ylabel="log p, 4 beams")
    most = int(np.argmax(logs[1] - logs[0]))
    print(f"{holes[name][most]}   (hidden: {facts[name][most]})")
    print(*(f"    {text.probability:.4f}  {text.text}" for text in (one[most], four[most])), sep="\n")
show(figure, "12_greedy_and_beams")

# %% [markdown]
# Points on the line: the same text. Above it, greedy decoding missed a more probable one; it may have begun with a fact
# that fits everywhere, and then no fact was left that fits the last hole. (There may be points below the line, too. No
# width is a guarantee.) Now look at the two examples: is the more probable text the *better* one? That is another
# question, and one about the model: a decoder can only find what the model prefers.
#
# The beams of one passage, drawn as a tree:

# %%
stranger = holes["held_out"][0]
six_beams = GenerationConfig(num_beams=6, num_return_sequences=6, length_penalty=0.0, max_new_tokens=6)
beams = model.generate([stranger], six_beams)[0]
figure, axes = plt.subplots(figsize=(11, 4.4), layout="constrained")
shorter = lambda piece: piece.replace("▁", "_").replace("extra_id_", "")
paths = {tuple(map(shorter, text.pieces)): text.token_probabilities for text in beams}
check.draw_tree(axes, paths, {next(iter(paths)): "tab:blue"})
axes.set_title(stranger.replace("extra_id_", ""), fontsize=8, wrap=True)
show(figure, "12_beams")

# %% [markdown]
# And now five hundred samples, of the first fact only. At temperature 1 each text comes as often as its probability
# says. That can be checked, since the model gives its probabilities.

# %%
many = 60 if SMOKE else 500
sampling = lambda t: GenerationConfig(temperature=t, num_return_sequences=many, max_new_tokens=2)
draws = {t: model.generate([stranger], sampling(t))[0] for t in (0.3, 1.0, 2.0)}
for t, drawn in draws.items():
    count = Counter(text.pieces[-1] for text in drawn)
    print(f"temperature {t}: {len(count)} different facts; most often {', '.join(x for x, _ in count.most_common(3))}")

once = {text.pieces: text for text in draws[1.0]}
often = Counter(text.pieces for text in draws[1.0]).most_common(12)
shares = np.array([n / many for _, n in often])
said = np.array([once[pieces].probability for pieces, _ in often])
figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
place = np.arange(len(often))
axes.bar(place - 0.2, shares, width=0.4, label=f"share of {many} samples")
axes.bar(place + 0.2, said, width=0.4, label="probability")
axes.set_xticks(place, [" ".join(map(shorter, pieces)) for pieces, _ in often], rotation=30, fontsize=8)
axes.set(xlabel="what was drawn, the most frequent first", ylabel="share, probability")
axes.set_title("The most frequent texts at temperature 1")
axes.legend()
show(figure, "12_drawn")
assert (abs(shares - said) < 5 * np.sqrt(said * (1 - said) / many) + 2 / many).all()
assert len({x.pieces for x in draws[0.3]}) <= len({x.pieces for x in draws[2.0]})

# %% [markdown]
# ## What to take
#
# | for | take |
# |---|---|
# | an answer, a label | greedy, or a few beams: there is one right text, and it should be the most probable |
# | several candidates | the n best of the beams, with their probabilities |
# | variety: examples, stories | sampling, temperature about 0.7 to 1, top-p about 0.9 |
# | how sure is it? | the probability of the text; or sample many, and see how often they agree |
#
# On the command line: `tlqa generate RUN "Mira <extra_id_0> in Oss." --num-beams 4 -n 4`, or `--temperature 0.8 --top-p
# 0.9 --seed 1`, with `--probabilities` to see each piece's.
#
# ## What you know now
#
# - Greedy decoding cannot go back: the best beginning need not be the beginning of the best text.
# - Beam search compares whole beginnings, all continuations of all beams together. One beam is greedy decoding; no
#   width is a guarantee, unless it keeps all beginnings.
# - A length penalty decides how long texts compare with short ones.
# - Temperature changes the distribution, top-k and top-p cut off its tail. At temperature 1 a text is sampled as often
#   as its probability says.
# - A decoder finds what the model prefers. Whether that is right is a question about the model.
#
# *Try next:* change a number in `check.TABLE` so that even two beams miss the most probable text.
#
# *Read on:* Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration" (top-p); Fan et al. 2018,
# "Hierarchical Neural Story Generation" (top-k); Stahlberg and Byrne 2019, "On NMT Search Errors and Model Errors: Cat
# Got Your Tongue?", where the exact search finds that the most probable translation is often the empty one.

# %% [markdown]
# ## Bonus: searching by sampling
#
# Draw n texts from the table at temperature 1, and keep the most probable of those that you drew. How many draws are
# needed to find "the flute" in nine of ten tries? Predict it from its probability, 0.232, then try it a thousand times.
# Greedy decoding never finds it. Why can sampling?
#
# > All n draws miss it with probability 0.768 to the power of n. That is 0.093 for n = 9. `rng.choice(len(texts), n,
# > p=...)` draws from the list of all texts.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** All logits of a model are multiplied by 2. What happens to the greedy text, and to samples?
#
# > The greedy text stays. Samples are drawn as if at temperature 0.5, so they are less varied.
#
# **2.** Text A has 3 tokens and a log probability of -3.0, text B has 6 tokens and -4.5. Which one is better with a
# length penalty of 0, and which one with 1?
#
# > With 0 it is A, -3.0 against -4.5. With 1 it is B, -0.75 a token against -1.0.
#
# **3.** The probabilities are 0.5, 0.3, 0.15 and 0.05. What do top-k = 2 and top-p = 0.9 leave, and with which
# probabilities?
#
# > Top-k leaves two: 0.625 and 0.375. Top-p needs three to reach 0.9: 0.526, 0.316 and 0.158.
#
# **4.** In 500 samples at temperature 1 a text comes 40 times. What is its probability, roughly? And if the temperature
# was 0.3?
#
# > About 0.08, give or take 0.024. At 0.3 the shares are not the model's probabilities any more: frequent texts come
# > more often than that.
#
# **5.** With a wider beam the texts have a higher probability, and the scores of your answers fall. Is the search
# broken?
#
# > No. It finds better what the model prefers. What the model prefers is not what you want, and that is a question
# > about the model, or about the length penalty.
