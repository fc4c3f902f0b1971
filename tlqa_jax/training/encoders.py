"""The pretrained BERT that a fine-tuning run starts from."""

from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.text.wordpiece import WordPieceTokenizer


def load_encoder(start_from: str) -> tuple[BertConfig, Params, WordPieceTokenizer]:
    """Sizes, parameters and vocabulary of a Hugging Face directory or hub name.

    The parameters are those of `Bert` under "encoder", and what its head has under the head's names.
    """
    from tlqa_jax.weights.huggingface import from_pretrained, load_tokenizer

    model = from_pretrained(start_from)
    params = as_function(model)[1]
    return model.config, params if "encoder" in params else {"encoder": params}, load_tokenizer(start_from)


def taken_over(fresh: Params, pretrained: Params) -> Params:
    """`fresh` with each part that `pretrained` has as well, and with nothing that it has beyond that: another task's head."""
    return {
        name: part if name not in pretrained else taken_over(part, pretrained[name]) if isinstance(part, dict) else pretrained[name]
        for name, part in fresh.items()
    }
