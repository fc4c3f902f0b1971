"""What must hold of T5 for any weights: attention, sizes, initialisation, caches, dropout, number formats."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from tlqa_jax.core.masks import padding_mask
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config, shift_right

CONFIG = T5Config(
    vocab_size=41, d_model=6, d_kv=5, d_ff=11, num_layers=1, num_decoder_layers=2, num_heads=3, dropout_rate=0.3,
    relative_attention_num_buckets=8, relative_attention_max_distance=20,
)
V11 = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
INPUTS = jnp.array([[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 1, 0, 0, 0]])  # B=2, S=7
TARGETS = jnp.array([[20, 21, 22, 23, 1], [24, 25, 1, 0, 0]])  # L=5
TARGETS_IN = shift_right(TARGETS)
INPUT_MASK, TARGET_MASK = padding_mask(INPUTS), padding_mask(TARGETS)


def random_t5(config: T5Config = CONFIG, **options):
    """apply, params: weights large enough that attention is far from even."""
    apply, empty = as_function(nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0), **options)))
    random = np.random.default_rng(0)
    return apply, jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, jnp.float32), empty)


@pytest.fixture(scope="module")
def t5():
    """inputs, targets_in, input_mask, target_mask -> encoder output, logits."""
    apply, params = random_t5()

    @jax.jit
    def run(inputs, targets_in, input_mask, target_mask):
        encoded = apply(params, inputs, input_mask=input_mask, method="encode")
        return encoded, apply(params, inputs, targets_in, input_mask=input_mask, target_mask=target_mask)

    return lambda inputs, targets_in, input_mask=INPUT_MASK, target_mask=TARGET_MASK: [
        np.asarray(x) for x in run(inputs, targets_in, input_mask, target_mask)
    ]


def test_shift_right():
    assert shift_right(jnp.array([[5, 6, 1]])).tolist() == [[0, 5, 6]]
    assert shift_right(jnp.array([[5, 6, 1]]), start_id=9).tolist() == [[9, 5, 6]]


def test_a_target_changes_its_own_logits_and_later_ones_but_no_earlier(t5):
    _, before = t5(INPUTS, TARGETS_IN)
    for position in range(5):
        _, after = t5(INPUTS, TARGETS_IN.at[0, position].set(33))
        changed = (after != before).any(axis=-1)
        assert changed[0].tolist() == [False] * position + [True] * (5 - position)
        assert not changed[1].any()


def test_every_input_changes_every_encoder_position_and_logit(t5):
    encoded, logits = t5(INPUTS, TARGETS_IN)
    for position in range(7):
        other_encoded, other_logits = t5(INPUTS.at[0, position].set(33), TARGETS_IN)
        assert (other_encoded != encoded).any(axis=-1)[0].all()  # earlier ones too
        assert (other_logits != logits).any(axis=-1)[0].all()
        assert (other_encoded[1] == encoded[1]).all() and (other_logits[1] == logits[1]).all()


def test_padding_changes_nothing(t5):
    encoded, logits = t5(INPUTS, TARGETS_IN)
    other_encoded, other_logits = t5(jnp.where(INPUT_MASK, INPUTS, 33), jnp.where(TARGET_MASK, TARGETS_IN, 34))
    assert (other_encoded == encoded)[INPUT_MASK].all()
    assert (other_logits == logits)[TARGET_MASK].all()
    assert (other_logits != logits).any()  # the padding's own logits: the change did arrive


def test_a_masked_target_in_the_middle_changes_its_own_logits_only(t5):
    mask = TARGET_MASK.at[0, 2].set(False)
    logits = [t5(INPUTS, TARGETS_IN.at[0, 2].set(token), target_mask=mask)[1][0] for token in (30, 31)]
    assert (logits[0] != logits[1]).any(axis=-1).tolist() == [False, False, True, False, False]


def test_more_padding_changes_nothing(t5):
    longer = [jnp.pad(x, ((0, 0), (0, 3))) for x in (INPUTS, TARGETS_IN, INPUT_MASK, TARGET_MASK)]
    logits = t5(*longer)[1][:, :5]
    np.testing.assert_allclose(logits[TARGET_MASK], t5(INPUTS, TARGETS_IN)[1][TARGET_MASK], atol=1e-5)


def test_order_matters(t5):
    every = jnp.ones(INPUTS.shape, bool)
    logits = [t5(x, TARGETS_IN, every)[1] for x in (INPUTS, INPUTS[:, ::-1])]
    assert np.abs(logits[0] - logits[1]).max() > 1e-2


def test_no_mask_means_that_all_may_be_seen(t5):
    apply, params = random_t5()
    unmasked = jax.jit(apply)(params, INPUTS, TARGETS_IN)
    _, logits = t5(INPUTS, TARGETS_IN, jnp.ones(INPUTS.shape, bool), jnp.ones(TARGETS.shape, bool))
    np.testing.assert_allclose(unmasked, logits, atol=1e-5)


@pytest.mark.parametrize("variant", [{}, V11], ids=["1.0", "1.1"])
def test_decoding_by_steps_with_a_cache_equals_decoding_at_once(variant):
    apply, params = random_t5(replace(CONFIG, **variant))

    @jax.jit
    def at_once_and_by_steps(params):
        encoded = apply(params, INPUTS, input_mask=INPUT_MASK, method="encode")
        cache = apply(params, encoded, 8, method="start_cache")  # longer than the targets
        step = lambda cache, x: apply(params, x[0], x[1], cache, input_mask=INPUT_MASK, method="decode_step")[::-1]
        _, logits = jax.lax.scan(step, cache, (TARGETS_IN.T, jnp.arange(5)))
        return apply(params, TARGETS_IN, encoded, input_mask=INPUT_MASK, method="decode"), logits.swapaxes(0, 1)

    at_once, by_steps = at_once_and_by_steps(params)
    assert np.abs(at_once - by_steps).max() <= 1e-5 * np.abs(at_once).max()


# initialisation ------------------------------------------------------------------------------------------------------

SIZES = T5Config(vocab_size=500, d_model=48, d_kv=20, d_ff=96, num_layers=1, num_decoder_layers=1, num_heads=3)
DEVIATIONS = {  # path -> standard deviation for these sizes; None: a norm's scale, all ones
    r"embedding\.table": 1.0,
    r".*attention\.query": (48 * 20) ** -0.5,
    r".*attention\.(key|value)": 48**-0.5,
    r".*attention\.out": (3 * 20) ** -0.5,
    r"(en|de)coder_bias\.table": 48**-0.5,
    r".*feed_forward\.(up|gate)": 48**-0.5,
    r".*feed_forward\.down": 96**-0.5,
    r"output": 48**-0.5,
    r".*norm\.scale": None,
}


def initial_leaves(config: T5Config, seed: int) -> dict[str, np.ndarray]:
    params = as_function(T5(config, rngs=nnx.Rngs(seed)))[1]
    return {".".join(path): np.asarray(leaf) for path, leaf in flatten_dict(params).items()}


@pytest.fixture(scope="module")
def initial():
    """Leaves by path of 1.0 (tied) and, at half the initializer_factor and another seed, 1.1 (untied)."""
    half = replace(SIZES, **V11, initializer_factor=0.5)
    return {1.0: initial_leaves(SIZES, seed=1), 0.5: initial_leaves(half, seed=0)}


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_mean_and_deviation_of_every_initial_parameter(initial, factor):
    assert ("output" in initial[factor]) == (factor == 0.5)
    for path, leaf in initial[factor].items():
        (deviation,) = [d for pattern, d in DEVIATIONS.items() if re.fullmatch(pattern, path)]  # each leaf has one line
        if deviation is None:
            assert (leaf == 1.0).all(), path
            continue
        x = leaf.ravel() / (deviation * factor)
        assert abs(x.mean()) * np.sqrt(x.size) < 4.5, path
        assert abs(x.std() - 1) * np.sqrt(2 * x.size) < 4.5, path
        assert abs((np.abs(x) > 2).mean() - 0.0455) * np.sqrt(x.size / 0.0434) < 4.5, f"{path} is not normal"
        assert np.abs(x).max() < 6, path
        assert leaf.dtype == np.float32


def test_no_two_initial_parameters_share_their_numbers(initial):
    leaves = [leaf.ravel()[:90] for leaf in initial[1.0].values() if leaf.ndim > 1]
    correlations = np.corrcoef(leaves) - np.eye(len(leaves))
    assert len(leaves) == 19 and np.abs(correlations).max() < 0.55


def test_initial_parameters_depend_on_the_seed_alone(initial):
    again, other = initial_leaves(SIZES, seed=1), initial_leaves(SIZES, seed=2)
    assert initial[1.0].keys() == again.keys() == other.keys()
    for path, leaf in initial[1.0].items():
        assert (leaf == again[path]).all()
        assert leaf.ndim == 1 or (leaf != other[path]).mean() > 0.99


def count(config: T5Config) -> int:
    """Number of parameters. None is allocated, and of many equal layers only two are made."""
    if config.num_layers > 2:
        one, two = (count(replace(config, num_layers=layers)) for layers in (1, 2))
        return one + (config.num_layers - 1) * (two - one)
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0)))))


def test_numbers_of_parameters_are_the_published_ones():
    assert count(T5Config.small()) == 60_506_624
    assert count(T5Config.base()) == 222_903_552
    assert count(T5Config.small(d_ff=1024, num_layers=8, num_heads=6, **V11)) == 76_961_152  # T5 1.1 small


def test_number_of_parameters_by_hand():
    attention, norm, layer = 4 * 6 * 15, 6, 2 * 6 * 11
    encoder = 1 * (attention + layer + 2 * norm) + norm + 8 * 3
    decoder = 2 * (2 * attention + layer + 3 * norm) + norm + 8 * 3
    assert count(CONFIG) == 41 * 6 + encoder + decoder
    more = 3 * 6 * 11 + 6 * 41  # a gate in each of 3 layers, an output matrix
    assert count(replace(CONFIG, **V11)) == 41 * 6 + encoder + decoder + more


def test_epsilon_is_the_papers_in_every_size():
    assert {getattr(T5Config, size)().layer_norm_epsilon for size in ("tiny", "small", "base")} == {1e-6}


def test_named_sizes_take_changes():
    assert T5Config.tiny().d_model == 128 and T5Config.tiny(d_model=64).d_model == 64
    assert (T5Config.base().num_layers, T5Config.base(num_layers=3).decoder_layers) == (12, 3)
    assert T5Config(num_layers=2, num_decoder_layers=5).decoder_layers == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feed_forward_proj", "gelu"),
        ("d_model", 0),
        ("num_heads", -1),
        ("num_decoder_layers", 0),
        ("dropout_rate", 1.0),
        ("dropout_rate", -0.1),
        ("relative_attention_num_buckets", 3),
        ("relative_attention_max_distance", 16),
    ],
)
def test_impossible_sizes_are_refused_by_name(field, value):
    with pytest.raises(UserError, match=f"{field} is .*{value}"):
        T5Config(**{field: value})


# dropout -------------------------------------------------------------------------------------------------------------


def test_dropout_is_a_function_of_its_key_and_differs_between_equal_rows(t5):
    apply, params = random_t5()
    run = jax.jit(lambda key: apply(params, inputs, targets_in, key=key))
    inputs, targets_in = (jnp.stack([x[0], x[0]]) for x in (INPUTS, TARGETS_IN))
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any(axis=-1).all()
    assert (first[0] != first[1]).any(axis=-1).all()
    assert (first[0] != t5(INPUTS, TARGETS_IN)[1][0]).any(axis=-1).all()  # without a key there is none


def test_no_dropout_key_is_used_twice():
    apply, params = as_function(nnx.eval_shape(lambda: T5(CONFIG, rngs=nnx.Rngs(0))))
    with jax.debug_key_reuse(True):
        jax.jit(apply).lower(params, INPUTS, TARGETS_IN, key=jax.random.key(0))  # the check needs no compilation


# number formats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float16, "float16", np.dtype("float16")])
def test_float16_is_refused_with_the_reason(dtype):
    with pytest.raises(UserError, match="overflows in float16.*bfloat16"):
        T5(CONFIG, rngs=nnx.Rngs(0), dtype=dtype)


@pytest.mark.parametrize("variant", [{}, V11], ids=["1.0", "1.1"])
def test_bfloat16_computes_and_float32_keeps(variant):
    apply, params = random_t5(replace(CONFIG, **variant), dtype=jnp.bfloat16)
    logits = lambda params: apply(params, INPUTS, TARGETS_IN, input_mask=INPUT_MASK, key=jax.random.key(0))
    gradients = jax.eval_shape(jax.grad(lambda params: logits(params).sum()), params)
    encoded = jax.eval_shape(lambda params: apply(params, INPUTS, method="encode"), params)
    assert (encoded.dtype, jax.eval_shape(logits, params).dtype) == (jnp.bfloat16, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradients))} == {jnp.dtype("float32")}


def test_bfloat16_logits_are_near_those_of_float32(t5):
    apply, params = random_t5(dtype=jnp.bfloat16)
    half = jax.jit(apply)(params, INPUTS, TARGETS_IN, input_mask=INPUT_MASK, target_mask=TARGET_MASK)
    _, full = t5(INPUTS, TARGETS_IN)
    assert 1e-4 < np.linalg.norm(np.asarray(half, np.float32) - full) / np.linalg.norm(full) < 0.05
