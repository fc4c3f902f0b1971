"""The model that a program starts from: one from disk or the hub, or random weights of a named size."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.directories import read_json
from tlqa_jax.checkpoints.family import load_sizes
from tlqa_jax.checkpoints.load import Pretrained, load
from tlqa_jax.core.devices import compute_dtype, on_host
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.models.adapters import add_adapters, add_lora
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForSequenceClassification
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.models.t5 import T5Config
from tlqa_jax.models.word_vectors import BagOfVectors, WordVectorsConfig
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.freezing import read_train
from tlqa_jax.training.memory import check_memory
from tlqa_jax.training.settings import BertSettings, T5Settings, TrainingSettings

ADDERS = {"adapters": add_adapters, "lora": add_lora}
T5_SIZES = {"tiny": T5Config.tiny, "small": T5Config.small, "base": T5Config.base}
BERT_SIZES = {name: getattr(BertConfig, name) for name in ("tiny", "mini", "small", "base", "large")}


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """What a run starts from: sizes, vocabulary, and the parameters that are there already (numpy; {}: none are).

    `options` are those of the model's class besides its config and seed. `classifier` is the class of a classifier that
    can be built on the parameters.
    """

    config: Any
    params: Params
    tokenizer: Any
    seed: int
    options: dict[str, Any]
    classifier: type[nnx.Module] = BertForSequenceClassification

    def build(
        self, architecture: type[nnx.Module], train: str = "all", **sizes: Any
    ) -> tuple[nnx.Module, Callable, Params]:
        """(model, apply, params) of the class `architecture`: what is not there already has random weights.

        `train` adds adapters or LoRA, if it is "adapters:D" or "lora:R". `sizes` replace fields of the config.
        """
        config, rngs = dataclasses.replace(self.config, **sizes), nnx.Rngs(self.seed)
        model = architecture(config, rngs=rngs, **self.options)
        kind, size = read_train(train)
        if kind in ADDERS:
            ADDERS[kind](model, size, rngs)
        apply, params = as_function(model)
        return model, apply, merge_pretrained(params, self.params)


def load_or_init_t5(settings: T5Settings, *, continues: bool) -> InitialModel:
    """The T5 that the settings ask for; of a run that continues, its own: what it started from may be gone by then."""
    options = {"dtype": compute_dtype(settings.dtype)}
    if not (settings.start_from or continues):
        tokenizer = SentencePieceTokenizer(local_path(settings.vocabulary))
        config = t5_config(settings.model, tokenizer, settings.dropout)
        check_memory(config, rows_of_a_device(settings), settings.input_length)
        return InitialModel(config, {}, tokenizer, settings.seed, options)
    pretrained = load_initial(settings, continues)
    if pretrained.architecture != "T5ForConditionalGeneration":
        raise UserError(f"{pretrained.name} holds a {pretrained.architecture}, and this program trains a whole T5")
    check_memory(pretrained.config, rows_of_a_device(settings), settings.input_length)
    model = pretrained.model()
    config = dataclasses.replace(model.config, dropout_rate=settings.dropout)
    params = on_host(as_function(model)[1])
    return InitialModel(config, params, pretrained.tokenizer, settings.seed, options)


def load_or_init_vectors(
    settings: TrainingSettings, vocabulary: str, lowercase: bool, width: int, *, continues: bool
) -> InitialModel:
    """Word vectors: those of --start-from, or of a run that continues, or new ones of this width."""
    options = {"dtype": compute_dtype(settings.dtype)}
    if source := settings.out if continues else settings.start_from:
        pretrained = load(source)
        if pretrained.architecture != "CBOW":
            raise UserError(f"{source} holds a {pretrained.architecture}, and this program trains word vectors")
        params = on_host(as_function(pretrained.model())[1])
        return InitialModel(pretrained.config, params, pretrained.tokenizer, settings.seed, options)
    tokenizer = WordPieceTokenizer(local_path(vocabulary), lowercase=lowercase)
    config = WordVectorsConfig(rounded(tokenizer.vocab_size), width, tokenizer.pad_id)
    return InitialModel(config, {}, tokenizer, settings.seed, options)


def load_or_init_bert(settings: BertSettings, input_length: int, *, continues: bool) -> InitialModel:
    """The BERT that the settings ask for, with their dropout; of a run that continues, its own.

    `params` are those of `Bert` under "encoder", and of a head under the head's names; in `options`, "attention" is
    "causal" for an encoder that looks back only. Raises UserError for a model that does not read `input_length` tokens.
    """
    options = {"dtype": compute_dtype(settings.dtype), "attention": "plain"}
    if settings.start_from or continues:
        pretrained = load_initial(settings, continues)
        if pretrained.family != "bert":
            raise UserError(f"{pretrained.name} holds a {pretrained.architecture}, and this program trains a BERT")
        model, tokenizer = pretrained.model(), pretrained.tokenizer
        config, params = model.config, on_host(as_function(model)[1])
        params = params if "encoder" in params else {"encoder": params}
        if getattr(model, "encoder", model).causal:
            options["attention"] = "causal"
    elif settings.vectors:
        table, tokenizer = word_vectors(settings.vectors)
        config = bert_config(settings.model, tokenizer)
        if table.shape != (config.vocab_size, config.hidden_size):
            raise UserError(
                f"--vectors {settings.vectors} has {table.shape[0]} vectors of width {table.shape[1]}, and --model "
                f"{settings.model} needs {config.vocab_size} of {config.hidden_size}"
            )
        params = {"encoder": {"embeddings": {"word": {"table": table}}}}
    else:
        tokenizer = WordPieceTokenizer(local_path(settings.vocabulary), lowercase=settings.lowercase)
        config, params = bert_config(settings.model, tokenizer), {}
    if input_length > (longest := config.max_position_embeddings):
        raise UserError(f"--input-length {input_length}: this model reads at most {longest} tokens")
    check_memory(config, rows_of_a_device(settings), input_length)
    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), settings.dropout)
    return InitialModel(dataclasses.replace(config, **dropout), params, tokenizer, settings.seed, options)


def load_initial(settings: TrainingSettings, continues: bool) -> Pretrained:
    """What the settings start from; of a run that continues, the run itself.

    Raises UserError for adapters, which are no part of what this program trains, and for LoRA on top of LoRA.
    """
    pretrained = load(settings.out if continues else settings.start_from)
    if pretrained.added and not continues:
        if pretrained.added.kind == "adapters":
            raise UserError(f"{pretrained.name} holds adapters: start from {pretrained.added.base}, their base")
        if read_train(getattr(settings, "train", "all"))[0] in ADDERS:
            merge = f"tlqa export {pretrained.name} --merge --out DIR"
            raise UserError(f"{pretrained.name} holds LoRA, and so cannot be a base: merge it first ({merge})")
    return pretrained


def load_or_init_classifier(settings: BertSettings, input_length: int, *, continues: bool) -> InitialModel:
    """What a classifier starts from: a BERT (`load_or_init_bert`), or word vectors, on which a bag of vectors is built.

    Raises UserError for other models.
    """
    source = settings.out if continues else settings.start_from
    if not source or load(source).architecture not in ("CBOW", "BagOfVectors"):
        return load_or_init_bert(settings, input_length, continues=continues)
    train = getattr(settings, "train", "all")
    if train not in ("all", "head"):
        raise UserError(f"--train {train}: a bag of vectors has no layers: give all or head")
    pretrained = load(source)
    model = pretrained.model()
    config = dataclasses.replace(model.config, hidden_dropout_prob=settings.dropout)
    options = {"dtype": compute_dtype(settings.dtype)}
    params = on_host(as_function(model)[1])
    return InitialModel(config, params, pretrained.tokenizer, settings.seed, options, BagOfVectors)


def word_vectors(run: str) -> tuple[np.ndarray, WordPieceTokenizer]:
    """(the table, the vocabulary) of a run of pretrain-vectors. Raises UserError if it is another model."""
    pretrained = load(run)
    if pretrained.architecture != "CBOW":
        raise UserError(f"--vectors {run} holds a {pretrained.architecture}: give a run of tlqa pretrain-vectors")
    return np.asarray(pretrained.model().vectors.table[...]), pretrained.tokenizer


def rows_of_a_device(settings: TrainingSettings) -> int:
    """The rows of a micro-batch on one device."""
    return -(-settings.batch_size // (settings.accumulate * jax.device_count()))


def merge_pretrained(new: Params, pretrained: Params) -> Params:
    """`new`, with each part that `pretrained` has too taken from there. What only `pretrained` has is left out."""
    return {
        name: part if name not in pretrained
        else merge_pretrained(part, pretrained[name]) if isinstance(part, dict)
        else pretrained[name]
        for name, part in new.items()
    }


def t5_config(choice: str, tokenizer: SentencePieceTokenizer, dropout_rate: float) -> T5Config:
    """The sizes called `choice`: "tiny", "small", "base", or a JSON file of T5Config fields such as a `config.json`.

    A named size, and a file without `vocab_size`, takes the vocabulary's size rounded up to a multiple of 128, as T5's
    own 32,100 became 32,128: hardware likes it. A `vocab_size` smaller than the vocabulary is an error.
    """
    given = {"vocab_size": rounded(tokenizer.vocab_size), "dropout_rate": dropout_rate}
    if choice in T5_SIZES:
        return T5_SIZES[choice](**given)
    return sized(T5Config, given | sizes_in_file(choice, T5_SIZES), tokenizer, choice)


def bert_config(choice: str, tokenizer: WordPieceTokenizer) -> BertConfig:
    """The same for a BERT: "tiny", "mini", "small", "base", "large" (or "bert-tiny", …), or a JSON file of fields."""
    given = {"vocab_size": rounded(tokenizer.vocab_size), "pad_token_id": tokenizer.pad_id}
    name = choice.removeprefix("bert-")
    if name in BERT_SIZES:
        return BERT_SIZES[name](**given)
    return sized(BertConfig, given | sizes_in_file(choice, BERT_SIZES), tokenizer, choice)


def sized(kind: type, values: dict[str, Any], tokenizer: Any, choice: str) -> Any:
    """A config from the fields in a JSON file, a `config.json` say. Raises UserError if the vocabulary does not fit."""
    if "model_type" in values:  # Hugging Face's file has more than sizes
        fields = {field.name for field in dataclasses.fields(kind)} - {"id2label"}
        values = {name: value for name, value in values.items() if name in fields and value is not None}
    config = kind(**load_sizes(values, kind, f"--model {choice}"))
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"--model {choice}: the vocabulary has {tokenizer.vocab_size} ids, the model only {config.vocab_size}: "
            "give a larger vocab_size"
        )
    if getattr(config, "scales_outputs", False) and not config.tie_word_embeddings:
        raise UserError(f"--model {choice}: scale_decoder_outputs is true, and only tied outputs are scaled in training")
    special = [name for name in ("pad", "eos") if getattr(config, f"{name}_token_id", None) is not None]
    for name in special:
        if (wanted := getattr(config, f"{name}_token_id")) != (own := getattr(tokenizer, f"{name}_id")):
            raise UserError(f"--model {choice}: {name}_token_id is {wanted}, the vocabulary's is {own}")
    return config


def rounded(vocab_size: int) -> int:
    return -(-vocab_size // 128) * 128


def sizes_in_file(choice: str, named: dict[str, Any]) -> dict[str, Any]:
    """The fields in the JSON file `choice`."""
    if not Path(choice).exists():
        raise UserError(f"--model {choice}: neither one of {', '.join(named)} nor a JSON file of model sizes")
    return read_json(Path(choice))
