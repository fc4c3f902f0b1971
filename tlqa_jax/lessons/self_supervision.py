"""The checks of lesson 17: the rows of a causal LM, perplexity, and how many labels a score costs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tlqa_jax.lessons.checks import NotYet, compare, equal, filled, right


def next_token_rows(next_token_rows: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """`next_token_rows(tokens [N], length L, cls_id, pad_id)` -> (inputs, targets, counts), each [R L]."""
    name, length, cls, pad = "next_token_rows", 4, 2, 0
    cases = [np.arange(11, 11 + n) for n in (10, 8)]  # the last row is not full, and full
    got, want, slips = [], [], {}
    for tokens in cases:
        result = next_token_rows(tokens.copy(), length, cls, pad)
        result = result if isinstance(result, list | tuple) else [result]
        if len(filled(result, name)) != 3:
            raise NotYet(f"{name}: three arrays are wanted: inputs, targets, and which targets count.")
        arrays = [np.asarray(array) for array in result]
        rows = -(-len(tokens) // length)
        if any(array.shape != (rows, length) for array in arrays):
            explain_shape([array.shape for array in arrays], len(tokens), length)
        own, wrong = right_rows(tokens, length, cls, pad)
        got.append(visible(*arrays, own[2]))
        want.append(visible(*own, own[2]))
        for message, arrays in wrong.items():
            slips.setdefault(message, []).append(visible(*arrays, own[2]))
    compare(name, got, want, slips)


def visible(inputs: np.ndarray, targets: np.ndarray, counts: np.ndarray, real: np.ndarray) -> list[np.ndarray]:
    """The three arrays, with what stands at places that do not count taken out of the first two."""
    return [np.where(real, inputs, -1), np.where(real, targets, -1), counts.astype(float)]


def right_rows(tokens: np.ndarray, length: int, cls: int, pad: int) -> tuple[list[np.ndarray], dict[str, list]]:
    """The right arrays, and those of some misconceptions."""
    rows = -(-len(tokens) // length)
    filled_up = np.append(tokens, np.full(rows * length - len(tokens), pad))
    targets = filled_up.reshape(rows, length)
    counts = (np.arange(rows * length) < len(tokens)).reshape(rows, length)
    shift = lambda x, first: np.concatenate([np.full((len(x), 1), first), x[:, :-1]], axis=1)
    inputs = shift(targets, cls)
    running = np.append(cls, filled_up[:-1]).reshape(rows, length)
    later = np.append(filled_up[1:], pad).reshape(rows, length)
    own_later = np.concatenate([targets[:, 1:], np.full((rows, 1), pad)], axis=1)
    return [inputs, targets, counts], {
        "inputs and targets are equal: the model is asked for the token that it has just been given. The inputs are one "
        "place behind, with [CLS] in front.": [targets, targets, counts],
        "inputs and targets are exchanged: this model would have to say what came before.": [targets, inputs, counts],
        "the inputs are one place ahead: each shows the answer to its own question, and one more.":
            [own_later, targets, counts],
        "every place counts, padding too. Behind the end of the text there is nothing to learn.":
            [inputs, targets, np.ones_like(counts)],
        "what counts is turned over: 1 where there is text, 0 where there is padding.": [inputs, targets, ~counts],
        "each row begins with the last token of the row before. A row begins with [CLS], which is what the model begins "
        "with when it generates.": [running, targets, counts],
        "the first target of each row does not count. It does: it is predicted from [CLS] alone.":
            [inputs, targets, counts & (np.arange(length) > 0)],
        "the last target does not count. It does: it is a token of the text.":
            [inputs, targets, counts & (np.arange(rows * length) < len(tokens) - 1).reshape(rows, length)],
        "a row begins with padding. It begins with [CLS].": [shift(targets, pad), targets, counts],
        "the inputs are the text, and the targets one place ahead: so the first token of the text is never asked for. "
        "Put [CLS] in front of each row.": [targets, later, counts],
        "the inputs are the text, and the targets one place ahead in each row: so the first token of each row is never "
        "asked for. Put [CLS] in front of each row.": [targets, own_later, counts],
    }  # fmt: skip


def explain_shape(shapes: list[tuple[int, ...]], tokens: int, length: int) -> None:
    """Raises NotYet with what a wrong shape comes from."""
    name, rows = "next_token_rows", -(-tokens // length)
    if set(shapes) == {(rows - 1, length)}:
        raise NotYet(
            f"{name}: the last row is missing. It is not full, so fill it up with padding, which does not count."
        )
    if set(shapes) == {(rows + 1, length)}:
        raise NotYet(f"{name}: {tokens} tokens are {rows} rows of {length}, and there is one more of padding alone.")
    if {shape[-1] for shape in shapes if shape} & {length - 1, length + 1}:
        raise NotYet(f"{name}: every row has {length} places. [CLS] takes the first, and the last token is no input.")
    raise NotYet(f"{name}: {tokens} tokens in rows of {length} are [{rows} {length}]; yours are {shapes}.")


def perplexity(perplexity: Callable[[np.ndarray, np.ndarray], Any]) -> None:
    """`perplexity(losses [B L], counts [B L])` -> a number: losses are -log p in nats, counts 1.0 or 0.0."""
    losses = np.array([[0.5, 2.0, 1.0, 3.0], [4.0, 0.25, 7.0, 9.0], [5.5, 6.0, 5.0, 8.0]])
    counts = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    total, number = (losses * counts).sum(), counts.sum()
    of_rows = (losses * counts).sum(1) / counts.sum(1)
    got = filled(perplexity(losses.copy(), counts.copy()), "perplexity")
    compare(
        "perplexity",
        np.asarray(got, np.float64),
        np.exp(total / number),
        {
            "that is the mean loss in nats. Perplexity is e to it.": total / number,
            "padding is counted: losses at places that do not count are in the mean.": np.exp(losses.mean()),
            "padding counts as a loss of 0: divide by the number of targets that count, not by the number of places.":
                np.exp(total / losses.size),
            "you took the mean of each row and then the mean of the rows: a row with one target counts as much as a full "
            "one. All targets count alike.": np.exp(of_rows.mean()),
            "you took the perplexity of each row and then the mean. The mean is taken of the losses, over all targets, "
            "and e comes last.": np.exp(of_rows).mean(),
            "you took e to each loss and then the mean: one token with p = 0.001 outweighs a thousand others. The mean "
            "comes first.": (np.exp(losses) * counts).sum() / number,
            "the base is 2, and the losses are in nats: e to the mean.": 2 ** (total / number),
            "the base is 10, and the losses are in nats: e to the mean.": 10 ** (total / number),
            "the sign: that is the mean probability (the geometric one). Perplexity is 1 divided by it.":
                np.exp(-total / number),
            "that is e to the sum of the losses: 1 / p of the whole text. Divide by the number of targets first.":
                np.exp(total),
            "these are perplexities of rows. One number for all targets is wanted.": np.exp(of_rows),
            "these are the perplexities of single tokens. One number for all targets is wanted.": np.exp(losses),
            "you divide by the number of rows. The mean is over targets.": np.exp(total / len(losses)),
        },
        tolerance=1e-4,
    )  # fmt: skip


def labels_needed(labels_needed: Callable[[list[int], list[float], float], float]) -> None:
    """`labels_needed(labels, scores, wanted)` -> how many labels reach the score, by the logarithm between two points."""
    name = "labels_needed"
    labels, rising = [10, 100, 1000], [20.0, 40.0, 80.0]
    uneven = [20.0, 60.0, 50.0]
    never, between = [(labels, rising, 90.0)], [(labels, rising, 30.0), (labels, rising, 70.0), (labels, uneven, 55.0)]
    simple = [(labels, rising, 40.0), (labels, rising, 20.0), (labels, rising, 5.0)]
    try:
        got = [float(filled(labels_needed(list(n), list(s), w), name)) for n, s, w in (*never, *between, *simple)]
    except (StopIteration, IndexError, ValueError) as error:
        raise NotYet(
            f"{name}: it fails where a score is never reached, or is reached by the fewest labels ({error!r}). Never is "
            "math.inf; the fewest labels are the first number."
        ) from None
    if got[0] != math.inf:
        raise NotYet(
            f"{name}: 90 is never reached by [20, 40, 80], and you say {got[0]:g}. Nothing was measured there: math.inf. "
            "(np.interp gives the last number then, and a straight line goes on for ever.)"
        )
    at = lambda fraction, low, high: low * (high / low) ** fraction
    want = [at(0.5, 10, 100), at(0.75, 100, 1000), at(0.875, 10, 100), 100.0, 10.0, 10.0]
    line = [55.0, 775.0, 88.75, 100.0, 10.0, 10.0]
    if equal(got[1:], want, 1e-4):
        return right(name)
    where = [index for index, (a, b) in enumerate(zip(got[1:], want, strict=True)) if not equal(a, b, 1e-4)]
    if where == [2]:
        raise NotYet(f"{name}: [20, 60, 50] reaches 55 before 100 labels, at 74.99; you say {got[3]:g}. Take the first place "
                     "where the curve comes to the score: it may fall again later.")  # fmt: skip
    if set(where) <= {4, 5}:
        raise NotYet(f"{name}: with 10 labels the score is 20 already, so 20 or 5 need 10 labels; you say {got[5:]}.")
    compare(
        name,
        got[1:],
        want,
        {
            "that is a straight line between the numbers of labels. The axis is logarithmic: the line is one between "
            "their logarithms.": line,
            "that is the first number that was measured at or above the score. The curve reaches it before.":
                [100.0, 1000.0, 100.0, 100.0, 10.0, 10.0],
            "that is the last number below the score. The curve reaches it later.":
                [10.0, 100.0, 10.0, 10.0, 10.0, 10.0],
            "these are logarithms to base 10. Take 10 to the power of them.": list(np.log10(want)),
            "these are natural logarithms. Take e to the power of them.": list(np.log(want)),
            "that is the middle of the two points, wherever the score lies between theirs.":
                [at(0.5, 10, 100), at(0.5, 100, 1000), at(0.5, 10, 100), 100.0, 10.0, 10.0],
        },
    )  # fmt: skip
