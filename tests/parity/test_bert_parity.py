"""BERT beside live Transformers: random sizes, there and back through directories. `pip install '.[parity]'` first.

    python -m pytest -m slow tests/parity -s        # prints the largest differences
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
from tlqa_jax.models.functional import as_function
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.pretrain_clm import next_token_loss, number_of_targets

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ARCHITECTURES = (
    "BertModel", "BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel", "BertForQuestionAnswering",
    "BertForSequenceClassification",
)
largest: dict[str, dict[str, float]] = defaultdict(dict)


@pytest.fixture(scope="module", autouse=True)
def report():
    transformers.logging.set_verbosity_error()
    yield
    print(f"\nTransformers {transformers.__version__}, PyTorch {torch.__version__}, jax {jax.__version__}: ", end="")
    print("largest difference, of the largest entry")
    for architecture, differences in largest.items():
        print(f"  {architecture:<30}", "  ".join(f"{what} {size:.1e}" for what, size in differences.items()))


def assert_close(architecture: str, what: str, ours, theirs: np.ndarray, at_least: float = 0.0) -> None:
    difference = float(np.abs(np.asarray(ours) - theirs).max() / max(np.abs(theirs).max(), at_least))
    largest[architecture][what] = max(largest[architecture].get(what, 0.0), difference)
    assert difference <= 1e-5, what


def random_bert(architecture: str, seed: int):
    """A Transformers model of random sizes and weights, and inputs with random padding."""
    random = np.random.default_rng(seed)
    draw = lambda low, high: int(random.integers(low, high + 1))
    heads, positions, kinds = draw(1, 6), draw(8, 150), draw(1, 3)
    labels = draw(2, 7) if architecture == "BertForSequenceClassification" else 2
    # at least 8 wide: of four numbers that are nearly alike LayerNorm makes large gradients, which are half rounding
    head_size = max(draw(2, 24), -(-8 // heads))
    config = transformers.BertConfig(
        vocab_size=draw(20, 300), hidden_size=heads * head_size, num_attention_heads=heads,
        num_hidden_layers=draw(1, 4), intermediate_size=draw(5, 160), max_position_embeddings=positions,
        type_vocab_size=kinds, is_decoder=seed % 10 == 9 or architecture == "BertLMHeadModel",
        hidden_act=("gelu", "gelu", "relu", "gelu_new")[draw(0, 3)], layer_norm_eps=10.0 ** -draw(5, 12),
        id2label={i: f"label {i}" for i in range(labels)},
    )
    torch.manual_seed(seed)
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    rows, length = draw(1, 5), draw(3, positions)
    # at least two of each: with one key to look at, the true gradient of a query is 0, and what is found is rounding
    mask = np.arange(length) < random.integers(2, length + 1, (rows, 1))
    if draw(0, 1):
        mask = random.random((rows, length)) < 0.7  # holes
        mask[:, :2] = True
    tokens = random.integers(1, config.vocab_size, (rows, length))  # 0: PyTorch has no gradient for the padding's
    return model, tokens, random.integers(0, kinds, (rows, length)), mask


def their_outputs(model, tokens, token_types, mask) -> list:
    inputs = dict(input_ids=tokens, token_type_ids=token_types, attention_mask=mask.astype(np.int64))
    outputs = model(**{name: torch.tensor(x) for name, x in inputs.items()}, return_dict=False)
    return [x for x in outputs if isinstance(x, torch.Tensor)]  # and not a decoder's cache


def their_gradients(model, *given) -> dict[str, np.ndarray]:
    """Those of `loss_of`, by the names of the parameters."""
    model.zero_grad()
    loss_of(their_outputs(model, *given)).backward()
    return {name: parameter.grad.numpy().copy() for name, parameter in model.named_parameters()}


def our_results(model, tokens, token_types, mask):
    apply, params = as_function(model)
    inputs = dict(token_types=jnp.asarray(token_types, jnp.int32), mask=jnp.asarray(mask))

    def loss(params):
        outputs = apply(params, jnp.asarray(tokens, jnp.int32), **inputs)
        outputs = outputs[:2] if isinstance(outputs, tuple) else [outputs]  # of an encoder, not its hidden states
        return loss_of(outputs), outputs

    gradients, outputs = jax.jit(jax.grad(loss, has_aux=True))(params)
    return outputs, gradients


def loss_of(outputs):
    """To differentiate. (A cross entropy would not change with the bias of spans' logits.)"""
    return sum((x**3).mean() for x in outputs)


def is_idle(name: str, model) -> bool:
    """Whether the true gradient of a parameter is 0, and what is found is rounding."""
    if name.endswith("attention/key_bias"):  # it adds the same to every score
        return True
    # the first token, which alone is read, sees itself alone
    blind = model.config.is_decoder and hasattr(model, "classifier")
    return blind and ("attention/query" in name or "attention/key" in name)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_gradients_and_both_ways(architecture, seed, tmp_path):
    model, *given = random_bert(architecture, seed)
    with torch.no_grad():
        theirs = [x.numpy() for x in their_outputs(model, *given)]
    model.save_pretrained(tmp_path / "theirs")

    ours = load(tmp_path / "theirs").model()
    outputs, gradients = our_results(ours, *given)
    for one, other in zip(outputs, theirs, strict=True):
        assert_close(architecture, "outputs", one, other)
    shutil.copytree(tmp_path / "theirs", tmp_path / "gradients")  # under their names, brought in as parameters are
    write_safetensors(tmp_path / "gradients" / "model.safetensors", their_gradients(model, *given))
    expected = flatten(as_function(load(tmp_path / "gradients").model())[1])
    # what is far smaller than all others may be rounding for the most part
    least = max(np.abs(gradient).max() for gradient in expected.values()) / 1000
    for name, gradient in flatten(gradients).items():
        if not is_idle(name, model):
            assert_close(architecture, "gradients", gradient, np.asarray(expected[name]), least)

    save_pretrained(ours, tmp_path / "ours")
    again, info = getattr(transformers, architecture).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    if architecture == "BertForSequenceClassification":
        assert again.config.id2label == model.config.id2label
    for parameter in again.parameters():  # away from where they lay in the file: sums round by the address
        parameter.data = parameter.data.clone()
    with torch.no_grad():
        for one, other in zip(their_outputs(again.eval(), *given), theirs, strict=True):
            assert (one.numpy() == other).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_of_the_next_token(seed, tmp_path):
    """Theirs shifts the labels by itself; in our rows they are shifted."""
    model, tokens, _, mask = random_bert("BertLMHeadModel", seed)
    labels = torch.tensor(np.where(mask, tokens, -100))
    with torch.no_grad():
        theirs = float(model(input_ids=torch.tensor(tokens), labels=labels).loss)
    model.save_pretrained(tmp_path / "theirs")
    apply, params = as_function(load(tmp_path / "theirs").model())
    column = lambda x: jnp.asarray(x, jnp.int32)
    rows = {
        "tokens": column(tokens[:, :-1]), "targets": column(tokens[:, 1:]),
        "weights": jnp.asarray(mask[:, 1:], jnp.float32),
    }  # fmt: skip
    ours = float(next_token_loss(apply, params, rows) / number_of_targets(rows))
    assert_close("BertLMHeadModel", "loss", np.float64(ours), np.float64(theirs))


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "un", "##want", "##ed", ",", "cafe", "Café", "é", "博"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_vocabularies_both_ways(lowercase, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    ours = WordPieceTokenizer(tmp_path / "vocab.txt", lowercase=lowercase)
    model = transformers.BertModel(transformers.BertConfig(
        vocab_size=14, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    ))
    model.save_pretrained(tmp_path / "theirs")
    save_pretrained(load(tmp_path / "theirs").model(), tmp_path / "ours", ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "the unwanted, UNWANTED Café 博é"
    assert theirs(text)["input_ids"] == [ours.cls_id, *ours.encode(text), ours.sep_id]
    assert theirs.mask_token_id == ours.mask_id and theirs.model_max_length == 512
    theirs.save_pretrained(tmp_path / "again")
    again = read_tokenizer(tmp_path / "again", WordPieceTokenizer)
    assert again.lowercase == lowercase and again.encode(text) == ours.encode(text)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["vocab_size"] == 14
