"""Models from Hugging Face's directories and back into them, without PyTorch.

    model = tlqa_jax.from_pretrained("bert-base-uncased")           # or a directory
    tokenizer = tlqa_jax.load_tokenizer("bert-base-uncased")
    tlqa_jax.save_pretrained(model, "out", tokenizer)               # Transformers loads it

    DIRECTORY/config.json             the architecture and the sizes
    DIRECTORY/model.safetensors       the parameters; or several files and model.safetensors.index.json
    DIRECTORY/vocab.txt, tokenizer_config.json, special_tokens_map.json

A family of models is one more module like `huggingface_bert.py`: a table of names.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict

from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.weights import huggingface_bert
from tlqa_jax.weights.checkpoints import compare, flatten
from tlqa_jax.weights.safetensors_file import read_safetensors, write_safetensors

FAMILIES = {family.MODEL_TYPE: family for family in (huggingface_bert,)}
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
VOCABULARY, TOKENIZER_CONFIG, TOKENIZER = "vocab.txt", "tokenizer_config.json", "tokenizer.json"
SPECIALS = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}


def from_pretrained(
    name: str | Path, *, architecture: str | None = None, dtype: Any = jnp.float32, attention: str | None = None
) -> nnx.Module:
    """The model of a directory, or of a name on the Hugging Face hub; of the class that its `config.json` names.

    Args:
        name: a directory, or such as "bert-base-uncased": that one is downloaded, once, by `huggingface_hub`.
        architecture: read it as this class instead, "BertForPreTraining" say.
        dtype, attention: as for `Bert`. The stored numbers become float32, whatever they were.

    Raises UserError, without a model half read, if the class or a setting is not known here, or listing every parameter
    that is missing, left over or of another shape.
    """
    directory = _directory(name)
    values = _read_json(directory / CONFIG)
    family = FAMILIES.get(values.get("model_type", "bert"))
    if family is None:
        raise UserError(
            f'{directory / CONFIG}: model_type is "{values["model_type"]}"; known are {", ".join(FAMILIES)}'
        )
    architecture = architecture or (values.get("architectures") or [None])[0]
    if architecture not in family.ARCHITECTURES:
        found = f'the architecture is "{architecture}"' if architecture else "no architecture is named"
        raise UserError(f"{directory / CONFIG}: {found}; known are {', '.join(family.ARCHITECTURES)} (architecture=)")
    config, options = family.read_config(values, directory / CONFIG)
    options |= {"dtype": dtype} | ({"attention": attention} if attention else {})

    stored = family.tidy(architecture, _read_weights(directory), directory)
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
    model: nnx.Module, directory: str | Path, tokenizer: WordPieceTokenizer | None = None, *, overwrite: bool = False
) -> Path:
    """Write a directory that Transformers, and `from_pretrained`, load. Returns it.

    It appears when it is complete. One that is already there is left alone, unless `overwrite` says to replace it, and
    only if it holds a model; what else was in it is gone then.

    Raises UserError for a model of another kind, a vocabulary that is larger than the model's, a directory in use.
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
    if used and not (directory / CONFIG).is_file():
        raise UserError(f"{directory} does not look like a model (no {CONFIG}): delete it yourself if you mean it")
    config = model.config
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise UserError(f"the vocabulary has {tokenizer.vocab_size} pieces, the model only {config.vocab_size}")

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
        values = {"architectures": [architecture], "model_type": family.MODEL_TYPE, **family.write_config(model)}
        _write_json(new / CONFIG, values)
        write_safetensors(new / WEIGHTS, arrays)
        if tokenizer is not None:
            tokenizer.save(new / VOCABULARY)
            settings = {"do_lower_case": tokenizer.lowercase, "model_max_length": config.max_position_embeddings}
            _write_json(new / TOKENIZER_CONFIG, {"tokenizer_class": "BertTokenizer", **settings, **SPECIALS})
            _write_json(new / "special_tokens_map.json", SPECIALS)
        if directory.exists():
            directory.rename(Path(beside) / "old")
        new.rename(directory)
    return directory


