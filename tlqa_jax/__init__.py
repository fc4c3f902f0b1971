"""Transfer learning for question answering: BERT and T5 from scratch in JAX, with a command line and lessons.

    import tlqa_jax

    tlqa_jax.ask("Where was Mira born?", "Mira, a clockmaker from Oss, plays the flute.", run="runs/quickstart")

The names below are imported when they are first used, so that importing the package costs nothing.
"""

import importlib

_HOMES = {
    "errors": ("UserError",),
    "examples": ("LabelledText", "QAExample"),
    "text.sentencepiece": ("SentencePieceTokenizer",),
    "text.wordpiece": ("WordPieceTokenizer",),
    "models.t5": ("T5", "T5Config", "T5Encoder"),
    "models.bert": ("Bert", "BertConfig"),
    "models.bert_heads": (
        "BertForMaskedLM", "BertForPreTraining", "BertForQuestionAnswering", "BertForSequenceClassification",
        "BertLMHeadModel",
    ),
    "models.functional": ("as_function",),
    "data.sources": ("open_questions", "open_texts"),
    "tasks.text_tasks": ("TextTask",),
    "checkpoints.load": ("load",),
    "checkpoints.save": ("save_pretrained",),
    "inference.generation_config": ("GenerationConfig",),
    "inference.predictors": ("ask", "classify", "generate", "open_model"),
    "inference.fill_mask": ("fill_mask",),
    "training.pretrain_spans": ("PretrainSpansSettings", "pretrain_spans"),
    "training.pretrain_mlm": ("PretrainMLMSettings", "pretrain_mlm"),
    "training.pretrain_clm": ("PretrainCLMSettings", "pretrain_clm"),
    "training.pretrain_vectors": ("PretrainVectorsSettings", "pretrain_vectors"),
    "training.finetune_qa": ("FinetuneQASettings", "finetune_qa"),
    "training.finetune_spans": ("FinetuneSpansSettings", "finetune_spans"),
    "training.finetune_classifier": ("FinetuneClassifierSettings", "finetune_classifier"),
    "training.finetune_features": ("FinetuneFeaturesSettings", "finetune_features"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.2.0"
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
