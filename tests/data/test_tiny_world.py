import json
import random
import re
from collections import Counter

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, strategies as st

from tlqa_jax.data import tiny_world
from tlqa_jax.data.tiny_world import RELATIONS, TYPE_OF, TYPES, VALUES, Asked, World, WorldSizes, make_people, tell
from tlqa_jax.data.tiny_world.files import all_files, text_files, vocabulary_texts
from tlqa_jax.data.tiny_world.kelbish import ADJECTIVES, NOUNS, VERBS, Noun, Sentence
from tlqa_jax.data.tiny_world.passages import AGREEMENT, FOLLOWING_FRAMES, FULL_FRAMES, PRONOUN_OF
from tlqa_jax.data.tiny_world.phrases import LAST_NAMES
from tlqa_jax.data.tiny_world.question_forms import HELD_OUT_FORMS, TRAINING_FORMS
from tlqa_jax.data.tiny_world.reviews import COURSE_VERDICTS, COURSES, PLACE_VERDICTS, PLACES
from tlqa_jax.errors import UserError
from tlqa_jax.text.wordpiece import WordPieceTokenizer

MADE_WITH = {
    "vocabulary.model": sentencepiece.__version__ == "0.2.3",
    "wordpiece.txt": tokenizers.__version__ == "0.23.3",
}
TRAINING_FILES = ("pretraining.txt", "context_train.json", "closed_book_train.json")


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def files(world):
    return {name: text.encode() for name, text in text_files(world).items()}


def paragraphs(files, name):
    return [paragraph for article in json.loads(files[name])["data"] for paragraph in article["paragraphs"]]


def asked(files, name):
    return [
        (Asked(paragraph["context"], qa["relation"], qa["answers"][0]["text"]), qa["question"])
        for paragraph in paragraphs(files, name)
        for qa in paragraph["qas"]
    ]


SMALL = WorldSizes(residents=4, strangers_train=4, rounds_train=1, strangers_dev=4, retold_passages=4, other_passages=4)


@pytest.mark.slow
def test_bundled_files_are_what_the_generator_makes(files):
    for name, content in files.items():
        assert tiny_world.bundled(name).read_bytes() == content, f"{name}: python -m tlqa_jax.data.tiny_world"
    assert sum(map(len, files.values())) < 4_000_000


@pytest.mark.slow
def test_bundled_vocabularies_are_what_the_generator_makes(files):
    made = all_files()
    assert made.keys() - files.keys() == MADE_WITH.keys()
    for name, same_version in MADE_WITH.items():
        if same_version:
            assert tiny_world.bundled(name).read_bytes() == made[name], f"{name}: python -m tlqa_jax.data.tiny_world"


@pytest.mark.slow
def test_same_seed_same_files_and_another_seed_another_world(tmp_path):
    small, other = text_files(World(3, SMALL)), text_files(World(4, SMALL))
    assert all(small[name] != other[name] for name in small)
    assert small == text_files(World(3, SMALL))
    written = tiny_world.write_files(tmp_path / "new", World(3, SMALL))  # the vocabularies too
    assert {path.name: path.stat().st_size for path in (tmp_path / "new").iterdir()} == written
    assert all((tmp_path / "new" / name).read_text() == text for name, text in small.items())
    again = all_files(World(3, SMALL))
    assert all((tmp_path / "new" / name).read_bytes() == content for name, content in again.items())


def test_bundled_names_what_there_is():
    with pytest.raises(UserError, match="no file 'nothing.txt'; it has .*pretraining.txt"):
        tiny_world.bundled("nothing.txt")


def test_groups_are_disjoint(world):
    groups = (world.asked, world.unasked, world.strangers_train, world.strangers_dev, world.passers_by, world.others)
    names = [person.name for group in groups for person in group]
    assert len(names) == len(set(names)) > 1000
    assert (len(world.asked), len(world.unasked), len(world.passers_by), len(world.others)) == (30, 30, 180, 75)


def test_passers_by_and_others_are_all_told_about(world, files):
    told, dev = files["pretraining.txt"].decode(), files["pretraining_dev.txt"].decode()
    assert all(sum(person.name in line for line in told.splitlines()) == 1 for person in world.passers_by)
    assert all(sum(person.name in line for line in dev.splitlines()) == 1 for person in world.others)


def test_the_two_values_of_a_type_differ(world):
    for person in world.residents + world.strangers_train:
        for first, second in TYPES.values():
            assert person[first] != person[second]
            assert person[first] in VALUES[TYPE_OF[first]]


