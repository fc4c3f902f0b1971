"""Trained models, ready to use: `ask` a question, `generate` texts with a T5, `classify` texts; `open_model` for more.

    >>> tlqa_jax.ask("Where was Mira born?", "Mira, a clockmaker from Oss, plays the flute.", "runs/quickstart").text
    'Oss'

A T5 generates its answer, from a context or from memory; a BERT predicts a span of the context.
"""

import copy
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from tlqa_jax.checkpoints.directories import CONFIG
from tlqa_jax.checkpoints.load import Pretrained, load
from tlqa_jax.core.devices import compute_dtype, replicate
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample, TextExample
from tlqa_jax.inference.answer_spans import SpanAnswer, SpanAnswerer
from tlqa_jax.inference.answers import Answer, Answerer, to_answer
from tlqa_jax.inference.classifier import Classifier, TextClass
from tlqa_jax.inference.features import FeatureExtractor, classes_of_features
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.generator import Generation, Generator
from tlqa_jax.inference.length_buckets import padded_length
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.text_tasks import TextTask, task_of
from tlqa_jax.tasks.text_to_text import encode_rows, encode_texts


def ask(
    question: str, context: str | None = None, run: str | Path = "runs/quickstart",
    *, threshold: float | None = None, **generation: Any,
) -> Answer | SpanAnswer:  # fmt: skip
    """Answer a question, from a context or, without one, from memory (T5 only).

    The first question loads the model and compiles. Later ones to the same model do neither, for lengths seen before; a
    run that has been trained since is loaded again. A context longer than the input is read through several windows.

    Args:
        run: a fine-tuned run, a quickstart's directory, a Hugging Face directory or a hub name.
        threshold: no answer if the no-answer score is above it; replaces the run's own threshold.
        generation: how a T5 generates, `num_beams=4` or `temperature=0.7`, say: fields of `GenerationConfig`.

    Raises UserError if there is no such model, if it was not trained to answer, or if the question is empty or, for a
    T5, too long. For a BERT a long question loses its end (`SpanAnswer.question_cut`).
    """
    if not question.strip():
        raise UserError("the question is empty")
    examples = [QAExample("question", question, (), context)]
    return open_model(run, to="answer")(examples, generation=GenerationConfig(**generation), threshold=threshold)[0]


def generate(texts: Sequence[str], run: str | Path, **generation: Any) -> list[list[Generation]]:
    """What a model generates for each of the texts, best first: a causal BERT continues them, a pretrained T5 fills in
    their sentinels.

    Args:
        run: as for `ask`, fine-tuned or only pretrained.
        generation: how to generate, and how many texts (`num_return_sequences`): fields of `GenerationConfig`.

    Raises UserError if there is no such model, a text is too long for it, or `texts` is not a list.
    """
    return open_model(run, to="generate").generate(texts, GenerationConfig(**generation))


def classify(texts: Sequence[str], run: str | Path) -> list[TextClass]:
    """The class of each text, by a classifier's run, Hugging Face directory or hub name."""
    return open_model(run, to="classify")(texts)


