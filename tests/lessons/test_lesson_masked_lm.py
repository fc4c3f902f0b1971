"""The checks of lesson 8 against right solutions and against wrong ones that run."""

import math

import numpy as np
import pytest

from tlqa_jax.lessons import NotYet, masked_lm as check


def masking(
    specials=False, everywhere=False, count=lambda rng, text, tokens: max(1, round(0.15 * len(text))), replace=False,
    fixed=False, ordered=True, seen_targets=False, shift=0, stray=False, shares=(0.8, 0.1), specials_in=False,
    one_token=False, once=False, in_place=False, stretch=False,
):  # fmt: skip
    """`mask_row` with one thing done differently."""

    def mask_row(rng, tokens, special_ids, mask_id, vocab_size):
        text = np.arange(len(tokens)) if specials else np.flatnonzero(~np.isin(tokens, special_ids))
        rng = np.random.default_rng(0) if fixed else rng
        positions = rng.choice(text, count(rng, text, tokens), replace=replace)
        positions = np.sort(positions) if ordered else positions
        if stretch:
            first = rng.integers(len(text) - len(positions))
            positions = text[first : first + len(positions)]
        throw = rng.random(1 if once else len(positions)) + np.zeros(len(positions))
        pieces = np.arange(vocab_size) if specials_in else np.setdiff1d(np.arange(vocab_size), special_ids)
        pieces = pieces[:1] if one_token else pieces
        seen = tokens if in_place else tokens.copy()
        targets = tokens[positions] + shift
        changed = np.where(throw < sum(shares), rng.choice(pieces, len(positions)), tokens[positions])
        seen[positions] = np.where(throw < shares[0], mask_id, changed)
        if stray:
            seen[text[0]] = pieces[0]
        if everywhere:
            return seen, np.arange(len(tokens)), tokens.copy()
        return seen, positions, seen[positions] if seen_targets else targets

    return mask_row


MASKINGS = {
    "you wrote into the tokens": masking(in_place=True),
    "loss is on all of them": masking(everywhere=True),
    "special tokens were chosen": masking(specials=True),
    "every token of the text is chosen": masking(count=lambda rng, text, tokens: len(text)),
    "15 % of the row's length": masking(count=lambda rng, text, tokens: round(0.15 * len(tokens))),
    "threw a coin": masking(count=lambda rng, text, tokens: rng.binomial(len(text), 0.15)),
    "wanted are 6": masking(count=lambda rng, text, tokens: 3),
    "chosen twice": masking(replace=True),
    "same positions at every draw": masking(fixed=True),
    "in which they were drawn": masking(ordered=False),
    "next to each other": masking(stretch=True),
    "your targets are what the model sees": masking(seen_targets=True),
    "not the token that stood at its position": masking(shift=1),
    "changed and is not asked for": masking(stray=True),
    "all chosen tokens become": masking(shares=(1.0, 0.0)),
    "nothing is hidden": masking(shares=(0.0, 0.5)),
    "no random tokens": masking(shares=(0.8, 0.0)),
    "no token stays": masking(shares=(0.8, 0.2)),
    "a random token is a special one": masking(specials_in=True),
    "always the same few": masking(one_token=True),
    "one throw decides": masking(once=True),
    "wanted are 80 %": masking(shares=(0.6, 0.2)),
    "of 43 tokens of text .* round, not ceil": masking(count=lambda rng, text, tokens: math.ceil(0.15 * len(text))),
    "of 46 tokens of text .* round, not int": masking(count=lambda rng, text, tokens: max(1, int(0.15 * len(text)))),
    "of 3 tokens of text .* chose none": masking(count=lambda rng, text, tokens: round(0.15 * len(text))),
    "you chose 5, wanted are 6": masking(count=lambda rng, text, tokens: {3: 1, 40: 6}.get(len(text), 5)),
    "three things": lambda rng, tokens, *_: tokens.copy(),
    "each position has its target": lambda rng, tokens, *_: (tokens.copy(), np.arange(3), np.arange(4)),
}


def test_lesson_mask_row_right(capsys):
    check.mask_row(masking())
    check.mask_row(lambda *case: list(masking()(*case)))
    assert capsys.readouterr().out == "Right: mask_row\n" * 2


@pytest.mark.parametrize("misconception", MASKINGS)
def test_lesson_mask_row_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.mask_row(MASKINGS[misconception])


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def losses(logits, targets, log_softmax=log_softmax):
    return -np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]


