"""The checks of lesson 7 against right solutions and against wrong ones that run; and its world of trades."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from tlqa_jax.lessons import NotYet, bert as check, trades
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.functional import as_function


def norm(x, scale, bias, epsilon=1e-12, axis=-1):
    return (x - x.mean(axis, keepdims=True)) / jnp.sqrt(x.var(axis, keepdims=True) + epsilon) * scale + bias


def centre(x):
    return x - x.mean(-1, keepdims=True)


def std(x):
    return jnp.sqrt(x.var(-1, keepdims=True) + 1e-12)


NORMS = {
    "T5's RMSNorm": lambda x, s, b: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * s + b,
    "squares of x as it was": lambda x, s, b: centre(x) / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * s + b,
    "inside the square root": lambda x, s, b: centre(x) / (x.std(-1, keepdims=True) + 1e-12) * s + b,
    "no epsilon": lambda x, s, b: norm(x, s, b, epsilon=0.0),
    "1e-6, Flax's": lambda x, s, b: norm(x, s, b, epsilon=1e-6),
    "over the positions": lambda x, s, b: norm(x, s, b, axis=0),
    "not by its root": lambda x, s, b: centre(x) / (x.var(-1, keepdims=True) + 1e-12) * s + b,
    "D - 1": lambda x, s, b: centre(x) / jnp.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-12) * s + b,
    "bias is not added": lambda x, s, b: norm(x, s, 0.0),
    "scale is not applied": lambda x, s, b: norm(x, 1.0, b),
    "before you scale": lambda x, s, b: (norm(x, 1.0, 0.0) + b) * s,
}


def test_lesson_layer_norm_right(capsys):
    check.layer_norm(norm)
    assert "Right: layer_norm" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", NORMS)
def test_lesson_layer_norm_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.layer_norm(NORMS[misconception])


def attend(p, x, mask):
    query, key, value = (
        jnp.einsum("ld,dhk->hlk", x, p[name]) + p[f"{name}_bias"].reshape(p[name].shape[1:])[:, None]
        for name in ("query", "key", "value")
    )
    scores = jnp.where(mask, jnp.einsum("hlk,hsk->hls", query, key) / query.shape[-1] ** 0.5, -1e30)
    return jnp.einsum("hls,hsk,hkd->ld", jax.nn.softmax(scores), value, p["out"]) + p["out_bias"]


def parts(p, mask):
    """attention, first norm, feed-forward, second norm: each a function of x alone."""
    ff = p["feed_forward"]
    return (
        lambda x: attend(p["attention"], x, mask),
        lambda x: norm(x, **p["attention_norm"]),
        lambda x: jax.nn.gelu(x @ ff["up"] + ff["up_bias"], approximate=False) @ ff["down"] + ff["down_bias"],
        lambda x: norm(x, **p["feed_forward_norm"]),
    )  # fmt: skip


def right_block(p, x, mask):
    a, n1, f, n2 = parts(p, mask)
    return n2((h := n1(x + a(x))) + f(h))


BLOCKS = {
    "that is pre-norm": lambda x, a, n1, f, n2: (h := x + a(n1(x))) + f(n2(h)),
    "add afterwards": lambda x, a, n1, f, n2: (h := x + n1(a(x))) + n2(f(h)),
    "no residual around attention": lambda x, a, n1, f, n2: n2((h := n1(a(x))) + f(h)),
    "no residual around the feed-forward": lambda x, a, n1, f, n2: n2(f(n1(x + a(x)))),
    "no residual at all": lambda x, a, n1, f, n2: n2(f(n1(a(x)))),
    "begins at the block's input": lambda x, a, n1, f, n2: n2(x + f(n1(x + a(x)))),
    "reads the block's input": lambda x, a, n1, f, n2: n2(n1(x + a(x)) + f(x)),
    "first norm is missing": lambda x, a, n1, f, n2: n2((h := x + a(x)) + f(h)),
    "last norm is missing": lambda x, a, n1, f, n2: (h := n1(x + a(x))) + f(h),
    "norm twice": lambda x, a, n1, f, n2: n1((h := n1(x + a(x))) + f(h)),
    "norms are exchanged": lambda x, a, n1, f, n2: n1((h := n2(x + a(x))) + f(h)),
}
MASKS = {"not handed on": lambda mask: np.ones_like(mask), "upside down": lambda mask: ~mask}


def test_lesson_block_right(capsys):
    check.block(right_block)
    assert "Right: block" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", BLOCKS)
def test_lesson_block_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.block(lambda p, x, mask: BLOCKS[misconception](x, *parts(p, mask)))


@pytest.mark.parametrize("misconception", MASKS)
def test_lesson_block_wrong_mask(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.block(lambda p, x, mask: right_block(p, x, MASKS[misconception](mask)))


def right_mask(real, causal):
    row = lambda query: [seen and not (causal and key > query) for key, seen in enumerate(real)]
    return np.array([row(query) for query in range(len(real))])


def triangle(real, k=0):
    return np.tri(len(real), k=k, dtype=bool)


SEEN = {
    "upside down": lambda real, causal: ~right_mask(real, causal),
    "rows are queries, columns keys": lambda real, causal: right_mask(real | True, causal) & real[:, None],
    "transposed": lambda real, causal: (triangle(real).T if causal else triangle(real) | True) & real,
    "`real` has no say": lambda real, causal: right_mask(real | True, causal),
    "forgotten the padding": lambda real, causal: triangle(real) if causal else triangle(real) | real,
    'with "or"': lambda real, causal: triangle(real) | real if causal else right_mask(real, False),
    "plain mask is causal too": lambda real, causal: right_mask(real, True),
    "wrong way round": lambda real, causal: right_mask(real, not causal),
    "no position sees itself": lambda real, causal: triangle(real, -1) & real if causal else right_mask(real, False),
}


def test_lesson_may_see_right(capsys):
    check.may_see(right_mask)
    assert "Right: may_see" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", SEEN)
def test_lesson_may_see_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.may_see(SEEN[misconception])


@cache
def sizes(config):
    """Of the package's own arrays, by paths such as "layer_0/attention/query"."""
    params = as_function(nnx.eval_shape(lambda: Bert(config, rngs=nnx.Rngs(0))))[1]
    return {path: leaf.size for path, leaf in flatten_dict(params, sep="/").items()}


