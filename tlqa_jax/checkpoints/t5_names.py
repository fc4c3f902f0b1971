"""T5 in Hugging Face's files: what its parameters are called there, and its `config.json` (see `family.py`).

Three things are not what they seem:

- Whether the output matrix is the embedding (T5 1.0) or a matrix of its own (T5 1.1, Flan) depends on the weights: does
  the file have a `lm_head.weight`? Transformers 5 writes `tie_word_embeddings: true` in both cases.
- Whether the decoder's output is scaled by d_model**-0.5 is `scale_decoder_outputs` where `config.json` has it
  (Transformers 5 writes it), else `tie_word_embeddings` (Transformers 4 knows nothing else).
- "gated-gelu" is the tanh approximation of gelu, which Transformers calls gelu_new (Shazeer 2020's code has it).
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.family import Rule, read_sizes
from tlqa_jax.errors import UserError
from tlqa_jax.models.layers import TANH_GELU
from tlqa_jax.models.t5 import T5, T5Config, T5Encoder
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

MODEL_TYPE = "t5"
TOKENIZER = SentencePieceTokenizer
ARCHITECTURES: dict[str, type[nnx.Module]] = {"T5ForConditionalGeneration": T5, "T5EncoderModel": T5Encoder}

EMBEDDING, OUTPUT = "shared.weight", "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # of the embedding, in older files
# the first T5s were stored with a table that no layer reads: cross-attention has no relative positions
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
ACTIVATIONS = {"relu": (False, "relu"), "gated-gelu": (True, "gelu_new")}  # is it gated, and Transformers' name


def attention(ours: str, theirs: str) -> dict[str, Rule]:
    into = {"query": "q", "key": "k", "value": "v"}
    return {f"{ours}/out": Rule(f"{theirs}.o.weight", 2)} | {
        f"{ours}/{name}": Rule(f"{theirs}.{letter}.weight", 1) for name, letter in into.items()
    }


def feed_forward(ours: str, theirs: str, gated: bool) -> dict[str, Rule]:
    names = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
    return {f"{ours}/{name}": Rule(f"{theirs}.{name_there}.weight", 1) for name, name_there in names.items()}


def norm(ours: str, theirs: str) -> dict[str, Rule]:
    return {f"{ours}/scale": Rule(f"{theirs}.weight")}


def stack(name: str, attentions: dict[str, str], layers: int, gated: bool) -> dict[str, Rule]:
    """The rules of one stack, whose layers have these attentions (our name and theirs), then the feed-forward."""
    layer, block = f"{name}_{{i}}", f"{name}.block.{{i}}.layer"
    parts: dict[str, Rule] = {}
    for number, (ours, theirs) in enumerate(attentions.items()):
        parts |= attention(f"{layer}/{ours}", f"{block}.{number}.{theirs}")
        parts |= norm(f"{layer}/{ours}_norm", f"{block}.{number}.layer_norm")
    last = len(attentions)
    parts |= feed_forward(f"{layer}/feed_forward", f"{block}.{last}.DenseReluDense", gated)
    parts |= norm(f"{layer}/feed_forward_norm", f"{block}.{last}.layer_norm")
    # one table of relative biases for all layers of a stack; it is stored with the first
    bias = Rule(f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    rules = {f"{name}_bias/table": bias, **norm(f"{name}_norm", f"{name}.final_layer_norm")}
    for i in range(layers):
        rules |= {ours.format(i=i): rule.numbered(i) for ours, rule in parts.items()}
    return rules


def rules(architecture: str, config: T5Config) -> dict[str, Rule]:
    """The rule of each parameter that the architecture can have; its path in ours is written with slashes."""
    gated = ACTIVATIONS[config.feed_forward_proj][0]
    encoder = {"embedding/table": Rule(EMBEDDING)}
    encoder |= stack("encoder", {"attention": "SelfAttention"}, config.num_layers, gated)
    if architecture == "T5EncoderModel":
        return encoder
    attentions = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention"}
    return encoder | stack("decoder", attentions, config.decoder_layers, gated) | {"output": Rule(OUTPUT, 1)}


def config_from_json(architecture: str, values: dict[str, Any], where: Path) -> tuple[T5Config, dict[str, Any]]:
    """The sizes in a `config.json`, and no further arguments. Raises UserError for what is not known here."""
    sizes = read_sizes(values, T5Config, where, without="feed_forward_proj")
    feed_forward = values.get("feed_forward_proj", "relu")
    *gated, activation = str(feed_forward).split("-")
    activation = "gelu_new" if feed_forward == "gated-gelu" else activation
    # these two follow from feed_forward_proj, but where the file has them, Transformers reads them instead
    meant = {"is_gated_act": bool(gated), "dense_act_fn": activation}
    meant |= {name: values[name] for name in meant if values.get(name) is not None}
    if meant["dense_act_fn"] in TANH_GELU:
        meant["dense_act_fn"] = "gelu_new"
    known = {kind: name for name, kind in ACTIVATIONS.items()}
    if gated not in ([], ["gated"]) or [*meant.values()] not in [[*kind] for kind in known]:
        raise UserError(
            f'{where}: feed_forward_proj is "{feed_forward}" ({meant}); '
            'known are "relu" (T5 1.0) and "gated-gelu", the tanh one (1.1)'
        )
    if sizes.get("scale_decoder_outputs") == sizes.get("tie_word_embeddings", True):
        del sizes["scale_decoder_outputs"]  # it follows
    return T5Config(**sizes, feed_forward_proj=known[*meant.values()]), {}


def config_to_json(model: T5 | T5Encoder) -> dict[str, Any]:
    """A `config.json` from which Transformers 4 and 5 build the same model, given the arrays of `to_hf`."""
    config = model.config
    gated, activation = ACTIVATIONS[config.feed_forward_proj]
    as_embedding = config.tie_word_embeddings and config.scales_outputs
    return dataclasses.asdict(config) | {
        "num_decoder_layers": config.decoder_layers,
        "tie_word_embeddings": as_embedding, "scale_decoder_outputs": as_embedding,
        "is_gated_act": gated, "dense_act_fn": activation,
        "is_encoder_decoder": isinstance(model, T5),
    }  # fmt: skip


def empty_model(architecture: str, config: T5Config, names: set[str], **options: Any) -> nnx.Module:
    """The model with shapes in place of arrays. It has an output matrix of its own if the file has one."""
    tied = config.tie_word_embeddings if architecture == "T5EncoderModel" else OUTPUT not in names
    scaled = config.scales_outputs and tied  # `canonicalize` has scaled an output matrix of its own
    config = dataclasses.replace(
        config, tie_word_embeddings=tied, scale_decoder_outputs=None if scaled == tied else scaled
    )
    return nnx.eval_shape(lambda: ARCHITECTURES[architecture](config, rngs=nnx.Rngs(0), **options))


def canonicalize(
    architecture: str, arrays: dict[str, np.ndarray], config: T5Config, where: Path | str
) -> dict[str, np.ndarray]:
    """The arrays without copies of the embedding and, for an encoder alone, without the rest of a whole T5.

    An output matrix of its own that is to be scaled is scaled here, once and for all.
    """
    arrays = {name: array for name, array in arrays.items() if name != UNUSED}
    for copy in COPIES:
        array = arrays.pop(copy, None)
        if array is not None and not np.array_equal(array, arrays.setdefault(EMBEDDING, array)):
            raise UserError(f"{where}: {copy} differs from {EMBEDDING}; in our model they are one array")
    if architecture == "T5EncoderModel":
        return {name: array for name, array in arrays.items() if not name.startswith(("decoder.", OUTPUT))}
    if OUTPUT in arrays and np.array_equal(arrays[OUTPUT], arrays.get(EMBEDDING)):
        del arrays[OUTPUT]  # not a matrix of its own
    if OUTPUT in arrays and config.scales_outputs:
        arrays[OUTPUT] = arrays[OUTPUT].astype(np.float32) * np.float32(config.d_model**-0.5)
    return arrays


def as_class(architecture: str, stored_as: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a model of one class as another has them: of a T5 both are the whole model."""
    return arrays


def to_hf(model: T5 | T5Encoder, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays for Transformers 4, which scales outputs exactly where the output matrix is the embedding.

    An embedding that is not scaled there is stored twice, also as the output matrix. A matrix of its own that is scaled
    is stored scaled.
    """
    config = model.config
    if not isinstance(model, T5) or config.scales_outputs == config.tie_word_embeddings:
        return arrays
    output = arrays[EMBEDDING] if config.tie_word_embeddings else arrays[OUTPUT] * np.float32(config.d_model**-0.5)
    return arrays | {OUTPUT: output}
