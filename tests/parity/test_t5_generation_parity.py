"""What T5s write beside live Transformers: greedily and with four beams, token for token.

    python -m pytest -m slow tests/parity/test_t5_generation_parity.py -s        # prints how many texts were compared
"""

import warnings
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="pip install '.[parity]'")
    transformers = pytest.importorskip("transformers", reason="pip install '.[parity]'")

from tlqa_jax.checkpoints.load import load
from tlqa_jax.inference.beam_search import beam_search
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.models.functional import as_function

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

VARIANTS = {
    "1.0": dict(feed_forward_proj="relu", tie_word_embeddings=True),
    "1.1": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
METHODS = {
    "greedy": dict(num_beams=1),
    "beam": dict(num_beams=4),
    "beam, penalty 0": dict(num_beams=4, length_penalty=0.0),
    "beam, early": dict(num_beams=4, early_stopping=True),
    "beam, never, penalty 2": dict(num_beams=4, early_stopping="never", length_penalty=2.0),
}
ROWS, LENGTH = 16, 12
compared = Counter()


@pytest.fixture(scope="module", autouse=True)
def report():
    transformers.logging.set_verbosity_error()
    yield
    print(f"\nTransformers {transformers.__version__}: texts compared, and those that differ in a tie:", dict(compared))


def random_t5(variant: str, seed: int):
    config = transformers.T5Config(
        vocab_size=11, d_model=12, d_kv=5, num_heads=3, d_ff=17, num_layers=2, num_decoder_layers=2,
        dropout_rate=0.0, decoder_start_token_id=0, **VARIANTS[variant],
    )
    torch.manual_seed(seed)
    model = transformers.T5ForConditionalGeneration(config).eval()
    if not VARIANTS[variant]["tie_word_embeddings"]:  # Transformers 5 would have it tied
        model.lm_head.weight = torch.nn.Parameter(torch.empty(config.vocab_size, config.d_model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=1.0 if "relative_attention_bias" in name or "shared" in name else 0.45)
    random = np.random.default_rng(seed)
    inputs = random.integers(2, config.vocab_size, (ROWS, 7))
    return model, inputs, np.arange(7) < random.integers(3, 8, (ROWS, 1))


def theirs(model, inputs, mask, **method):
    """Their tokens [B T], scores [B] of the best, and how far behind the second one is."""
    several = dict(num_return_sequences=2) if method["num_beams"] > 1 else {}
    with torch.no_grad():
        out = model.generate(
            torch.tensor(inputs), attention_mask=torch.tensor(mask.astype(np.int64)), max_new_tokens=LENGTH,
            do_sample=False, output_scores=True, return_dict_in_generate=True, **method, **several,
        )
    tokens = np.zeros((len(out.sequences), LENGTH), int)
    tokens[:, : out.sequences.shape[1] - 1] = out.sequences[:, 1:].numpy()
    tokens[np.cumsum(tokens == 1, axis=1) - (tokens == 1) > 0] = 0  # behind the end their beam search writes more ends
    if not several:
        return tokens, None, np.full(ROWS, np.inf)
    scores = out.sequences_scores.numpy().reshape(ROWS, 2)
    return tokens[::2], scores[:, 0], scores[:, 0] - scores[:, 1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_tokens(variant, seed, tmp_path):
    model, inputs, mask = random_t5(variant, seed)
    model.save_pretrained(tmp_path)
    apply, params = as_function(load(tmp_path).model())
    for name, method in METHODS.items():
        wanted, scores, lead = theirs(model, inputs, mask, **method)
        options = {key: value for key, value in method.items() if key != "num_beams"}
        search = greedy if method["num_beams"] == 1 else partial(beam_search, num_beams=4, **options)
        found = jax.jit(partial(search, apply, max_new_tokens=LENGTH))(
            params, jnp.asarray(inputs, jnp.int32), jnp.asarray(mask)
        )
        best = found.tokens if method["num_beams"] == 1 else found.tokens[:, 0]
        same = (np.asarray(best) == wanted).all(axis=1)
        assert (same | (lead < 1e-5)).all(), f"{name}: rows {np.flatnonzero(~same)} differ"
        if scores is not None:
            np.testing.assert_allclose(found.scores[:, 0], scores, rtol=1e-4)
        compared[f"{variant} {name}"] += ROWS
        compared["ties"] += int((~same).sum())
