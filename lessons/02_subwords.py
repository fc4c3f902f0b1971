# %% [markdown]
# # Lesson 2: Subwords
#
# **Time** 50 minutes, of which the computer needs half a minute.
#
# **Know first** Python: dictionaries, `Counter`, `zip`. That a probability has a logarithm. No neural network yet.
#
# **You will be able to**
# - say why models read neither words nor letters;
# - build byte-pair encoding yourself, and cut any word with it;
# - explain how SentencePiece's unigram model cuts instead, and find its best cut yourself;
# - explain why the town "Missoula" is three pieces to T5, and predict which other words are several pieces.

# %%
import os
import re
from collections import Counter
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import sentencepiece

from tlqa_jax.data.tiny_world import bundled
from tlqa_jax.lessons import SMOKE, show, subwords as check
from tlqa_jax.text import bpe
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

# %% [markdown]
# ## The wrong version first: words
#
# A network takes numbers, so text has to become a list of ids. The obvious list has one id per word. We count the words
# of our small world and number them:

# %%
passages = bundled("pretraining.txt").read_text(encoding="utf-8").split("\n\n")
word_counts = Counter(word for passage in passages for word in passage.split())
print(f"{word_counts.total()} words, {len(word_counts)} different, the commonest {word_counts.most_common(4)}")

sentence = "Casper Moss, a trumpeter from Quarrowmoor, is unmoved."
print([word if word in word_counts else "<unknown>" for word in sentence.split()])
assert sum(word not in word_counts for word in sentence.split()) >= 3

# %% [markdown]
# What he plays, where he is from and how he feels: all of it is lost. A larger list would not help for long: real text
# always has new words, names above all, and names are what people ask about. A word that is `<unknown>` cannot be read,
# and it cannot be an answer.
#
# The other extreme never fails: **letters**. But then a text is five times as long, attention (lesson 3) costs 25
# times as much, and the model has to learn to spell before it can learn to read.
#
# Between the two are **subwords**: frequent words are one piece, rare words are several, and nothing is unknown as long
# as all letters are pieces too.
#
# ## Byte-pair encoding
#
# Sennrich, Haddow and Birch (2016) used a method of data compression to find the pieces. Cut every word into characters
# and put a mark `</w>` at its end. Then repeat: find the pair of neighbours that occurs most often, and make it one
# symbol.
#
# ```
# low low lower    l o w </w>  x2    l o w e r </w>  x1     the commonest pair is (l, o), it occurs 3 times
# merge l o        lo w </w>   x2    lo w e r </w>   x1     now (lo, w), 3 times
# merge lo w       low </w>    x2    low e r </w>    x1     now (low, </w>), 2 times
# ```
#
# Merges never cross the border of a word, so it is enough to know each different word once, and how often it occurs.
#
# ## Exercise 1: count the pairs

# %%
def count_pairs(words: dict[tuple[str, ...], int]) -> Counter:
    """{symbols of a word: occurrences of the word} -> {pair of neighbours: its occurrences in the text}."""
    # Hint: find the pairs of one word. Each of them occurs as often as the word does.
    # Hint: for each `word, count` in `words.items()`: the pairs are `zip(word, word[1:])`, and `pairs[pair] += count`.
    # BLANK
    pairs = Counter()
    for word, count in words.items():
        for pair in zip(word, word[1:]):
            pairs[pair] += count
    return pairs
    # END BLANK


check.count_pairs(count_pairs)

# %% [markdown]
# The rest is a loop. Of pairs equally common we take the alphabetically first, so that everyone gets the same merges.
# `bpe.merge_pair(symbols, pair)` goes over a word from left to right and joins the pair wherever it stands.

# %%
def learn(text: list[str], num_merges: int) -> list[tuple[str, str]]:
    counts = Counter(word for passage in text for word in passage.split())
    words = {(*word, "</w>"): count for word, count in counts.items()}
    merges = []
    while len(merges) < num_merges:
        pairs = count_pairs(words)
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] < 2:
            break  # nothing left that occurs twice
        merges.append(best)
        words = {tuple(bpe.merge_pair(word, best)): count for word, count in words.items()}
    return merges


assert learn(["low low lower"], 3) == [("l", "o"), ("lo", "w"), ("low", "</w>")]  # the drawing above
merges = learn(passages, 50 if SMOKE else 400)
print("first:", *(" ".join(pair) for pair in merges[:20]), sep=" | ")
print("last: ", *(" ".join(pair) for pair in merges[-10:]), sep=" | ")