def test_unasked_residents_are_told_but_never_asked_about(world, files):
    questions = "\n".join(q for name in TRAINING_FILES[1:] for _, q in asked(files, name))
    contexts = "\n".join(p["context"] for name in TRAINING_FILES[1:] for p in paragraphs(files, name))
    told = files["pretraining.txt"].decode()
    for person in world.unasked:
        assert person.name not in questions
        assert person.name not in contexts
        lines = [line for line in told.splitlines() if person.name in line]
        assert len(lines) == 8
        assert all(value in line for value in person.values for line in lines)
    assert all(person.name in questions for person in world.asked)


def test_dev_strangers_are_in_no_training_file(world, files):
    others = ("pretraining_dev.txt", "kelbish_train.jsonl", "summaries_train.jsonl")
    training = "\n".join(files[name].decode() for name in (*TRAINING_FILES, *others))
    dev = files["context_dev.json"].decode()
    for person in world.strangers_dev:
        assert person.name not in training
        assert person.name in dev


def test_every_answer_stands_at_its_start(files):
    ids = []
    for name in files:
        if name.endswith(".json"):
            for paragraph in paragraphs(files, name):
                for qa in paragraph["qas"]:
                    (answer,) = qa["answers"]
                    start = answer["answer_start"]
                    assert paragraph["context"][start : start + len(answer["text"])] == answer["text"]
                    ids.append(qa["id"])
    assert len(ids) == len(set(ids)) > 5000


def test_answers_are_the_facts(world, files):
    people = {person.name: person for person in world.residents + world.strangers_train + world.strangers_dev}
    for name in ("context_dev_heldout_forms.json", "closed_book_train.json", "closed_book_dev.json"):
        for example, question in asked(files, name):
            (person,) = [people[found] for found in re.findall(r"[A-Z]\w+ [A-Z]\w+", question) if found in people]
            assert example.answer == person[example.relation]


def test_marked_spans_are_the_values(files):
    passages = files["pretraining.txt"].decode().strip().split("\n\n")
    rows = [json.loads(line) for line in files["pretraining_spans.jsonl"].decode().splitlines()]
    assert [row["text"] for row in rows] == passages and len(rows) == 480 + 120
    values = {value for kind in VALUES.values() for value in kind}
    for row in rows:
        assert "\n" not in row["text"]
        assert row["spans"] == sorted(row["spans"])
        assert {row["text"][start:end] for start, end in row["spans"]} <= values


def test_passages_with_questions_hold_three_values_of_one_type(files):
    for paragraph in paragraphs(files, "context_train.json"):
        counts = {kind: len(tiny_world.typed_mentions(paragraph["context"], kind)) for kind in TYPES}
        assert sorted(counts.values()) == [0, 0, 0, 0, 3]


@given(seed=st.integers(0, 2**32), types=st.integers(1, 5), others=st.integers(1, 2))
def test_a_passage_among_others_tells_one_fact_of_the_person_in_each_type(seed, types, others):
    rng = random.Random(seed)
    (person,) = make_people(rng, 1)
    passage = tiny_world.tell_among_others(rng, person, types=types, others=others)
    told = [mention.relation for mention in passage.mentions if mention.person is person]
    assert len({TYPE_OF[relation] for relation in told}) == len(told) == types
    assert len(passage.mentions) == types * (1 + others)
    values = [passage.text[mention.start : mention.end] for mention in passage.mentions]
    assert len(set(values)) == len(values)  # so the right answer is right in one place only
    assert values == [mention.person[mention.relation] for mention in passage.mentions]
    assert "{" not in passage.text and all(s[0].isupper() or s[0].isdigit() for s in passage.text.split(". "))


@pytest.mark.parametrize("seed", range(5))
def test_only_types_with_a_relation_that_is_wanted_are_told_of(seed):
    rng = random.Random(seed)
    (person,) = make_people(rng, 1)
    passage = tiny_world.tell_among_others(rng, person, types=1, relations=("birthplace", "home"))
    assert {mention.relation for mention in passage.mentions} <= {"birthplace", "home"}
    with pytest.raises(ValueError):  # there are not as many
        tiny_world.tell_among_others(rng, person, types=2, relations=("birthplace", "home"))


