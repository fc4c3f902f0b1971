"""Greedy decoding: with a scripted model whose output can be read off, and with a T5 against a plain Python loop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tlqa_jax.inference.greedy import greedy

# logits of a vocabulary of 4 (pad, eos, two words) that make a word, or eos, certain to 1/2 or 3/4
HALF, MOST = np.log(3), np.log(9)


class Script:
    """A model that generates what the script says, for any input, and records what it was asked.

    `script[t][b]` is (token, logit of that token; the other three are 0, so log 3 makes 1/2 and log 9 makes 3/4).
    """

    def __init__(self, script):
        script = np.array(script)
        self.logits = jnp.asarray(np.eye(4)[script[..., 0].astype(int)] * script[..., 1:], jnp.float32)
        self.steps, self.read, self.calls = [], [], []

    def __call__(self, params, *args, method, **kwargs):
        self.calls.append(method)
        return getattr(self, method)(*args, **kwargs)

    def encode(self, inputs, *, input_mask):
        return inputs

    def start_cache(self, encoded, length):
        return jnp.zeros((), jnp.int32)

    def decode_step(self, token, step, cache, *, input_mask):
        jax.debug.callback(self.note, step, token)
        return self.logits[cache], cache + 1

    def note(self, step, token):
        self.steps.append(int(step))
        self.read.append(token.tolist())


def play(script, **options):
    model = Script(script)
    batch = len(script[0])
    answer = jax.jit(partial(greedy, model, {}, **options))(jnp.zeros((batch, 5), jnp.int32))
    jax.effects_barrier()
    return answer, model


def test_takes_the_most_probable_until_every_row_has_ended():
    answer, model = play(
        [[(2, HALF), (3, MOST)], [(1, HALF), (3, HALF)], [(2, HALF), (1, MOST)], [(2, HALF), (2, HALF)]], max_new_tokens=9
    )
    assert answer.tokens.tolist() == [[2, 1] + [0] * 7, [3, 3, 1] + [0] * 6]
    half, most = np.log(1 / 2), np.log(3 / 4)
    np.testing.assert_allclose(answer.log_probabilities[:, :4], [[half, half, 0, 0], [most, half, most, 0]], atol=1e-6)
    assert not answer.log_probabilities[:, 4:].any()
    assert model.steps == [0, 1, 2]  # of 9: no step after the last row's eos
    assert model.calls.count("encode") == model.calls.count("start_cache") == 1


def test_each_step_reads_the_token_before_and_padding_after_the_end():
    _, model = play([[(2, MOST), (1, MOST)], [(3, MOST), (3, MOST)], [(1, MOST), (3, MOST)]], max_new_tokens=5)
    assert model.read == [[0, 0], [2, 1], [3, 0]]


def test_stops_at_max_new_tokens():
    answer, model = play([[(2, MOST), (1, MOST)]] * 3, max_new_tokens=3)
    assert answer.tokens.tolist() == [[2, 2, 2], [1, 0, 0]]
    assert model.steps == [0, 1, 2]


def test_another_token_can_be_the_end():
    answer, model = play([[(1, MOST), (3, MOST)], [(3, MOST), (1, MOST)]], max_new_tokens=4, eos_id=3)
    assert answer.tokens.tolist() == [[1, 3, 0, 0], [3, 0, 0, 0]]
    assert model.read == [[0, 0], [1, 3]]


LENGTH = 9


def plain_greedy(apply, params, inputs, mask):
    """The whole decoder again for every token, no cache, one row after the other as Python reads."""
    decode = jax.jit(lambda targets_in: apply(params, inputs, targets_in, input_mask=mask))
    tokens, log_probabilities = np.zeros((len(inputs), LENGTH), int), np.zeros((len(inputs), LENGTH))
    for t in range(LENGTH):
        targets_in = np.pad(tokens[:, :-1], ((0, 0), (1, 0)))
        logits = np.asarray(decode(jnp.asarray(targets_in)), np.float64)[:, t]
        for b in range(len(inputs)):
            if 1 not in tokens[b, :t]:
                tokens[b, t] = logits[b].argmax()
                log_probabilities[b, t] = logits[b, tokens[b, t]] - np.log(np.exp(logits[b]).sum())
    return tokens, log_probabilities


def test_equals_decoding_without_a_cache(t5, questions, greedy_texts):
    tokens, log_probabilities = plain_greedy(*t5, *questions)
    lengths = set(np.where((tokens == 1).any(axis=1), (tokens == 1).argmax(axis=1), LENGTH))
    assert len(lengths) > 5 and len({tuple(row) for row in tokens}) > 30
    assert greedy_texts.tokens.tolist() == tokens.tolist()
    np.testing.assert_allclose(greedy_texts.log_probabilities, log_probabilities, atol=1e-5)


def test_an_answer_depends_neither_on_the_batch_nor_on_the_padding(t5, questions, greedy_texts):
    """Nor on the device: pmap gives each device its rows."""
    padded = [jnp.pad(x, ((0, 0), (0, 4))).reshape(8, 5, 11) for x in questions]
    shares = jax.pmap(partial(greedy, t5[0], max_new_tokens=LENGTH), in_axes=(None, 0, 0))(t5[1], *padded)
    assert shares.tokens.reshape(40, LENGTH).tolist() == greedy_texts.tokens.tolist()
    log_probabilities = shares.log_probabilities.reshape(40, LENGTH)
    np.testing.assert_allclose(log_probabilities, greedy_texts.log_probabilities, atol=1e-5)