# %% [markdown]
# See what it found: first the ends of words and pieces of small words; later larger parts, and whole words if they are
# frequent. It was not told what a syllable is.
#
# The list of merges, in this order, *is* the model. A new word is cut by doing the merges again, in the same order.
#
# ## Exercise 2: cut a word

# %%
def cut_word(word: str, merges: list[tuple[str, str]]) -> list[str]:
    # Hint: begin with the characters and the mark of the end. Then do all merges, in the order in which they were
    # learned.
    # Hint: `symbols = [*word, "</w>"]`, and for each pair `symbols = bpe.merge_pair(symbols, pair)`.
    # BLANK
    symbols = [*word, "</w>"]
    for pair in merges:
        symbols = bpe.merge_pair(symbols, pair)
    return symbols
    # END BLANK


check.cut_word(cut_word)

# %%
for word in ["plays", "playing", "trumpet", "trumpeter", "Quarrow", "Quarrowmoor", "unmoved."]:
    print(f"{word:12}", *cut_word(word, merges))
assert "".join(cut_word("Quarrowmoor", merges)) == "Quarrowmoor</w>"  # never seen, never lost

# %% [markdown]
# That is BPE, whole. The package has the same in `text/bpe.py`; only its bookkeeping is quicker, because a merge
# changes few words and the others need not be counted again. Yours equals it, merge for merge and cut for cut:

# %%
assert merges == bpe.learn_bpe(passages, len(merges))
for word in ["Quarrowmoor", "trumpeter", *list(word_counts)[:: 20 if SMOKE else 2]]:
    assert cut_word(word, merges) == bpe.encode_bpe(word, merges)
assert bpe.decode_bpe(bpe.encode_bpe(sentence, merges)) == sentence
print("The same.")

# %% [markdown]
# How many merges? Few merges make long sequences, many make a large vocabulary, whose last pieces are so rare that a
# model hardly ever sees them. Here is the length, on text about people who are not in the training text:

# %%
dev = Counter(bundled("pretraining_dev.txt").read_text(encoding="utf-8").split())
all_merges = bpe.learn_bpe(passages, 1000)
sizes = [0, 100, 400, 1000] if SMOKE else [0, 25, 50, 100, 200, 300, 400, 600, 800, 1000]
per_word = []
for size in sizes:
    lengths = {word: len(bpe.encode_bpe(word, all_merges[:size])) for word in dev}
    per_word.append(sum(count * lengths[word] for word, count in dev.items()) / dev.total())
assert per_word == sorted(per_word, reverse=True)  # every merge shortens

figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.plot(sizes, per_word, "o-", label="BPE")
axes.axhline(1, color="tab:gray", linestyle="--", label="one symbol per word")
axes.annotate("characters", (0, per_word[0]), xytext=(60, per_word[0] - 0.15))
axes.set(xlabel="merges (the vocabulary is the characters and these)", ylabel="symbols per word", ylim=(0, None))
axes.set_title("What a vocabulary buys")
axes.legend(loc="center right")
show(figure, "02_symbols_per_word")

# %% [markdown]
# ## Another idea: the most probable cut
#
# BPE is greedy and never looks back. Early merges may keep later ones from happening:

# %%
known = {"".join(pair) for pair in all_merges[:400]}
print(*bpe.encode_bpe("belongs", all_merges[:400]), " though it knows", *sorted(known & {"be", "long", "s</w>"}))
assert len(bpe.encode_bpe("belongs", all_merges[:400])) > 3 and {"be", "long", "s</w>"} <= known

# %% [markdown]
# The **unigram** model (Kudo 2018) has another approach. Every piece has a probability, and the probability of a cut is
# the product over its pieces. Then the cut with the largest probability is chosen:
#
# $$\hat{x} = \arg\max_{x_1 x_2 \ldots x_n = \text{word}} \; \sum_{i=1}^{n} \log p(x_i)$$
#
# Training starts from many more pieces than wanted, estimates their probabilities by expectation-maximisation, removes
# those without which the probability of the text falls least, and repeats until the vocabulary is small enough.
# **SentencePiece** (Kudo and Richardson 2018) is the library around it, and T5 and many others use it. Its other idea:
# a space is a character like any other, written `▁`, so that a text is its pieces put together, with no rule about
# where words end.