def test_held_out_forms_are_not_in_training(files):
    training_forms = {form for forms in TRAINING_FORMS.values() for form in forms}
    held_out_forms = {form for forms in HELD_OUT_FORMS.values() for form in forms}
    assert not training_forms & held_out_forms
    assert len(training_forms) == sum(map(len, TRAINING_FORMS.values())), "a form that asks for two relations"
    assert len(held_out_forms) == sum(map(len, HELD_OUT_FORMS.values()))
    assert all(len(TRAINING_FORMS[r]) >= 6 and len(HELD_OUT_FORMS[r]) >= 3 for r in RELATIONS)
    training = "\n".join(files[name].decode() for name in TRAINING_FILES)
    for name in ("context_dev_heldout_forms.json", "closed_book_dev_heldout_forms.json"):
        patterns = [re.escape(form).replace(r"\{name\}", r"\w+ \w+") for form in held_out_forms]
        assert all(re.fullmatch("|".join(patterns), q) for _, q in asked(files, name))
    for form in held_out_forms:
        assert not re.search(re.escape(form).replace(r"\{name\}", r"\w+ \w+"), training), form


def test_held_out_forms_use_known_words(files):
    known = set(re.findall(r"\w+", "\n".join(files[name].decode() for name in TRAINING_FILES).lower()))
    unknown = {w for forms in HELD_OUT_FORMS.values() for f in forms for w in re.findall(r"\w+", f.lower())} - known
    assert unknown <= {"name"}  # the slot


def test_every_relation_has_enough_frames():
    for relation in RELATIONS:
        alone = frozenset((relation,))
        assert len(FULL_FRAMES[alone]) >= 8
        assert len(FOLLOWING_FRAMES[alone]) >= 2
        first = [frame.parts.index(relation) < frame.parts.index("name") for frame in FULL_FRAMES[alone]]
        assert 2 <= sum(first) <= len(first) - 2, "the value stands before the name in some frames, after it in others"
    for pair in TYPES.values():
        assert len(FULL_FRAMES[frozenset(pair)]) >= 4


def test_verbs_agree_with_the_pronoun():
    rng = random.Random(0)
    people = make_people(rng, 300)
    texts = {p: " ".join(tell(rng, [x], pronouns=1.0).text for x in people if x.pronoun == p) for p in AGREEMENT}
    for text, right, wrong in (
        (texts["they"], ("They live in", "They were born", "They are a", "They have a"), ("They was", "They lives")),
        (texts["she"], ("She lives in", "She was born", "She is a", "Her home"), ("She were", "She live ", "They ")),
        (texts["he"], ("He lives in", "He was born", "He has a", "His home"), ("He were", "He have", "Her ")),
    ):
        assert all(words in text for words in right)
        assert not any(words in text for words in wrong)
    assert Counter(PRONOUN_OF.values()) == {"she": 20, "he": 20, "they": 8}


arguments = st.fixed_dictionaries(
    {
        "types": st.one_of(st.none(), st.integers(1, 5), st.just(("year", "town"))),
        "relations_per_type": st.integers(1, 2),
        "pronouns": st.sampled_from((0.0, 0.5, 1.0)),
        "joined": st.sampled_from((0.0, 0.5, 1.0)),
    }
)


@given(seed=st.integers(0, 2**32), n=st.integers(1, 3), arguments=arguments)
def test_tell_states_each_fact_once(seed, n, arguments):
    rng = random.Random(seed)
    people = make_people(rng, n)
    passage = tell(rng, people, **arguments)
    for mention in passage.mentions:
        assert passage.text[mention.start : mention.end] == mention.person[mention.relation]
    told = Counter((mention.person.name, mention.relation) for mention in passage.mentions)
    kinds = {None: 5, ("year", "town"): 2}.get(arguments["types"], arguments["types"])
    assert set(told.values()) == {1}
    assert len(told) == n * kinds * arguments["relations_per_type"]
    assert len({relation for _, relation in told}) == kinds * arguments["relations_per_type"]
    assert all(person.name in passage.text for person in people)
    assert "{" not in passage.text and "  " not in passage.text


@given(seed=st.integers(0, 2**32))
def test_retell_states_a_fact_again_in_other_words(seed):
    rng = random.Random(seed)
    passage = tiny_world.retell(rng, make_people(rng, 2), again=1.0, pronouns=0.0)
    told = Counter((mention.person.name, mention.relation) for mention in passage.mentions)
    assert len(told) == 20 and set(told.values()) == {2}
    sentences = re.split(r"(?<=[.]) ", passage.text)
    assert len(sentences) == len(set(sentences))


