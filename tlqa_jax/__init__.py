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
    "QAExample": "examples",
    "open_questions": "data.sources",
    "open_texts": "data.sources",
    "load_t5": "checkpoints.runs",
    "load_bert_model": "checkpoints.bert_runs",
    "from_pretrained": "checkpoints.huggingface",
    "load_tokenizer": "checkpoints.huggingface",
    "save_pretrained": "checkpoints.huggingface",
    "import_run": "checkpoints.exchange",
    "export_run": "checkpoints.exchange",
    "PretrainSpansSettings": "training.pretrain_spans",
    "pretrain_spans": "training.pretrain_spans",
    "PretrainMLMSettings": "training.pretrain_mlm",
    "pretrain_mlm": "training.pretrain_mlm",
    "FinetuneQASettings": "training.finetune_qa",
    "finetune_qa": "training.finetune_qa",
    "TextTask": "tasks.text_tasks",
    "FinetuneTasksSettings": "training.finetune_tasks",
    "finetune_tasks": "training.finetune_tasks",
    "FinetuneSpansSettings": "training.finetune_spans",
    "finetune_spans": "training.finetune_spans",
    "FinetuneClassifierSettings": "training.finetune_classifier",
    "finetune_classifier": "training.finetune_classifier",
    "Answer": "inference.answers",
    "GenerationConfig": "inference.generation_config",
    "fill_mask": "inference.fill_mask",
    "ask": "inference.predictors",
    "classify": "inference.predictors",
    "generate": "inference.predictors",
    "open_model": "inference.predictors",
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
