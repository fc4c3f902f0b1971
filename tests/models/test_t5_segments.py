"""Several examples in one row: each gets the logits that it gets alone, and nothing leaks from the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.core.masks import segment_mask
from tlqa_jax.models.t5 import T5, T5Config, shift_right

SIZES = dict(vocab_size=31, d_model=12, d_kv=4, d_ff=20, num_layers=2, num_heads=3, relative_attention_max_distance=20)
VARIANTS = {"1.0": {}, "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}
INPUT_SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 2, 2, 3, 0], [1, 1, 1, 1, 2, 2, 2, 2, 2]])
TARGET_SEGMENTS = jnp.array([[1, 1, 2, 3, 3, 3, 0], [1, 1, 1, 1, 2, 2, 0]])
EXAMPLES = [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]  # row and segment


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return T5(T5Config(**SIZES, **VARIANTS[request.param]), rngs=nnx.Rngs(1))


@pytest.fixture(scope="module")
def packed_logits(model):
    """inputs, targets, masks -> logits; compiled once for all tests."""

    @jax.jit
    def logits(inputs, targets, masks):
        targets_in = shift_right(targets, segments=TARGET_SEGMENTS)
        return model(inputs, targets_in, input_segments=INPUT_SEGMENTS, target_segments=TARGET_SEGMENTS, **masks)

    return lambda inputs, targets, **masks: np.asarray(logits(inputs, targets, masks))


@pytest.fixture(scope="module")
def tokens():
    rng = np.random.default_rng(0)
    draw = lambda segments: jnp.asarray(np.where(segments == 0, 0, rng.integers(2, 31, segments.shape)))
    return draw(INPUT_SEGMENTS), draw(TARGET_SEGMENTS)


def rows_of_their_own(tokens, segments):
    """[examples, longest]: each example at the start of a row, padding after it."""
    examples = [np.asarray(tokens[row][segments[row] == number]) for row, number in EXAMPLES]
    return jnp.array([np.pad(example, (0, segments.shape[1] - len(example))) for example in examples])


def test_each_example_gets_the_logits_it_gets_alone(model, packed_logits, tokens):
    inputs, targets = tokens
    packed = packed_logits(inputs, targets)
    assert np.isfinite(packed).all()
    inputs, targets = rows_of_their_own(inputs, INPUT_SEGMENTS), rows_of_their_own(targets, TARGET_SEGMENTS)
    alone = jax.jit(lambda x, y: model(x, shift_right(y), input_mask=x != 0))(inputs, targets)
    for own, (row, number) in zip(alone, EXAMPLES):
        found = packed[row][TARGET_SEGMENTS[row] == number]
        np.testing.assert_allclose(found, own[: len(found)], atol=1e-5 * float(jnp.abs(alone).max()))


def test_nothing_leaks_from_one_segment_into_another(packed_logits, tokens):
    """Other tokens in all other segments, and in the padding, do not change an example's logits: not one bit."""
    before = packed_logits(*tokens)
    for row, number in EXAMPLES:
        change = lambda tokens, segments: jnp.where((segments == number) & (jnp.arange(2) == row)[:, None], tokens, 30)
        after = packed_logits(change(tokens[0], INPUT_SEGMENTS), change(tokens[1], TARGET_SEGMENTS))
        same = (after == before).all(axis=-1)
        own = np.asarray(TARGET_SEGMENTS == number) & (np.arange(2) == row)[:, None]
        assert same[own].all() and not same[~own & np.asarray(TARGET_SEGMENTS > 0)].any()


def test_masks_and_segments_together(packed_logits, tokens):
    """A mask forbids further keys within the segments; a mask of padding changes nothing."""
    inputs, targets = tokens
    plain, real = packed_logits(*tokens), np.asarray(TARGET_SEGMENTS != 0)
    masked = packed_logits(*tokens, input_mask=inputs != 0, target_mask=targets != 0)
    np.testing.assert_allclose(masked[real], plain[real], atol=1e-5)
    fewer_keys = jnp.arange(9)[None] != jnp.ones((2, 1), int)
    fewer = packed_logits(*tokens, input_mask=fewer_keys, target_mask=jnp.ones(targets.shape, bool))
    changed = np.abs(fewer - plain).max(axis=-1) > 1e-6
    with_position_1 = np.asarray(TARGET_SEGMENTS) == 1  # the examples whose inputs have position 1
    assert changed[real].tolist() == with_position_1[real].tolist()


def test_segments_of_inputs_or_targets_alone_are_refused(model, tokens):
    for segments in ({"input_segments": INPUT_SEGMENTS}, {"target_segments": TARGET_SEGMENTS}):
        with pytest.raises(ValueError, match="go together"):
            jax.eval_shape(lambda *tokens: model(*tokens, **segments), *tokens)


def test_the_mask():
    assert segment_mask(jnp.array([[1, 2, 0]]), jnp.array([[1, 1, 2, 0]])).astype(int).tolist() == [
        [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    ]


def test_every_segment_has_its_start_id():
    targets = jnp.array([[5, 6, 7, 8, 9, 0, 0]])
    segments = jnp.array([[1, 1, 2, 3, 3, 0, 0]])
    assert shift_right(targets, segments=segments).tolist() == [[0, 5, 0, 0, 8, 0, 0]]
    assert shift_right(targets, 3, segments=segments).tolist() == [[3, 5, 3, 3, 8, 3, 0]]
    assert shift_right(targets).tolist() == [[0, 5, 6, 7, 8, 9, 0]]
