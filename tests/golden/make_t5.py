"""Writes the golden files t5_*.npz: what Hugging Face's T5 computes with seeded random weights at tiny odd sizes.

    python tests/golden/make_t5.py        # needs torch and transformers (made with torch 2.13, transformers 4.57.6)

Each file holds the configuration, the weights and their gradients under Hugging Face's names, inputs with masks, the
output of every layer, logits, loss, and a greedy generation. Every number is drawn so that it matters: norm scales are
not 1, relative biases are as large as the scores, padding stands in the middle as well as at the end.
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

HERE = Path(__file__).parent
SIZES = dict(
    vocab_size=37, d_model=6, d_kv=5, d_ff=11, num_layers=2, num_decoder_layers=3, num_heads=3, dropout_rate=0.0,
    decoder_start_token_id=0, use_cache=False,  # its cache takes the decoder to be as deep as the encoder
)
V10 = dict(feed_forward_proj="relu", tie_word_embeddings=True)
V11 = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)


def make(
    variant: dict, seed: int, *, source: int = 7, target: int = 5, batch: int = 2, generates: bool = True
) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(T5Config(**SIZES, **variant)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=1.0 if "relative_attention_bias" in name or "shared" in name else 0.35)
    random = np.random.default_rng(seed)
    inputs = random.integers(2, SIZES["vocab_size"], (batch, source))
    input_mask = np.ones((batch, source), np.int64)
    input_mask[1, -2:] = 0  # padding at the end of the second row
    input_mask[0, 1] = 0  # and a hole in the first
    labels = random.integers(2, SIZES["vocab_size"], (batch, target))
    labels[1, -1] = 0
    targets_in = np.pad(labels[:, :-1], ((0, 0), (1, 0)))
    target_mask = np.ones((batch, target), np.int64)
    target_mask[0, 1] = 0
    target_mask[1, -1] = 0

    tensors = dict(
        input_ids=torch.tensor(inputs), attention_mask=torch.tensor(input_mask),
        decoder_input_ids=torch.tensor(targets_in), decoder_attention_mask=torch.tensor(target_mask),
        labels=torch.tensor(np.where(labels == 0, -100, labels)),
    )
    arrays = compute(copy.deepcopy(model), tensors) | (generate(model, seed) if generates else {})
    exact = compute(copy.deepcopy(model).double(), tensors)
    rounding = max(np.abs(arrays[name] - exact[name]).max() / np.abs(exact[name]).max() for name in exact)
    assert rounding < 4e-6, f"choose another seed: its float32 rounding alone is {rounding:.1e} of the largest entry"
    return arrays | dict(
        config=np.array(json.dumps({**SIZES, **variant})), inputs=inputs, input_mask=input_mask, targets_in=targets_in,
        target_mask=target_mask, labels=labels,
    )


def compute(model: T5ForConditionalGeneration, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The output of every layer, the logits, the loss, and the weights with their gradients."""
    states = {}
    for stack, blocks in (("encoder", model.encoder.block), ("decoder", model.decoder.block)):
        for i, block in enumerate(blocks):
            block.register_forward_hook(
                lambda _, __, output, name=f"{stack}_{i}": states.update({name: output[0].detach().numpy()})
            )
    output = model(**tensors)
    output.loss.backward()
    arrays = dict(
        encoded=output.encoder_last_hidden_state.detach().numpy(), logits=output.logits.detach().numpy(),
        loss=output.loss.detach().numpy(), **states,
    )
    for name, parameter in model.named_parameters():
        arrays[f"weight/{name}"] = parameter.detach().numpy()
        arrays[f"gradient/{name}"] = parameter.grad.numpy()
    return arrays


def generate(model, seed: int, *, rows: int = 4, source: int = 7, length: int = 12) -> dict[str, np.ndarray]:
    """Greedy generations, among 2000 random inputs, that end at as many different lengths as possible, or never."""
    random = np.random.default_rng(seed)
    inputs = random.integers(2, SIZES["vocab_size"], (2000, source))
    mask = (np.arange(source) < random.integers(3, source + 1, (2000, 1))).astype(np.int64)
    with torch.no_grad():
        output = model.generate(
            torch.tensor(inputs), attention_mask=torch.tensor(mask), max_new_tokens=length, num_beams=1,
            do_sample=False, use_cache=False, output_logits=True, return_dict_in_generate=True,
        )
    tokens, logits = output.sequences[:, 1:].numpy(), torch.stack(output.logits, dim=1)
    best = logits.topk(2, dim=-1).values
    clear = (best[..., 0] - best[..., 1]).amin(1).numpy() > 1e-2  # no choice that rounding could turn
    ends = np.array([list(row).index(1) if 1 in row else length for row in tokens])
    different = [np.flatnonzero(clear & (ends == end))[0] for end in np.unique(ends[clear])]
    chosen = (different * rows)[-rows:]  # the latest ends, repeated where there are too few
    assert len(set(ends[chosen])) >= 3 and length in ends[chosen], f"choose another seed: all end at {set(ends)}"
    log_probabilities = logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[..., None])[..., 0].numpy()
    written = np.arange(length) <= ends[:, None]
    return dict(
        generate_inputs=inputs[chosen], generate_mask=mask[chosen], generated=tokens[chosen],
        generated_log_probabilities=np.where(written, log_probabilities, 0.0).astype(np.float32)[chosen],
    )


def small(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int16) if array.dtype == np.int64 else array


if __name__ == "__main__":
    for file, arrays in {
        "t5_1_0.npz": make(V10, seed=2),
        "t5_1_1.npz": make(V11, seed=3),
        "t5_1_0_long.npz": make(V10, seed=17, source=151, target=139, generates=False),  # beyond max_distance = 128
    }.items():
        np.savez_compressed(HERE / file, **{name: small(array) for name, array in arrays.items()})
        print(file, (HERE / file).stat().st_size, "bytes", float(arrays["loss"]))
