"""What lesson 8's experiments are made of, and its figures."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tlqa_jax.data.tiny_world import bundled
from tlqa_jax.lessons import masked_lm_figures as figures, masked_lm_trials as trials, street
from tlqa_jax.models.bert_heads import PretrainingLogits
from tlqa_jax.text.wordpiece import WordPieceTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer(bundled("wordpiece.txt"))


def test_lesson_halves_name_the_person_in_both(tokenizer):
    told = street.unread_passages()["residents"][:60]
    names, firsts, seconds = trials.halves(tokenizer, told)
    passages = {passage.text for _, passage in told}
    assert 10 < len(names) <= len(told)
    for name, first, second in zip(names, firsts, seconds, strict=True):
        assert name in first and name in second and f"{first} {second}" in passages
    shift = trials.distance_to_others(names)
    assert all(a != b for a, b in zip(names, names[shift:] + names[:shift], strict=True))


def test_lesson_distance_to_others_is_the_smallest():
    assert trials.distance_to_others(["a", "a", "b", "b"]) == 2
    assert trials.distance_to_others(["a", "b"]) == 1


def test_lesson_renamed_exchanges_first_and_last_name():
    texts = trials.renamed(["Otto Wade is here. Otto works."], ["Otto Wade"], ["Edda Pell"])
    assert texts == ["Edda Pell is here. Edda works."]


def test_lesson_pairs_and_texts_become_rows(tokenizer):
    made = trials.pair_rows(tokenizer, ["Otto plays.", "Edda works for us."], ["He works.", "She plays."])
    for row, pair in zip(range(2), (("Otto plays.", "He works."), ("Edda works for us.", "She plays.")), strict=True):
        first, second = (tokenizer.encode(text) for text in pair)
        ids = [tokenizer.cls_id, *first, tokenizer.sep_id, *second, tokenizer.sep_id]
        assert made["tokens"][row].tolist() == ids + [tokenizer.pad_id] * (64 - len(ids))
        assert made["token_types"][row].sum() == len(second) + 1
    rows = trials.rows_of_texts(tokenizer, ["Otto plays.", "Edda works for us."])
    assert rows[1].tolist() == [tokenizer.cls_id, *tokenizer.encode("Edda works for us."), tokenizer.sep_id]
    assert rows[0, -1] == tokenizer.pad_id


def test_lesson_fill_places_hides_and_gives_the_probability_of_the_truth(tokenizer):
    text = "Otto plays the lute."
    truth = tokenizer.encode(text)[1]
    seen = {}

    def answer(row):  # certain of the piece after the truth, by one nat
        seen.update(row)
        return PretrainingLogits(np.eye(tokenizer.vocab_size)[None, None, truth + 1], None)

    guesses, probabilities = trials.fill_places(answer, tokenizer, text, [2])
    assert guesses == [tokenizer.piece(truth + 1)]
    assert np.isclose(probabilities, 1 / (tokenizer.vocab_size - 1 + np.e))
    assert seen["tokens"][0, 2] == tokenizer.mask_id and seen["tokens"][0, 3] == tokenizer.encode(text)[2]


def test_lesson_hidden_kinds_tell_parts_values_names_and_words(tokenizer):
    person = street.people_of_the_street()[0]
    text = f"{person.name} newspaper {person['instrument']} the"
    row = trials.rows_of_texts(tokenizer, [text])
    pieces = [tokenizer.piece(int(id)) for id in row[0]]
    places = [pieces.index("ne"), pieces.index("##w"), len(pieces) - 3, 1, len(pieces) - 2, 0]
    tokens = row.copy()
    tokens[0, places[:5]] = tokenizer.mask_id
    batch = {
        "tokens": tokens,
        "positions": np.array([places], np.int32),
        "targets": np.where(np.arange(6) < 5, row[:, places], 0).astype(np.int32),
        "weights": np.array([[1, 1, 1, 1, 1, 0]], np.float32),
    }
    assert (trials.unmasked(batch) == row).all()
    kinds = trials.hidden_kinds(batch, tokenizer, [person])
    found = {what: np.flatnonzero(these[0]).tolist() for what, these in kinds.items()}
    assert found == {"part of a word": [0, 1], "value": [2], "name": [3], "other word": [4]}


def test_lesson_figures_colour_each_place_by_its_kind_and_write_shares_in_percent(tokenizer):
    ids = [tokenizer.cls_id, tokenizer.mask_id, 50, 60, tokenizer.sep_id, 70, tokenizer.sep_id, tokenizer.pad_id]
    batch = {
        "tokens": np.array([ids], np.int32),
        "token_types": np.array([[0, 0, 0, 0, 0, 1, 1, 0]], np.int32),
        "positions": np.array([[1, 2, 3, 0]], np.int32),
        "targets": np.array([[40, 50, 61, 0]], np.int32),
        "weights": np.array([[1, 1, 1, 0]], np.float32),
    }
    axes = Figure().subplots()
    figures.draw_rows(axes, batch, [0], tokenizer)
    names = [list(figures.KINDS)[kind] for kind in axes.images[0].get_array()[0]]
    border = "[CLS], [SEP]"
    assert names == [border, "masked", "kept", "random", border, "second segment", border, "padding"]
    assert [text.get_text() for text in axes.texts][1] == f"[MASK]\n({tokenizer.piece(40)})"

    axes = Figure().subplots()
    figures.draw_bars(axes, ["a", "b"], {"one": [0.5, 1.0], "two": [0.25, 0.0]})
    assert [bar.get_height() for bar in axes.patches] == [50, 100, 25, 0]
    lefts = [bar.get_x() for bar in axes.patches]
    assert lefts[0] < lefts[2] < lefts[1] < lefts[3]  # one beside the other, group after group

    axes = Figure().subplots()
    figures.draw_accuracy(axes, [0, 10], [0.1, 0.9], {"half": 0.5})
    assert axes.lines[0].get_ydata().tolist() == [10, 90]
    assert axes.texts[0].get_text() == "half, 50 %"
