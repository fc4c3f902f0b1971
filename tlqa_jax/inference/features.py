"""Features of texts by a frozen BERT or T5, on all of this process's devices; kept on disk if one wants.

    extract = FeatureExtractor("bert-base-uncased", layers=["last:4"], pooling="mean", input_length=128)
    features, cut = extract(texts, cache="runs/features")       # float32 [N F]: computed once, then read
"""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.run_record import fingerprint
from tlqa_jax.core.devices import compute_dtype, replicate, unreplicate
from tlqa_jax.core.masks import padding_mask
from tlqa_jax.errors import UserError
from tlqa_jax.inference.classifier import TextClass
from tlqa_jax.inference.length_buckets import length_buckets
from tlqa_jax.models.features import FeatureConfig, Pooling, layer_numbers, pool
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.tasks.classification import encode_texts
from tlqa_jax.tasks.text_to_text import encode_rows
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

ENCODERS = {"bert": "BertModel", "t5": "T5EncoderModel"}


class FeatureExtractor:
    """A frozen encoder with its vocabulary.

    Args:
        base: a BERT or T5: a run, a Hugging Face directory, a hub name. Its head, or decoder, is not read.
        layers: "last", "last:N", or numbers; 0 is the embeddings. Several are put side by side.
        pooling: "mean" over the tokens, or "cls", the first token (BERT only).
        input_length: longest text in tokens; a longer text loses its end.

    Raises UserError for another model, layers that it has not, or [CLS] of a model that has none or looks back only.
    """

    def __init__(
        self, base: str, *, layers: Sequence[str], pooling: Pooling, input_length: int, dtype: str = "auto",
        batch_size: int = 32,
    ):  # fmt: skip
        family = load(base).family
        if family not in ENCODERS:
            raise UserError(f"{base} is no BERT and no T5: features are of one of these")
        pretrained = load(base, ENCODERS[family])
        count, width, longest = (
            (pretrained.config.num_hidden_layers, pretrained.config.hidden_size, pretrained.config.max_position_embeddings)
            if family == "bert" else (pretrained.config.num_layers, pretrained.config.d_model, input_length)
        )  # fmt: skip
        if input_length > longest:
            raise UserError(f"--input-length {input_length}: {base} reads at most {longest} tokens")
        if pooling == "cls" and (family == "t5" or pretrained.options.get("attention") == "causal"):
            reason = "a T5 has none" if family == "t5" else "that of a causal BERT sees only itself"
            raise UserError(f"--pooling cls is the state of [CLS], and {reason}: use --pooling mean")
        self.layers, self.input_length, self.batch_size = layer_numbers(layers, count), input_length, batch_size
        self.tokenizer, self.size = pretrained.tokenizer, width * len(self.layers)
        dtype = compute_dtype(dtype)
        apply, params = as_function(pretrained.model(dtype=dtype))
        self.params = replicate(params)
        self.encode = partial(encode_texts if family == "bert" else text_and_end, self.tokenizer)
        states = bert_states if family == "bert" else t5_states
        self.compute = jax.pmap(
            lambda params, tokens: pool(
                states(apply, params, tokens, mask := padding_mask(tokens, self.tokenizer.pad_id)), mask, self.layers, pooling
            ),
            in_axes=(None, 0),
        )
        numbers = ",".join(map(str, self.layers))
        parts = [part.complete_directory for part in (pretrained, pretrained.base) if part is not None]
        self.config = FeatureConfig(str(base), " ".join(map(fingerprint, parts)), numbers, pooling, self.size)
        # what the features depend on, beside the tokens; the devices, because another split is rounded in another way
        of_model = self.config.fingerprint, numbers, pooling, np.dtype(dtype).name
        self.key = json.dumps([*of_model, jax.local_device_count(), batch_size])

    def __call__(
        self, texts: Sequence[str], *, cache: str | Path | None = None
    ) -> tuple[Float32[np.ndarray, "N F"], Bool[np.ndarray, "N"]]:
        """The features of each text, and whether it lost its end.

        `cache` is a directory: features that are there are read, others computed and written, under a name that is a
        hash of the model's weights, the tokens, the layers and the pooling.
        """
        tokens, lengths = self.encode(texts, input_length=self.input_length)
        cut = lengths > self.input_length
        if cache is None:
            return self._features(tokens, np.minimum(lengths, self.input_length)), cut
        digest = hashlib.sha256(self.key.encode() + str(tokens.shape).encode() + tokens.tobytes())
        file = Path(cache) / f"{digest.hexdigest()}.npy"
        if not file.exists():
            features = self._features(tokens, np.minimum(lengths, self.input_length))
            np.save(content := io.BytesIO(), features)
            write_atomically(file, content.getvalue(), make_directory=True)
        return np.load(file), cut

    def _features(
        self, tokens: Int[np.ndarray, "N L"], lengths: Int[np.ndarray, "N"]
    ) -> Float32[np.ndarray, "N F"]:
        features, devices = np.zeros((len(tokens), self.size), np.float32), jax.local_device_count()
        for rows, count, length in length_buckets(
            lengths, longest=self.input_length, devices=devices, batch_size=self.batch_size
        ):
            batch = tokens[rows, :length].reshape(devices, -1, length)
            found = jax.device_get(self.compute(self.params, batch))
            features[rows[:count]] = found.reshape(len(rows), -1)[:count]
        return features


def bert_states(apply: Callable, params: Params, tokens: Int[Array, "B L"], mask: Bool[Array, "B L"]) -> tuple[Array, ...]:
    return apply(params, tokens, mask=mask).hidden_states


def t5_states(apply: Callable, params: Params, tokens: Int[Array, "B L"], mask: Bool[Array, "B L"]) -> tuple[Array, ...]:
    return apply(params, tokens, input_mask=mask, method="hidden_states")


def text_and_end(
    tokenizer: SentencePieceTokenizer, texts: Sequence[str], *, input_length: int
) -> tuple[Int[np.ndarray, "N L"], Int[np.ndarray, "N"]]:
    """A T5's rows: a text and the end token."""
    return encode_rows(tokenizer, texts, input_length, last=[tokenizer.eos_id])


def classes_of_features(
    apply: Callable, params: Params, features: Float32[np.ndarray, "N F"], cut: Bool[np.ndarray, "N"], labels: Sequence[str]
) -> list[TextClass]:
    """The class of each row by a head (`models.features.FeatureClassifier`); `params` are replicated."""
    params = jax.tree.map(jnp.asarray, unreplicate(params))
    logs = np.asarray(jax.nn.log_softmax(apply(params, jnp.asarray(features))))
    best = logs.argmax(axis=-1)
    return [
        TextClass(labels[number], float(np.exp(log[number])), tuple(log.tolist()), bool(is_cut))
        for number, log, is_cut in zip(best.tolist(), logs, cut)
    ]
