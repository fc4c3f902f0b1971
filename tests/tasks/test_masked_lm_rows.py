"""The rows of masked-LM pretraining: new masks in each epoch, the same row in any batch; pairs, or rows of text."""

import json

import numpy as np
import pytest

from tlqa_jax.data.batches import Devices, training_batches
from tlqa_jax.data.tiny_world import bundled
from tlqa_jax.data.tiny_world.phrases import LAST_NAMES
from tlqa_jax.errors import UserError
from tlqa_jax.tasks.masked_lm import MaskedTokens, reassemble
from tlqa_jax.tasks.masked_lm_rows import MaskedLMRows
from tlqa_jax.text.wordpiece import WordPieceTokenizer

TOKENIZER = WordPieceTokenizer(bundled("wordpiece.txt"))
TEXT = "tiny_world:pretraining_dev.txt"


def rows(texts: str = TEXT, **changes) -> MaskedLMRows:
    return MaskedLMRows(texts, TOKENIZER, **{"input_length": 32, "batch_size": 24, "seed": 0, **changes})


def first_epoch(data: MaskedLMRows, count: int) -> dict[str, np.ndarray]:
    return data.build_evaluation(np.arange(count), slice(0, count), 0)


def test_each_epoch_has_its_own_masks_and_nothing_else_changes_them():
    """Of every batch of two epochs and a half: a row is known by its index and by how often that was seen before."""
    pairs = rows()
    assert pairs.size % 24  # so that epochs end within a batch
    seen, build = [], pairs.build

    def recorded(indices, rows, step):
        seen.append(indices)
        return build(indices, rows, step)

    batches = training_batches(pairs.size, 24, 0, recorded, prefetch=0, devices=Devices(0, 1, 2))
    shown = {index: [] for index in range(pairs.size)}
    for step, batch in zip(range(pairs.size * 5 // 2 // 24), batches):
        own = {name: array.reshape(24, *array.shape[2:]) for name, array in batch.items()}
        for row, index in enumerate(seen[step].tolist()):
            expected = pairs._rows(np.array([index]), np.array([len(shown[index])]))
            assert all(np.array_equal(own[name][row], expected[name][0]) for name in own)
            shown[index].append(own["tokens"][row])
    assert {len(tokens) for tokens in shown.values()} == {2, 3}
    assert not any(np.array_equal(*tokens[:2]) for tokens in shown.values())
    assert not np.array_equal(first_epoch(rows(seed=1), 9)["tokens"], first_epoch(pairs, 9)["tokens"])


def test_a_row_is_the_same_in_any_batch_and_on_any_process():
    pairs = rows()
    whole = pairs.build(np.arange(24), slice(0, 24), 3)
    halves = [pairs.build(np.arange(24)[part], part, 3) for part in (slice(0, 12), slice(12, 24))]
    alone = [pairs.build_evaluation(np.array([index]), slice(0, 1), step) for step, index in enumerate(range(24))]
    evaluation = first_epoch(pairs, 24)
    for name in whole:
        assert np.array_equal(whole[name], np.concatenate([half[name] for half in halves]))
        assert np.array_equal(evaluation[name], np.concatenate([row[name] for row in alone]))


def test_pairs_are_half_next_and_say_so_as_google_does():
    batch = first_epoch(rows("tiny_world:pretraining.txt"), 800)
    assert batch["tokens"].shape == batch["token_types"].shape == (800, 32) and batch["positions"].shape == (800, 5)
    assert 350 < batch["next_sentence"].sum() < 450 and batch["next_sentence"].dtype == np.int32
    assert (batch["tokens"][:, 0] == TOKENIZER.cls_id).all() and batch["token_types"].any(1).all()
    assert batch["tokens"].max() < TOKENIZER.vocab_size  # the model has 24 ids more
    # most documents are about one person: the second segment of a pair that is next (0) speaks of the same
    sources = reassemble(MaskedTokens(*(batch[name] for name in MaskedTokens._fields)))
    last_names = {id for [id] in TOKENIZER.encode_batch(LAST_NAMES)}
    same = {0: [], 1: []}
    for source, types, label in zip(sources, batch["token_types"], batch["next_sentence"].tolist()):
        first, second = (last_names & set(source[types == kind].tolist()) for kind in (0, 1))
        same[label] += [bool(first & second)] if first and second else []
    assert np.mean(same[0]) > 0.8 and np.mean(same[1]) < 0.2


def test_without_pairs_rows_are_full_and_show_all_of_the_text():
    full = rows(next_sentence=False, whole_words=True)
    batch = first_epoch(full, full.size)
    assert "next_sentence" not in batch and not batch["token_types"].any()
    sources = reassemble(MaskedTokens(*(batch[name] for name in MaskedTokens._fields)))
    assert np.array_equal(sources[sources > 4], full.tokens[full.tokens > 4])
    assert (sources[:-1] != TOKENIZER.pad_id).all()
    continues = TOKENIZER.continuation[sources]
    chosen = np.zeros(sources.shape, bool)
    row, number = np.nonzero(batch["weights"])
    chosen[row, batch["positions"][row, number]] = True
    inside = continues[:, 1:] & (sources[:, :-1] > 4)
    assert (chosen[:, 1:] == chosen[:, :-1])[inside].all()  # a word whole, or not at all
    assert continues[chosen].any()


def test_pairs_need_two_documents_and_rows_a_text(tmp_path):
    texts = [f"Mira tunes harps. Number {n}." for n in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in texts))
    (tmp_path / "none.txt").write_text("\n")
    source = dict(texts=str(tmp_path / "a.jsonl"), text_field="body", input_length=16)
    with pytest.raises(UserError, match="a.jsonl: the text has 1 documents.*; or train without pairs: --no-next"):
        rows(**source, max_tokens=3)
    assert rows(**source, max_tokens=3, next_sentence=False).tokens.size == 3
    assert rows(**source, max_tokens=10**6).tokens.tolist() == sum(TOKENIZER.encode_batch(texts), [])
    with pytest.raises(UserError, match="none.txt (has|holds) no text"):
        rows(str(tmp_path / "none.txt"))
