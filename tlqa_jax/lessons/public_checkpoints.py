"""The checks of lesson 11: names in a checkpoint, the orientation of its matrices, which T5s are tied and scaled."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from tlqa_jax.lessons.checks import compare

PARTS = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention", "feed_forward": "DenseReluDense"}


def their_name(their_name: Callable[[str, int, str, str], str]) -> None:
    """`their_name(stack, i, part, matrix)` -> the name of one matrix in Hugging Face's files."""
    cases = [
        ("encoder", 0, "self_attention", "q"), ("encoder", 5, "self_attention", "o"),
        ("encoder", 1, "feed_forward", "wi"), ("decoder", 0, "self_attention", "k"),
        ("decoder", 3, "cross_attention", "v"), ("decoder", 2, "feed_forward", "wo"),
    ]  # fmt: skip

    def name(
        stack, i, part, matrix, *,
        first=0, blocks=0, deep=True, cross=True, end=".weight", brief=False, last=False, kinds=PARTS,
    ):  # fmt: skip
        order = [each for each in PARTS if stack == "decoder" or each != "cross_attention"]
        number = list(PARTS).index(part) if not deep else order.index(part)
        if not cross and part == "feed_forward":
            number = 1
        if last:
            number = {"self_attention": 0, "cross_attention": 2, "feed_forward": 1}[part]
        kind = "SelfAttention" if brief and "attention" in part else kinds[part]
        return f"{stack}.block.{i + blocks}.layer.{number + first}.{kind}.{matrix}{end}"

    results = lambda **slip: [name(*case, **slip) for case in cases]
    compare(
        "their_name",
        [their_name(*case) for case in cases],
        results(),
        {
            "the decoder's feed-forward is not its second part. Cross-attention stands between: it is layer.2, and "
            "the encoder's is layer.1.": results(cross=False),
            "the encoder has no cross-attention, so that its feed-forward is layer.1, not layer.2.":
                results(deep=False),
            "the parts of a block are counted from 0.": results(first=1),
            "blocks are counted from 0.": results(blocks=1),
            "the names end in .weight.": results(end=""),
            "attention to the encoder's output is called EncDecAttention.": results(brief=True),
            "attention to the encoder's output is called EncDecAttention, not CrossAttention.": results(
                kinds=PARTS | {"cross_attention": "CrossAttention"}),
            "the feed-forward is called DenseReluDense in the names, even if there is a gate.": results(
                kinds=PARTS | {"feed_forward": "DenseGatedActDense"}),
            "these are our names of the parts. There they are SelfAttention, EncDecAttention, DenseReluDense.": results(
                kinds={part: part for part in PARTS}),
            "in the decoder, cross-attention is computed before the feed-forward: it is layer.1, the feed-forward "
            "layer.2.": results(last=True),
            ".kernel is Flax's word. PyTorch's names end in .weight.": results(end=".kernel"),
        },
    )  # fmt: skip


def our_query(our_query: Callable[..., Float[np.ndarray, "D H K"]]) -> None:
    """`our_query(theirs [H * K, D], heads)` -> the same matrix as [D, H, K]."""
    cases = [(np.random.default_rng(heads).standard_normal((12, D)), heads) for heads, D in ((2, 12), (3, 12), (3, 24))]
    results = lambda change: [change(theirs, heads) for theirs, heads in cases]
    compare(
        "our_query",
        [our_query(theirs, heads) for theirs, heads in cases],
        results(lambda theirs, heads: theirs.T.reshape(theirs.shape[1], heads, -1)),
        {
            "you reshape without transposing. Theirs is [outputs, inputs], ours begins with the inputs. That the "
            "shapes agree where H * K = D, as in many models, proves nothing.":
                results(lambda theirs, heads: theirs.reshape(theirs.shape[1], heads, -1)),
            "you reshape without transposing, and your first axis is H * K; it is D, theirs.shape[1]. Theirs is "
            "[outputs, inputs], ours begins with the inputs.":
                results(lambda theirs, heads: theirs.reshape(len(theirs), heads, -1)),
            "your first axis is H * K; it is D, theirs.shape[1]. The two agree in many models, and not in all: in "
            "T5-3b they are 4,096 and 1,024.":
                results(lambda theirs, heads: theirs.T.reshape(len(theirs), heads, -1)),
            "the last two axes are in another order: you split the outputs into K groups of H. A head's K rows stand "
            "together in their file, so that H comes first.":
                results(lambda theirs, heads: theirs.T.reshape(theirs.shape[1], -1, heads).transpose(0, 2, 1)),
            "that is [D, K, H]: the heads belong in the middle.":
                results(lambda theirs, heads: theirs.T.reshape(theirs.shape[1], heads, -1).transpose(0, 2, 1)),
            "that is [D, K, H], and the numbers are mixed: split the outputs into H groups of K, not K of H.":
                results(lambda theirs, heads: theirs.T.reshape(theirs.shape[1], -1, heads)),
            "that is transposed and not yet split: three axes are wanted, [D, H, K].":
                results(lambda theirs, heads: theirs.T),
            "that is their matrix as it is.": results(lambda theirs, heads: theirs),
            "that is [H, D, K]: the inputs come first, the heads in the middle.":
                results(lambda theirs, heads: theirs.T.reshape(theirs.shape[1], heads, -1).swapaxes(0, 1)),
            "that is [H, K, D], with the inputs at the end: the right numbers, to be transposed yet.":
                results(lambda theirs, heads: theirs.reshape(heads, -1, theirs.shape[1])),
        },
    )  # fmt: skip


