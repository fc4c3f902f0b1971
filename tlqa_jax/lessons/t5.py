"""The checks of lesson 4: relative position buckets, RMS normalisation, span corruption by hand, and T5's layers."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlqa_jax.core.relative_positions import relative_position_bucket
from tlqa_jax.lessons.checks import NotYet, compare, filled
from tlqa_jax.lessons.t5_layers import decoder_layer, encoder_layer, whole_t5
from tlqa_jax.models.layers import RMSNorm
from tlqa_jax.tasks import span_corruption

__all__ = ["buckets", "corrupt", "decoder_layer", "encoder_layer", "rms_norm", "whole_t5"]

END = 1


def buckets(buckets: Callable[..., np.ndarray]) -> None:
    """`buckets(relative, bidirectional)` -> for each `key position - query position` its bucket of 32."""
    relative = np.array([-200, -127, -90, -50, -33, -17, -11, -8, -7, -2, -1, 0, 1, 3, 8, 17, 70, 126, 300])

    def both(
        sign=1, halved=True, told_apart=True, clipped=True, logarithmic=True, rounding=np.floor, whole=True,
        growing=True, limit=128,
    ) -> list:  # fmt: skip
        results = []
        for bidirectional in (True, False):
            number, start, rel = 32, 0, sign * relative
            distance = np.abs(rel) if bidirectional else np.maximum(-rel, 0)
            if bidirectional and halved:
                number = 16
            if bidirectional and told_apart:
                start = number * (rel > 0)
            exact = number // 2
            growth = np.log(np.maximum(distance, 1) / exact) / np.log(limit / exact)
            if not logarithmic:
                growth = (distance - exact) / (128 - exact)
            far = exact + rounding(growth * (number - exact) + 1e-4)
            far = np.minimum(far, number - 1) if clipped else far
            far = far if growing else np.minimum(distance, number - 1)
            result = start + np.where(distance < exact, distance, far)
            results.append(result.astype(int) if whole else result)
        return results

    compare(
        "buckets",
        [buckets(relative, bidirectional) for bidirectional in (True, False)],
        [np.asarray(relative_position_bucket(jnp.array(relative), bidirectional=two)) for two in (True, False)],
        {
            "your past and future are exchanged. Relative is key minus query: a key that stands *before* the query "
            "has a negative number, and a decoder looks at those.": both(sign=-1),
            "before and after share their buckets: \"dog bites man\" and \"man bites dog\" would look alike. The "
            "encoder's second half of the buckets, from 16 on, is for keys after the query.": both(told_apart=False),
            "you give each direction all 32 buckets, so numbers beyond 31 come out. There are 32 together: where both "
            "directions are told apart, each has 16, and 8 of these are exact.": both(halved=False),
            "far distances run over the last bucket, and there is no row of the table for them (JAX would read "
            "another row without a word). Everything from 128 on shares the last bucket: take the minimum.":
                both(clipped=False),
            "your far buckets are equally wide. They are to grow with the distance, as the logarithm does: one step "
            "more matters between 8 and 9, and hardly between 88 and 89.": both(logarithmic=False),
            "these are not whole numbers. They are rows of a table: .astype(int) rounds down.": both(
                rounding=lambda x: x, whole=False),
            "you round up. A bucket begins where the logarithm reaches its number, so round down.": both(
                rounding=lambda x: np.ceil(x - 2e-4)),
            "far distances are cut off, with no buckets that grow: distance 15 and more are the same to you. From 8 on "
            "(16 in the decoder) the logarithm counts.": both(growing=False),
            "max_distance is 128: there the last bucket begins.": both(limit=64),
            "your encoder's buckets are in the decoder too. `bidirectional` says which of the two is meant.":
                [both()[0]] * 2,
            "your decoder's buckets are in the encoder too. `bidirectional` says which of the two is meant.":
                [both()[1]] * 2,
            "these are the distances themselves; there are only 32 rows in the table.": [np.abs(relative)] * 2,
            "you round to the nearest bucket. A bucket begins where the logarithm reaches its number, so round "
            "down.": both(rounding=np.rint),
        },
    )  # fmt: skip


def rms_norm(rms_norm: Callable[..., Float[Array, "L D"]]) -> None:
    """`rms_norm(x [L D], scale [D])` -> [L D], with epsilon 1e-6."""
    rng = np.random.default_rng(2)
    size = np.array([[1e-3], [1.0], [30.0]])  # the first row is so small that epsilon shows
    x = (size * (0.7 + rng.standard_normal((3, 5)))).astype(np.float32)
    scale = np.array([0.5, 1.0, 1.5, 2.0, 3.0], np.float32)
    norm, epsilon = RMSNorm(5), 1e-6
    norm.scale[...] = scale
    mean_square = lambda x, axis=-1: np.mean(np.square(x), axis=axis, keepdims=True)
    centred = x - x.mean(axis=-1, keepdims=True)
    compare(
        "rms_norm",
        rms_norm(x, scale),
        np.asarray(norm(jnp.array(x)[None])[0]),
        {
            "you subtract the mean first: that is LayerNorm, which BERT has. RMSNorm leaves the mean where it "
            "is.": centred / np.sqrt(mean_square(centred) + epsilon) * scale,
            "is your epsilon inside the square root? There it keeps the divisor above sqrt(1e-6) = 0.001; outside, "
            "only above 0.000001: on rows near zero the two differ by far.":
                x / (np.sqrt(mean_square(x)) + epsilon) * scale,
            "your epsilon is too small or too large: T5's is 1e-6, the default of the argument.":
                x / np.sqrt(mean_square(x) + 1e-5) * scale,
            "you divide by the standard deviation, from which the mean has been subtracted. RMSNorm takes the mean of "
            "the squares as they are.": x / np.sqrt(mean_square(centred) + epsilon) * scale,
            "the mean is over the whole array. Each position is normalised by itself: axis=-1.":
                x / np.sqrt(mean_square(x, None) + epsilon) * scale,
            "you multiply by 1 + scale, as Gemma does. T5 multiplies by the scale.":
                x / np.sqrt(mean_square(x) + epsilon) * (1 + scale),
            "you divide by the mean of the absolute values. Wanted is the root of the mean of the squares.":
                x / (np.abs(x).mean(axis=-1, keepdims=True) + epsilon) * scale,
            "you multiply by the root. A norm divides by it: afterwards all rows have one size.":
                x * np.sqrt(mean_square(x) + epsilon) * scale,
            "there is no epsilon. A row of zeros, such as padding can be, would be 0 / 0.":
                x / np.sqrt(mean_square(x)) * scale,
            "your epsilon is too small: T5's is 1e-6, BERT's is 1e-12.": x / np.sqrt(mean_square(x) + 1e-12) * scale,
            "the mean runs over the positions. Each position is normalised by itself, over its D entries: otherwise "
            "a word's vector would depend on the words around it, and on the padding.":
                x / np.sqrt(mean_square(x, 0) + epsilon) * scale,
            "you divide by the mean of the squares, not by its root: a row ten times as large would come out ten "
            "times as small.": x / (mean_square(x) + epsilon) * scale,
            "you sum the squares where their mean is wanted: the result would be shorter by sqrt(D), and the wider the "
            "model, the fainter.": x / np.sqrt(np.square(x).sum(axis=-1, keepdims=True) + epsilon) * scale,
            "the learned scale is not applied.": x / np.sqrt(mean_square(x) + epsilon),
            "you scale before you normalise, so the scale is divided out again: it has to come "
            "last.": x * scale / np.sqrt(mean_square(x * scale) + epsilon),
        },
    )  # fmt: skip


Row = tuple[list[int], list[int]]


def corrupt(corrupt: Callable[..., Row]) -> None:
    """`corrupt(tokens, mask, sentinels)` -> (inputs, targets), lists of ids that end with the end token 1."""
    sentinels = list(range(999, 989, -1))
    rows = [
        ([10, 11, 12, 13, 14, 15], "..xx.x"),
        ([20, 21, 22, 23, 24, 25, 26, 27], "xx.x..xx"),
        ([30, 31, 32], "..."),
    ]
    masks = [[mark == "x" for mark in marks] for _, marks in rows]

    def results(write: Callable[[list, list], Row]) -> list:
        return [write(tokens, mask) for (tokens, _), mask in zip(rows, masks, strict=True)]

    def package(tokens, mask) -> Row:
        spans = sum(now and not before for before, now in zip([False, *mask], mask, strict=False))
        lengths = dict(inputs_length=len(tokens) - sum(mask) + spans + 1, targets_length=sum(mask) + spans + 1)
        arrays = span_corruption.corrupt(np.array([tokens]), np.array([mask]), sentinels=np.array(sentinels), **lengths)
        return arrays[0][0].tolist(), arrays[1][0].tolist()

    def yours(tokens, mask):
        given = list(tokens), list(mask), list(sentinels)
        row = filled(corrupt(*given), "corrupt")
        if given != (tokens, mask, sentinels):
            raise NotYet(
                "corrupt: you changed a list that you were given. The next text gets the same sentinels, and would "
                "find some of them gone: sentinels[number], or work on a copy, list(sentinels)."
            )
        return row

    def by_hand(
        tokens, mask, *, each_token=False, one=False, end=True, in_inputs=True, in_targets=True, last=False, first=True,
        closing_one=False, skipped=0, upwards=False,
    ) -> Row:  # fmt: skip
        inputs, targets, used, closing = [], [], 0, []
        for i, (token, hidden) in enumerate(zip(tokens, mask, strict=True)):
            if not hidden:
                targets += closing
                closing = []
                inputs.append(token)
                continue
            if each_token or (i == 0 and first) or not mask[i - 1]:
                sentinel = sentinels[0] + used if upwards else sentinels[0 if one else used + skipped]
                used += 1
                inputs += [sentinel] * in_inputs
                targets += [sentinel] * (in_targets and not last)
                closing = [sentinel] * last
            targets.append(token)
        return inputs + [END] * end, targets + closing + [sentinels[used]] * closing_one + [END] * end

    compare(
        "corrupt",
        results(yours),
        results(package),
        {
            "you put one sentinel for each hidden token. Then the inputs tell how long a gap is, and nothing gets "
            "shorter: that is nearer to BERT. In T5 one sentinel stands for a whole span.": results(
                lambda *row: by_hand(*row, each_token=True)),
            "a text that begins with a hidden token has no sentinel before it: at i = 0, mask[i - 1] is mask[-1], the "
            "*last* token. Nothing is before the first one.": results(lambda *row: by_hand(*row, first=False)),
            "all your spans have the same sentinel. The decoder could not say which gap it is filling: the first "
            "span takes sentinels[0], the second sentinels[1].": results(lambda *row: by_hand(*row, one=True)),
            "the sequences have no end token. Without it the model never learns to stop, and writes on when it is "
            "asked.": results(lambda *row: by_hand(*row, end=False)),
            "your targets end with one more sentinel, as in the figure of the paper. Its code has none there, and the "
            "package's has none: the end token is enough.": results(lambda *row: by_hand(*row, closing_one=True)),
            "your targets end with one more sentinel and without the end token. The model stops at </s>, not at a "
            "sentinel.": results(
                lambda *row: (by_hand(*row)[0], by_hand(*row, closing_one=True, end=False)[1])),
            "your targets have no end token. Without it the model never learns to stop, and writes on.": results(
                lambda *row: (by_hand(*row)[0], by_hand(*row, end=False)[1])),
            "your inputs have no end token. T5's inputs end with </s> as well.": results(
                lambda *row: (by_hand(*row, end=False)[0], by_hand(*row)[1])),
            "your first sentinel is the second one: they are counted from sentinels[0].": results(
                lambda *row: by_hand(*row, skipped=1)),
            "your sentinels are counted upwards. They are given as a list, and T5's go down: sentinels[number].":
                results(
                lambda *row: by_hand(*row, upwards=True)),
            "inputs and targets are exchanged: the inputs, with the gaps, come first.": results(
                lambda *row: package(*row)[::-1]),
            "the inputs just leave the hidden tokens out: nothing says where something is missing.": results(
                lambda *row: by_hand(*row, in_inputs=False)),
            "the targets are the hidden tokens alone. A sentinel has to stand before each span, to say which gap it "
            "fills.": results(lambda *row: by_hand(*row, in_targets=False)),
            "your sentinel comes after its span. It has to come first: the decoder writes from left to right, and "
            "must be told which gap comes next before it fills it.": results(lambda *row: by_hand(*row, last=True)),
            "True means hidden. You hid what was to stay and kept what was to go.": results(
                lambda tokens, mask: by_hand(tokens, [not hidden for hidden in mask])),
            "your targets are the whole text. That is another objective, which T5's authors tried as well (their "
            "section 3.3.1). Here the decoder writes only what is hidden, a fifth of that.": results(
                lambda tokens, mask: (package(tokens, mask)[0], [*tokens, END])),
        },
    )  # fmt: skip

