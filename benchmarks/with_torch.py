"""The works with Transformers on PyTorch, eager, as it comes."""

import os
from collections.abc import Callable

import torch
import transformers
import works
from transformers import BertConfig, BertForMaskedLM, BertForQuestionAnswering, T5Config, T5ForConditionalGeneration


def versions() -> str:
    return f"Transformers {transformers.__version__}, PyTorch {torch.__version__}"


def prepare() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)


def new_model(dropout: float) -> T5ForConditionalGeneration:
    prepare()
    return T5ForConditionalGeneration(
        T5Config(**works.T5_SMALL, dropout_rate=dropout, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    )


def bert(kind: type, size: str, dropout: float):
    prepare()
    rates = dict(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return kind(BertConfig(vocab_size=works.BERT_VOCABULARY, **works.BERTS[size], **rates))


def train() -> Callable[[], float]:
    inputs, targets = (torch.tensor(tokens).long() for tokens in works.training_tokens())
    return training_step(new_model(works.DROPOUT), input_ids=inputs, labels=targets)


def masked_lm(size: str) -> Callable[[], float]:
    tokens, positions, targets = (torch.tensor(array).long() for array in works.masked_tokens(size))
    labels = torch.full_like(tokens, -100).scatter(1, positions, targets)  # -100: not asked
    model = bert(BertForMaskedLM, size, works.DROPOUT)
    return training_step(model, input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels)


def training_step(model: torch.nn.Module, **batch: torch.Tensor) -> Callable[[], float]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=works.LEARNING_RATE, weight_decay=works.WEIGHT_DECAY)

    def step() -> float:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def decoding(batch: int, beams: int = 1) -> Callable[[], float]:
    model = new_model(0.0).eval()
    inputs = torch.tensor(works.questions(batch)).long()

    def step() -> float:
        with torch.inference_mode():
            sequences = model.generate(
                inputs, attention_mask=torch.ones_like(inputs), do_sample=False, num_beams=beams,
                min_new_tokens=works.NEW_TOKENS, max_new_tokens=works.NEW_TOKENS,
            )
        assert sequences.shape == (batch, works.NEW_TOKENS + 1)  # with the start token
        return 0.0

    return step


def span_logits(size: str) -> Callable[[], float]:
    model = bert(BertForQuestionAnswering, size, 0.0).eval()
    tokens = torch.tensor(works.windows()).long()

    def step() -> float:
        with torch.inference_mode():
            logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        return float(logits.start_logits.sum() + logits.end_logits.sum())

    return step