def both(mlm=lambda loss, weights: (loss * weights).sum() / weights.sum(), nsp=np.mean, turn=False, sign=1, base=1.0,
         log_softmax=log_softmax, join=lambda a, b: a + b):  # fmt: skip
    def pretraining_loss(mlm_logits, targets, weights, nsp_logits, next_sentence):
        pairs = losses(nsp_logits, 1 - next_sentence if turn else next_sentence, log_softmax)
        return sign * join(mlm(losses(mlm_logits, targets, log_softmax), weights), nsp(pairs)) / base

    return pretraining_loss


def pooled(mlm_logits, targets, weights, nsp_logits, next_sentence):
    total = (losses(mlm_logits, targets) * weights).sum() + losses(nsp_logits, next_sentence).sum()
    return total / (weights.sum() + len(next_sentence))


LOSSES = {
    "nan": both(log_softmax=lambda x: np.log(np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True))),
    "predictions of weight 0 count": both(mlm=lambda loss, weights: loss.mean()),
    "still in the number you divide by": both(mlm=lambda loss, weights: (loss * weights).mean()),
    "mean of the rows' means": both(mlm=lambda loss, weights: ((loss * weights).sum(1) / weights.sum(1)).mean()),
    "masked-LM loss is summed": both(mlm=lambda loss, weights: (loss * weights).sum()),
    "next-sentence loss is summed": both(nsp=np.sum),
    "next-sentence task is missing": both(join=lambda a, b: a),
    "masked tokens are missing": both(join=lambda a, b: b),
    "thrown into one mean": pooled,
    "turned around": both(turn=True),
    "loss is minus that": both(sign=-1),
    "base 2": both(base=np.log(2)),
    "minus the logits": both(log_softmax=lambda x: x),
}


def test_lesson_pretraining_loss_right(capsys):
    check.pretraining_loss(both())
    assert capsys.readouterr().out == "Right: pretraining_loss\n"


@pytest.mark.parametrize("misconception", LOSSES)
def test_lesson_pretraining_loss_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.pretraining_loss(LOSSES[misconception])


def counting(matrices=4, products=2, feed_forwards=2, one_layer=False, everywhere=False, dense=1):
    def multiplications(L, P, D, F, layers, V):
        layer = L * (matrices * D * D + feed_forwards * D * F) + products * L * L * D
        return layer * (1 if one_layer else layers), (L if everywhere else P) * (dense * D * D + D * V)

    return multiplications


COUNTS = {
    "all L positions": counting(everywhere=True),
    r"matrix \[D D\] of its own": counting(dense=0),
    "that is one layer": counting(one_layer=True),
    "four matrices": counting(matrices=3),
    "what attention itself does is missing": counting(products=0),
    "takes two products": counting(products=1),
    "feed-forward has two": counting(feed_forwards=1),
    "two numbers are wanted": lambda *sizes: sum(counting()(*sizes)),
}


def test_lesson_multiplications_right(capsys):
    check.multiplications(counting())
    assert capsys.readouterr().out == "Right: multiplications\n"


@pytest.mark.parametrize("misconception", COUNTS)
def test_lesson_multiplications_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.multiplications(COUNTS[misconception])


def is_special(piece):
    return piece.startswith("[")


def grouped(pieces):
    words = []
    for place, piece in enumerate(pieces):
        if piece.startswith("##"):
            words[-1].append(place)
        elif not is_special(piece):
            words.append([place])
    return words


def forgets_the_last(pieces):
    words, word = [], []
    for place in range(len(pieces)):
        if is_special(pieces[place]):
            continue
        if not pieces[place].startswith("##") and word:
            words.append(word)
            word = []
        word.append(place)
    return words


def joined_to_the_next(pieces):
    words, waiting = [], []
    for place, piece in enumerate(pieces):
        if is_special(piece):
            words += [waiting] * bool(waiting)
            waiting = []
        else:
            waiting.append(place)
            if not piece.startswith("##"):
                words.append(waiting)
                waiting = []
    return words


WORDS = {
    "joined to the piece after it": joined_to_the_next,
    "a word of its own": lambda pieces: [[i] for i, piece in enumerate(pieces) if not is_special(piece)],
    "its first piece": lambda pieces: [w[1:] for w in grouped(pieces) if len(w) > 1],
    "special pieces are no words": lambda pieces: grouped([piece.strip("[]") for piece in pieces]),
    "words of one piece are missing": lambda pieces: [w for w in grouped(pieces) if len(w) > 1],
    "the last word is missing": forgets_the_last,
    "these are the pieces": lambda pieces: [[pieces[i] for i in w] for w in grouped(pieces)],
}


def test_lesson_whole_words_right(capsys):
    check.whole_words(grouped)
    assert capsys.readouterr().out == "Right: whole_words\n"


@pytest.mark.parametrize("misconception", WORDS)
def test_lesson_whole_words_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.whole_words(WORDS[misconception])
