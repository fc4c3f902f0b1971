"""BERT in Hugging Face's files: what its parameters are called there, and its `config.json` (see `family.py`)."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.family import Rule, label_names, labels_from_json, read_sizes
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertLMHeadModel,
    Head,
)
from tlqa_jax.text.wordpiece import WordPieceTokenizer

MODEL_TYPE = "bert"
TOKENIZER = WordPieceTokenizer
ARCHITECTURES: dict[str, type[nnx.Module]] = {
    "BertModel": Bert,
    "BertForPreTraining": BertForPreTraining,
    "BertForMaskedLM": BertForMaskedLM,
    "BertLMHeadModel": BertLMHeadModel,
    "BertForQuestionAnswering": BertForQuestionAnswering,
    "BertForSequenceClassification": BertForSequenceClassification,
}
OLD_NAMES: dict[str, str] = {}


def dense(ours: str, theirs: str) -> dict[str, Rule]:
    return {f"{ours}/matrix": Rule(f"{theirs}.weight", 1), f"{ours}/bias": Rule(f"{theirs}.bias")}


def norm(ours: str, theirs: str) -> dict[str, Rule]:
    return {f"{ours}/scale": Rule(f"{theirs}.LayerNorm.weight"), f"{ours}/bias": Rule(f"{theirs}.LayerNorm.bias")}


def projection(ours: str, theirs: str, inputs: int = 1) -> dict[str, Rule]:
    return {ours: Rule(f"{theirs}.weight", inputs), f"{ours}_bias": Rule(f"{theirs}.bias")}


EMBEDDINGS = {
    "embeddings/word/table": Rule("embeddings.word_embeddings.weight"),
    "embeddings/position/table": Rule("embeddings.position_embeddings.weight"),
    "embeddings/token_type/table": Rule("embeddings.token_type_embeddings.weight"),
    **norm("embeddings/norm", "embeddings"),
}
LAYER = {  # {i}: its number
    **projection("layer_{i}/attention/query", "encoder.layer.{i}.attention.self.query"),
    **projection("layer_{i}/attention/key", "encoder.layer.{i}.attention.self.key"),
    **projection("layer_{i}/attention/value", "encoder.layer.{i}.attention.self.value"),
    **projection("layer_{i}/attention/out", "encoder.layer.{i}.attention.output.dense", inputs=2),
    **norm("layer_{i}/attention_norm", "encoder.layer.{i}.attention.output"),
    **projection("layer_{i}/feed_forward/up", "encoder.layer.{i}.intermediate.dense"),
    **projection("layer_{i}/feed_forward/down", "encoder.layer.{i}.output.dense"),
    **norm("layer_{i}/feed_forward_norm", "encoder.layer.{i}.output"),
}
POOLER = dense("pooler", "pooler.dense")
MASKED_LM = {
    **dense("masked_lm/dense", "cls.predictions.transform.dense"),
    **norm("masked_lm/norm", "cls.predictions.transform"),
    "masked_lm/bias": Rule("cls.predictions.bias"),
}
HEADS = {
    "BertForPreTraining": {**MASKED_LM, **dense("next_sentence", "cls.seq_relationship")},
    "BertForMaskedLM": MASKED_LM,
    "BertLMHeadModel": MASKED_LM,
    "BertForQuestionAnswering": dense("span", "qa_outputs"),
    "BertForSequenceClassification": dense("classifier", "classifier"),
}

BUFFERS = {"embeddings.position_ids", "embeddings.token_type_ids"}  # 0, 1, 2, ... and 0, 0, 0, ...
# older files have copies of other arrays, too
COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# bert-base-uncased names itself BertForMaskedLM and has a next-sentence head as well, which
# load(name, "BertForPreTraining") reads
NEXT_SENTENCE = ("cls.seq_relationship.weight", "cls.seq_relationship.bias")
LEFT_OUT = dict.fromkeys(("BertForMaskedLM", "BertLMHeadModel"), NEXT_SENTENCE)


def rules(architecture: str, config: BertConfig) -> dict[str, Rule]:
    """The rule of each parameter that the architecture can have; its path in ours is written with slashes."""
    encoder = EMBEDDINGS | POOLER
    for i in range(config.num_hidden_layers):
        encoder |= {ours.format(i=i): rule.numbered(i) for ours, rule in LAYER.items()}
    if architecture == "BertModel":
        return encoder
    within = {f"encoder/{ours}": rule._replace(theirs=f"bert.{rule.theirs}") for ours, rule in encoder.items()}
    return within | HEADS[architecture]


def config_from_json(architecture: str, values: dict[str, Any], where: Path) -> tuple[BertConfig, dict[str, Any]]:
    """The sizes in a `config.json`, and further arguments of `Bert`. Raises UserError for what is not known here."""
    if values.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f'{where}: position_embedding_type is "{values["position_embedding_type"]}"; only "absolute" is known here'
        )
    if values.get("add_cross_attention"):
        raise UserError(f"{where}: add_cross_attention is true; only an encoder is known here")
    sizes = read_sizes(values, BertConfig, where, without="id2label")
    config = BertConfig(**sizes, **labels_from_json(values, where))
    if architecture == "BertForSequenceClassification":
        labels, problem = config.num_labels, values.get("problem_type")
        if labels == 1 or problem not in (None, "single_label_classification"):
            problem = f"problem_type is {json.dumps(problem)}, of {labels} label(s)"
            raise UserError(f"{where}: {problem}; only one class of several is known here")
    return config, {"attention": "causal"} if values.get("is_decoder") else {}


def config_to_json(model: Bert | Head) -> dict[str, Any]:
    """A `config.json` from which Transformers builds the same model. "is_decoder" means causal attention there."""
    encoder = model if isinstance(model, Bert) else model.encoder
    values = dataclasses.asdict(model.config) | {"is_decoder": encoder.causal, "position_embedding_type": "absolute"}
    labels = values.pop("id2label")
    # Transformers would take the labels of another head for its number of outputs
    if isinstance(model, BertForSequenceClassification):
        values |= label_names(labels)
    return values


def empty_model(architecture: str, config: BertConfig, names: set[str], **options: Any) -> nnx.Module:
    """The model with shapes in place of arrays. It has a pooler if its class reads one or the file has one."""
    kind = ARCHITECTURES[architecture]
    pooler = getattr(kind, "pooler", None) is True or any(name.endswith("pooler.dense.weight") for name in names)

    def make():
        encoder = Bert(config, pooler=pooler, rngs=nnx.Rngs(0), **options)
        return encoder if kind is Bert else kind(encoder=encoder, rngs=nnx.Rngs(0))

    return nnx.eval_shape(make)


def canonicalize(
    architecture: str, arrays: dict[str, np.ndarray], config: BertConfig, where: Path | str
) -> dict[str, np.ndarray]:
    """The arrays under today's names, without those that are no parameters of this class: an encoder has no head."""
    kept = {}
    if architecture == "BertModel" and any(name.startswith("bert.") for name in arrays):
        arrays = {name: array for name, array in arrays.items() if name.startswith("bert.")}
    for name, array in arrays.items():
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
        if architecture == "BertModel":
            name = name.removeprefix("bert.")
        if name.removeprefix("bert.") not in BUFFERS and name not in LEFT_OUT.get(architecture, ()):
            kept[name] = array
    if architecture in ("BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel"):
        for copy, original in COPIES.items():
            if copy in kept and original in kept and not np.array_equal(kept.pop(copy), kept[original]):
                raise UserError(f"{where}: {copy} differs from {original}; in our model they are one array")
    return kept


def as_class(architecture: str, stored_as: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a model of one class as another has them: without its head, and with a pooler only if it is read."""
    if architecture == stored_as:
        return arrays
    heads = tuple(rule.theirs for head in HEADS.values() for rule in head.values())
    prefix = "" if architecture == "BertModel" else "bert."
    encoder = {prefix + name.removeprefix("bert."): array for name, array in arrays.items() if name not in heads}
    has_pooler = ARCHITECTURES[architecture].pooler is not False
    return {name: array for name, array in encoder.items() if has_pooler or not name.startswith(f"{prefix}pooler.")}


def to_hf(model: Bert | Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays: Transformers needs no others."""
    return arrays
