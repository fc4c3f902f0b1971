"""What learners try who have not read the checks of lessons 1, 2, 10 and 11: exercise -> (check, right attempts, wrong ones)."""

import math
import re
import string
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np

from tlqa_jax.lessons import many_tasks, public_checkpoints, question_answering, subwords
from tlqa_jax.metrics import squad
from tlqa_jax.tasks.text_tasks import TextTask
from tlqa_jax.text import bpe


def place(context, text, find=str.find):
    start = find(context, text)
    return start, start + len(text)


ANSWER_SPAN = (
    question_answering.answer_span,
    {
        "slice": lambda c, a: (a["answer_start"], a["answer_start"] + len(a["text"])),
        "list": lambda c, a: [a["answer_start"], a["answer_start"] + len(a["text"])],
        "search from there": lambda c, a: place(c, a["text"], lambda c, t: c.index(t, a["answer_start"])),
    },
    {
        "first occurrence": lambda c, a: place(c, a["text"]),
        "last occurrence": lambda c, a: place(c, a["text"], str.rfind),
        "whole words": lambda c, a: re.search(rf"\b{re.escape(a['text'])}\b", c).span(),
        "last character": lambda c, a: (a["answer_start"], a["answer_start"] + len(a["text"]) - 1),
        "one too far": lambda c, a: (a["answer_start"], a["answer_start"] + len(a["text"]) + 1),
        "length": lambda c, a: (a["answer_start"], len(a["text"])),
        "words": lambda c, a: (
            (n := len(c[: a["answer_start"]].split())), n + len(a["text"].split())
        ),
        "bytes": lambda c, a: (
            (n := len(c[: a["answer_start"]].encode())), n + len(a["text"].encode())
        ),
        "counted from 1": lambda c, a: (a["answer_start"] + 1, a["answer_start"] + len(a["text"]) + 1),
        "one word": lambda c, a: (a["answer_start"], a["answer_start"] + len(a["text"].split()[0])),
        "four characters": lambda c, a: (a["answer_start"], a["answer_start"] + 4),
        "the text itself": lambda c, a: a["text"],
    },
)  # fmt: skip


def normalized(text, *, lower=True, marks="", articles=r"\b(a|an|the)\b", squeeze=lambda x: " ".join(x.split())):
    text = text.lower() if lower else text
    text = "".join(marks if c in string.punctuation else c for c in text)
    return squeeze(re.sub(articles, " ", text))


NORMALIZE = (
    question_answering.normalize,
    {
        "regular expressions": normalized,
        "translate, split": lambda t: " ".join(
            w for w in t.lower().translate(str.maketrans("", "", string.punctuation)).split()
            if w not in ("a", "an", "the")
        ),
    },
    {
        "no lower case": lambda t: normalized(t, lower=False),
        "lower case last": lambda t: normalized(t, lower=False).lower(),
        "marks become spaces": lambda t: normalized(t, marks=" "),
        "articles first": lambda t: " ".join(
            re.sub(r"[!-/:-@[-`{-~]", "", re.sub(r"\b(a|an|the)\b", " ", t.lower())).split()
        ),
        "replace": lambda t: normalized(
            t, articles="$.", squeeze=lambda x: " ".join(
                x.replace("the ", "").replace("an ", "").replace("a ", "").split())
        ),
        "replace with spaces around": lambda t: normalized(
            t, articles="$.", squeeze=lambda x: " ".join(
                x.replace(" the ", " ").replace(" an ", " ").replace(" a ", " ").split())
        ),
        "beginnings of words": lambda t: normalized(t, articles=r"\b(an|a|the)"),
        "without an": lambda t: normalized(t, articles=r"\b(a|the)\b"),
        "only the": lambda t: normalized(t, articles=r"\bthe\b"),
        "strip alone": lambda t: normalized(t, squeeze=str.strip),
        "two spaces once": lambda t: normalized(t, squeeze=lambda x: x.replace("  ", " ").strip()),
        "spaces alone": lambda t: normalized(t, squeeze=lambda x: re.sub(" +", " ", x).strip(" ")),
        "marks at the ends of words": lambda t: " ".join(
            w for w in (w.strip(string.punctuation) for w in t.lower().split()) if w not in ("a", "an", "the", "")
        ),
        "letters and digits": lambda t: normalized("".join(c for c in t if c.isalnum() or c.isspace())),
        "no articles at all": lambda t: normalized(t, articles="$."),
        "first article alone": lambda t: " ".join(
            re.sub(r"\b(a|an|the)\b", " ", normalized(t, articles="$."), count=1).split()
        ),
        "all spaces away": lambda t: normalized(t, squeeze=lambda x: "".join(x.split())),
    },
)  # fmt: skip