def open_model(
    name: str | Path, to: Literal["answer", "generate", "classify"] | None = None
) -> "T5Predictor | CausalLM | SpanPredictor | TextClassifier":
    """The predictor of a run, a Hugging Face directory or a hub name: called with examples or texts, it predicts.

    The two that were used last stay in memory, until their files change. Raises UserError if there is no such model, or
    if it was not trained for the task `to`.
    """
    pretrained = load(name)
    predictor = PREDICTORS.get(pretrained.architecture)
    if to == "generate" and not (predictor and issubclass(predictor, TextGenerator)):
        kind = pretrained.architecture
        raise UserError(f"{name} is a {kind}, and only a T5 or a causal BERT (tlqa pretrain-clm) generates text")
    if predictor is None or (predictor is CausalLM and to in ("answer", "classify")):
        raise UserError(
            f"{name} was pretrained but not trained to answer or to classify (it is a {pretrained.architecture}): "
            f"`tlqa finetune-qa --start-from {name}` or `tlqa finetune-classifier` does that"
        )
    if to == "answer" and pretrained.usage.get("answers") is False:
        raise UserError(
            f"{name} was pretrained but not trained to answer: `tlqa finetune-qa --start-from {name}` does that"
        )
    if to == "answer" and issubclass(predictor, TextClassifier):
        raise UserError(f"{name} classifies texts: `tlqa classify {name} TEXT` does that")
    if to == "classify" and not issubclass(predictor, TextClassifier):
        raise UserError(
            f"{name} answers questions: `tlqa answer {name} --question …` (a classifier: `tlqa finetune-classifier`)"
        )
    key = (pretrained.name if pretrained.on_hub else str(pretrained.directory.resolve())), *_changed(pretrained)
    opened = _OPENED.pop(key, None) or predictor(pretrained)
    _OPENED[key] = opened  # the newest comes last
    while len(_OPENED) > 2:
        del _OPENED[next(iter(_OPENED))]
    return opened


def _changed(pretrained: Pretrained) -> list[int]:
    """Numbers that change with the files of a directory; nothing for a hub name, whose files do not change."""
    if pretrained.on_hub:
        return []
    files = [file for kind in ("*config.json", "*.safetensors") for file in sorted(pretrained.directory.glob(kind))]
    return [file.stat().st_mtime_ns for file in files] + (_changed(pretrained.base) if pretrained.base else [])


class Predictor:
    """A model with its parameters on all of this process's devices.

    `apply(params, …)` is the model as a function, `usage` what `config.json` says about using it as it was trained.
    """

    def __init__(self, pretrained: Pretrained):
        self.name, self.usage, self.tokenizer = pretrained.name, pretrained.usage, pretrained.tokenizer
        model = pretrained.model(dtype=compute_dtype(self.usage.get("dtype", "auto")))
        self.config = model.config
        self.apply, params = as_function(model)
        self.params = replicate(params)

    def _threshold(self, threshold: float | None) -> float | None:
        """The no-answer threshold: the given one, else the model's own. Infinity: there always is an answer."""
        if threshold is not None and math.isnan(threshold):
            raise UserError("--threshold is nan: it has to be a number")
        return self.usage.get("no_answer_threshold") if threshold is None else threshold


