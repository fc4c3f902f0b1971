"""Writes the golden files bert_*.npz: what Hugging Face's BERTs compute with seeded random weights at tiny odd sizes.

    python tests/golden/make_bert.py        # needs torch and transformers (made with torch 2.13, transformers 4.57.6)

Each file holds the configuration, the weights and their gradients under Hugging Face's names, inputs with padding (a
hole in the middle, too) and token types, the embeddings and the output of every layer, and what the head returns. The
gradients are those of the sum of `direction/N` times the head's N-th output; padding has no part in it, as in any loss.
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import BertConfig

HERE = Path(__file__).parent
SIZES = dict(
    vocab_size=37, hidden_size=6, num_hidden_layers=2, num_attention_heads=3, intermediate_size=11, type_vocab_size=2,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0,
)
OUTPUTS = {  # what is returned, in order
    "BertModel": ("last_hidden_state", "pooler_output"),
    "BertForPreTraining": ("prediction_logits", "seq_relationship_logits"),
    "BertForMaskedLM": ("logits",),
    "BertLMHeadModel": ("logits",),
    "BertForQuestionAnswering": ("start_logits", "end_logits"),
    "BertForSequenceClassification": ("logits",),
}


def make(architecture: str, *, seed: int = 1, rows: int = 2, length: int = 7, **changes) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    config = BertConfig(
        **SIZES, **{"max_position_embeddings": length + 2, **changes},
        architectures=[architecture], attn_implementation="eager",
    )
    model = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.5)
    random = np.random.default_rng(seed)
    mask = np.ones((rows, length), np.int64)
    mask[-1, -2:] = 0
    mask[0, 3] = 0
    tokens = np.where(mask, random.integers(1, SIZES["vocab_size"], (rows, length)), 0)
    token_types = np.broadcast_to(np.arange(length) > length // 2, (rows, length)).astype(np.int64)
    inputs = dict(input_ids=tokens, attention_mask=mask, token_type_ids=token_types)
    rounding = max(float32_rounding(other, inputs, architecture, seed) for other in neighbours(model))
    assert rounding < 3e-6, f"choose another seed: its float32 rounding alone is {rounding:.1e} of the largest entry"
    arrays = compute(model, inputs, architecture, seed)
    return arrays | dict(
        config=np.array(json.dumps({k: v for k, v in config.to_dict().items() if v != BertConfig().to_dict().get(k)})),
        tokens=tokens, mask=mask, token_types=token_types,
    )


def neighbours(model, number: int = 20):
    """The model, and others whose weights differ from its by 1e-6 of each: what rounds well in these, in all orders."""
    yield model
    for _ in range(number):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1 + 1e-6 * torch.randn(parameter.shape))
        yield other


def float32_rounding(model, inputs: dict[str, np.ndarray], architecture: str, seed: int) -> float:
    """The largest difference to the same in float64, of the largest entry of its array.

    It is large where a gradient is a small difference of large numbers. That of a query is one: the scores' gradients
    add up to 0, so whatever the keys have in common falls out of their sum.
    """
    both = (copy.deepcopy(model), copy.deepcopy(model).double())
    arrays, exact = (compute(either, inputs, architecture, seed) for either in both)
    compared = [name for name in exact if not name.endswith("key.bias")]  # whose gradient is 0 but for rounding
    return max(np.abs(arrays[name] - exact[name]).max() / max(np.abs(exact[name]).max(), 1e-9) for name in compared)


def compute(model, inputs: dict[str, np.ndarray], architecture: str, seed: int) -> dict[str, np.ndarray]:
    """Embeddings, every layer, the head's outputs, the weights and their gradients."""
    random, mask = np.random.default_rng(seed), inputs["attention_mask"]
    output = model(**{name: torch.tensor(x) for name, x in inputs.items()}, output_hidden_states=True)
    arrays, loss = {}, 0
    for number, name in enumerate(OUTPUTS[architecture]):
        x = output[name]
        direction = random.normal(size=x.shape).astype(np.float32)
        if x.shape[:2] == mask.shape:
            direction *= mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
        loss = loss + (x * torch.tensor(direction)).sum()
        arrays |= {f"output/{number}": x.detach().numpy(), f"direction/{number}": direction}
    loss.backward()
    for number, x in enumerate(output.hidden_states):
        arrays[f"hidden/{number}"] = x.detach().numpy()
    for name, parameter in model.named_parameters():
        arrays[f"weight/{name}"] = parameter.detach().numpy()
        arrays[f"gradient/{name}"] = parameter.grad.numpy()
    return arrays


def small(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int16) if array.dtype == np.int64 else array


if __name__ == "__main__":
    for file, arrays in {
        "bert": make("BertModel"),
        "bert_pretraining": make("BertForPreTraining", seed=6),
        "bert_masked_lm": make("BertForMaskedLM", seed=7),
        "bert_causal": make("BertForMaskedLM", seed=2, is_decoder=True),
        "bert_lm_head": make("BertLMHeadModel", seed=2, is_decoder=True),
        "bert_question_answering": make("BertForQuestionAnswering"),
        "bert_classification": make("BertForSequenceClassification", seed=8, id2label={0: "no", 1: "yes", 2: "perhaps"}),
        "bert_long": make("BertForQuestionAnswering", rows=1, length=512, max_position_embeddings=512),
    }.items():
        np.savez_compressed(HERE / f"{file}.npz", **{name: small(array) for name, array in arrays.items()})
        print(file, (HERE / f"{file}.npz").stat().st_size, "bytes")