def f1_of(formula, normalize=squad.normalize_answer, count=Counter):
    def score(prediction, gold):
        p, g = count(normalize(prediction).split()), count(normalize(gold).split())
        return formula((Counter(p) & Counter(g)).total(), Counter(p).total(), Counter(g).total())

    return score


WORD_F1 = (
    question_answering.word_f1,
    {
        "formula": f1_of(lambda s, p, g: 2 * (s / p) * (s / g) / (s / p + s / g) if s else 0.0),
        "2s / (p + g)": f1_of(lambda s, p, g: 2 * s / (p + g)),
        "a zero that is an int": f1_of(lambda s, p, g: 2 * s / (p + g) if s else 0),
    },
    {
        "in percent": f1_of(lambda s, p, g: 200 * s / (p + g)),
        "Jaccard": f1_of(lambda s, p, g: s / (p + g - s)),
        "precision": f1_of(lambda s, p, g: s / p),
        "recall": f1_of(lambda s, p, g: s / g),
        "arithmetic mean": f1_of(lambda s, p, g: (s / p + s / g) / 2),
        "product": f1_of(lambda s, p, g: s / p * s / g),
        "harmonic without the 2": f1_of(lambda s, p, g: (s / p) * (s / g) / (s / p + s / g) if s else 0.0),
        "geometric mean": f1_of(lambda s, p, g: (s / p * s / g) ** 0.5),
        "of the longer one": f1_of(lambda s, p, g: s / max(p, g)),
        "sets": f1_of(lambda s, p, g: 2 * s / (p + g), count=set),
        "no lower case": f1_of(lambda s, p, g: 2 * s / (p + g), normalize=lambda t: normalized(t, lower=False)),
        "not normalised": f1_of(lambda s, p, g: 2 * s / (p + g), normalize=str),
        "lower case alone": f1_of(lambda s, p, g: 2 * s / (p + g), normalize=str.lower),
        "any word of the gold": lambda a, b: (
            lambda p, g: 2 * sum(w in g for w in p) / (len(p) + len(g))
        )(squad.normalize_answer(a).split(), squad.normalize_answer(b).split()),
        "letters": lambda a, b: f1_of(lambda s, p, g: 2 * s / (p + g))(" ".join(a), " ".join(b)),
        "0 / 0": f1_of(lambda s, p, g: 2 * (s / p) * (s / g) / (s / p + s / g)),
        "two digits": f1_of(lambda s, p, g: round(2 * s / (p + g), 2)),
    },
)  # fmt: skip


def counted(pairs=pairwise, weight=lambda count: count, add=lambda old, new: old + new):
    def count(words):
        result = defaultdict(int)
        for word, number in words.items():
            for pair in pairs(word):
                result[pair] = add(result[pair], weight(number))
        return result

    return count


