"""BERT beside live Transformers: random sizes, there and back through directories. `pip install '.[parity]'` first.

    python -m pytest -m slow tests/parity -s        # prints the largest differences
"""

import json
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

from tlqa_jax.models.functional import as_function
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.weights.huggingface import from_pretrained, load_tokenizer, save_pretrained

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ARCHITECTURES = (
    "BertModel", "BertForPreTraining", "BertForMaskedLM", "BertForQuestionAnswering", "BertForSequenceClassification",
)
largest = defaultdict(float)


@pytest.fixture(scope="module", autouse=True)
def report():
    transformers.logging.set_verbosity_error()
    yield
    versions = f"Transformers {transformers.__version__}, PyTorch {torch.__version__}, jax {jax.__version__}"
    print(f"\n{versions}: largest difference of outputs, of the largest entry: ", dict(largest))


def random_bert(architecture: str, seed: int):
    """A Transformers model of random sizes and weights, and inputs with random padding."""
    random = np.random.default_rng(seed)
    draw = lambda low, high: int(random.integers(low, high + 1))
    heads, positions, kinds = draw(1, 6), draw(8, 150), draw(1, 3)
    labels = draw(2, 7) if architecture == "BertForSequenceClassification" else 2
    config = transformers.BertConfig(
        vocab_size=draw(20, 300), hidden_size=heads * draw(2, 24), num_attention_heads=heads,
        num_hidden_layers=draw(1, 4), intermediate_size=draw(5, 160), max_position_embeddings=positions,
        type_vocab_size=kinds, is_decoder=seed % 10 == 9,
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
    mask = np.arange(length) < random.integers(1, length + 1, (rows, 1))
    if draw(0, 1):
        mask = random.random((rows, length)) < 0.7  # holes
        mask[:, 0] = True
    tokens = random.integers(0, config.vocab_size, (rows, length))
    return model, tokens, random.integers(0, kinds, (rows, length)), mask


def their_outputs(model, tokens, token_types, mask) -> list[np.ndarray]:
    with torch.no_grad():
        inputs = dict(input_ids=tokens, token_type_ids=token_types, attention_mask=mask.astype(np.int64))
        outputs = model(**{name: torch.tensor(x) for name, x in inputs.items()}, return_dict=False)
    return [x.numpy() for x in outputs if isinstance(x, torch.Tensor)]  # and not a decoder's cache


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_and_both_ways(architecture, seed, tmp_path):
    model, tokens, token_types, mask = random_bert(architecture, seed)
    theirs = their_outputs(model, tokens, token_types, mask)
    model.save_pretrained(tmp_path / "theirs")

    ours = from_pretrained(tmp_path / "theirs")
    apply, params = as_function(ours)
    inputs = dict(token_types=jnp.asarray(token_types, jnp.int32), mask=jnp.asarray(mask))
    outputs = jax.jit(apply)(params, jnp.asarray(tokens, jnp.int32), **inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for one, other in zip(outputs, theirs):
        # the positions of padding are compared where a token is seen by them at all
        seen = np.ones(other.shape, bool) if one.shape[:2] != mask.shape else np.broadcast_to(
            np.cumsum(mask, axis=1).reshape(*mask.shape, *[1] * (other.ndim - 2)) > 0, other.shape
        )
        difference = np.abs(np.asarray(one) - other)[seen].max() / np.abs(other).max()
        largest[architecture] = max(largest[architecture], float(difference))
        assert difference <= 1e-5

    save_pretrained(ours, tmp_path / "ours")
    again, info = getattr(transformers, architecture).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    if architecture == "BertForSequenceClassification":
        assert again.config.id2label == model.config.id2label
    for one, other in zip(their_outputs(again.eval(), tokens, token_types, mask), theirs, strict=True):
        assert (one == other).all()


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "un", "##want", "##ed", ",", "cafe", "Café", "é", "博"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_vocabularies_both_ways(lowercase, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    ours = WordPieceTokenizer(tmp_path / "vocab.txt", lowercase=lowercase)
    model = transformers.BertModel(transformers.BertConfig(
        vocab_size=14, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    ))
    model.save_pretrained(tmp_path / "theirs")
    save_pretrained(from_pretrained(tmp_path / "theirs"), tmp_path / "ours", ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "the unwanted, UNWANTED Café 博é"
    assert theirs(text)["input_ids"] == [ours.cls_id, *ours.encode(text), ours.sep_id]
    assert theirs.mask_token_id == ours.mask_id and theirs.model_max_length == 512
    theirs.save_pretrained(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.lowercase == lowercase and again.encode(text) == ours.encode(text)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["vocab_size"] == 14