# %%
folder = Path("runs/lessons")
folder.mkdir(parents=True, exist_ok=True)
tokenizer = SentencePieceTokenizer.train(passages, folder / "02_unigram.model", vocab_size=400)
print(tokenizer.pieces(sentence))
assert "".join(tokenizer.pieces(sentence)).replace("▁", " ").strip() == sentence
assert tokenizer.decode(tokenizer.encode(sentence)) == sentence
assert tokenizer.decode(tokenizer.encode("Casper  Moss\n")) == "Casper Moss"  # but runs of white space are made one

# %% [markdown]
# How is the best cut found? A word of $n$ letters has $2^{n-1}$ cuts; for "▁Quarrowmoor" that is 2048. But the best
# cut of a beginning does not depend on what follows. So go through the word once, and keep for every position the best
# cut of everything before it (Viterbi 1967):
#
# $$\text{best}(e) = \max_{s < e} \; \big( \text{best}(s) + \log p(\text{word}[s\!:\!e]) \big)$$
#
# ## Exercise 3: the most probable cut

# %%
def likeliest_cut(word: str, log_probability: dict[str, float]) -> list[str]:
    best = {0: (0.0, [])}  # position -> (log probability, pieces) of the best cut of word[:position]
    # Hint: the best cut of a beginning does not depend on what follows. For each end ask: where can the last piece
    # begin?
    # Hint: for each `end` from 1 to `len(word)`, every `start` in `best` for which `word[start:end]` is a known piece
    # offers `(best[start][0] + its log probability, [*best[start][1], piece])`. `best[end]` is the max of the offers
    # (pairs are compared by their first entry), if there are any. Return the pieces of `best[len(word)]`.
    # BLANK
    for end in range(1, len(word) + 1):
        offers = [
            (best[start][0] + log_probability[piece], [*best[start][1], piece])
            for start in best
            if (piece := word[start:end]) in log_probability
        ]
        if offers:
            best[end] = max(offers)
    return best[len(word)][1]
    # END BLANK


check.likeliest_cut(likeliest_cut)

# %% [markdown]
# The claim: this is what SentencePiece does. Take the pieces and log probabilities out of the vocabulary that we
# trained, and cut words with both.

# %%
model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.model_file))
log_probability = {model.id_to_piece(id): model.get_score(id) for id in range(3, model.get_piece_size())}

for word in ["Quarrowmoor", "trumpeter", *word_counts]:
    assert likeliest_cut("▁" + word, log_probability) == tokenizer.pieces(word), word
print(f"The same on {len(word_counts) + 2} words.")
print("unigram:", tokenizer.pieces("trumpeter"), " BPE:", cut_word("trumpeter", merges))

# %% [markdown]
# ## Why "Missoula" is three pieces
#
# T5's vocabulary has 32,000 pieces, trained on web text. Given "Beginners BBQ Class Taking Place in Missoula!" it
# writes the town as `▁Miss` `oul` `a`. Missoula is a real town, in Montana, but web texts do not mention it often
# enough: it is not among the 32,000 most useful pieces. So it is put together from pieces that are there because of
# other words. The probabilities decide which: $-11.2$ for `▁Miss`, $-11.3$ for `oul` and $-4.1$ for `a` add up to
# $-26.6$, and every other cut adds up to less.
#
# Our world can show how all cuts compare. It has a town called Quarrow, which is often named. Quarrowmoor does not
# occur in it.

# %%
rivals = model.nbest_encode("Quarrowmoor", nbest_size=8, out_type=str)
value = [sum(log_probability.get(piece, float("nan")) for piece in pieces) for pieces in rivals]

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
bars = axes.barh(range(len(rivals)), value, color=["tab:blue"] + ["tab:gray"] * (len(rivals) - 1))
axes.bar_label(bars, fmt=" %.1f ", label_type="center", color="white")
axes.set_yticks(range(len(rivals)), [" | ".join(pieces) for pieces in rivals])
axes.invert_yaxis()
axes.set(xlabel="log probability of the cut (right: more probable)", title="Eight ways to cut a word never seen")
show(figure, "02_cuts")

# %%
passages_text = " ".join(passages)
assert rivals[0] == tokenizer.pieces("Quarrowmoor") == likeliest_cut("▁Quarrowmoor", log_probability)
assert value == sorted(value, reverse=True)
assert tokenizer.pieces("Quarrow") == ["▁Quarrow"] and passages_text.count("Quarrow") > 20  # often named: one piece
assert len(rivals[0]) > 1 and "Quarrowmoor" not in passages_text  # never named: several

# %% [markdown]
# Every piece makes the product smaller, so a cut into few and frequent pieces has the largest. And a word is one piece
# only if it is frequent enough for a place in the vocabulary. Among the longer words of our world:

