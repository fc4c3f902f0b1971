"""The checks of lesson 11 against right solutions and against wrong ones that run."""

import numpy as np
import pytest

from tlqa_jax.lessons import NotYet, public_checkpoints as check

THEIRS = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention", "feed_forward": "DenseReluDense"}
ENCODER, DECODER = ["self_attention", "feed_forward"], ["self_attention", "cross_attention", "feed_forward"]


def name(stack, i, part, matrix, encoder=ENCODER, decoder=DECODER, theirs=THEIRS):
    number = (encoder if stack == "encoder" else decoder).index(part)
    return f"{stack}.block.{i}.layer.{number}.{theirs[part]}.{matrix}.weight"


def renumbered(stack, i, part, matrix):
    number = 1 if part == "feed_forward" else DECODER.index(part)
    return f"{stack}.block.{i}.layer.{number}.{THEIRS[part]}.{matrix}.weight"


NAMES = {
    "not its second part": renumbered,
    "the encoder has no cross-attention": lambda *case: name(*case, encoder=DECODER),
    "parts of a block are counted from 0": lambda *case: name(
        *case, encoder=["none", *ENCODER], decoder=["none", *DECODER]),
    "blocks are counted from 0": lambda stack, i, *rest: name(stack, i + 1, *rest),
    "end in .weight": lambda *case: name(*case).removesuffix(".weight"),
    "called EncDecAttention": lambda *case: name(*case, theirs=THEIRS | {"cross_attention": "SelfAttention"}),
}  # fmt: skip


def test_lesson_their_name_right(capsys):
    check.their_name(name)
    assert "Right: their_name" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", NAMES)
def test_lesson_their_name_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.their_name(NAMES[misconception])


def by_hand(theirs, heads):
    """Output h * K + k of input d, one by one."""
    outputs, D = theirs.shape
    ours = np.empty((D, heads, outputs // heads))
    for d, h, k in np.ndindex(ours.shape):
        ours[d, h, k] = theirs[h * (outputs // heads) + k, d]
    return ours


QUERIES = {
    "without transposing. Theirs": lambda theirs, heads: theirs.reshape(theirs.shape[1], heads, -1),
    "transposing, and your first axis": lambda theirs, heads: theirs.reshape(len(theirs), heads, -1),
    "T5-3b": lambda theirs, heads: theirs.T.reshape(len(theirs), heads, -1),
    "K groups of H": lambda theirs, heads: np.swapaxes(theirs.T.reshape(theirs.shape[1], -1, heads), 1, 2),
    r"that is \[D, K, H\]": lambda theirs, heads: np.swapaxes(by_hand(theirs, heads), 1, 2),
    r"that is \[H, K, D\]": lambda theirs, heads: np.moveaxis(by_hand(theirs, heads), 0, -1),
}


def test_lesson_our_query_right(capsys):
    check.our_query(by_hand)
    check.our_query(lambda theirs, heads: np.stack([part.T for part in np.split(theirs, heads)], axis=1))
    assert capsys.readouterr().out == "Right: our_query\n" * 2


@pytest.mark.parametrize("misconception", QUERIES)
def test_lesson_our_query_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.our_query(QUERIES[misconception])


def logits(hidden, arrays, config, matrix=None, scaled=None, by=0.5):
    matrix = arrays["lm_head.weight" if "lm_head.weight" in arrays else "shared.weight"] if matrix is None else matrix
    if scaled is None:
        scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    return np.einsum("ld,vd->lv", hidden, matrix) * (by if scaled else 1)


def by_flag(hidden, arrays, config):
    own = not config.get("tie_word_embeddings", True)
    return logits(hidden, arrays, config, matrix=arrays["lm_head.weight" if own else "shared.weight"])


LOGITS = {
    "never scale": lambda *case: logits(*case, scaled=False),
    "always scale": lambda *case: logits(*case, scaled=True),
    "divide by d_model, not": lambda *case: logits(*case, by=0.25),
    "the other way round": lambda *case: logits(*case, by=2.0),
    "in old files only": lambda *case: logits(*case, scaled=case[2].get("tie_word_embeddings", True)),
    "look for the output matrix by": by_flag,
    "That is the other question": lambda *case: logits(*case, scaled="lm_head.weight" not in case[1]),
    "embedding everywhere": lambda *case: logits(*case, matrix=case[1]["shared.weight"]),
}


def test_lesson_checkpoint_logits_right(capsys):
    check.checkpoint_logits(logits)
    assert "Right: checkpoint_logits" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", LOGITS)
def test_lesson_checkpoint_logits_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.checkpoint_logits(LOGITS[misconception])