COUNT_PAIRS = (
    subwords.count_pairs,
    {"Counter": lambda w: Counter(counted()(w)), "defaultdict": counted(), "dict": lambda w: dict(counted()(w))},
    {
        "each word once": counted(weight=lambda count: 1),
        "the last word's count": counted(add=lambda old, new: new),
        "pairs of a set": counted(pairs=lambda word: set(pairwise(word))),
        "in no order": counted(pairs=lambda word: [tuple(sorted(pair)) for pair in pairwise(word)]),
        "no overlap": counted(pairs=lambda word: zip(word[::2], word[1::2], strict=False)),
        "without the end": counted(pairs=lambda word: pairwise(word[:-1])),
        "without the beginning": counted(pairs=lambda word: pairwise(word[1:])),
        "joined": lambda words: Counter({"".join(pair): n for pair, n in counted()(words).items()}),
        "across words": lambda words: Counter(pairwise([s for word, n in words.items() for s in word * n])),
        "symbols": lambda words: Counter({s: n for word, n in words.items() for s in word}),
        "two apart": counted(pairs=lambda word: zip(word, word[2:], strict=False)),
        "the commonest alone": lambda words: Counter(dict(Counter(counted()(words)).most_common(1))),
        "end mark twice": counted(pairs=lambda word: pairwise((*word, "</w>"))),
    },
)  # fmt: skip


def cut_by(word, merges, *, end=("</w>",), merge=bpe.merge_pair):
    symbols = [*word, *end]
    for pair in merges:
        symbols = list(merge(symbols, pair))
    return symbols


def greedy_cut(word, merges):
    known, symbols, rest = {"".join(pair) for pair in merges}, [], [*word, "</w>"]
    while rest:
        size = next(n for n in range(len(rest), 0, -1) if n == 1 or "".join(rest[:n]) in known)
        symbols, rest = [*symbols, "".join(rest[:size])], rest[size:]
    return symbols


def merge_first(symbols, pair):
    at = next((i for i, neighbours in enumerate(pairwise(symbols)) if neighbours == pair), None)
    return symbols if at is None else [*symbols[:at], "".join(pair), *symbols[at + 2 :]]


def merge_last(symbols, pair):
    at = [i for i, neighbours in enumerate(pairwise(symbols)) if neighbours == pair]
    return symbols if not at else [*symbols[: at[-1]], "".join(pair), *symbols[at[-1] + 2 :]]


CUT_WORD = (
    subwords.cut_word,
    {
        "the loop": cut_by,
        "the package's": bpe.encode_bpe,
        "until nothing changes": lambda word, merges: cut_by(
            word, [pair for pair in merges for _ in range(3)]),
    },
    {
        "no end mark": lambda word, merges: cut_by(word, merges, end=()),
        "end mark on the last letter": lambda word, merges: cut_by([*word[:-1], word[-1] + "</w>"], merges, end=()),
        "backwards": lambda word, merges: cut_by(word, merges[::-1]),
        "longest from the left": greedy_cut,
        "one place": lambda word, merges: cut_by(word, merges, merge=merge_first),
        "the last place": lambda word, merges: cut_by(word, merges, merge=merge_last),
        "first merge alone": lambda word, merges: cut_by(word, merges[:1]),
        "all but the last merge": lambda word, merges: cut_by(word, merges[:-1]),
        "result thrown away": lambda word, merges: [*word, "</w>"],
        "alphabetical": lambda word, merges: cut_by(word, sorted(merges)),
        "one text": lambda word, merges: "".join(cut_by(word, merges)),
        "end mark cut off": lambda word, merges: [s.removesuffix("</w>") for s in cut_by(word, merges)],
        "in the word twice": lambda word, merges: cut_by(word * 2, merges),
    },
)  # fmt: skip


def best_cut(word, p, better=max, start=0.0, gain=lambda log_p: log_p, spare=None, pieces=99):
    best = {0: (start, [])}
    for end in range(1, len(word) + 1):
        offers = [(best[s][0] + gain(p[word[s:end]]), [*best[s][1], word[s:end]]) for s in best
                  if word[s:end] in p and len(best[s][1]) < pieces]  # fmt: skip
        if offers:
            best[end] = better(offers)
    return best[len(word)][1] if len(word) in best else spare


def longest_first(word, p, from_right=False):
    cut = []
    while word:
        sizes = [n for n in range(len(word), 0, -1) if (word[-n:] if from_right else word[:n]) in p]
        if not sizes:
            return [*cut, word]
        piece = word[-sizes[0] :] if from_right else word[: sizes[0]]
        cut, word = ([piece, *cut], word[: -sizes[0]]) if from_right else ([*cut, piece], word[sizes[0] :])
    return cut


