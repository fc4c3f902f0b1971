"""T5 beside live Transformers: random sizes, there and back through directories. `pip install '.[parity]'` first.

    python -m pytest -m slow tests/parity/test_t5_parity.py -s        # prints the largest differences
"""

import json
import shutil
import warnings
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="pip install '.[parity]'")
    transformers = pytest.importorskip("transformers", reason="pip install '.[parity]'")

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.checkpoints.tokenizer_files import read_tokenizer
from tlqa_jax.checkpoints.weights import write_safetensors
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import shift_right
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

VARIANTS = {  # what config.json says; None: nothing
    "1.0": dict(feed_forward_proj="relu"),
    "1.1": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, scale_decoder_outputs=None),
    "1.1, written by Transformers 5": dict(
        feed_forward_proj="gated-gelu", tie_word_embeddings=True, scale_decoder_outputs=False
    ),
    "encoder": dict(feed_forward_proj="gated-gelu"),
}
largest: dict[str, dict[str, float]] = defaultdict(dict)


@pytest.fixture(scope="module", autouse=True)
def report():
    transformers.logging.set_verbosity_error()
    yield
    print(f"\nTransformers {transformers.__version__}, PyTorch {torch.__version__}, jax {jax.__version__}: ", end="")
    print("largest difference, of the largest entry")
    for variant, differences in largest.items():
        print(f"  {variant:<32}", "  ".join(f"{what} {size:.1e}" for what, size in differences.items()))


def assert_close(variant: str, what: str, ours, theirs: np.ndarray, at_least: float = 0.0) -> None:
    difference = float(np.abs(np.asarray(ours) - theirs).max() / max(np.abs(theirs).max(), at_least))
    largest[variant][what] = max(largest[variant].get(what, 0.0), difference)
    assert difference <= 1e-5, what


