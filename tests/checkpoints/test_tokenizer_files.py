"""Vocabularies from Hugging Face's directories and back."""

import base64
import json
from dataclasses import replace

import pytest

from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.checkpoints.tokenizer_files import read_tokenizer, write_tokenizer
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.models.t5 import T5
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.sentencepiece_model import CONTROL, UNKNOWN, sentencepiece_model
from tlqa_jax.text.wordpiece import WordPieceTokenizer

from .small_models import PIECES, V10, random_model

CLASSES = {"BERT": WordPieceTokenizer, "T5": SentencePieceTokenizer}


@pytest.fixture(scope="module")
def vocabulary() -> SentencePieceTokenizer:
    return SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=5)


# a BERT's -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [(None, ["the", "cat", "##s"]), ({"do_lower_case": False}, ["the", "Cat", "##s"])],
)
def test_cased_or_not(tmp_path, settings, pieces):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    if settings:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_tokenizer(tmp_path, WordPieceTokenizer).pieces("the Cats") == pieces


def test_a_vocabulary_in_tokenizer_json(tmp_path):
    vocab = {piece: i for i, piece in reversed(list(enumerate(PIECES)))}
    whole = {
        "model": {"type": "WordPiece", "vocab": vocab},
        "normalizer": {"type": "BertNormalizer", "lowercase": False},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    assert read_tokenizer(tmp_path, WordPieceTokenizer).lowercase  # as a BertTokenizer does, whatever is in the file
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    tokenizer = read_tokenizer(tmp_path, WordPieceTokenizer)
    assert tokenizer.pieces("the Cats") == ["the", "Cat", "##s"] and tokenizer.encode("Cat") == [8]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    with pytest.raises(UserError, match='the vocabulary is of type "BPE", not WordPiece'):
        read_tokenizer(tmp_path, WordPieceTokenizer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strip_accents": False}, "strip_accents is False"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars False"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize is false; only true is known here"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "its vocabulary is that of the Japanese BERTs, not known here"),
        ({"mask_token": {"content": "<mask>"}}, 'mask_token is {"content": "<mask>"}; only "\\[MASK\\]" is known here'),
        ({"word_tokenizer_type": "mecab"}, 'word_tokenizer_type is "mecab"; only "basic" is known here'),
        ({"subword_tokenizer_type": "character"}, '_type is "character"; only "wordpiece" is known here'),
    ],
)
def test_other_rules_are_refused(tmp_path, settings, message):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    known = {"do_basic_tokenize": True, "word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(known))
    assert read_tokenizer(tmp_path, WordPieceTokenizer).pieces("cats") == ["cat", "##s"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(known | settings))
    with pytest.raises(UserError, match=message):
        read_tokenizer(tmp_path, WordPieceTokenizer)


def test_no_vocabulary(tmp_path):
    with pytest.raises(UserError, match="vocab.txt does not exist"):
        read_tokenizer(tmp_path, WordPieceTokenizer)


# a T5's ---------------------------------------------------------------------------------------------------------------

TEXTS = ["Mira is from Oss.", "a  b\tc", "<extra_id_0> and <extra_id_4>", "ﬁne ½ Café", "{~}", "", " 1907 "]


def assert_alike(one: SentencePieceTokenizer, other: SentencePieceTokenizer):
    assert (one.vocab_size, one.sentinels.tolist()) == (other.vocab_size, other.sentinels.tolist())
    for text in TEXTS:
        assert one.encode(text) == other.encode(text) and one.decode(one.encode(text)) == other.decode(one.encode(text))


def test_a_t5s_vocabulary_comes_along(vocabulary, tmp_path):
    config = replace(V10, vocab_size=vocabulary.vocab_size + 3)
    folder = save_pretrained(random_model(T5, config), tmp_path / "m", vocabulary)
    names = {"spiece.model", "tokenizer_config.json", "special_tokens_map.json", "config.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert (settings["tokenizer_class"], settings["extra_ids"]) == ("T5Tokenizer", 5)
    assert settings["additional_special_tokens"] == [f"<extra_id_{i}>" for i in range(5)]
    assert_alike(read_tokenizer(folder, SentencePieceTokenizer), vocabulary)
    for wrong in ("5", 5.0, -1, None):
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"extra_ids": wrong}))
        with pytest.raises(UserError, match="tokenizer_config.json: extra_ids is .*, not a whole number of at least 0"):
            read_tokenizer(folder, SentencePieceTokenizer)
    (folder / "tokenizer_config.json").unlink()  # as the first ones were: a hundred
    assert len(read_tokenizer(folder, SentencePieceTokenizer).sentinels) == 100