LIKELIEST_CUT = (
    subwords.likeliest_cut,
    {
        "Viterbi": best_cut,
        "all cuts": lambda word, p: max(
            (cut for cut in subwords.cuts(word) if all(piece in p for piece in cut)),
            key=lambda cut: sum(p[piece] for piece in cut),
        ),
    },
    {
        "at most two pieces": lambda word, p: best_cut(word, p, pieces=2, spare=[word]),
        "at most three pieces": lambda word, p: best_cut(word, p, pieces=3, spare=[word]),
        "longest from the left": longest_first,
        "longest from the right": lambda word, p: longest_first(word, p, from_right=True),
        "fewest pieces": lambda word, p: best_cut(word, p, better=lambda o: min(o, key=lambda x: len(x[1]))),
        "most pieces": lambda word, p: best_cut(word, p, better=lambda o: max(o, key=lambda x: len(x[1]))),
        "smallest sum": lambda word, p: best_cut(word, p, better=min),
        "first offer": lambda word, p: best_cut(word, p, better=lambda offers: offers[0]),
        "last offer": lambda word, p: best_cut(word, p, better=lambda offers: offers[-1]),
        "sum of probabilities": lambda word, p: best_cut(word, p, gain=math.exp),
        "last piece alone": lambda word, p: best_cut(word, p, better=lambda o: max(o, key=lambda x: p[x[1][-1]])),
        "characters": lambda word, p: [*word],
        "with the score": lambda word, p: (0.0, best_cut(word, p)),
        "joined": lambda word, p: " ".join(best_cut(word, p)),
    },
)  # fmt: skip


def task(input="sport: {headline}", target="is_sport", labels=(("0", "no"), ("1", "yes")), metrics=("accuracy",)):
    return TextTask("sport", input=input, target=target, labels=dict(labels), metrics=metrics)


RECORD = (
    many_tasks.record,
    {
        "as asked": task(),
        "another name": TextTask("x", input="sport: {headline}", target="is_sport", labels={"0": "no", "1": "yes"},
                                 metrics=("accuracy",)),
    },
    {
        "no prefix": task(input="{headline}"),
        "no space": task(input="sport:{headline}"),
        "another prefix": task(input="headline: {headline}"),
        "two spaces": task(input="sport:  {headline}"),
        "prefix behind": task(input="{headline} sport: "),
        "answer in the input": task(input="sport: {headline} {is_sport}"),
        "no labels": task(labels=()),
        "exchanged": task(labels=(("0", "yes"), ("1", "no"))),
        "capitals": task(labels=(("0", "No"), ("1", "Yes"))),
        "true and false": task(labels=(("0", "false"), ("1", "true"))),
        "writes the headline": task(target="headline", labels=()),
        "an unknown field": task(target="label"),
        "exact match": task(metrics=("exact_match",)),
        "two metrics": task(metrics=("accuracy", "f1")),
        "a dictionary": {"name": "sport", "input": "sport: {headline}", "target": "is_sport"},
    },
)  # fmt: skip

NUMBER_TEXT = (
    many_tasks.number_text,
    {
        "fifths": lambda value: f"{round(value * 5) / 5:.1f}",
        "twentieths": lambda value: f"{0.2 * round(value / 0.2):.1f}",
        "str": lambda value: str(round(round(value * 5) * 0.2, 1)),
    },
    {
        "a number": lambda value: round(value * 5) / 5,
        "cut off": lambda value: f"{int(value * 5) / 5:.1f}",
        "rounded up": lambda value: f"{math.ceil(value * 5) / 5:.1f}",
        "tenths": lambda value: f"{value:.1f}",
        "whole": lambda value: f"{round(value)}",
        "whole, with a decimal": lambda value: f"{round(value):.1f}",
        "halves": lambda value: f"{round(value * 2) / 2:.1f}",
        "two decimals": lambda value: f"{round(value * 5) / 5:.2f}",
        "no decimal where it is 0": lambda value: f"{round(value * 5) / 5:g}",
        "number of fifths": lambda value: f"{round(value * 5)}",
        "times 0.2 as it comes": lambda value: str(round(value * 5) * 0.2),
        "quarters": lambda value: f"{round(value * 4) / 4:.1f}",
        "with a space": lambda value: f" {round(value * 5) / 5:.1f}",
        "a fifth too much": lambda value: f"{round(value * 5 + 1) / 5:.1f}",
    },
)  # fmt: skip