def random_t5(variant: str, seed: int):
    """A Transformers model of random sizes and weights."""
    random = np.random.default_rng(seed)
    draw = lambda low, high: int(random.integers(low, high + 1))
    buckets = draw(4, 32)
    config = transformers.T5Config(
        vocab_size=draw(20, 300), d_model=draw(3, 64), d_kv=draw(2, 24), num_heads=draw(1, 6), d_ff=draw(5, 130),
        num_layers=draw(1, 3), num_decoder_layers=draw(1, 3), relative_attention_num_buckets=buckets,
        relative_attention_max_distance=draw(buckets, 128), layer_norm_epsilon=10.0 ** -draw(5, 12),
        dropout_rate=0.0, decoder_start_token_id=0, use_cache=False,
        feed_forward_proj=VARIANTS[variant]["feed_forward_proj"], tie_word_embeddings=not variant.startswith("1.1"),
    )
    torch.manual_seed(seed)
    kind = transformers.T5EncoderModel if variant == "encoder" else transformers.T5ForConditionalGeneration
    model = kind(config).eval()
    if variant.startswith("1.1"):  # Transformers 5 would have it tied
        model.lm_head.weight = torch.nn.Parameter(torch.empty(config.vocab_size, config.d_model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif "relative_attention_bias" in name or "shared" in name:
                parameter.normal_()
            else:
                parameter.normal_(std=0.7 * parameter.shape[-1] ** -0.5)
    return model


def random_inputs(config, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed + 1000)
    rows, source, target = (int(random.integers(low, high)) for low, high in ((1, 4), (2, 160), (2, 40)))
    # at least two of each: with one key to look at, the true gradient of a query is 0, and what is found is rounding
    mask = np.arange(source) < random.integers(2, source + 1, (rows, 1))
    if seed % 2:
        mask = random.random((rows, source)) < 0.7  # holes
        mask[:, :2] = True
    labels = random.integers(2, config.vocab_size, (rows, target))
    labels[np.arange(target) >= random.integers(2, target + 1, (rows, 1))] = 0
    return dict(inputs=random.integers(2, config.vocab_size, (rows, source)), mask=mask, labels=labels)


def their_results(model, inputs, mask, labels) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits, encoder states and loss; the gradients by the names of the parameters."""
    given = dict(input_ids=torch.tensor(inputs), attention_mask=torch.tensor(mask.astype(np.int64)))
    if hasattr(model, "lm_head"):
        out = model(**given, labels=torch.tensor(np.where(labels == 0, -100, labels)))
        loss, results = out.loss, dict(states=out.encoder_last_hidden_state, logits=out.logits)
    else:
        states = model(**given).last_hidden_state
        loss, results = (states**3).mean(), dict(states=states)
    model.zero_grad()
    loss.backward()
    gradients = {name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}
    return {name: array.detach().numpy() for name, array in (results | {"loss": loss}).items()}, gradients


def our_results(model, inputs, mask, labels):
    apply, params = as_function(model)
    inputs, labels = jnp.asarray(inputs, jnp.int32), jnp.asarray(labels, jnp.int32)

    def loss(params):
        states = apply(params, inputs, input_mask=jnp.asarray(mask), method="encode")
        if "decoder_norm" not in params:
            return (states**3).mean(), dict(states=states)
        logits = apply(params, inputs, shift_right(labels), input_mask=jnp.asarray(mask))
        total, weight = cross_entropy(logits, labels, (labels != 0).astype(jnp.float32))
        return total / weight, dict(states=states, logits=logits)

    (value, results), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return results | {"loss": value}, gradients


def write_as(model, variant: str, directory) -> None:
    """The model's directory, with what the variant wants in its config.json."""
    model.save_pretrained(directory)
    file = directory / "config.json"
    values = json.loads(file.read_text()) | VARIANTS[variant]
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_gradients_and_both_ways(variant, seed, tmp_path):
    model = random_t5(variant, seed)
    given = random_inputs(model.config, seed)
    theirs, their_gradients = their_results(model, **given)
    write_as(model, variant, tmp_path / "theirs")

    ours = load(tmp_path / "theirs").model()
    results, gradients = our_results(ours, **given)
    for name, array in theirs.items():
        assert_close(variant, name, results[name], array)
    shutil.copytree(tmp_path / "theirs", tmp_path / "gradients")  # under their names, brought in as parameters are
    write_safetensors(tmp_path / "gradients" / "model.safetensors", their_gradients)
    expected = flatten(as_function(load(tmp_path / "gradients").model())[1])
    # what is far smaller than all others may be rounding for the most part
    least = max(np.abs(gradient).max() for gradient in expected.values()) / 1000
    for name, gradient in flatten(gradients).items():
        assert_close(variant, "gradients", gradient, np.asarray(expected[name]), least)

    save_pretrained(ours, tmp_path / "ours")
    again, info = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    stored, reread = model.state_dict(), again.state_dict()
    assert stored.keys() == reread.keys() and all(torch.equal(stored[name], reread[name]) for name in stored)
    for module in again.modules():  # a cache lays keys and values out in another way, which rounds
        if hasattr(module, "config"):  # the decoder has a copy
            module.config.use_cache = model.config.use_cache
    for name, array in their_results(again.eval(), **given)[0].items():
        assert (array == theirs[name]).all(), name
    if variant != "encoder":
        tokens = torch.tensor(given["inputs"])[:, :20]
        for beams in (1, 4):
            written = [
                each.generate(tokens, num_beams=beams, do_sample=False, max_new_tokens=12, use_cache=False).tolist()
                for each in (model, again)
            ]
            assert written[0] == written[1] and len(written[0][0]) > 1


TEXT = [
    "The clock in the tower of Oss was made by Mira Alder.", "Tom plays the flute at the fair, and Ann the drum.",
    "A café by the river sells soup; it is never dull.", "In 1907 the river rose, and nobody slept.",
] * 9  # fmt: skip
LINES = [
    "The clock <extra_id_0> Oss was <extra_id_1> Mira.", "<extra_id_0>", "two  spaces\tand\na café ﬁsh ½",
    "x<extra_id_99><extra_id_3>y", "", " Zürich {~} 1907", "<extra_id_100>",
]  # fmt: skip


@pytest.mark.parametrize("extra_ids", [100, 7])
def test_vocabularies_both_ways(extra_ids, tmp_path):
    ours = SentencePieceTokenizer.train(TEXT, tmp_path / "v.model", 54, extra_ids=extra_ids)
    lines = [line for line in LINES if extra_ids == 100 or "99" not in line and "100" not in line]
    config = transformers.T5Config(vocab_size=192, d_model=4, d_kv=2, num_heads=1, d_ff=4, num_layers=1)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "theirs")
    save_pretrained(load(tmp_path / "theirs").model(), tmp_path / "ours", ours)
    for kind in (transformers.AutoTokenizer, transformers.T5Tokenizer):
        theirs = kind.from_pretrained(tmp_path / "ours")
        assert len(theirs) == ours.vocab_size
        for line in lines:
            assert theirs(line)["input_ids"] == [*ours.encode(line), ours.eos_id], line
        assert theirs.decode(ours.encode("Mira slept.")) == "Mira slept."
    theirs.save_pretrained(tmp_path / "again")
    for file in ("spiece.model", None):  # Transformers 5 writes tokenizer.json alone
        again = read_tokenizer(tmp_path / "again", SentencePieceTokenizer)
        assert again.vocab_size == ours.vocab_size and (again.sentinels == ours.sentinels).all()
        for line in [*lines, *TEXT]:
            assert again.encode(line) == ours.encode(line), line
        if file and transformers.__version__ < "5":
            (tmp_path / "again" / file).unlink()
            transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "again")
            (tmp_path / "again" / file).unlink()