def charsmap(tokenizer: SentencePieceTokenizer) -> bytes:
    """The normaliser's table, found behind its name in the file."""
    model = tokenizer._model
    begin = model.index(b"nmt_nfkc") + len(b"nmt_nfkc") + 1  # and the byte of field 2
    length = shift = 0
    while True:
        byte, begin = model[begin], begin + 1
        length, shift = length | (byte & 127) << shift, shift + 7
        if byte < 128:
            return model[begin : begin + length]


def test_a_t5s_vocabulary_in_tokenizer_json(vocabulary, tmp_path):
    processor = vocabulary._processor
    size = processor.get_piece_size()
    pieces = [[processor.id_to_piece(i), processor.get_score(i)] for i in range(size)]
    sentinels = [[f"<extra_id_{i}>", 0.0] for i in (4, 3, 2, 1, 0)]
    table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(vocabulary)).decode()}
    for normalizer in (table, {"type": "Sequence", "normalizers": [table, {"type": "Strip"}]}):
        whole = {"model": {"type": "Unigram", "unk_id": 2, "vocab": pieces + sentinels}, "normalizer": normalizer}
        whole["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
        assert_alike(read_tokenizer(tmp_path, SentencePieceTokenizer), vocabulary)
    assert read_tokenizer(tmp_path, SentencePieceTokenizer).normalize("ﬁne") == "fine"
    whole["model"]["vocab"] = sentinels + pieces
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(UserError, match="the sentinels are not the last pieces"):
        read_tokenizer(tmp_path, SentencePieceTokenizer)


def test_a_sentencepiece_file_from_pieces(tmp_path):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0), ("▁", -3.0), ("ab" * 70, -1.5)]
    kinds = {0: CONTROL, 1: CONTROL, 2: UNKNOWN}
    (tmp_path / "v.model").write_bytes(sentencepiece_model(pieces, b"", kinds))
    tokenizer = SentencePieceTokenizer(tmp_path / "v.model", extra_ids=2)
    assert tokenizer.encode("  ab  b ") == [3, 4, 5, 4] and tokenizer.vocab_size == 9
    assert tokenizer.encode("ax" + "ab" * 70) == [3, 2, 6]
    assert tokenizer.encode("</s>") != [1]  # control pieces do not come of text
    assert tokenizer._processor.get_score(6) == -1.5


