"""What lesson 8 tries out: pairs of texts that do or do not follow each other, and kinds of hidden pieces."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import softmax

from tlqa_jax.data.tiny_world import VALUES, Passage, Person
from tlqa_jax.models.bert_heads import PretrainingLogits
from tlqa_jax.tasks.masked_lm import MaskedTokens, reassemble
from tlqa_jax.tasks.next_sentence import assemble
from tlqa_jax.text.sentences import split_sentences
from tlqa_jax.text.wordpiece import WordPieceTokenizer

HIDDEN = ("part of a word", "value", "name", "other word")
LONGEST = 64  # row of a pair


def rows_of_texts(tokenizer: WordPieceTokenizer, texts: Sequence[str]) -> Int[np.ndarray, "B L"]:
    """[CLS] text [SEP] for each text, filled up with padding."""
    ids = [[tokenizer.cls_id, *tokenizer.encode(text), tokenizer.sep_id] for text in texts]
    longest = max(map(len, ids))
    return np.array([row + [tokenizer.pad_id] * (longest - len(row)) for row in ids], np.int32)


def halves(
    tokenizer: WordPieceTokenizer, told: Iterable[tuple[Person, Passage]]
) -> tuple[list[str], list[str], list[str]]:
    """Passages cut after their second sentence: names, first halves, second halves.

    Only those in which both halves name the person, and that are not too long for a row.
    """
    cut = []
    for person, passage in told:
        sentences = split_sentences(passage.text)
        first, second = " ".join(sentences[:2]), " ".join(sentences[2:])
        if person.name in first and person.name in second and len(tokenizer.encode(passage.text)) < 50:
            cut.append((person.name, first, second))
    names, firsts, seconds = map(list, zip(*cut, strict=True))
    return names, firsts, seconds


def distance_to_others(names: Sequence[str]) -> int:
    """By how many places the list has to be turned so that everybody stands beside somebody else."""
    turned = lambda n: [*names[n:], *names[:n]]
    return next(n for n in range(1, len(names)) if all(a != b for a, b in zip(names, turned(n), strict=True)))


def renamed(texts: Sequence[str], old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Each text with the new person's name, first and last, for the old one's."""
    for part in (0, 1):
        texts = [text.replace(a.split()[part], b.split()[part]) for text, a, b in zip(texts, old, new, strict=True)]
    return list(texts)


def pair_rows(tokenizer: WordPieceTokenizer, firsts: list[str], seconds: list[str]) -> dict[str, np.ndarray]:
    """[CLS] first [SEP] second [SEP] for each pair, as the model takes it. One position, the first, is asked for."""
    ids = [half for pair in zip(*map(tokenizer.encode_batch, (firsts, seconds)), strict=True) for half in pair]
    borders = np.cumsum([0, *map(len, ids)])
    spans = np.stack([borders[:-1], borders[1:]], axis=1)
    special = dict(cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id, pad_id=tokenizer.pad_id)
    made = assemble(np.concatenate(ids).astype(np.int32), spans[::2], spans[1::2], length=LONGEST, **special)
    positions = np.zeros((len(firsts), 1), np.int32)
    return {"tokens": made.tokens, "token_types": made.token_types, "positions": positions}


def fill_places(
    answer: Callable[[dict], PretrainingLogits], tokenizer: WordPieceTokenizer, text: str, places: Sequence[int]
) -> tuple[list[str], Float[np.ndarray, "P"]]:
    """The first guess at each of these places of [CLS] text [SEP], all of them hidden, and the truth's probability."""
    ids = rows_of_texts(tokenizer, [text])
    truth, hidden = ids[0, places].copy(), ids.copy()
    hidden[0, places] = tokenizer.mask_id
    row = {"tokens": hidden, "token_types": 0 * ids, "positions": np.array([places], np.int32)}
    logits = np.asarray(answer(row).masked_lm)[0, :, : tokenizer.vocab_size]
    probabilities = softmax(logits, axis=-1)
    return [tokenizer.piece(int(id)) for id in logits.argmax(axis=-1)], probabilities[np.arange(len(places)), truth]


def unmasked(batch: dict[str, np.ndarray]) -> Int[np.ndarray, "B L"]:
    """The tokens of a batch before any was hidden."""
    return reassemble(MaskedTokens(**{name: batch[name] for name in MaskedTokens._fields}))


def hidden_kinds(
    batch: dict[str, np.ndarray], tokenizer: WordPieceTokenizer, people: Iterable[Person]
) -> dict[str, Bool[np.ndarray, "B P"]]:
    """For each of HIDDEN which predictions are of that kind; `people` are those whose names may occur."""
    goes_on = tokenizer.continuation[unmasked(batch)]
    part = goes_on | np.roll(goes_on, -1, axis=1)  # this piece continues a word, or the next one does
    part = np.take_along_axis(part, batch["positions"], axis=1)
    ids = lambda texts: sorted({id for text in texts for id in tokenizer.encode(text)})
    value = np.isin(batch["targets"], ids(value for values in VALUES.values() for value in values))
    name = np.isin(batch["targets"], ids(person.name for person in people))
    kinds = np.select([part, value, name], [0, 1, 2], 3)
    return {what: (kinds == number) & (batch["weights"] > 0) for number, what in enumerate(HIDDEN)}
