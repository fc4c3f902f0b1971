"""BERT against Hugging Face's on seeded random weights: embeddings, all layers, what each head returns, every gradient.

The files come from `tests/golden/make_bert.py` and are read by `load`, as a checkpoint is. Differences are relative to
the largest entry of the array.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.weights import write_safetensors
from tlqa_jax.models.bert import Bert
from tlqa_jax.models.functional import as_function

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("bert*.npz"))


def assert_close(ours, theirs, name: str):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs)
    assert ours.shape == theirs.shape, name
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert difference <= 1e-5, f"{name}: {difference:.1e} of the largest entry"


def below(arrays: dict[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(folder): array for key, array in arrays.items() if key.startswith(folder)}


def loaded(arrays: dict[str, np.ndarray], config: dict, folder: Path):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", arrays)
    return load(folder).model()


def test_every_head_has_its_file():
    assert FILES == [
        "bert", "bert_causal", "bert_classification", "bert_lm_head", "bert_long", "bert_masked_lm",
        "bert_pretraining", "bert_question_answering",
    ]


@pytest.mark.parametrize("file", FILES)
def test_layers_outputs_and_gradients(file, tmp_path):
    with np.load(GOLDEN / f"{file}.npz") as stored:
        golden = {key: stored[key] for key in stored.files}
    config = json.loads(golden.pop("config").item())
    model = loaded(below(golden, "weight/"), config, tmp_path / "weights")
    gradient_model = loaded(below(golden, "gradient/"), config, tmp_path / "gradients")
    expected_gradients = flatten_dict(as_function(gradient_model)[1])
    inputs = [jnp.asarray(golden[name], jnp.int32) for name in ("tokens", "token_types")]
    apply, params = as_function(model)
    encode = apply if isinstance(model, Bert) else as_function(model.encoder)[0]
    directions = [jnp.asarray(golden[f"direction/{i}"]) for i in range(len(below(golden, "direction/")))]

    @jax.jit
    def compute(params):
        call = dict(token_types=inputs[1], mask=jnp.asarray(golden["mask"] == 1))

        def loss(params):
            outputs = apply(params, inputs[0], **call)
            outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
            return sum(jnp.sum(x * direction) for x, direction in zip(outputs, directions)), outputs

        gradients, outputs = jax.grad(loss, has_aux=True)(params)
        return gradients, outputs, encode(params.get("encoder", params), inputs[0], **call)

    gradients, outputs, encoded = compute(params)
    assert len(encoded.hidden_states) == 3 and (encoded.last == encoded.hidden_states[-1]).all()
    for i, hidden in enumerate(encoded.hidden_states):
        assert_close(hidden, golden[f"hidden/{i}"], f"hidden state {i}")
    for i in range(len(directions)):
        assert_close(outputs[i], golden[f"output/{i}"], f"output {i}")
    gradients = flatten_dict(gradients)
    assert gradients.keys() == expected_gradients.keys()
    for path, expected in expected_gradients.items():
        if path[-1] == "key_bias":  # it adds the same to all scores of a query, which softmax does not see
            sibling = np.abs(gradients[*path[:-1], "query_bias"]).max()
            assert np.abs(gradients[path]).max() < 1e-5 * sibling
            continue
        assert np.abs(expected).max() > 1e-4, f"{path}: a gradient too small to test anything"
        assert_close(gradients[path], expected, ".".join(path))