# what is wrong with them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "WordPiece"}, "not an object of pieces, each with a number of its own"),
        ({"type": "WordPiece", "vocab": PIECES}, "not an object of pieces, each with a number of its own"),
        ({"type": "WordPiece", "vocab": {piece: 9 * i for i, piece in enumerate(PIECES)}}, "a number of its own"),
        ({"type": "WordPiece", "vocab": {piece: i // 2 for i, piece in enumerate(PIECES)}}, "a number of its own"),
        ({"type": "WordPiece", "vocab": {piece: i - 1 for i, piece in enumerate(PIECES)}}, "a number of its own"),
        ({"type": "WordPiece", "vocab": {piece: str(i) for i, piece in enumerate(PIECES)}}, "a number of its own"),
        ({"type": "WordPiece", "vocab": {piece + "\n": i for i, piece in enumerate(PIECES)}}, "has a line end"),
        ({"type": "WordPiece", "vocab": {**dict(zip(PIECES, range(9))), "\ud83d": 9}}, "is not UTF-8"),
        ({"type": "WordPiece", "vocab": {"[PAD]": 0, "the": 1}}, r"has no \[UNK\], \[CLS\]"),
        ({"type": "Unigram"}, "not a list of pieces with a score each"),
        ({"type": "Unigram", "vocab": ["<pad>"]}, "not a list of pieces with a score each"),
        ({"type": "Unigram", "vocab": [["<unk>", 0.0], ["<pad>", 0.0]]}, "not a SentencePiece model"),
    ],
)
def test_a_vocabulary_that_is_wrong_is_named_by_the_file_it_is_in(tmp_path, model, message):
    rules = {"normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "BertPreTokenizer"}}
    if model["type"] == "Unigram":
        rules = {"pre_tokenizer": {"type": "Metaspace"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules | {"model": model}))
    with pytest.raises(UserError, match=f"{tmp_path}/tokenizer.json.*{message}"):
        read_tokenizer(tmp_path, CLASSES["T5" if model["type"] == "Unigram" else "BERT"])


def write_vocabulary(kind: str, vocabulary: SentencePieceTokenizer, folder) -> None:
    if kind == "T5":
        vocabulary.save(folder / "spiece.model")
        (folder / "tokenizer_config.json").write_text('{"extra_ids": 5}')
    else:
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")


def rules_of(folder) -> dict:
    """A tokenizer.json with the rules and the vocabulary of a directory."""
    if (folder / "vocab.txt").exists():
        vocab = {piece: id for id, piece in enumerate(PIECES)}
        rules = {"normalizer": {"type": "BertNormalizer"}, "pre_tokenizer": {"type": "BertPreTokenizer"}}
        return rules | {"model": {"type": "WordPiece", "vocab": vocab}}
    own = SentencePieceTokenizer(folder / "spiece.model", extra_ids=5)
    pieces = [[own.piece(id), -1.0] for id in range(own.vocab_size)]
    return {"pre_tokenizer": {"type": "Metaspace"}, "model": {"type": "Unigram", "vocab": pieces}}


def add_tokens(place: str, folder, tokens: dict[str, int]) -> None:
    """Write them as Transformers does, in one of the three places."""
    file = folder / f"{place.partition(':')[0]}.json"
    values = json.loads(file.read_text()) if file.exists() else {}
    if place == "added_tokens":
        values = tokens
    elif place == "tokenizer":
        values = rules_of(folder)
        values["added_tokens"] = [{"id": id, "content": token} for token, id in tokens.items()]
    else:
        values["added_tokens_decoder"] = {str(id): {"content": token} for token, id in tokens.items()}
    file.write_text(json.dumps(values))


@pytest.mark.parametrize("place", ["added_tokens", "tokenizer", "tokenizer_config"])
@pytest.mark.parametrize(
    ("kind", "known", "unknown"),
    [
        # "the" is in the vocabulary, but as an added token it would be found inside of words, too
        ("BERT", {"[PAD]": 0, "[MASK]": 4}, {"<e1>": 9, "[SEP]": 2, "the": 5}),
        ("T5", {"<pad>": 0, "</s>": 1, "<unk>": 2, "<extra_id_4>": 1000}, {"{": 1005, "<sep>": 999, "<extra_id_0>": 9}),
    ],
)
def test_added_tokens_are_refused_unless_they_are_known(vocabulary, tmp_path, place, kind, known, unknown):
    write_vocabulary(kind, vocabulary, tmp_path)
    add_tokens(place, tmp_path, known)
    assert read_tokenizer(tmp_path, CLASSES[kind]).vocab_size == (1005 if kind == "T5" else len(PIECES))
    for token, id in unknown.items():
        add_tokens(place, tmp_path, known | {token: id})
        with pytest.raises(UserError) as error:
            read_tokenizer(tmp_path, CLASSES[kind])
        assert str(error.value).endswith(f"added to its vocabulary, which is not known here: {token!r} ({id})")
    add_tokens(place, tmp_path, {f"<{i}>": 2000 + i for i in range(5)})
    with pytest.raises(UserError, match="'<3>' .2003. …$"):
        read_tokenizer(tmp_path, CLASSES[kind])


# what a model reads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "token_types"),
    [
        ({}, True),
        ({"model_input_names": ["input_ids", "attention_mask"]}, False),
        ({"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}, True),
        ({"tokenizer_class": "DistilBertTokenizer"}, False),
        ({"tokenizer_class": "DistilBertTokenizer", "model_input_names": ["input_ids", "token_type_ids"]}, True),
        ({"tokenizer_class": "ElectraTokenizerFast"}, True),
    ],
)
def test_token_types(settings, token_types, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = read_tokenizer(tmp_path, WordPieceTokenizer)
    assert tokenizer.token_types == token_types
    write_tokenizer(tokenizer, tmp_path, None)  # a run keeps it
    assert read_tokenizer(tmp_path, WordPieceTokenizer).token_types == token_types


def test_a_run_keeps_the_space_behind_sentinels(vocabulary, tmp_path):
    for legacy in (False, True):
        vocabulary.save(tmp_path / "spiece.model")
        tokenizer = SentencePieceTokenizer(tmp_path / "spiece.model", extra_ids=5, legacy=legacy)
        write_tokenizer(tokenizer, tmp_path, None)
        assert read_tokenizer(tmp_path, SentencePieceTokenizer).legacy == legacy


# lines of a vocab.txt -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ("the\n\n\ncat\n", {"the": 5, "cat": 8}),  # a blank line has an id, too
        ("the\ncat\nthe\n", {"the": 7, "cat": 6}),  # the last of two counts
        ("the\r\ncat\r\n", {"the": 5, "cat": 6}),
        ("the\ncat", {"the": 5, "cat": 6}),
        ("the\ncat\n\n\n", {"the": 5, "cat": 6}),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ids_are_the_numbers_of_lines(content, ids, mark, tmp_path):
    """The right values: `load_vocab` of Transformers, `vocab[line.rstrip("\\n")] = number`."""
    lines = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n" + content
    (tmp_path / "vocab.txt").write_bytes((mark + lines).encode())
    tokenizer = read_tokenizer(tmp_path, WordPieceTokenizer)
    assert {piece: tokenizer.encode(piece)[0] for piece in ids} == ids and tokenizer.pad_id == 0
    assert tokenizer.vocab_size == len(lines.replace("\r", "").removesuffix("\n").split("\n"))
    tokenizer.save(tmp_path / "again.txt")
    assert WordPieceTokenizer(tmp_path / "again.txt").encode("the cat") == tokenizer.encode("the cat")
