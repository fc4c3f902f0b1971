"""The work every contender is given: sizes and random tokens. numpy only, so that each environment can import it."""

import numpy as np

T5_SMALL = dict(
    vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, feed_forward_proj="relu",
    tie_word_embeddings=True,
)
BERTS = {
    "mini": dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024),
    "base": dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
}
BERT_VOCABULARY, MASK_ID, PREDICTIONS = 30522, 103, 20
DROPOUT = 0.1
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01  # AdamW, no clipping
NEW_TOKENS = 32  # written by greedy decoding and by beam search, never fewer

TITLES = {
    "train": "T5-small training step, 512 -> 114, batch 4, dropout .1, AdamW",
    "greedy-1": "T5-small greedy decoding, 128 -> 32, batch 1",
    "greedy-8": "T5-small greedy decoding, 128 -> 32, batch 8",
    "beam-4": "T5-small beam search, 4 beams, 128 -> 32, batch 1",
    "mlm-mini": "BERT mini (4 x 256) masked-LM training step, 128 tokens, batch 32, dropout .1, AdamW",
    "mlm-base": "BERT base masked-LM training step, 128 tokens, batch 8, dropout .1, AdamW",
    "spans-base": "BERT base, start and end logits, 384 tokens, batch 8",
}
CALLS_A_TURN = {
    "train": 2, "greedy-1": 5, "greedy-8": 3, "beam-4": 3, "mlm-mini": 3, "mlm-base": 2, "spans-base": 3,
}  # fmt: skip


def random_tokens(
    batch: int, length: int, seed: int, *, first: int = 2, vocab_size: int = T5_SMALL["vocab_size"]
) -> np.ndarray:
    """[batch, length] int32 ids from `first` on: for T5 without padding (0) and end (1)."""
    return np.random.default_rng(seed).integers(first, vocab_size, (batch, length)).astype(np.int32)


def training_tokens() -> tuple[np.ndarray, np.ndarray]:
    """Inputs [4, 512] and targets [4, 114], the lengths of span corruption at an input length of 512."""
    return random_tokens(4, 512, seed=0), random_tokens(4, 114, seed=1)


def questions(batch: int) -> np.ndarray:
    """Inputs of greedy decoding and of beam search [batch, 128]."""
    return random_tokens(batch, 128, seed=2)


def masked_tokens(size: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of 128 tokens [B, 128] with 20 of them masked; where these are [B, 20], and what they were [B, 20]."""
    tokens = random_tokens({"mini": 32, "base": 8}[size], 128, seed=3, first=1000, vocab_size=BERT_VOCABULARY)
    order = np.random.default_rng(4).random(tokens.shape).argsort(axis=1)
    positions = np.sort(order[:, :PREDICTIONS], axis=1).astype(np.int32)
    targets = np.take_along_axis(tokens, positions, axis=1)
    np.put_along_axis(tokens, positions, MASK_ID, axis=1)
    return tokens, positions, targets


def windows() -> np.ndarray:
    """Rows of extractive question answering [8, 384]."""
    return random_tokens(8, 384, seed=5, first=1000, vocab_size=BERT_VOCABULARY)