class TextGenerator(Predictor):
    """A model that generates text: up to `target_length` tokens, unless the configuration says how many."""

    target_length: int

    def __init__(self, pretrained: Pretrained):
        super().__init__(pretrained)
        self._generators: dict[GenerationConfig, Generator] = {}  # for each configuration, whatever the seed

    def generate(
        self, texts: Sequence[str], generation: GenerationConfig = GenerationConfig()
    ) -> list[list[Generation]]:
        """What it generates for each text, best first."""
        check_texts(texts)
        if not texts:
            return []
        inputs, lengths = self._encode(texts, generation)
        return self._generator(generation)(self.params, inputs, lengths)

    def stream(
        self, text: str, generation: GenerationConfig = GenerationConfig()
    ) -> Iterator[tuple[str, str, float]]:
        """The same for one text, while it is generated: what is added to it, the piece, its probability."""
        inputs, [length] = self._encode([text], generation)
        inputs = inputs[:, : padded_length(int(length), inputs.shape[1])]
        return self._generator(generation).stream(self._params_of_one_device, inputs, int(length))

    @functools.cached_property
    def _params_of_one_device(self) -> Any:
        return jax.tree.map(lambda x: x.addressable_data(0), self.params)

    def _new_tokens(self, generation: GenerationConfig) -> int:
        return generation.max_new_tokens or self.target_length

    def _generator(self, generation: GenerationConfig) -> Generator:
        config = replace(generation, seed=0, max_new_tokens=self._new_tokens(generation))
        if config not in self._generators:
            self._generators[config] = Generator(self.apply, self.tokenizer, config)
        return self._generators[config].with_seed(generation.seed)

    def _encode(self, texts: Sequence[str], generation: GenerationConfig) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ids, and the number of tokens in each. Raises UserError for a text that is too long."""
        raise NotImplementedError


class T5Predictor(TextGenerator):
    """A T5. Called with examples, it answers them."""

    def __init__(self, pretrained: Pretrained):
        super().__init__(pretrained)
        self.input_length = self.usage.get("input_length", 512)
        self.target_length = self.usage.get("target_length", 32)
        where = f"{pretrained.where}/{CONFIG}"
        self.tasks = {name: task_of(record, where) for name, record in self.usage.get("tasks", {}).items()}

    def __call__(
        self, examples: Sequence[QAExample], *, use_context: bool = True,
        generation: GenerationConfig = GenerationConfig(), threshold: float | None = None,
    ) -> list[Answer]:  # fmt: skip
        """The answers, in the order of the examples; their gold answers are not read.

        A context that does not fit is read through windows that share a third of the input length.
        """
        if self.tasks and not any(task.questions for task in self.tasks.values()):
            raise UserError(f"{self.name} was not trained to answer questions; its tasks are {', '.join(self.tasks)}")
        answerer = Answerer(
            self._generator(generation), input_length=self.input_length, stride=self.input_length // 3,
            no_answer_threshold=self._threshold(threshold),
        )  # fmt: skip
        return answerer(self.params, without_gold(examples), use_context=use_context)

    def predict(self, examples: Sequence[TextExample]) -> list[Answer]:
        """What it generates for each input, of any task."""
        rows = encode_texts(
            self.tokenizer, examples, input_length=self.input_length, target_length=self.target_length
        )
        generated = self._generator(GenerationConfig())(self.params, rows.inputs, rows.input_lengths)
        return [to_answer(texts[0], cut=cut) for texts, cut in zip(generated, rows.inputs_cut.tolist())]

    def task(self, name: str) -> TextTask:
        """A task that it was trained for by `tlqa finetune`; UserError if it was not."""
        if name not in self.tasks:
            known = f"its tasks are {', '.join(self.tasks)}" if self.tasks else "it has none (`tlqa finetune`)"
            raise UserError(f"{self.name} has no task {name!r}: {known}")
        return self.tasks[name]

    def _encode(self, texts: Sequence[str], generation: GenerationConfig) -> tuple[np.ndarray, np.ndarray]:
        inputs, lengths = encode_rows(self.tokenizer, texts, self.input_length, last=[self.tokenizer.eos_id])
        if (longest := lengths.max()) > self.input_length:
            raise UserError(
                f"a text of {longest} tokens is too long for {self.name}, which reads {self.input_length}: shorten it"
            )
        return inputs, lengths


class CausalLM(TextGenerator):
    """A causal BERT, which continues texts. A text and what is generated have at most `input_length` tokens together."""

    def __init__(self, pretrained: Pretrained):
        super().__init__(pretrained)
        if pretrained.options.get("attention") != "causal":
            raise UserError(f"{self.name}: is_decoder is false, so its tokens see those behind them: it cannot generate")
        self.input_length = self.usage.get("input_length", min(512, self.config.max_position_embeddings))
        self.target_length = min(32, self.input_length // 2)

    def _encode(self, texts: Sequence[str], generation: GenerationConfig) -> tuple[np.ndarray, np.ndarray]:
        room = self.input_length - self._new_tokens(generation)
        inputs, lengths = encode_rows(self.tokenizer, texts, max(room, 1), first=[self.tokenizer.cls_id])
        if (longest := lengths.max()) > room:
            raise UserError(
                f"a text of {longest} tokens and {self._new_tokens(generation)} new ones are too many for {self.name}, "
                f"which reads {self.input_length}: shorten it, or give a smaller --max-new-tokens"
            )
        return inputs, lengths


class SpanPredictor(Predictor):
    """A BERT that predicts spans. Called with examples, it answers them.

    The lengths are those of its training; BERT's own if a Hugging Face directory does not tell them.
    """

    def __init__(self, pretrained: Pretrained):
        super().__init__(pretrained)
        length = min(384, self.config.max_position_embeddings)
        lengths = {"input_length": length, "stride": length // 3, "max_question_length": length // 6}  # 384, 128, 64
        lengths |= {name: self.usage[name] for name in (*lengths, "max_answer_length") if name in self.usage}
        self.answerer = SpanAnswerer(self.apply, self.tokenizer, **lengths)

    def __call__(
        self, examples: Sequence[QAExample], *, use_context: bool = True,
        generation: GenerationConfig = GenerationConfig(), threshold: float | None = None,
    ) -> list[SpanAnswer]:  # fmt: skip
        """The answers, in the order of the examples; their gold answers are not read."""
        if not use_context:
            raise UserError(f"{self.name} finds answers in a context: --closed-book is for a T5")
        without = next((example.id for example in examples if not (example.context or "").strip()), None)
        if without is not None:
            advice = f'give question {without!r} one (with --question: --context; in rows: the field "context")'
            raise UserError(f"{self.name} finds answers in a context: {advice}")
        if generation != GenerationConfig():
            raise UserError(f"{self.name} finds answers and generates none: num_beams, temperature, … are for a T5")
        answerer = copy.copy(self.answerer)
        answerer.no_answer_threshold = self._threshold(threshold)
        return answerer(self.params, without_gold(examples))


class TextClassifier(Predictor):
    """A BERT, or a bag of vectors, that classifies texts."""

    def __init__(self, pretrained: Pretrained):
        super().__init__(pretrained)
        length = self.usage.get("input_length", min(512, getattr(self.config, "max_position_embeddings", 512)))
        self.classifier = Classifier(self.apply, self.tokenizer, self.config.id2label, input_length=length)

    def __call__(self, texts: Sequence[str]) -> list[TextClass]:
        check_texts(texts)
        return self.classifier(self.params, texts)

    @property
    def labels(self) -> Sequence[str]:
        """The names of the classes, by number."""
        return self.config.id2label


class FeaturePredictor(TextClassifier):
    """A head on the features of a frozen encoder, which is loaded from where it was; it classifies texts."""

    def __init__(self, pretrained: Pretrained):
        self.name, self.usage, self.config = pretrained.name, pretrained.usage, pretrained.config
        self.extract = FeatureExtractor(
            self.config.base, layers=self.config.layers.split(","), pooling=self.config.pooling,
            input_length=self.usage["input_length"], dtype=self.usage.get("dtype", "auto"),
        )  # fmt: skip
        if self.extract.config.fingerprint != self.config.fingerprint:
            raise UserError(f"{self.config.base} has changed since {self.name} was trained on its features: train it again")
        self.tokenizer = self.extract.tokenizer
        self.apply, params = as_function(pretrained.model())
        self.params = replicate(params)

    def __call__(self, texts: Sequence[str]) -> list[TextClass]:
        check_texts(texts)
        features, cut = self.extract(texts)
        return classes_of_features(self.apply, self.params, features, cut, self.labels) if texts else []


PREDICTORS = {
    "T5ForConditionalGeneration": T5Predictor,
    "BertLMHeadModel": CausalLM,
    "BertForQuestionAnswering": SpanPredictor,
    "BertForSequenceClassification": TextClassifier,
    "BagOfVectors": TextClassifier,
    "FeatureClassifier": FeaturePredictor,
}
_OPENED: dict[tuple, Predictor] = {}


def check_texts(texts: Sequence[str]) -> None:
    """Refuse one text where a list is expected: its letters would be read one by one."""
    if isinstance(texts, str):
        raise UserError(f"{texts[:40]!r} is a text, and a list of texts is expected here: put it into brackets")


def without_gold(examples: Sequence[QAExample]) -> list[QAExample]:
    return [replace(example, answers=(), answer_starts=()) for example in examples]
