"""The checks of lesson 15: features from hidden states, the name of what is kept, the cost of both ways."""

import builtins
from collections.abc import Callable
from unittest import mock

import numpy as np
from jaxtyping import Float

from tlqa_jax.lessons.checks import NotYet, compare, equal, filled, right


def features(features: Callable[..., Float[np.ndarray, "B F"]]) -> None:
    """`features(hidden_states, mask [B L], layers)` -> [B F]: the mean over a text's tokens, layers side by side."""
    name, rng = "features", np.random.default_rng(0)
    states = [rng.standard_normal((3, 5, 4)).astype(np.float32) for _ in range(4)]
    mask = np.arange(5) < np.array([[5], [2], [3]])
    cases = [[3], [0, 2], [3, 1, 2]]
    join = lambda parts: np.concatenate(parts, axis=-1)
    mean = lambda x: (x * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    each = lambda pool=mean, join=join, shift=0: [
        join([pool(states[(layer + shift) % 4]) for layer in layers]) for layers in cases
    ]
    try:
        got = [filled(features(tuple(states), mask.copy(), list(layers)), name) for layers in cases]
    except IndexError as error:
        raise NotYet(
            f"{name}: a layer that there is was not found. hidden_states[0] are the embeddings, hidden_states[i] what "
            f"layer i returns. ({error})"
        ) from None
    compare(
        name,
        [np.asarray(x) for x in got],
        each(),
        {
            "the padding is in the mean: a short text would have other features beside a long one. Multiply by the "
            "mask, and divide by the number of tokens.": each(lambda x: x.mean(axis=1)),
            "the padding is set to zero and still counted: divide by the number of tokens of each text, "
            "mask.sum(axis=1).": each(lambda x: (x * mask[..., None]).mean(axis=1)),
            "that is the sum: a long text would have long features.": each(lambda x: (x * mask[..., None]).sum(axis=1)),
            "the mask is the wrong way round: True is a token of the text.": each(
                lambda x: (x * ~mask[..., None]).sum(axis=1) / np.maximum((~mask).sum(axis=1, keepdims=True), 1)),
            "you divide by the number of tokens of the whole batch.": each(
                lambda x: (x * mask[..., None]).sum(axis=1) / mask.sum()),
            "that is the state of the first token, [CLS]. Here the mean over the tokens is wanted.": each(
                lambda x: x[:, 0]),
            "that is the largest value of each entry. Here the mean is wanted.": each(
                lambda x: np.where(mask[..., None], x, -np.inf).max(axis=1)),
            "the layers are added. Side by side, the head can weigh each by itself.": each(join=sum),
            "the mean of the layers. Side by side, the head can weigh each by itself.": each(
                join=lambda parts: sum(parts) / len(parts)),
            "the layers have an axis of their own here: concatenate along the last axis, [B F].": each(
                join=lambda parts: np.stack(parts, axis=1)),
            "the layers have an axis of their own here, the first: concatenate along the last axis, [B F].": each(
                join=np.stack),
            "the layers are below each other: more texts instead of more features. Concatenate along the last "
            "axis.": each(join=np.concatenate),
            "one layer too low: hidden_states[0] are the embeddings, so layer i is hidden_states[i].": each(shift=-1),
            "one layer too high: hidden_states[0] are the embeddings, so layer i is hidden_states[i].": each(shift=1),
            "only the last of `layers` is there.": each(join=lambda parts: parts[-1]),
            "only the first of `layers` is there.": each(join=lambda parts: parts[0]),
            "the layers of one token are not together: concatenate along the last axis.": each(
                join=lambda parts: np.stack(parts, axis=-1).reshape(3, -1)),
            "the layers come in the order in which `layers` names them.": [
                join([mean(states[layer]) for layer in sorted(layers)]) for layers in cases],
            "these are vectors of tokens. A text has one: take the mean over axis 1.": each(lambda x: x),
        },
    )  # fmt: skip


def cache_name(cache_name: Callable[..., str]) -> None:
    """`cache_name(weights, texts, layers, pooling)` -> a text: equal for equal features, another for others."""
    name = "cache_name"
    base = ("3f9a", ["the soup", "was cold"], [1, 12], "mean")
    weights, texts, layers, pooling = base
    same = cache_name("3f9a", ["the soup", "was cold"], [1, 12], "mean")
    with mock.patch.object(builtins, "hash", side_effect=_refuse):
        got = filled(cache_name(weights, list(texts), list(layers), pooling), name)
    if not isinstance(got, str):
        raise NotYet(f"{name}: a text is wanted, and this is {got!r}.")
    if got != same:
        raise NotYet(f"{name}: the same features got two names, so what is kept is never found again.")
    if len(got) > 200 or any(character in got for character in '/\\\n"') or not got:
        raise NotYet(
            f"{name}: it is to be the name of a file, for thousands of texts: at most 200 characters, no / and no "
            "quotes. hashlib.sha256(text.encode()).hexdigest() makes 64 of any text."
        )
    others = {
        "another model has the same name: its features would be read as this one's. `weights` belongs in it.":
            ("77b0", texts, layers, pooling),
        "other texts have the same name.": (weights, ["the bread", "was stale"], layers, pooling),
        "the texts in another order have the same name: each row would belong to another text.":
            (weights, texts[::-1], layers, pooling),
        "the texts [\"the soup\", \"was cold\"] and [\"the soupwas\", \" cold\"] have the same name: joined without a "
        "mark between them, they are the same characters. json.dumps keeps them apart.":
            (weights, ["the soupwas", " cold"], layers, pooling),
        "the texts [\"the soup\", \"was cold\"] and [\"the soup was cold\"] have the same name: the mark that you put "
        "between texts can occur in a text. json.dumps keeps them apart.":
            (weights, ["the soup was cold"], layers, pooling),
        "a line break in a text and two texts have the same name. json.dumps keeps them apart.":
            (weights, ["the soup\nwas cold"], layers, pooling),
        "a comma in a text and two texts have the same name. json.dumps keeps them apart.":
            (weights, ["the soup,was cold"], layers, pooling),
        "one text more has the same name.": (weights, [*texts, ""], layers, pooling),
        "other layers have the same name.": (weights, texts, [3, 12], pooling),
        "the layers in another order have the same name: the features stand in another order.":
            (weights, texts, [12, 1], pooling),
        "the layers 1, 12 and 11, 2 have the same name: they are joined without a mark between them.":
            (weights, texts, [11, 2], pooling),
        "another pooling has the same name.": (weights, texts, layers, "cls"),
    }  # fmt: skip
    for message, case in others.items():
        if cache_name(*case) == got:
            raise NotYet(f"{name}: {message}")
    right(name)


def passes(passes: Callable[..., tuple[int, int]]) -> None:
    """`passes(texts, epochs, tasks)` -> forward passes of one text: (with features, with fine-tuning)."""
    name = "passes"
    cases = [(100, 3, 1), (100, 3, 5), (1500, 8, 2), (7, 1, 1)]
    got = [filled(passes(*case), name) for case in cases]
    if any(not isinstance(pair, tuple | list | np.ndarray) or len(pair) != 2 for pair in got):
        raise NotYet(f"{name}: two numbers are wanted: with features, and with fine-tuning.")
    got, want = [tuple(filled(list(pair), name)) for pair in got], [(n, 3 * n * e * t) for n, e, t in cases]
    if equal(got, [pair[::-1] for pair in want]):
        raise NotYet(f"{name}: the two have changed places: first with features, then with fine-tuning.")
    again = "the features of a text are kept, so no epoch and no task computes them again."
    backward = "nothing goes backward through a frozen encoder: its features cost one forward pass of each text."
    three = "a step of fine-tuning is a forward pass (1) and a backward pass (2): three in all."
    known = [
        (0, again, lambda n, e, t: n * e), (0, again, lambda n, e, t: n * t), (0, again, lambda n, e, t: n * e * t),
        (0, backward, lambda n, e, t: 3 * n), (0, backward, lambda n, e, t: 3 * n * t),
        (0, backward, lambda n, e, t: 3 * n * e), (0, backward, lambda n, e, t: 3 * n * e * t),
        (0, "the encoder runs, too: once for each text.", lambda n, e, t: 0),
        (1, "fine-tuning goes backward, too, and a backward pass counts as two.", lambda n, e, t: n * e * t),
        (1, three, lambda n, e, t: 2 * n * e * t), (1, three, lambda n, e, t: 4 * n * e * t),
        (1, "each epoch goes through all texts again: the encoder has changed.", lambda n, e, t: 3 * n * t),
        (1, "each task trains an encoder of its own.", lambda n, e, t: 3 * n * e),
        (1, "each epoch, and each task, goes through all texts again.", lambda n, e, t: 3 * n),
    ]  # fmt: skip
    for column, message, formula in known:
        if equal([pair[column] for pair in got], [formula(*case) for case in cases]):
            raise NotYet(f"{name}: {message}")
    compare(name, got, want, {})


def _refuse(_) -> int:
    raise NotYet(
        "cache_name: Python's hash() of a text is another number in each process, so what is kept is never found again "
        "tomorrow. hashlib.sha256(text.encode()).hexdigest() is the same everywhere."
    )