def checkpoint_logits(logits: Callable[..., Float[np.ndarray, "L V"]]) -> None:
    """`logits(hidden [L D], arrays, config)`, for files of every kind."""
    random = np.random.default_rng(0)
    hidden, shared, own = random.standard_normal((2, 4)), random.standard_normal((5, 4)), random.standard_normal((5, 4))
    files = [
        ({"shared.weight": shared} | ({"lm_head.weight": own} if has_own else {}), config)
        for has_own, config in [
            (False, {}),  # T5 1.0
            (False, {"tie_word_embeddings": True}),
            (True, {"tie_word_embeddings": False}),  # T5 1.1, by Transformers 4
            (True, {"tie_word_embeddings": True, "scale_decoder_outputs": False}),  # T5 1.1, by Transformers 5
            (False, {"tie_word_embeddings": True, "scale_decoder_outputs": True}),  # T5 1.0, by Transformers 5
            (True, {"scale_decoder_outputs": True}),  # nobody's yet: the two questions answered differently
            (False, {"scale_decoder_outputs": False}),
            (True, {"tie_word_embeddings": False, "scale_decoder_outputs": True}),
        ]
    ]
    flag = lambda config: config.get("tie_word_embeddings", True)
    by_config = lambda arrays, config: config.get("scale_decoder_outputs", flag(config))
    by_file = lambda arrays, config: "lm_head.weight" in arrays

    def results(scaled: Callable[..., Any] = by_config, own: Callable[..., bool] = by_file, by: float = 4**-0.5):
        matrices = [
            arrays.get("lm_head.weight", shared) if own(arrays, config) else shared for arrays, config in files
        ]
        factors = [by if scaled(*file) else 1.0 for file in files]
        return [factor * hidden @ matrix.T for factor, matrix in zip(factors, matrices, strict=True)]

    compare(
        "checkpoint_logits",
        [logits(hidden, arrays, config) for arrays, config in files],
        results(),
        {
            "you never scale. T5 1.0 divides by the root of d_model before its logits: its embedding begins with a "
            "deviation of 1, and a sum of d_model products of such numbers is too large by that factor.":
                results(scaled=lambda *_: False),
            "you always scale. T5 1.1 was trained without the factor.":
                results(scaled=lambda *_: True),
            "you divide by d_model, not by its root.": results(by=1 / 4),
            "you multiply by the root of d_model: the other way round.": results(by=2.0),
            "whether to scale is told by tie_word_embeddings in old files only. Where there is a "
            "scale_decoder_outputs, that one counts: Transformers 5 writes tie_word_embeddings: true in any case.":
                results(scaled=lambda arrays, config: flag(config)),
            "tie_word_embeddings still tells about the scale in new files, if it is the only one. Where there is no "
            "scale_decoder_outputs, take tie_word_embeddings.":
                results(scaled=lambda arrays, config: config.get("scale_decoder_outputs", True)),
            "where there is neither of the two, T5 1.0 is meant, which scales: the last default is True.":
                results(scaled=lambda arrays, config: config.get(
                    "scale_decoder_outputs", config.get("tie_word_embeddings", False))),
            "scale_decoder_outputs alone decides where it is there. You ask tie_word_embeddings as well.":
                results(scaled=lambda arrays, config: config.get("scale_decoder_outputs", True) and flag(config)),
            "one of the two is enough for you. scale_decoder_outputs alone decides where it is there, also if it is "
            "False.": results(scaled=lambda arrays, config: config.get("scale_decoder_outputs") or flag(config)),
            "you look for the output matrix by the answer to the other question. What is in the file counts.":
                results(own=lambda arrays, config: not by_config(arrays, config)),
            "you scale where there is no lm_head.weight. That is the other question: whether to scale is said by the "
            "configuration.": results(scaled=lambda arrays, config: not by_file(arrays, config)),
            "you look for the output matrix by tie_word_embeddings. Transformers 5 writes true there even for models "
            "with a matrix of their own: what is in the file counts.":
                results(own=lambda arrays, config: not flag(config)),
            "you use the embedding everywhere: where there is a lm_head.weight, it is the output matrix.":
                results(own=lambda *_: False),
        },
    )  # fmt: skip