def share(x):
    return x / x.sum()


RATES = (
    many_tasks.rates,
    {
        "numpy": lambda n, cap, t: share(np.minimum(n, cap) ** (1 / t)),
        "list":
            lambda n, cap, t: [w / sum(min(x, cap) ** (1 / t) for x in n) for w in (min(x, cap) ** (1 / t) for x in n)],
        "softmax of logarithms": lambda n, cap, t: share(np.exp(np.log(np.minimum(n, cap)) / t)),
    },
    {
        "not divided": lambda n, cap, t: np.minimum(n, cap) ** (1 / t),
        "divided before": lambda n, cap, t: share(np.minimum(n, cap)) ** (1 / t),
        "power T": lambda n, cap, t: share(np.minimum(n, cap).astype(float) ** t),
        "no cap": lambda n, cap, t: share(np.array(n) ** (1 / t)),
        "no temperature": lambda n, cap, t: share(np.minimum(n, cap)),
        "cap after": lambda n, cap, t: share(np.minimum(np.array(n) ** (1 / t), cap)),
        "maximum": lambda n, cap, t: share(np.maximum(n, min(cap, 1e9)) ** (1 / t)),
        "divided by T": lambda n, cap, t: share(np.minimum(n, cap) / t),
        "1 over": lambda n, cap, t: share(1 / np.minimum(n, cap) ** (1 / t)),
        "equal": lambda n, cap, t: np.full(len(n), 1 / len(n)),
        "by the largest": lambda n, cap, t: np.minimum(n, cap) ** (1 / t) / max(np.minimum(n, cap) ** (1 / t)),
        "in percent": lambda n, cap, t: 100 * share(np.minimum(n, cap) ** (1 / t)),
        "softmax": lambda n, cap, t: share(np.exp((np.minimum(n, cap) - max(np.minimum(n, cap))) / t)),
        "by the uncapped sum": lambda n, cap, t: np.minimum(n, cap) ** (1 / t) / sum(np.array(n) ** (1 / t)),
    },
)  # fmt: skip


def matthews_of(formula, none=0.0):
    def score(said, right):
        pairs = list(zip(said, right, strict=True))
        tp, tn = sum(s and r for s, r in pairs), sum(not s and not r for s, r in pairs)
        fp, fn = sum(s and not r for s, r in pairs), sum(r and not s for s, r in pairs)
        below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return formula(tp, tn, fp, fn, below) if below or none is None else none

    return score


