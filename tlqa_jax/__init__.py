"""Transfer learning for question answering: BERT and T5 from scratch in JAX, with a command line and lessons.

    import tlqa_jax

    tlqa_jax.ask("Where was Mira born?", "Mira, a clockmaker from Oss, plays the flute.", run="runs/quickstart")

The names below are found when they are first used, so that importing the package costs nothing.
"""

import importlib

_HOMES = {
    "UserError": "errors",
    "SentencePieceTokenizer": "text.sentencepiece",
    "T5": "models.t5",
    "T5Config": "models.t5",
    "T5Encoder": "models.t5",
    "Bert": "models.bert",
    "BertConfig": "models.bert",
    "BertForMaskedLM": "models.bert_heads",
    "BertForPreTraining": "models.bert_heads",
    "BertForQuestionAnswering": "models.bert_heads",
    "BertForSequenceClassification": "models.bert_heads",
    "as_function": "models.functional",
    "QAExample": "data.sources",
    "open_questions": "data.sources",
    "open_texts": "data.sources",
    "load_t5": "weights.checkpoints",
    "load_bert_model": "weights.bert_runs",
    "from_pretrained": "weights.huggingface",
    "load_tokenizer": "weights.huggingface",
    "save_pretrained": "weights.huggingface",
    "import_run": "weights.exchange",
    "export_run": "weights.exchange",
    "SpanCorruptionConfig": "training.span_corruption",
    "pretrain": "training.span_corruption",
    "MLMConfig": "training.mlm",
    "pretrain_mlm": "training.mlm:pretrain",
    "QAConfig": "training.qa",
    "finetune": "training.qa",
    "TextTask": "tasks.text_tasks",
    "TextToTextConfig": "training.text_to_text",
    "finetune_tasks": "training.text_to_text:finetune",
    "ExtractiveQAConfig": "training.extractive_qa",
    "finetune_spans": "training.extractive_qa:finetune",
    "ClassificationConfig": "training.classification",
    "finetune_classifier": "training.classification:finetune",
    "Answer": "decoding.answers",
    "Method": "decoding.methods",
    "fill_mask": "decoding.fill_mask",
    "ask": "asking",
    "classify": "asking",
    "generate": "asking",
    "open_run": "asking",
}

__version__ = "0.1.0"
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), attribute or name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
