"""The pretrained BERT that a fine-tuning run starts from."""

from typing import NamedTuple

from tlqa_jax.models.bert import BertAttention, BertConfig
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.text.wordpiece import WordPieceTokenizer


class Pretrained(NamedTuple):
    """Sizes, parameters, vocabulary, and whether the encoder sees both ways ("plain") or looks back only ("causal").

    The parameters are those of `Bert` under "encoder", and what its head has under the head's names.
    """

    config: BertConfig
    params: Params
    tokenizer: WordPieceTokenizer
    attention: BertAttention


def load_encoder(start_from: str) -> Pretrained:
    """A pretrained BERT: a run of ours, a Hugging Face directory or a hub name. Raises UserError for a T5's run, say."""
    from tlqa_jax.weights.bert_runs import load_bert_model

    model, tokenizer = load_bert_model(start_from)
    params = as_function(model)[1]
    encoder = getattr(model, "encoder", model)
    if "encoder" not in params:
        params = {"encoder": params}
    return Pretrained(model.config, params, tokenizer, "causal" if encoder.causal else "plain")


def taken_over(fresh: Params, pretrained: Params) -> Params:
    """`fresh` with each part that `pretrained` has as well, and with nothing that it has beyond that: another task's head."""
    return {
        name: part if name not in pretrained else taken_over(part, pretrained[name]) if isinstance(part, dict) else pretrained[name]
        for name, part in fresh.items()
    }