MATTHEWS = (
    many_tasks.matthews,
    {
        "formula": matthews_of(lambda tp, tn, fp, fn, b: (tp * tn - fp * fn) / b**0.5),
        "math.sqrt": matthews_of(lambda tp, tn, fp, fn, b: (tp * tn - fp * fn) / math.sqrt(b)),
        "correlation": lambda said, right: (
            float(np.corrcoef(said, right)[0, 1]) if len({*said}) == len({*right}) == 2 else 0.0),
    },
    {
        "0 / 0": matthews_of(lambda tp, tn, fp, fn, b: (tp * tn - fp * fn) / b**0.5, none=None),
        "nan": matthews_of(lambda tp, tn, fp, fn, b: (tp * tn - fp * fn) / b**0.5, none=float("nan")),
        "1 for 0 / 0": matthews_of(lambda tp, tn, fp, fn, b: (tp * tn - fp * fn) / b**0.5, none=1.0),
        "no root": matthews_of(lambda tp, tn, fp, fn, b: (tp * tn - fp * fn) / b),
        "plus": matthews_of(lambda tp, tn, fp, fn, b: (tp * tn + fp * fn) / b**0.5),
        "turned round": matthews_of(lambda tp, tn, fp, fn, b: (fp * fn - tp * tn) / b**0.5),
        "other pairs": matthews_of(lambda tp, tn, fp, fn, b: (tp * fp - tn * fn) / b**0.5),
        "accuracy": matthews_of(lambda tp, tn, fp, fn, b: (tp + tn) / (tp + tn + fp + fn)),
        "F1": matthews_of(lambda tp, tn, fp, fn, b: 2 * tp / (2 * tp + fp + fn)),
        "in percent": matthews_of(lambda tp, tn, fp, fn, b: 100 * (tp * tn - fp * fn) / b**0.5),
        "absolute": matthews_of(lambda tp, tn, fp, fn, b: abs(tp * tn - fp * fn) / b**0.5),
        "recall": matthews_of(lambda tp, tn, fp, fn, b: tp / (tp + fn)),
        "tp twice below": matthews_of(
            lambda tp, tn, fp, fn, b: (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tp + fp) * (tn + fn)) ** 0.5),
        "numerator alone": matthews_of(lambda tp, tn, fp, fn, b: tp * tn - fp * fn),
    },
)  # fmt: skip

KINDS = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention", "feed_forward": "DenseReluDense"}


def name_of(number, text="{stack}.block.{i}.layer.{n}.{kind}.{m}.weight", kinds=KINDS, first=0):
    return lambda stack, i, part, m: text.format(
        stack=stack, i=i + first, n=number(stack, part), kind=kinds[part], m=m, part=part)  # fmt: skip


def in_order(stack, part):
    return [p for p in KINDS if stack == "decoder" or p != "cross_attention"].index(part)


THEIR_NAME = (
    public_checkpoints.their_name,
    {
        "in order": name_of(in_order),
        "by cases": name_of(lambda s, p: 0 if p == "self_attention" else 1 if s == "encoder" or "cross" in p else 2),
    },
    {
        "the same for both stacks": name_of(lambda s, p: list(KINDS).index(p)),
        "feed-forward second": name_of(lambda s, p: {"self_attention": 0, "cross_attention": 2, "feed_forward": 1}[p]),
        "feed-forward always 1": name_of(lambda s, p: int(p != "self_attention")),
        "from 1": name_of(lambda s, p: in_order(s, p) + 1),
        "blocks from 1": name_of(in_order, first=1),
        "no .weight": name_of(in_order, "{stack}.block.{i}.layer.{n}.{kind}.{m}"),
        ".kernel": name_of(in_order, "{stack}.block.{i}.layer.{n}.{kind}.{m}.kernel"),
        "our names": name_of(in_order, "{stack}.block.{i}.layer.{n}.{part}.{m}.weight"),
        "blocks": name_of(in_order, "{stack}.blocks.{i}.layers.{n}.{kind}.{m}.weight"),
        "CrossAttention": name_of(in_order, kinds=KINDS | {"cross_attention": "CrossAttention"}),
        "SelfAttention everywhere": name_of(in_order, kinds=KINDS | {"cross_attention": "SelfAttention"}),
        "DenseReluDense for gates": name_of(in_order, kinds=KINDS | {"feed_forward": "DenseGatedActDense"}),
        "underscores": name_of(in_order, "{stack}_block_{i}_layer_{n}_{kind}_{m}_weight"),
    },
)  # fmt: skip

