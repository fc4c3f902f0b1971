"""The works with Transformers on PyTorch, eager, as it comes."""

import os
from collections.abc import Callable

import torch
import transformers
import works
from transformers import T5Config, T5ForConditionalGeneration


def versions() -> str:
    return f"Transformers {transformers.__version__}, PyTorch {torch.__version__}"


def new_model(dropout: float) -> T5ForConditionalGeneration:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(**works.T5_SMALL, dropout_rate=dropout, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    )


def train() -> Callable[[], float]:
    model = new_model(works.DROPOUT).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=works.LEARNING_RATE, weight_decay=works.WEIGHT_DECAY)
    inputs, targets = (torch.tensor(tokens).long() for tokens in works.training_tokens())

    def step() -> float:
        loss = model(input_ids=inputs, labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def greedy_decoding(batch: int) -> Callable[[], float]:
    model = new_model(0.0).eval()
    inputs = torch.tensor(works.questions(batch)).long()

    def step() -> float:
        with torch.inference_mode():
            sequences = model.generate(
                inputs, attention_mask=torch.ones_like(inputs), do_sample=False, num_beams=1,
                min_new_tokens=works.NEW_TOKENS, max_new_tokens=works.NEW_TOKENS,
            )
        assert sequences.shape == (batch, works.NEW_TOKENS + 1)  # with the start token
        return 0.0

    return step