def load_tokenizer(name: str | Path) -> WordPieceTokenizer:
    """The WordPiece vocabulary of a directory or hub name, cased or not as its `tokenizer_config.json` says.

    Raises UserError if there is none, or if it cuts text by rules that `WordPieceTokenizer` does not have.
    """
    directory = _directory(name)
    whole = _read_json(directory / TOKENIZER) if (directory / TOKENIZER).exists() else {}
    normalizer = whole.get("normalizer") or {}
    settings = {"do_lower_case": normalizer.get("lowercase", True), "strip_accents": normalizer.get("strip_accents")}
    settings["tokenize_chinese_chars"] = normalizer.get("handle_chinese_chars", True)
    if (directory / TOKENIZER_CONFIG).exists():
        settings |= _read_json(directory / TOKENIZER_CONFIG)
    lowercase = bool(settings["do_lower_case"])
    if settings["strip_accents"] not in (None, lowercase) or not settings["tokenize_chinese_chars"]:
        raise UserError(
            f"{directory}: strip_accents is {settings['strip_accents']}, "
            f"tokenize_chinese_chars {settings['tokenize_chinese_chars']}; "
            "known here are accents stripped just where text is lower-cased, and Chinese characters apart"
        )
    if (directory / VOCABULARY).exists() or not whole:
        return WordPieceTokenizer(directory / VOCABULARY, lowercase=lowercase)
    model = whole.get("model") or {}
    if model.get("type") != "WordPiece":
        raise UserError(f'{directory / TOKENIZER}: the vocabulary is of type "{model.get("type")}", not WordPiece')
    with tempfile.TemporaryDirectory() as folder:  # newer versions of Transformers write no vocab.txt
        file = Path(folder) / VOCABULARY
        pieces = sorted(model["vocab"], key=model["vocab"].get)
        file.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
        return WordPieceTokenizer(file, lowercase=lowercase)


def _their_shape(shape: tuple[int, ...], inputs: int | None) -> tuple[int, ...]:
    """[outputs, inputs] of a matrix of ours; a table's or vector's own."""
    return shape if inputs is None else (int(np.prod(shape[inputs:])), int(np.prod(shape[:inputs])))


def _read_weights(directory: Path) -> dict[str, np.ndarray]:
    if (directory / WEIGHTS).exists():
        return read_safetensors(directory / WEIGHTS)
    if (directory / INDEX).exists():
        shards = _read_json(directory / INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise UserError(f"{directory / INDEX} has no weight_map")
        arrays = {}
        for shard in sorted(set(shards.values())):
            arrays |= read_safetensors(directory / Path(shard).name)
        return arrays
    pickles = sorted(path.name for path in directory.glob("*.bin"))
    if pickles:
        raise UserError(
            f"{directory} has its parameters in {', '.join(pickles)}, a pickle, which can run any code when it is "
            "opened: save it as safetensors (Transformers' save_pretrained does) or take a version of it that is"
        )
    raise UserError(f"{directory} has no {WEIGHTS}")


def is_hub_name(name: str | Path) -> bool:
    """Whether it can be a name on the hub: "bert-base-uncased" or "google-bert/bert-base-uncased"."""
    return isinstance(name, str) and bool(re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name))


def _directory(name: str | Path) -> Path:
    """The directory itself, or the downloaded one of a hub name."""
    if Path(name).is_dir():
        return Path(name)
    if not is_hub_name(name):
        raise UserError(f"{name}: there is no such directory, nor can it be a name on the Hugging Face hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(
            f"{name} is no directory here; to download it from the hub, pip install huggingface_hub"
        ) from None
    files = [CONFIG, WEIGHTS, INDEX, "model-*.safetensors", VOCABULARY, TOKENIZER_CONFIG, TOKENIZER]
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except Exception as error:  # of many kinds: no network, no such name, no permission
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} is no directory here, and the hub did not give it ({reason})") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object")
    return values


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
