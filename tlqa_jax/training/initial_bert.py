"""The BERT that a fine-tuning run begins with."""

from dataclasses import replace
from typing import Any, NamedTuple

from tlqa_jax.checkpoints.bert_runs import load_bert_model
from tlqa_jax.checkpoints.runs import source_of
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import BertAttention, BertConfig
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.initial_model import bert_config


class Encoder(NamedTuple):
    """Sizes, parameters, vocabulary, and whether it sees both ways ("plain") or looks back only ("causal").

    The parameters are those of `Bert` under "encoder", and its head's under the head's names; none where it is new.
    """

    config: BertConfig
    params: Params
    tokenizer: WordPieceTokenizer
    attention: BertAttention


def load_encoder(start_from: str) -> Encoder:
    """A pretrained BERT: a run, a Hugging Face directory or a hub name. Raises UserError for a T5's run, say."""
    model, tokenizer = load_bert_model(start_from)
    params = as_function(model)[1]
    causal = getattr(model, "encoder", model).causal
    params = params if "encoder" in params else {"encoder": params}
    return Encoder(model.config, params, tokenizer, "causal" if causal else "plain")


def begin_with(settings: Any) -> Encoder:
    """The encoder that a program's settings ask for: that of `start_from`, or a new one of the size `model`.

    Its config has the settings' dropout. Raises UserError where it cannot read what the settings want it to.
    """
    if start_from := source_of(settings.start_from, settings.out, resume=settings.resume):
        encoder = load_encoder(start_from)
    elif settings.vocabulary:
        tokenizer = WordPieceTokenizer(local_path(settings.vocabulary), lowercase=settings.lowercase)
        encoder = Encoder(bert_config(settings.model, tokenizer), {}, tokenizer, "plain")
    else:
        raise UserError("give --start-from, a pretrained BERT, or --vocabulary and --model for random weights")
    config, longest = encoder.config, encoder.config.max_position_embeddings
    if settings.input_length > longest:
        raise UserError(f"--input-length {settings.input_length}: this model reads at most {longest} tokens")
    if encoder.tokenizer.vocab_size > config.vocab_size:
        raise UserError(f"the vocabulary has {encoder.tokenizer.vocab_size} pieces, the model only {config.vocab_size}")
    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), settings.dropout)
    return encoder._replace(config=replace(config, **dropout))


def taken_over(fresh: Params, pretrained: Params) -> Params:
    """`fresh` with each part that `pretrained` has as well, and nothing that it has beyond: another task's head."""
    return {
        name: part if name not in pretrained
        else taken_over(part, pretrained[name]) if isinstance(part, dict)
        else pretrained[name]
        for name, part in fresh.items()
    }
