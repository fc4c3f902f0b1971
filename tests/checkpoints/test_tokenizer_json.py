"""A tokenizer.json with other rules is refused; where it is not, our ids are those of the `tokenizers` library."""

import copy
import json

import pytest
import tokenizers

from tlqa_jax.checkpoints.tokenizer_files import read_tokenizer
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

from .small_models import PIECES

REFUSED = None

# a BERT's -------------------------------------------------------------------------------------------------------------

VOCAB = [
    *PIECES,
    "tarn",
    "Tarn",
    "ilka",
    "##ka",
    "-",
    "##-",
    "##.",
    ".",
    "known",
    "##known",
    "e",
    "é",
    "町",
    "##町",
    "!",
]
BERT_TEXTS = [
    "The cats, Cat. Tarn well-known", "tarn\tILKA é É e\u0301", "known-cats.", "町cat町", "\x00cat\u200d \u00a0the",
    "caté", "c" * 101, "[MASK] cats [PAD]", "ca!ts", "ﬁ ½ İ ǅ ß ſ", "  ", "the\u2028cat\r\nthe",
    "cat’s «cat» 10€ a+b=c",
]  # fmt: skip
BERT_JSON = {
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True,
                   "strip_accents": None},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": None,
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 100, "vocab": {piece: id for id, piece in enumerate(VOCAB)}},
    "added_tokens": [
        {"id": id, "content": piece, "special": True, "normalized": False, "single_word": False, "lstrip": False,
         "rstrip": False} for id, piece in enumerate(VOCAB[:5])
    ],
}  # fmt: skip
STEPS = [{"type": name} for name in ("NFD", "NFC", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt")]
TEMPLATE = [("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1)]


def sequence(name: str, parts: list[dict]) -> dict:
    return {"type": "Sequence", name: parts}


def template(*pair) -> dict:
    """A post-processor, as `tokenizers` writes it."""
    part = lambda id, type_id: {"Sequence" if len(id) == 1 else "SpecialToken": {"id": id, "type_id": type_id}}
    specials = {name: {"id": name, "ids": [VOCAB.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    single = [part(*one) for one in pair if one[0] != "B"][:3]
    return {"type": "TemplateProcessing", "single": single, "pair": [part(*one) for one in pair],
            "special_tokens": specials}  # fmt: skip


BERT_CHANGES = {
    "as it is": ({}, True),
    "cased": ({"normalizer": {"lowercase": False}}, True),
    "cased, accents": ({"normalizer": {"lowercase": False, "strip_accents": False}}, True),
    "accents kept": ({"normalizer": {"strip_accents": False}}, False),
    "accents stripped, cased": ({"normalizer": {"lowercase": False, "strip_accents": True}}, False),
    "accents stripped": ({"normalizer": {"strip_accents": True}}, True),
    "controls kept": ({"normalizer": {"clean_text": False}}, False),
    "Chinese not split": ({"normalizer": {"handle_chinese_chars": False}}, False),
    "no normalizer": ({"normalizer": REFUSED}, False),
    **{f"only {step['type']}": ({"normalizer": [step]}, False) for step in STEPS},
    "NFD, Lowercase, StripAccents": (
        {"normalizer": [sequence("normalizers", [STEPS[0], STEPS[4], STEPS[5]])]}, False),
    "BERT's in a sequence": ({"normalizer": [sequence("normalizers", [BERT_JSON["normalizer"]])]}, False),
    "replaces": ({"normalizer": [{"type": "Replace", "pattern": {"String": "cat"}, "content": "tarn"}]}, False),
    "prepends": ({"normalizer": [{"type": "Prepend", "prepend": "e"}]}, False),
    "no pre-tokenizer": ({"pre_tokenizer": REFUSED}, False),
    **{f"cut by {name}": ({"pre_tokenizer": [{"type": name}]}, False)
       for name in ("Whitespace", "WhitespaceSplit", "UnicodeScripts")},
    "cut at punctuation": ({"pre_tokenizer": [{"type": "Punctuation", "behavior": "Isolated"}]}, False),
    "digits one by one": ({"pre_tokenizer": [sequence("pretokenizers", [
        {"type": "BertPreTokenizer"}, {"type": "Digits", "individual_digits": True}])]}, False),
    "bytes": ({"pre_tokenizer": [
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}, False),
    "short words": ({"model": {"max_input_chars_per_word": 3}}, False),
    "long words": ({"model": {"max_input_chars_per_word": 200}}, False),
    "another prefix": ({"model": {"continuing_subword_prefix": "@@"}}, False),
    "no prefix": ({"model": {"continuing_subword_prefix": ""}}, False),
    "another unknown": ({"model": {"unk_token": "[MASK]"}}, False),
    "word level": ({"model": [{"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 1}}]}, False),
    "gaps": ({"model": {"vocab": {piece: id + (id > 8) for id, piece in enumerate(VOCAB)}}}, True),
    "BERT's template": ({"post_processor": [template(*TEMPLATE)]}, True),
    "one type": ({"post_processor": [template(*((id, 0) for id, _ in TEMPLATE))]}, False),
    "no last [SEP]": ({"post_processor": [template(*TEMPLATE[:4])]}, False),
    "BertProcessing": (
        {"post_processor": [{"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}]}, True),
    "RobertaProcessing": ({"post_processor": [{"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2],
                                              "trim_offsets": True, "add_prefix_space": True}]}, False),
    "an added word": ({"added_tokens": [*BERT_JSON["added_tokens"],
                                        BERT_JSON["added_tokens"][0] | {"id": 7, "content": "cat"}]}, False),
    "words alone": ({"added_tokens": [one | {"single_word": True} for one in BERT_JSON["added_tokens"]]}, False),
}  # fmt: skip


def changed(whole: dict, changes: dict) -> dict:
    """A part with other values; a part that is a list in brackets is replaced as a whole."""
    whole = copy.deepcopy(whole)
    for name, change in changes.items():
        if isinstance(change, dict):
            whole[name] |= change
        else:
            whole[name] = change[0] if isinstance(change, list) and len(change) == 1 else change
    return whole


@pytest.mark.parametrize("name", BERT_CHANGES)
def test_bert_rules(name, tmp_path):
    changes, known = BERT_CHANGES[name]
    whole = changed(BERT_JSON, changes)
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))  # it is a file that people can have
    if known:
        ours = read_tokenizer(tmp_path, WordPieceTokenizer)
        for text in BERT_TEXTS:
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text
        return
    with pytest.raises(UserError) as error:
        read_tokenizer(tmp_path, WordPieceTokenizer)
    assert "known here" in str(error.value) or "another way than BERT" in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_which_file_counts(tmp_path):
    """Transformers reads tokenizer.json if there is one; a vocab.txt beside it may be older."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(BERT_JSON))
    (tmp_path / "vocab.txt").write_text("\n".join(reversed(VOCAB)))
    assert read_tokenizer(tmp_path, WordPieceTokenizer).encode("the cats") == [5, 7, 6]


# a T5's ---------------------------------------------------------------------------------------------------------------

T5_TEXTS = [
    "Mira is from Oss.", "a b", " lead and trail ", "<extra_id_0> and<extra_id_4>.", "Oss<extra_id_1>. Mira",
    "{~} 1907", "<extra_id_2>", "<extra_id_2> <extra_id_3>", "Mira <extra_id_05> and <extra_id_٣>", "<extra_id_5>", "",
]  # fmt: skip
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
TRIM = [{"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]  # fmt: skip
T5_CHANGES = {
    "always": ({}, True),
    "first": ({"pre_tokenizer": {"prepend_scheme": "first"}}, True),
    "never": ({"pre_tokenizer": {"prepend_scheme": "never"}}, False),
    "older": ({"pre_tokenizer": [{"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}]}, True),
    "older, without": ({"pre_tokenizer": [{"type": "Metaspace", "add_prefix_space": False}]}, False),
    "words, each with a space": (
        {"pre_tokenizer": [sequence("pretokenizers", [{"type": "WhitespaceSplit"}, METASPACE])]}, True),
    "words, the first with a space": ({"pre_tokenizer": [sequence(
        "pretokenizers", [{"type": "WhitespaceSplit"}, METASPACE | {"prepend_scheme": "first"}])]}, False),
    "another mark": ({"pre_tokenizer": {"replacement": "_"}}, False),
    "no pre-tokenizer": ({"pre_tokenizer": REFUSED}, False),
    "digits": ({"pre_tokenizer": [sequence("pretokenizers", [{"type": "Digits"}, METASPACE])]}, False),
    "BERT's words": ({"pre_tokenizer": [{"type": "BertPreTokenizer"}]}, False),
    "lower-cased": ({"normalizer": [sequence("normalizers", [{"type": "Lowercase"}, *TRIM])]}, False),
    "NFKC": ({"normalizer": [{"type": "NFKC"}]}, False),
    "BERT's normalizer": ({"normalizer": [BERT_JSON["normalizer"]]}, False),
    "replaces": ({"normalizer": [{"type": "Replace", "pattern": {"String": "Oss"}, "content": "Tarn"}]}, False),
    "bytes": ({"model": {"byte_fallback": True}}, False),
    "another unknown": ({"model": {"unk_id": 0}}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", T5_CHANGES)
def test_t5_rules(name, tmp_path):
    changes, known = T5_CHANGES[name]
    own = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=5)
    ids = range(own.vocab_size)
    scores = [own._processor.get_score(id) if id < own.vocab_size - 5 else 0.0 for id in ids]
    sentinels = [BERT_JSON["added_tokens"][0] | {"id": int(id), "content": own.piece(int(id))} for id in own.sentinels]
    whole = changed({
        "normalizer": sequence("normalizers", TRIM),
        "pre_tokenizer": METASPACE,
        "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": False,
                  "vocab": [[own.piece(id), score] for id, score in zip(ids, scores)]},
        "added_tokens": sentinels,
    }, changes)  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    if known:
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        ours = read_tokenizer(tmp_path, SentencePieceTokenizer)
        for text in T5_TEXTS:
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text
        (tmp_path / "spiece.model").write_bytes(ours._model)  # both files, which agree
        assert read_tokenizer(tmp_path, SentencePieceTokenizer).encode(T5_TEXTS[3]) == ours.encode(T5_TEXTS[3])
        whole["model"]["vocab"][5], whole["model"]["vocab"][6] = whole["model"]["vocab"][6], whole["model"]["vocab"][5]
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
        with pytest.raises(UserError, match="has other pieces than spiece.model"):
            read_tokenizer(tmp_path, SentencePieceTokenizer)
        return
    with pytest.raises(UserError, match="known here|known are") as error:
        read_tokenizer(tmp_path, SentencePieceTokenizer)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("legacy", [True, False])
def test_the_space_behind_a_sentinel(legacy, tmp_path):
    """Right values: T5TokenizerFast of Transformers 4.57.6 with this spiece.model and this `legacy`."""
    SentencePieceTokenizer(local_path("tiny_world:vocabulary.model")).save(tmp_path / "spiece.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "legacy": legacy}))
    tokenizer = read_tokenizer(tmp_path, SentencePieceTokenizer)
    assert tokenizer.legacy == legacy
    behind = lambda text: "".join(tokenizer.pieces(text)).partition("<extra_id_0>")[2]
    assert behind("Oss<extra_id_0>s") == ("▁s" if legacy else "s")
    assert behind("Oss <extra_id_0> s") == behind("<extra_id_0>\ts") == "▁s"
    ids, offsets = tokenizer.encode_with_offsets("Oss<extra_id_0>s")
    assert ids == tokenizer.encode("Oss<extra_id_0>s") and offsets[-1] == (15, 16)
