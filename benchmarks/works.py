"""The work that every contender is given: sizes and random tokens. numpy only, so that each environment can import it."""

import numpy as np

T5_SMALL = dict(
    vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, feed_forward_proj="relu", tie_word_embeddings=True
)
DROPOUT = 0.1
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01  # AdamW, no clipping
NEW_TOKENS = 32  # written by greedy decoding, never fewer

TITLES = {
    "train": "T5-small training step, 512 -> 114, batch 4, dropout .1, AdamW",
    "greedy-1": "T5-small greedy decoding, 128 -> 32, batch 1",
    "greedy-8": "T5-small greedy decoding, 128 -> 32, batch 8",
}
CALLS_A_TURN = {"train": 2, "greedy-1": 5, "greedy-8": 3}


def random_tokens(batch: int, length: int, seed: int) -> np.ndarray:
    """[batch, length] int32 ids without padding (0) and end (1)."""
    return np.random.default_rng(seed).integers(2, T5_SMALL["vocab_size"], (batch, length)).astype(np.int32)


def training_tokens() -> tuple[np.ndarray, np.ndarray]:
    """Inputs [4, 512] and targets [4, 114], the lengths of span corruption at an input length of 512."""
    return random_tokens(4, 512, seed=0), random_tokens(4, 114, seed=1)


def questions(batch: int) -> np.ndarray:
    """Inputs of greedy decoding [batch, 128]."""
    return random_tokens(batch, 128, seed=2)
