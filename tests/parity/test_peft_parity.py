"""LoRA beside PEFT on random weights: a directory of ours that PEFT opens, and one of PEFT's that we open.

    pip install '.[parity]'; python -m pytest -m slow tests/parity/test_peft_parity.py -s     # prints the differences
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import unflatten_dict

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="pip install '.[parity]'")
    transformers = pytest.importorskip("transformers", reason="pip install '.[parity]'")
    peft = pytest.importorskip("peft", reason="pip install '.[parity]'")

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.save import save_pretrained, write_config, write_weights
from tlqa_jax.models.adapters import add_lora
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import BertForQuestionAnswering, BertForSequenceClassification
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5, T5Config

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BERT = BertConfig(
    vocab_size=41, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=37,
    max_position_embeddings=19, id2label=("no", "yes", "perhaps"),
)  # fmt: skip
V10 = T5Config(vocab_size=41, d_model=24, d_kv=7, d_ff=37, num_layers=2, num_decoder_layers=1, num_heads=3)
V11 = T5Config(**{**vars(V10), "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False})
CASES = {  # (the class of the base, of the model, its config; Transformers' class, PEFT's task, what it saves whole)
    "spans": (Bert, BertForQuestionAnswering, BERT, "BertForQuestionAnswering", "QUESTION_ANS", ["qa_outputs"]),
    "classes": (
        Bert, BertForSequenceClassification, BERT, "BertForSequenceClassification", "SEQ_CLS", ["classifier", "pooler"]
    ),
    "t5 1.0": (T5, T5, V10, "T5ForConditionalGeneration", "SEQ_2_SEQ_LM", None),
    "t5 1.1": (T5, T5, V11, "T5ForConditionalGeneration", "SEQ_2_SEQ_LM", None),
}  # fmt: skip
TOKENS, TARGETS = (np.random.default_rng(n).integers(2, 41, (3, length)).astype(np.int32) for n, length in ((0, 13), (1, 5)))


def random_params(model, like=None):
    """Random parameters of the deviation that keeps activations near 1; those that `like` has are taken from there."""
    random, like = np.random.default_rng(len(like or {})), like or {}

    def draw(path, leaf):
        if leaf.ndim == 1:
            return random.normal(0.1, 0.1, leaf.shape) + path.endswith("scale")
        return random.normal(size=leaf.shape) * (0.3 if "_lora/" in path else leaf.shape[0] ** -0.5)

    params = {path: like.get(path, draw(path, leaf)) for path, leaf in flatten(as_function(model)[1]).items()}
    return {path: jnp.asarray(leaf, jnp.float32) for path, leaf in params.items()}


def with_params(model, params):
    return as_module(model, unflatten_dict(params, sep="/"))


def logits(model):
    apply, params = as_function(model)
    out = jax.jit(apply)(params, *((TOKENS, TARGETS) if isinstance(model, T5) else (TOKENS,)))
    return [np.asarray(x) for x in jax.tree.leaves(out)]


def their_logits(model):
    tokens = dict(input_ids=torch.tensor(TOKENS, dtype=torch.long))
    if "t5" in model.config.model_type:
        tokens["decoder_input_ids"] = torch.tensor(TARGETS, dtype=torch.long)
    with torch.no_grad():
        out = model.eval()(**tokens)
    return [x.numpy() for x in ((out.start_logits, out.end_logits) if "start_logits" in out else (out.logits,))]


def assert_close(what, ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        difference = np.abs(one - other).max() / np.abs(other).max()
        print(f"{what}: {difference:.1e}", end="  ")
        assert difference <= 1e-5, what


def assert_differ(without, theirs):
    """LoRA matters: this is not the parity of the base."""
    assert max(np.abs(one - other).max() / np.abs(other).max() for one, other in zip(without, theirs)) > 0.05


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """CASES' row, and the base's parameters; the base is in tmp_path/base."""
    transformers.logging.set_verbosity_error()
    of_base, kind, config, *_ = CASES[request.param]
    model = of_base(config, rngs=nnx.Rngs(0))
    params = random_params(model)
    save_pretrained(with_params(model, params), tmp_path / "base")
    return CASES[request.param], params


def their_base(case, folder):
    (_, _, config, name, *_), _ = case
    more = {} if isinstance(config, T5Config) else {"num_labels": 3 if "Classification" in name else 2}
    return getattr(transformers, name).from_pretrained(folder / "base", **more)


def test_peft_opens_what_we_write(case, tmp_path):
    (_, kind, config, name, *_), params = case
    model = kind(config, rngs=nnx.Rngs(0))
    add_lora(model, 4, nnx.Rngs(0))
    model = with_params(model, random_params(model, params | {f"encoder/{path}": x for path, x in params.items()}))
    (tmp_path / "lora").mkdir()
    write_config(tmp_path / "lora", model, {}, str(tmp_path / "base"))
    write_weights(tmp_path / "lora", model)
    opened = peft.PeftModel.from_pretrained(their_base(case, tmp_path), tmp_path / "lora")
    theirs = their_logits(opened)
    with opened.disable_adapter():
        assert_differ(their_logits(opened), theirs)
    assert_close(f"{name}, ours", logits(model), theirs)
    assert_close("merged", logits(load(tmp_path / "lora").model()), theirs)
    assert_close("merged by PEFT", their_logits(opened.merge_and_unload()), theirs)


@pytest.mark.parametrize("targets", ["default", "all-linear"])
def test_we_open_what_peft_writes(case, targets, tmp_path):
    (_, kind, config, name, task, whole), _ = case
    torch.manual_seed(0)
    given = dict(r=4, lora_alpha=3, init_lora_weights=False, task_type=task, modules_to_save=whole)
    if targets == "all-linear":
        given |= dict(target_modules="all-linear", use_rslora=True)
    model = peft.get_peft_model(their_base(case, tmp_path), peft.LoraConfig(**given))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.mul_(3)
    model.save_pretrained(tmp_path / "lora")
    assert not (tmp_path / "lora" / "config.json").exists()
    opened = load(tmp_path / "lora")
    assert opened.architecture == name and type(opened.model()) is kind
    theirs = their_logits(model)
    with model.disable_adapter():
        assert_differ(their_logits(model), theirs)
    assert_close(f"{name}, PEFT's, {targets}", logits(opened.model()), theirs)
