"""The checks of lesson 8: masking a row, the loss of both tasks, what the vocabulary costs, and whole words."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from tlqa_jax.lessons.checks import NotYet, compare, filled, right

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = (PAD, UNK, CLS, SEP, MASK)
V = 60
DRAWS = 500


def row() -> Int[np.ndarray, "L"]:
    """[CLS] 30 tokens [SEP] 10 tokens [SEP], and padding. No token of the text occurs twice."""
    text = np.random.default_rng(0).permutation(np.arange(len(SPECIALS), V))[:40]
    return np.array([CLS, *text[:30], SEP, *text[30:], SEP, *[PAD] * 9], np.int32)


def mask_row(mask_row: Callable[..., tuple]) -> None:
    """`mask_row(rng, tokens [L], special_ids, mask_id, vocab_size)` -> what is seen [L], positions [P], targets [P].

    A random thing cannot be held against one right value: it is drawn 500 times, and held against each rule in turn.
    """
    name, tokens = "mask_row", row()
    text = np.flatnonzero(~np.isin(tokens, SPECIALS))
    wanted = round(0.15 * len(text))
    draws = []
    for seed in range(DRAWS):
        given = tokens.copy()
        drawn = filled(mask_row(np.random.default_rng(seed), given, SPECIALS, MASK, V), name)
        if not isinstance(drawn, tuple | list) or len(drawn) != 3:
            raise NotYet(f"{name}: it returns three things: what the model sees, the positions, the targets.")
        seen, positions, targets = map(np.asarray, drawn)
        if not np.array_equal(given, tokens):
            raise NotYet(
                f"{name}: you wrote into the tokens you were given. The next epoch would mask what is masked already, "
                "and [MASK] would become a target. Work on a copy: tokens.copy()."
            )
        if seen.shape != tokens.shape or positions.ndim != 1 or targets.shape != positions.shape:
            raise NotYet(
                f"{name}: for a row of {tokens.shape} you gave seen {seen.shape}, positions {positions.shape}, "
                f"targets {targets.shape}. Seen is as long as the row, and each position has its target."
            )
        draws.append((seen, positions, targets))
    everything = np.concatenate([positions for _, positions, _ in draws])
    counts = {len(positions) for _, positions, _ in draws}
    if counts == {len(tokens)}:
        raise NotYet(
            f"{name}: all positions are asked, so the loss is on all of them. At most the model sees the very token "
            "that it is asked for: it would learn to copy. Only what was chosen is a position."
        )
    if not np.isin(everything, text).all():
        raise NotYet(
            f"{name}: special tokens were chosen. There is nothing to learn from the place of a [SEP], and padding is "
            "no text: choose among the tokens whose ids are not in special_ids."
        )
    if counts == {len(text)}:
        raise NotYet(f"{name}: every token of the text is chosen, and none is left to tell what it was: choose 15 %.")
    if counts == {round(0.15 * len(tokens))}:
        raise NotYet(
            f"{name}: you chose 15 % of the row's length, padding and special tokens counted. A short row would be "
            "asked about most of its text: 15 % of the tokens that are text."
        )
    if len(counts) > 1 and abs(len(everything) / DRAWS - wanted) < 0.5:
        raise NotYet(
            f"{name}: how many are chosen differs from draw to draw, as if each token threw a coin. Rows of a batch "
            f"are arrays of one shape: choose a number of them, round(0.15 * {len(text)}) = {wanted} here."
        )
    if counts != {wanted}:
        raise NotYet(
            f"{name}: {sorted(counts)} positions of a row with {len(text)} tokens of text; wanted are {wanted}."
        )
    if any(len(set(positions.tolist())) < wanted for _, positions, _ in draws):
        raise NotYet(f"{name}: a position was chosen twice. rng.choice wants replace=False.")
    if len({tuple(positions.tolist()) for _, positions, _ in draws}) == 1:
        raise NotYet(
            f"{name}: the same positions at every draw. Each epoch is to ask something else about the same text: draw "
            "from the rng that you are given."
        )
    if all((np.diff(np.searchsorted(text, np.sort(positions))) == 1).all() for _, positions, _ in draws):
        raise NotYet(
            f"{name}: the chosen tokens always stand next to each other. What is hidden is then told by little else "
            "than its two ends: choose each at random from the whole text."
        )
    if any((np.diff(positions) < 0).any() for _, positions, _ in draws):
        raise NotYet(f"{name}: the positions are in the order in which they were drawn; wanted is ascending: np.sort.")
    if all(np.array_equal(targets, seen[positions]) for seen, positions, targets in draws):
        raise NotYet(
            f"{name}: your targets are what the model sees. It would be asked to answer [MASK] for [MASK]. The target "
            "is what stood there before."
        )
    if any(not np.array_equal(targets, tokens[positions]) for _, positions, targets in draws):
        raise NotYet(f"{name}: a target is not the token that stood at its position: tokens[positions].")
    if any(np.delete(seen != tokens, positions).any() for seen, positions, _ in draws):
        raise NotYet(
            f"{name}: a token was changed and is not asked for. The model would read a wrong text and not be told: "
            "only chosen positions change."
        )
    shares_of(name, tokens, draws)
    numbers_of(name, mask_row)
    right(name)


def numbers_of(name: str, mask_row: Callable[..., tuple]) -> None:
    """How many are chosen where 15 % is no whole number, or less than one."""
    for length in (3, 43, 46):
        tokens = np.array([CLS, *range(len(SPECIALS), len(SPECIALS) + length), SEP], np.int32)
        given = f"{name}: of {length} tokens of text 15 % are {0.15 * length:.2f}"
        wanted = max(1, round(0.15 * length))
        number = len(mask_row(np.random.default_rng(0), tokens, SPECIALS, MASK, V)[1])
        if number == 0:
            raise NotYet(f"{given}, and you chose none. A row without a prediction teaches nothing: max(1, ...).")
        if number == math.ceil(0.15 * length) != wanted:
            raise NotYet(f"{given}: the nearest number is {wanted}. You rounded up, to {number}: round, not ceil.")
        if number == int(0.15 * length) != wanted:
            raise NotYet(f"{given}: the nearest number is {wanted}. You cut the rest off: round, not int.")
        if number != wanted:
            raise NotYet(f"{given}; you chose {number}, wanted are {wanted}.")


def shares_of(name: str, tokens: np.ndarray, draws: Sequence[tuple]) -> None:
    """Eight of ten [MASK], one random, one kept."""
    seen = np.array([seen[positions] for seen, positions, _ in draws])  # [draws, chosen in a row]
    kept = np.array([seen[positions] == tokens[positions] for seen, positions, _ in draws])
    masked = seen == MASK
    replaced = seen[~masked & ~kept]
    shares = np.array([masked.mean(), len(replaced) / seen.size, kept.mean()])
    named = zip(shares, ("[MASK]", "random", "kept"), strict=True)
    told = ", ".join(f"{100 * share:.0f} % {what}" for share, what in named)
    if shares[0] == 1:
        raise NotYet(
            f"{name}: all chosen tokens become [MASK]. A fine-tuned model never meets a [MASK]; one that was never "
            "asked about anything else need not think about the other tokens. One in ten is random, one in ten stays."
        )
    if shares[0] == 0:
        raise NotYet(f"{name}: nothing is hidden ({told}): eight of ten chosen tokens become mask_id.")
    if len(replaced) == 0:
        raise NotYet(
            f"{name}: no random tokens ({told}). Then every token but [MASK] is what it should be, and the model may "
            "trust it unread."
        )
    if shares[2] < 0.03:
        raise NotYet(f"{name}: no token stays as it was ({told}). Then a chosen one that is not [MASK] is wrong.")
    if np.isin(replaced, SPECIALS).any():
        raise NotYet(f"{name}: a random token is a special one: draw from the pieces that are not in special_ids.")
    if len(set(replaced.tolist())) < 20:
        raise NotYet(f"{name}: the random tokens are always the same few: draw one of the vocabulary each time.")
    if (masked.all(axis=1) | ~masked.any(axis=1)).all():
        raise NotYet(
            f"{name}: one throw decides for the whole row. A row in ten would hide nothing: throw for each chosen "
            "token."
        )
    if abs(shares - [0.8, 0.1, 0.1]).max() > 0.03:
        raise NotYet(f"{name}: {told}; wanted are 80 % [MASK], 10 % random and 10 % kept.")


def pretraining_loss(pretraining_loss: Callable[..., float]) -> None:
    """`pretraining_loss(mlm_logits [B P V], targets [B P], weights [B P], nsp_logits [B 2], next_sentence [B])`.

    Returns nats.
    """
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (3, 4, 7))
    logits[1] += 1000  # the softmax does not see it, exp does
    targets = rng.integers(0, 7, (3, 4))
    weights = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], np.float32)
    pairs, next_sentence = rng.normal(0, 2, (3, 2)), np.array([0, 1, 0])

    def losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        x = logits - logits.max(axis=-1, keepdims=True)
        log_probabilities = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
        return -np.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]

    each, nsp = losses(logits, targets), losses(pairs, next_sentence)
    mlm = (each * weights).sum() / weights.sum()
    with np.errstate(all="ignore"):  # whoever forgets the largest logit gets a nan and a word about it, no warning
        got = pretraining_loss(logits, targets, weights, pairs, next_sentence)
    rows = (each * weights).sum(axis=1) / weights.sum(axis=1)
    compare(
        "pretraining_loss",
        got,
        mlm + nsp.mean(),
        {
            "nan: exp of a large logit is infinite, and infinity divided by itself is no number. Subtract the "
            "largest logit first; the softmax does not notice.": np.nan,
            "predictions of weight 0 count. A row with little text has fewer predictions than there is room for; the "
            "rest only fills the array: multiply by the weights, and divide by their sum.": each.mean() + nsp.mean(),
            "what only fills up the array does not add to the sum, but it is still in the number you divide by: "
            "divide by the sum of the weights.": (each * weights).mean() + nsp.mean(),
            "this is the mean of the rows' means: a prediction in a short row counts more than one in a long row. "
            "Add up all of the batch, divide once.": rows.mean() + nsp.mean(),
            "the masked-LM loss is summed and not averaged.": (each * weights).sum() + nsp.mean(),
            "the next-sentence loss is summed and not averaged: twice the rows, twice its say.": mlm + nsp.sum(),
            "the next-sentence task is missing: the loss is the sum of both.": mlm,
            "the masked tokens are missing: the loss is the sum of both.": nsp.mean(),
            "this is the mean of the two losses. They are added: BERT's loss is their sum.": (mlm + nsp.mean()) / 2,
            "the two losses are multiplied. They are added.": mlm * nsp.mean(),
            "both are sums. Each is a mean: the first over the predictions, the second over the rows.":
                (each * weights).sum() + nsp.sum(),
            "you divide by the number of rows. The first loss is a mean over predictions: divide by the sum of the "
            "weights.": (each * weights).sum() / len(weights) + nsp.mean(),
            "predictions and pairs are thrown into one mean. The few pairs would hardly count: each task has its own "
            "mean, and these are added.": ((each * weights).sum() + nsp.sum()) / (weights.sum() + len(nsp)),
            "the labels of the pairs are turned around: next_sentence is the column of the right logit, 0 where the "
            "second segment follows.": mlm + losses(pairs, 1 - next_sentence).mean(),
            "this is the log of the probability; the loss is minus that, small where the model is right.":
                -(mlm + nsp.mean()),
            "you took the logarithm to base 2, bits; the package counts in nats: np.log.":
                (mlm + nsp.mean()) / np.log(2),
            "these are minus the logits, not yet logarithms of probabilities: subtract the log of the sum of all exp.":
                -(np.take_along_axis(logits, targets[..., None], -1)[..., 0] * weights).sum() / weights.sum()
                - np.take_along_axis(pairs, next_sentence[:, None], -1).mean(),
        },
    )  # fmt: skip


def multiplications(multiplications: Callable[..., tuple[int, int]]) -> None:
    """`multiplications(L, P, D, F, layers, V)` -> of the encoder, and of the masked-LM head, for a row of L tokens."""
    L, P, D, F, layers, V = 11, 3, 5, 17, 2, 101

    def count(matrices=4, products=2, feed_forwards=2, times=layers, asked=P, dense=1) -> tuple[int, int]:
        layer = L * (matrices * D * D + feed_forwards * D * F) + products * L * L * D
        return times * layer, asked * (dense * D * D + D * V)

    got = filled(multiplications(L, P, D, F, layers, V), "multiplications")
    if np.shape(got) != (2,):
        raise NotYet("multiplications: two numbers are wanted, (of the encoder, of the head).")
    compare(
        "multiplications",
        tuple(int(number) for number in got),
        count(),
        {
            "your head works at all L positions. That is the expensive version; asked are P of them.": count(asked=L),
            "the head has a matrix [D D] of its own before the product with the vocabulary.": count(dense=0),
            "that is one layer; there are several.": count(times=1),
            "attention has four matrices: query, key, value, and the one that brings the heads together.":
                count(matrices=3),
            "what attention itself does is missing: each token's query with each token's key, and the weights with "
            "the values, D multiplications a pair each time.": count(products=0),
            "attention takes two products for each pair of tokens: query with key, and weight with value.":
                count(products=1),
            "the feed-forward has two matrices, into F and out of it.": count(feed_forwards=1),
            "the two are exchanged: the encoder first, then the head.": count()[::-1],
            "you count additions too. Asked are the multiplications.": tuple(2 * number for number in count()),
            "that is the number of parameters of the layers: each is used for every one of the L tokens.": (
                layers * (4 * D * D + 2 * D * F), count()[1]),
            "every token looks at every other one, also at those behind it: L * L pairs, not half of them.": (
                layers * (L * (4 * D * D + 2 * D * F) + L * (L + 1) * D), count()[1]),
            "each pair of tokens takes D multiplications, not one: a score is a product of two vectors.": (
                layers * (L * (4 * D * D + 2 * D * F) + 2 * L * L), count()[1]),
            "your head works at one position. Asked are P of them.": (count()[0], D * D + D * V),
            "each of the V pieces has a vector of D numbers: D * V for a position.": (count()[0], P * (D * D + V)),
        },
    )  # fmt: skip


def whole_words(whole_words: Callable[[list[str]], list[list[int]]]) -> None:
    """`whole_words(pieces)` -> for each word the positions of its pieces; special pieces are no words."""
    pieces = "[CLS] st ##ill a ne ##w ##s ##p ##a ##per [SEP] , la ##te . [SEP] [PAD]".split()
    words = [[1, 2], [3], [4, 5, 6, 7, 8, 9], [11], [12, 13], [14]]
    specials = [0, 10, 15, 16]
    compare(
        "whole_words",
        filled(whole_words(list(pieces)), "whole_words"),
        words,
        {
            "every piece is a word of its own here: one that begins with ## belongs to the word before it.":
                [[place] for place in range(len(pieces)) if place not in specials],
            "only what continues a word is kept; its first piece, the one without ##, belongs to it.":
                [[2], [5, 6, 7, 8, 9], [13]],
            "special pieces are no words: nobody is to be asked for a [SEP].":
                sorted(words + [[place] for place in specials]),
            "words of one piece are missing: most words are.": [word for word in words if len(word) > 1],
            "the last word is missing: what you collect when the row is over has to be handed out as well.": words[:-1],
            "these are the pieces; wanted are their positions, so that one can mask them.":
                [[pieces[place] for place in word] for word in words],
            "these are words again. Wanted are the positions of their pieces.":
                ["".join(pieces[place].removeprefix("##") for place in word) for word in words],
            "these are the positions where words begin. Wanted are all of a word's pieces.":
                [word[0] for word in words],
            "these are the first and the last position of each word; wanted are all of them.":
                [[word[0], word[-1]] for word in words],
            "all positions are in one list. Each word has a list of its own.":
                [place for word in words for place in word],
            "positions are counted from 0.": [[place + 1 for place in word] for word in words],
            "a comma and a full stop are words, too: only special pieces are none.":
                [word for word in words if pieces[word[0]] not in (",", ".")],
            "[PAD] is a special piece as well.": [*words, [16]],
            "the first word is missing.": words[1:],
            "a word may have more than two pieces: \"newspaper\" has six.": [word[:2] for word in words],
            "a piece with ## was joined to the piece after it, not to the one before.":
                [[1], [2, 3], [4], [5, 6, 7, 8, 9], [11], [12], [13, 14]],
        },
    )  # fmt: skip
