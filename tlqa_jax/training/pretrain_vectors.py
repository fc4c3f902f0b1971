"""Word vectors by CBOW with negative sampling (Mikolov et al. 2013), over all devices with pmap.

    tlqa pretrain-vectors --texts corpus.txt --vocabulary vocab.txt --width 300 --out runs/vectors

A row is one word: the mean of its neighbours' vectors is to score it high, and words drawn at random low. The loss is the
mean over the words of the text. The words are pieces of a BERT's WordPiece vocabulary, so that the vectors can become a
BERT's embeddings, and no word is unknown. A common word is one piece; a rare one is the mean of its pieces.

Measured on 2 busy CPU cores: 20 epochs of the tiny world take 10 seconds; the nearest neighbours of "flute" are banjo,
bassoon and harp. After 5 epochs of 1.3 million tokens of the Brown corpus, 8,000 pieces, the nearest to "man" is woman,
to he - his + her it is she, to man - he + she woman, to going - go + come getting.

Read it from top to bottom: settings, data, model, `train_step`, the loop, the losses. What all programs share is in
`loop.py`, `step.py` and `settings.py`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tlqa_jax.data.batches import evaluation_batches, training_batches
from tlqa_jax.errors import UserError
from tlqa_jax.models.word_vectors import CBOW
from tlqa_jax.tasks.word_context import WordContextRows
from tlqa_jax.training.evaluation import held_out_source, mean_over_examples, summed_over_devices
from tlqa_jax.training.initial_model import load_or_init_vectors
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.settings import TextSettings, input_file, number, settings_class
from tlqa_jax.training.step import AXIS, initial_state, update

Rows = dict[str, Array]


@settings_class
class PretrainVectorsSettings(TextSettings):
    """Settings of a run that learns word vectors."""

    default_length: ClassVar[dict[str, float]] = {"epochs": 20.0}

    out: str = "runs/vectors"
    vocabulary: str = input_file("tiny_world:wordpiece.txt")
    """A WordPiece vocab.txt (without --start-from)."""
    lowercase: bool = True
    """Whether that vocabulary is for lower-cased text (without --start-from)."""
    width: int = number(128, at_least=1, at_most=2**16)
    """Length of a vector (without --start-from). To become a BERT's embeddings: that BERT's hidden size."""
    window: int = number(5, at_least=1, at_most=1000)
    """Neighbours on each side of a word."""
    negatives: int = number(5, at_least=1, at_most=1000)
    """Negative samples for each word."""
    batch_size: int = 1024
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    dropout: float = 0.0

    def check(self) -> None:
        super().check()
        if self.dropout:
            raise UserError(f"--dropout is {self.dropout}: word vectors are learned without dropout")


def pretrain_vectors(settings: PretrainVectorsSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for wrong settings or files."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    run = TrainingRun("pretrain-vectors", settings, quiet=quiet)
    if run.is_complete:
        return run.path
    initial = load_or_init_vectors(
        settings, settings.vocabulary, settings.lowercase, settings.width, continues=run.continues
    )
    tokenizer = initial.tokenizer
    how = dict(
        window=settings.window, negatives=settings.negatives, seed=settings.seed, batch_size=settings.batch_size,
        data_dir=settings.data_dir, text_field=settings.text_field,
    )  # fmt: skip
    data = WordContextRows(
        settings.texts, tokenizer, **how, max_tokens=settings.max_tokens, tokens_file=settings.tokens_file
    )
    held_out_texts = held_out_source(settings.held_out, settings.texts, "tiny_world:pretraining_dev.txt")
    held_out = WordContextRows(held_out_texts, tokenizer, **how, noise=data.noise) if held_out_texts else None
    run.say(f"training: {data.report()}")
    steps = settings.total_steps(data.size)
    optimizer, rate = run.optimizer(steps)

    # --- model
    model, apply, params = initial.build(CBOW)
    state = initial_state(params, optimizer, settings.freeze, run.say)
    run.start(model, tokenizer, {"answers": False})
    del initial, model, params  # or the first device would hold them twice
    train_step = jax.pmap(
        partial(
            update, partial(negative_sampling_loss, apply), number_of_words, optimizer,
            seed=settings.seed, accumulate=settings.accumulate, freeze=settings.freeze,
        ),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
    )  # fmt: skip
    evaluate_step = summed_over_devices(partial(negative_sampling_sums, apply))

    def evaluate(params: Any) -> dict[str, float]:
        """Loss in nats per word of the held-out text, and the share of words that score higher than all negatives."""
        batches = evaluation_batches(held_out.size, settings.batch_size, held_out.build_evaluation)
        return mean_over_examples(evaluate_step, params, batches)

    # --- the loop
    with run.training(state, steps, rate, evaluate if held_out else None, "pretraining") as loop:
        del state  # the loop has it on the devices; this one is on the host
        batches = training_batches(data.size, settings.batch_size, settings.seed, data.build, start=loop.start)
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches))
            loop.finish_step(step, metrics, tokens=settings.batch_size)
    return run.path


# The losses


def losses_of_words(scores: Float[Array, "B K"], weights: Float[Array, "B K"]) -> Float[Array, "B"]:
    """-log sigmoid(score of the word) - the sum of log sigmoid(-score of a negative), in nats."""
    signed = scores.at[:, 1:].multiply(-1)
    return -(weights * jax.nn.log_sigmoid(signed)).sum(axis=1)


def negative_sampling_loss(apply: Callable, params: Any, rows: Rows, key=None) -> Float[Array, ""]:
    """The sum of the losses of the words that count. There is no dropout for the key."""
    scores = apply(params, rows["context"], rows["candidates"], mask=rows["mask"])
    return losses_of_words(scores, rows["weights"]).sum()


def number_of_words(rows: Rows) -> Float[Array, ""]:
    """What the loss is a mean over."""
    return rows["weights"][:, 0].sum()


def negative_sampling_sums(apply: Callable, params: Any, rows: Rows) -> dict[str, Array]:
    """Sums over a batch: of the losses, of words that score higher than all negatives, and their number ("weight").

    Rows whose "weight" is 0 only fill up the last batch.
    """
    weights = rows["weights"] * rows["weight"][:, None]
    scores = apply(params, rows["context"], rows["candidates"], mask=rows["mask"])
    negatives = jnp.where(weights[:, 1:] > 0, scores[:, 1:], -jnp.inf)
    right = scores[:, 0] > negatives.max(axis=1)
    words = weights[:, 0]
    return {"loss": losses_of_words(scores, weights).sum(), "accuracy": (right * words).sum(), "weight": words.sum()}
