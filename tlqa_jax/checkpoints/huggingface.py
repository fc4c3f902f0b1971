"""Models from Hugging Face's directories and back into them, without PyTorch.

    model = tlqa_jax.from_pretrained("bert-base-uncased")           # or a directory
    tokenizer = tlqa_jax.load_tokenizer("bert-base-uncased")
    tlqa_jax.save_pretrained(model, "out", tokenizer)               # Transformers loads it

    DIRECTORY/config.json             the architecture and the sizes
    DIRECTORY/model.safetensors       the parameters; or several files and model.safetensors.index.json
    DIRECTORY/vocab.txt               a BERT's vocabulary; a T5's is spiece.model
    DIRECTORY/tokenizer_config.json, special_tokens_map.json

A family of models is one more module like `huggingface_bert.py` and `huggingface_t5.py`: a table of names.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict

from tlqa_jax.checkpoints import bert_names as huggingface_bert, t5_names as huggingface_t5
from tlqa_jax.checkpoints.directories import CONFIG, find_directory as found, read_json, write_json
from tlqa_jax.checkpoints.load import FILES
from tlqa_jax.checkpoints.weights import INDEX, WEIGHTS
from tlqa_jax.checkpoints.named_arrays import compare, flatten
from tlqa_jax.checkpoints.safetensors_file import read_safetensors, write_safetensors
from tlqa_jax.checkpoints.tokenizer_files import SENTENCEPIECE, TOKENIZER
from tlqa_jax.checkpoints.tokenizer_files import Tokenizer, check_tokenizer as check_vocabulary, read_tokenizer, write_tokenizer
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function, as_module

__all__ = ["from_pretrained", "hub_family", "is_hub_name", "is_t5", "load_tokenizer", "read_task", "save_pretrained"]
FAMILIES = {family.MODEL_TYPE: family for family in (huggingface_bert, huggingface_t5)}
TASK = "tlqa"  # among the tasks of `task_specific_params`, which Transformers hands through


def from_pretrained(
    name: str | Path, *, architecture: str | None = None, dtype: Any = jnp.float32, attention: str | None = None
) -> nnx.Module:
    """The model of a directory, or of a name on the Hugging Face hub; of the class that its `config.json` names.

    Args:
        name: a directory, or such as "bert-base-uncased": that one is downloaded, once, by `huggingface_hub`.
        architecture: read it as this class instead, "BertForPreTraining" say.
        dtype, attention: as for `Bert` and `T5`. The stored numbers become float32, whatever they were.

    Raises UserError, without a model half read, if the class or a setting is not known here, or naming parameters that
    are missing, left over or of another shape, the first few of each kind.
    """
    directory = find_directory(name)
    values = read_json(directory / CONFIG)
    family = FAMILIES[family_name(values, directory / CONFIG)]
    architecture = architecture or (values.get("architectures") or [None])[0]
    if architecture not in family.ARCHITECTURES:
        found = f'the architecture is "{architecture}"' if architecture else "no architecture is named"
        raise UserError(f"{directory / CONFIG}: {found}; known are {', '.join(family.ARCHITECTURES)} (architecture=)")
    config, options = family.config_from_json(architecture, values, directory / CONFIG)
    if attention and options.get("attention", attention) != attention:
        raise UserError(f"{directory / CONFIG}: is_decoder is true, so attention is causal and cannot be {attention!r}")
    options |= {"dtype": dtype} | ({"attention": attention} if attention else {})

    stored = family.canonicalize(architecture, _read_weights(directory, name), config, directory)
    model = family.empty_model(architecture, config, set(stored), **options)
    ours, rules = flatten(as_function(model)[1]), family.rules(architecture, config)
    wanted = {
        rules[path].theirs: np.broadcast_to(np.float32(0), _their_shape(leaf.shape, rules[path].inputs))
        for path, leaf in ours.items()
    }
    stored = {key: array.astype(np.float32) if array.dtype.kind in "fV" else array for key, array in stored.items()}
    compare(stored, wanted, f"{directory}, read as {architecture},")
    params = {}
    for path, leaf in ours.items():
        array = stored[rules[path].theirs]
        params[path] = jnp.asarray((array if rules[path].inputs is None else array.T).reshape(leaf.shape))
    return as_module(model, unflatten_dict(params, sep="/"))


def save_pretrained(
    model: nnx.Module, directory: str | Path, tokenizer: Tokenizer | None = None,
    *, task: dict[str, Any] | None = None, overwrite: bool = False,
) -> Path:
    """Write a directory that Transformers, and `from_pretrained`, load. Returns it.

    It appears when it is complete. One that is already there is left alone, unless `overwrite` says to replace it, and
    only if it holds a model; what else was in it is gone then. `task` is kept in `config.json` for `read_task`: what
    is not the model's but is needed to use it, such as the length of its inputs.

    Raises UserError for a model of another kind, a vocabulary of another kind or larger than the model's, a directory
    in use.
    """
    kinds = {kind: (family, name) for family in FAMILIES.values() for name, kind in family.ARCHITECTURES.items()}
    if type(model) not in kinds:
        raise UserError(
            f"a {type(model).__name__} cannot be saved this way; known are {', '.join(k.__name__ for k in kinds)}"
        )
    family, architecture = kinds[type(model)]
    directory = Path(directory)
    used = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    if used and not overwrite:
        raise UserError(f"{directory} is already in use: give another, or overwrite it (overwrite=True, --overwrite)")
    if used and not ((directory / CONFIG).is_file() and "model_type" in read_json(directory / CONFIG)):
        raise UserError(f"{directory} does not look like an exported model: delete it yourself if you mean it")
    config = model.config
    if tokenizer is not None and not isinstance(tokenizer, family.TOKENIZER):
        kind = type(tokenizer).__name__
        raise UserError(f"a {type(model).__name__} reads by a {family.TOKENIZER.__name__}, and this is a {kind}")
    if tokenizer is not None:
        check_vocabulary(tokenizer, config, directory)

    rules, arrays = family.rules(architecture, config), {}
    for path, leaf in flatten(as_function(model)[1]).items():
        array, inputs = np.asarray(leaf), rules[path].inputs
        if inputs is not None:
            array = array.reshape(_their_shape(array.shape, inputs)[::-1]).T
        arrays[rules[path].theirs] = array
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as beside:
        new = Path(beside) / "new"
        new.mkdir()
        values = {"architectures": [architecture], "model_type": family.MODEL_TYPE, **family.config_to_json(model)}
        write_json(new / CONFIG, values | ({"task_specific_params": {TASK: task}} if task else {}))
        write_safetensors(new / WEIGHTS, family.to_hf(model, arrays))
        if tokenizer is not None:
            write_tokenizer(tokenizer, new, getattr(config, "max_position_embeddings", None))
        if directory.exists():
            directory.rename(Path(beside) / "old")
        new.rename(directory)
    return directory


def find_directory(name, files=FILES):
    return found(name, tuple(files))


def is_hub_name(name):
    return "/" in str(name)


def family_name(values: dict[str, Any], where: Path | str) -> str:
    """The family that a `config.json` names: "bert" or "t5". Raises UserError for another one."""
    name = values.get("model_type", huggingface_bert.MODEL_TYPE)  # the first BERTs did not say
    if name not in [*FAMILIES]:
        raise UserError(f'{where}: model_type is "{name}"; known are {", ".join(FAMILIES)}')
    return name


@functools.cache
def hub_family(name: str) -> str:
    """The same of a name on the hub, of which nothing but its `config.json` is fetched."""
    directory = find_directory(name, [CONFIG])
    return family_name(read_json(directory / CONFIG), name)


def is_t5(name: str | Path) -> bool:
    """Whether it is a T5's Hugging Face directory, or its name on the hub.

    Raises UserError if it can only be a name on the hub, and the hub does not give it or it is of neither family.
    """
    if not Path(name).exists():
        return is_hub_name(name) and hub_family(name) == huggingface_t5.MODEL_TYPE
    config = Path(name) / CONFIG
    return config.is_file() and read_json(config).get("model_type") == huggingface_t5.MODEL_TYPE


def read_task(name: str | Path) -> dict[str, Any]:
    """What `save_pretrained` was given as `task`; nothing of other directories and hub names."""
    tasks = read_json(find_directory(name) / CONFIG).get("task_specific_params")
    return dict((tasks or {}).get(TASK) or {})


def _their_shape(shape: tuple[int, ...], inputs: int | None) -> tuple[int, ...]:
    """[outputs, inputs] of a matrix of ours; a table's or vector's own."""
    return shape if inputs is None else (int(np.prod(shape[inputs:])), int(np.prod(shape[:inputs])))


def _read_weights(directory: Path, name: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a directory, which is itself or what was downloaded of a hub name."""
    if (directory / WEIGHTS).exists():
        return read_safetensors(directory / WEIGHTS)
    if (directory / INDEX).exists():
        shards = read_json(directory / INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise UserError(f"{directory / INDEX} has no weight_map")
        arrays = {}
        for shard in sorted(set(shards.values())):
            arrays |= read_safetensors(directory / Path(shard).name)
        return arrays
    reason = (
        "a pickle, which can run any code when it is opened: "
        "save it as safetensors (Transformers' save_pretrained does) or take a version of it that is"
    )
    if not Path(name).is_dir():
        raise UserError(f"the hub has no safetensors of {name}, and what else it has may be {reason}")
    pickles = sorted(path.name for path in directory.glob("*.bin"))
    if pickles:
        raise UserError(f"{directory} has its parameters in {', '.join(pickles)}, {reason}")
    raise UserError(f"{directory} has no {WEIGHTS}")


def load_tokenizer(name):
    directory = find_directory(name)
    read = lambda file: read_json(directory / file) if (directory / file).exists() else {}
    t5 = (directory / SENTENCEPIECE).exists() or (read(TOKENIZER).get("model") or {}).get("type") == "Unigram"
    t5 = t5 or read(CONFIG).get("model_type") == "t5"
    return read_tokenizer(directory, SentencePieceTokenizer if t5 else WordPieceTokenizer)