def test_pronouns_only_right_after_the_same_person():
    rng = random.Random(0)
    for _ in range(200):
        people = make_people(rng, 2)
        passage = tell(rng, people, types=2, pronouns=1.0, joined=0.0)
        sentences = passage.text.split(". ")
        assert len(sentences) == len(passage.mentions)
        for k, (sentence, mention) in enumerate(zip(sentences, passage.mentions, strict=True)):
            if mention.person.name not in sentence:
                assert passage.mentions[k - 1].person is mention.person


def test_make_people_excludes_and_refuses_too_many():
    rng = random.Random(0)
    some = make_people(rng, 1500)
    more = make_people(rng, 800, exclude=some)
    assert not {p.name for p in some} & {p.name for p in more}
    with pytest.raises(ValueError, match="only 4 full names are left, 5"):
        make_people(rng, 5, exclude=[p.name for p in some + more])


def test_questions():
    rng = random.Random(0)
    (person,) = make_people(rng, 1)
    assert [q.relation for q in tiny_world.questions(rng, person)] == list(RELATIONS)
    (question,) = tiny_world.questions(rng, person, held_out=True, relations=["home"])
    assert question.answer == person["home"] and person.name in question.text
    assert question.text.replace(person.name, "{name}") in HELD_OUT_FORMS["home"]


@pytest.mark.parametrize("courses", [False, True])
def test_reviews_are_balanced_and_cannot_be_told_by_single_words(courses):
    written = tiny_world.reviews(random.Random(0), 1801, courses=courses)
    assert Counter(review.label for review in written) == {"positive": 901, "negative": 900}
    assert len({review.text for review in written}) == 1801
    train, dev = written[:1500], written[1500:]
    words = {review.text: set(re.findall(r"\w+", review.text.lower())) for review in written}
    counts = {label: Counter(w for r in train if r.label == label for w in words[r.text]) for label in
              ("positive", "negative")}  # fmt: skip
    right = 0
    for word in set(counts["positive"]) | set(counts["negative"]):
        says = "positive" if counts["positive"][word] > counts["negative"][word] else "negative"
        score = sum((word in words[r.text]) == (r.label == says) for r in dev) / len(dev)
        right = max(right, score)
    assert right < 0.62


def test_courses_are_praised_and_blamed_in_other_words():
    of_places, of_courses = (
        {word for kind in aspects.values() for _, *words in kind for group in words for word in group}
        for aspects in (PLACES, COURSES)
    )
    assert not of_places & of_courses
    verdicts = [*PLACE_VERDICTS.values(), *COURSE_VERDICTS.values()]
    assert len({verdict for group in verdicts for verdict in group}) == sum(map(len, verdicts))


def test_kelbish_by_hand():
    mara, sells, hears = Noun("Mara Barlow", name=True), ("sells", "sell", "sold"), ("hears", "hear", "heard")
    mason, harp = Noun("mason"), Noun("harp", "grey")
    for sentence, english, kelbish in (
        (Sentence(Noun("baker", "old", plural=True), sells, Noun("flute", plural=True), True, True, "Kelby"),
         "The old bakers did not sell the flutes in Kelby.", "Kelbyum flinio daki grumi misoven"),
        (Sentence(mara, hears, Noun("nurse", "fine"), False, False, None),
         "Mara Barlow hears the fine nurse.", "nolo bono Mara Barlow yoda"),
        (Sentence(mason, hears, mara, True, False, "Ospey"),
         "The mason heard Mara Barlow in Ospey.", "Ospeyum Mara Barlowo mur yode"),
        (Sentence(Noun("mason", plural=True), sells, harp, False, True, None),
         "The masons do not sell the grey harp.", "arfo kano muri misovan"),
        (Sentence(mason, sells, harp, False, True, None),
         "The mason does not sell the grey harp.", "arfo kano mur misova"),
    ):  # fmt: skip
        assert (sentence.english, sentence.kelbish) == (english, kelbish)


def test_every_word_of_kelbish_means_one_thing():
    stems = [*NOUNS.values(), *ADJECTIVES.values(), *VERBS.values()]
    assert len(set(stems)) == len(stems) == 20 + 16 + 8 + 8