def count(config, leave_out=lambda path: False, times=lambda path: 1):
    return sum(times(path) * size for path, size in sizes(config).items() if not leave_out(path))


def without(*endings):
    return lambda config: count(config, lambda path: any(ending in path for ending in endings))


COUNTS = {
    "heads do not multiply": lambda c: count(c, times=lambda path: c.num_attention_heads ** ("/attention/" in path)),
    "counted no biases": without("bias"),
    "matrices' biases are missing": lambda c: count(c, lambda path: "bias" in path and "norm" not in path),
    "counted one of them": without("norm/bias"),
    "norms are missing": without("norm/"),
    "over the embeddings is missing": without("embeddings/norm"),
    "You counted one": without("feed_forward_norm"),
    "pooler is missing": without("pooler"),
    "positions and token types are missing": without("position", "token_type"),
    "^parameters: the token types are missing": without("token_type"),
    "^parameters: the positions are missing": without("position"),
    "output of attention is missing": without("attention/out"),
    "a feed-forward has two matrices": without("down"),
    "counted one layer": lambda c: count(c, lambda path: path.startswith("layer_") and not path.startswith("layer_0/")),
    "table of words twice": lambda c: count(c, times=lambda path: 2 if "word" in path else 1),
}


def test_lesson_parameters_right(capsys):
    check.parameters(count)
    assert "Right: parameters" in capsys.readouterr().out
    assert count(BertConfig.base()) == 109_482_240


@pytest.mark.parametrize("misconception", COUNTS)
def test_lesson_parameters_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.parameters(COUNTS[misconception])


def test_lesson_trades_hide_one_of_two_and_know_where_the_other_is(tmp_path):
    tokenizer = trades.write_vocabulary(tmp_path / "new" / "vocab.txt")
    told = trades.sentences()
    assert told == trades.sentences() and len(set(told)) == len(told) == 25_600
    rows = trades.with_gaps(tokenizer, told[:400], seed=0)
    assert rows["tokens"].shape == (400, 20) and tokenizer.unk_id not in rows["tokens"]
    for (text, trade, tool), tokens, [gap], [target], after in zip(told, *rows.values(), strict=False):
        assert tokens[gap] == tokenizer.mask_id
        clue = {trade: tool, tool: trade}[tokenizer.piece(int(target))]
        assert after == (tokenizer.encode(clue)[0] in tokens[gap:])
        tokens[gap] = target
        assert tokenizer.decode(tokens) == text
    assert 0.4 < rows["clue_after"].mean() < 0.6
