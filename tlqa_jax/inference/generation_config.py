"""How a T5 or a causal BERT generates text, as settings: greedily, by beam search or by sampling; and how many texts.

    ask("Where was Mira born?", num_beams=4)        generate(texts, run, temperature=0.8, num_return_sequences=3)
"""

from typing import Literal

from tlqa_jax.errors import UserError
from tlqa_jax.fields import Settings, number, settings_class

EarlyStopping = Literal[False, True, "never"]


@settings_class
class GenerationConfig(Settings):
    """Without any setting: greedy decoding. The names are those of Transformers' `GenerationConfig`.

    Sampling is on when a temperature, top_k or top_p is given. Raises UserError for a value outside its limits, or for
    settings that do not go together.
    """

    num_beams: int = number(1, at_least=1, at_most=2**12)
    """Number of beams; more than 1: beam search."""
    length_penalty: float = number(1.0)
    """For beam search: above 0 favours longer texts, below 0 shorter ones."""
    early_stopping: EarlyStopping = False
    """For beam search, when to stop: as soon as num_beams texts have ended (true), when no other text is better at its
    present length (false, the default), or when no other text can become better (never)."""
    temperature: float | None = number(None, above=0)
    """Sample each token: below 1 makes probable tokens more probable, above 1 less."""
    top_k: int | None = number(None, at_least=1)
    """Sample from the K most probable tokens only."""
    top_p: float | None = number(None, above=0, at_most=1)
    """Sample from the fewest tokens whose probabilities add up to at least this."""
    max_new_tokens: int | None = number(None, at_least=1, at_most=2**16)
    """Longest text to generate, in tokens (default: a T5's target length in its training; of a causal BERT 32)."""
    num_return_sequences: int = number(1, at_least=1, at_most=2**12)
    """Number of texts for each input: the best of the beams, or samples."""
    seed: int = number(0, at_least=0, at_most=2**32 - 1)
    """Seed of the sampling: the same seed gives the same text."""

    def check(self) -> None:
        if not isinstance(self.early_stopping, bool | str):
            raise UserError(f"--early-stopping is {self.early_stopping}: it has to be False, True or 'never'")
        if self.num_beams == 1:
            for name, default in (("length_penalty", 1.0), ("early_stopping", False)):
                if getattr(self, name) != default:
                    raise UserError(f"--{name.replace('_', '-')} is for beam search: give --num-beams with it")
        if self.samples and self.num_beams > 1:
            sampling = "--temperature, --top-k and --top-p sample one"
            raise UserError(f"--num-beams searches for the best text, {sampling}: give one or the other")
        if self.seed and not self.samples:
            raise UserError("--seed is for sampling: give --temperature, --top-k or --top-p with it")
        if not self.samples and self.num_return_sequences > self.num_beams:
            n = self.num_return_sequences
            raise UserError(f"--num-return-sequences {n} needs at least {n} beams, or a temperature to sample with")

    @property
    def samples(self) -> bool:
        return any(value is not None for value in (self.temperature, self.top_k, self.top_p))