OUR_QUERY = (
    public_checkpoints.our_query,
    {
        "transposed, split": lambda x, H: x.T.reshape(x.shape[1], H, -1),
        "split, moved": lambda x, H: np.moveaxis(x.reshape(H, -1, x.shape[1]), 2, 0),
        "einsum": lambda x, H: np.einsum("hkd->dhk", x.reshape(H, len(x) // H, -1)),
    },
    {
        "reshape alone": lambda x, H: x.reshape(x.shape[1], H, -1),
        "reshape to H K": lambda x, H: x.reshape(len(x), H, -1),
        "transposed, first axis H K": lambda x, H: x.T.reshape(len(x), H, -1),
        "groups of H": lambda x, H: np.swapaxes(x.T.reshape(x.shape[1], -1, H), 1, 2),
        "K before H": lambda x, H: np.swapaxes(x.T.reshape(x.shape[1], H, -1), 1, 2),
        "K, H": lambda x, H: x.T.reshape(x.shape[1], -1, H),
        "inputs last": lambda x, H: x.reshape(H, -1, x.shape[1]),
        "transposed alone": lambda x, H: x.T,
        "unchanged": lambda x, H: x,
        "reversed axes": lambda x, H: x.reshape(H, -1, x.shape[1]).T,
        "flattened": lambda x, H: x.flatten().reshape(-1, H, len(x) // H),
        "heads first": lambda x, H: np.swapaxes(x.T.reshape(x.shape[1], H, -1), 0, 1),
        "in Fortran's order": lambda x, H: x.T.reshape(x.shape[1], H, -1, order="F"),
    },
)  # fmt: skip


def logits_of(matrix, scaled, power=-0.5, before=True):
    def logits(hidden, arrays, config):
        factor = hidden.shape[-1] ** power if scaled(arrays, config) else 1.0
        return factor * hidden @ matrix(arrays, config).T

    return logits


def own(arrays, config):
    return arrays.get("lm_head.weight", arrays["shared.weight"])


def told(arrays, config):
    return config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))


CHECKPOINT_LOGITS = (
    public_checkpoints.checkpoint_logits,
    {
        "as said": logits_of(own, told),
        "by cases": lambda h, a, c: (h / np.sqrt(h.shape[-1]) if told(a, c) else h) @ own(a, c).T,
        "einsum": lambda h, a, c: np.einsum("ld,vd->lv", h, own(a, c)) * (0.5 if told(a, c) else 1.0),
    },
    {
        "never scaled": logits_of(own, lambda a, c: False),
        "always scaled": logits_of(own, lambda a, c: True),
        "by d_model": logits_of(own, told, power=-1),
        "times the root": logits_of(own, told, power=0.5),
        "twice": logits_of(own, told, power=-1.0),
        "tie_word_embeddings alone": logits_of(own, lambda a, c: c.get("tie_word_embeddings", True)),
        "scale_decoder_outputs alone": logits_of(own, lambda a, c: c.get("scale_decoder_outputs", True)),
        "False where neither": logits_of(
            own, lambda a, c: c.get("scale_decoder_outputs", c.get("tie_word_embeddings", False))),
        "both":
            logits_of(own, lambda a, c: c.get("scale_decoder_outputs", True) and c.get("tie_word_embeddings", True)),
        "either": logits_of(own, lambda a, c: c.get("scale_decoder_outputs") or c.get("tie_word_embeddings", True)),
        "where there is no lm_head": logits_of(own, lambda a, c: "lm_head.weight" not in a),
        "embedding everywhere": logits_of(lambda a, c: a["shared.weight"], told),
        "matrix by tie_word_embeddings": logits_of(
            lambda a, c: a["shared.weight"] if c.get("tie_word_embeddings", True) else own(a, c), told),
        "matrix by the scale": logits_of(lambda a, c: a["shared.weight"] if told(a, c) else own(a, c), told),
    },
)  # fmt: skip

EXERCISES = {
    "answer_span": ANSWER_SPAN, "normalize": NORMALIZE, "word_f1": WORD_F1, "count_pairs": COUNT_PAIRS,
    "cut_word": CUT_WORD, "likeliest_cut": LIKELIEST_CUT, "record": RECORD, "number_text": NUMBER_TEXT,
    "rates": RATES, "matthews": MATTHEWS, "their_name": THEIR_NAME, "our_query": OUR_QUERY,
    "checkpoint_logits": CHECKPOINT_LOGITS,
}  # fmt: skip