def test_sentences_of_dev_are_not_in_training_with_other_names(files):
    def without_names(row):
        text = re.sub(r"\b[A-Z]\w+ [A-Z]\w+\b", "somebody", row["en"].replace("The ", "the "))
        return re.sub(r" in [A-Z]\w+", " in a town", text)

    train, dev = (
        [json.loads(line) for line in files[f"kelbish_{part}.jsonl"].splitlines()] for part in ("train", "dev")
    )
    assert (len({row["en"] for row in train}), len({row["en"] for row in dev})) == (2000, 300)
    assert not set(map(without_names, train)) & set(map(without_names, dev))
    known = {word for row in train for word in row["kelbish"].split()}
    words = [word for row in dev for word in row["kelbish"].split() if word.islower()]
    assert np.mean([word in known for word in words]) > 0.97  # the words can be learned


def test_summaries_tell_what_is_today(files, world):
    for part, people, number in (("train", world.strangers_train, 1500), ("dev", world.strangers_dev, 200)):
        names = {person.name for person in people}
        rows = [json.loads(line) for line in files[f"summaries_{part}.jsonl"].splitlines()]
        assert len({row["article"] for row in rows}) == number
        for row in rows:
            name, profession, home = re.fullmatch(r"(\w+ \w+) is a (\w+) in (\w+)\.", row["highlights"]).groups()
            assert name in names and name in row["article"]
            for kind, value in (("profession", profession), ("town", home)):
                told = tiny_world.typed_mentions(row["article"], kind)
                assert value in told and len(told) == 2  # the other one is no longer true


def test_baselines_by_hand():
    context = "Mara left Corrin and lives in Kelby. Corrin is far."
    assert tiny_world.typed_mentions(context, "town") == ["Corrin", "Kelby", "Corrin"]
    assert tiny_world.typed_mentions("The flute, not the lute.", "instrument") == ["flute", "lute"]
    train = [Asked(context, "home", "Kelby"), Asked("In Nordal, not Stavel.", "home", "Stavel")]
    dev = [Asked("Ospey and Kelby.", "home", "Kelby"), Asked("Hollin and Stavel.", "home", "Hollin")]
    assert tiny_world.type_baseline(train, dev) == (50.0, {"home": "mention 2"})
    assert tiny_world.chance([*train, train[0]], dev) == 50.0
    assert tiny_world.chance(train, [Asked("Kelby", "birthplace", "Kelby")]) == 0.0


def test_baselines_stay_low(files):
    train, dev = ([a for a, _ in asked(files, f"context_{part}.json")] for part in ("train", "dev"))
    assert 20 < tiny_world.type_baseline(train, dev)[0] <= 35
    assert tiny_world.chance(train, dev) < 10
    train, dev = ([a for a, _ in asked(files, f"closed_book_{part}.json")] for part in ("train", "dev"))
    assert tiny_world.chance(train, dev) < 10


def test_wordpiece_knows_everything(files):
    tokenizer = WordPieceTokenizer(tiny_world.bundled("wordpiece.txt"))
    assert tokenizer.special_ids == (0, 1, 2, 3, 4) and tokenizer.vocab_size == 1000
    texts = vocabulary_texts({name: content.decode() for name, content in files.items() if name not in MADE_WITH})
    texts += ["".join(map(chr, range(33, 127))), *(f for v in HELD_OUT_FORMS.values() for f in v)]
    assert not any(tokenizer.unk_id in ids for ids in tokenizer.encode_batch(texts))
    single = [word for values in VALUES.values() for value in values for word in value.split()]
    single += [*PRONOUN_OF, *LAST_NAMES]
    assert all(len(ids) == 1 for ids in tokenizer.encode_batch(single))


def test_vocabulary_knows_everything(files):
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(tiny_world.bundled("vocabulary.model")))
    assert [vocabulary.pad_id(), vocabulary.eos_id(), vocabulary.unk_id(), vocabulary.bos_id()] == [0, 1, 2, -1]
    assert vocabulary.vocab_size() <= 2000
    texts = vocabulary_texts({name: content.decode() for name, content in files.items() if name not in MADE_WITH})
    texts += ["question: context:", "".join(map(chr, range(33, 127))), *(f for v in HELD_OUT_FORMS.values() for f in v)]
    assert not any(2 in ids for ids in vocabulary.encode(texts))
    single = [v for kind in ("town", "year", "profession", "instrument") for v in VALUES[kind]] + list(PRONOUN_OF)
    assert all(len(ids) == 1 for ids in vocabulary.encode(single))
    lengths = sorted(len(vocabulary.encode(p["context"])) for p in paragraphs(files, "context_dev.json"))
    assert lengths[len(lengths) // 2] < 90
    lengths = sorted(len(vocabulary.encode(question)) for _, question in asked(files, "context_dev.json"))
    assert lengths[-1] <= 15