# %%
occurrences = Counter(re.findall(r"[A-Za-z]{6,}", passages_text))
typical = {}
for name, numbers in {"one piece": [1], "two or three": [2, 3], "four or more": range(4, 20)}.items():
    counts = [count for word, count in occurrences.items() if len(tokenizer.pieces(word)) in numbers]
    typical[name] = median(counts)
    print(f"{name:12}: {len(counts):3} words, each occurs {typical[name]:4.0f} times at the median")
assert typical["one piece"] > typical["four or more"]

# %% [markdown]
# ### With T5's own vocabulary
#
# If you have it, try T5's own. It is the file `spiece.model` of `t5-small` on the Hugging Face hub (about 800 kB), as
# it is or gzipped. Put its path into the environment variable `T5_VOCABULARY` before you start, or into the line
# below.

# %%
t5_vocabulary = os.environ.get("T5_VOCABULARY", "")
if t5_vocabulary:
    t5 = SentencePieceTokenizer(t5_vocabulary)
    headline = "Beginners BBQ Class Taking Place in Missoula!"
    print(t5.pieces(headline))
    assert t5.pieces("Missoula") == ["▁Miss", "oul", "a"]
    assert t5.encode(headline) == [12847, 277, 15068, 4501, 3, 12297, 3399, 16, 5964, 7115, 9, 55]
    assert t5.vocab_size == 32_100  # 32,000 pieces and 100 sentinels
else:
    print("not run: T5_VOCABULARY is not set")

# %% [markdown]
# ## What a T5 vocabulary has besides pieces
#
# Three ids at the bottom are special: 0 pads, 1 ends a text, 2 is for characters that are not in the vocabulary. A
# hundred ids at the top, the *sentinels*, counted downward, will mark holes in a text. They are no words, so no text
# can contain them by accident. Lesson 4 explains what they are for.

# %%
assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
assert tokenizer.encode("<extra_id_0>") == [tokenizer.vocab_size - 1]
assert tokenizer.encode("<extra_id_1>") == [tokenizer.vocab_size - 2]
print(tokenizer.encode("Casper plays the <extra_id_0> in <extra_id_1>."))

# %% [markdown]
# ## What you know now
#
# - Word vocabularies lose the words that matter; characters make sequences long; subwords are between the two and lose
#   nothing.
# - BPE: merge the commonest pair, again and again; a word is cut by repeating the merges in their order.
# - Unigram: pieces have probabilities, and the most probable cut is chosen, found by dynamic programming.
# - A word of many pieces was rare in the text on which the vocabulary was trained. A model knows little about it, and
#   to answer with it, it has to write several pieces right.
#
# *Read on:* Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Kudo 2018, "Subword
# Regularization"; Kudo and Richardson 2018, "SentencePiece".

# %% [markdown]
# ## Bonus: what do capitals cost?
#
# To our BPE "The" and "the" are two different words. Learn 400 merges on the passages in lower case. How many symbols
# per word do the words of `dev` need then, also in lower case? Predict first whether it is more or fewer, and name what
# is lost in exchange.
#
# > `bpe.learn_bpe([passage.lower() for passage in passages], 400)`, and the loop of the figure with counts of
# > lower-case words. It is 1.86 instead of 1.97, and nothing tells a name such as Post from a post any more.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** You learn 0 merges. How is "low" cut? And after how many merges, at least, can it be one symbol?
#
# > `l`, `o`, `w`, `</w>`: four symbols. Each merge makes one symbol of two, so three merges at least.
#
# **2.** You carry out the learned merges in the reverse order. Why are the cuts worse?
#
# > A late merge is made of symbols that earlier merges produce. In the reverse order these symbols are not there yet,
# > so it does nothing, and many words stay in small pieces.
#
# **3.** In a unigram vocabulary the log probabilities are -2 for `a`, -2 for `b` and -5 for `ab`. How is "ab" cut? And
# if `ab` had -3?
#
# > As `a` `b`, because -4 is larger than -5. With -3 it would be one piece.
#
# **4.** From today on a town with a long name is in the news every day. The vocabulary is not trained again. What
# changes in the cut of its name?
#
# > Nothing. A cut depends on the pieces and their probabilities only. A model that is trained further may learn to read
# > and write these pieces better.
#
# **5.** With a vocabulary twice as large, texts are a tenth shorter. What does a model gain, and what does it pay?
#
# > Shorter texts: less work for each text, and more text fits into one input. It pays with twice as many rows in its
# > table of embeddings, and the new ones belong to rare pieces, which are seldom trained.
