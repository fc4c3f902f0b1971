# %% [markdown]
# # Lesson 6: Answering questions
#
# **Time** 80 minutes, of which the computer needs one or two (two CPU cores), after lesson 5's run.
#
# **Know first** The two kinds of question and their scores (lesson 1), T5 (lesson 4), pretraining (lesson 5, whose run
# is used here; without it, this lesson makes one).
#
# **You will be able to**
# - fine-tune a pretrained T5 on questions, from memory and with a passage;
# - write an answer token by token, and say what a cache saves, in multiplications;
# - compute the probability of an answer, and say what it does not tell;
# - hold people out, and compare fairly with a model that was never pretrained;
# - show what a model does with a question that it cannot know.

# %%
import json
import random
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

from tlqa_jax.checkpoints.load import load
from tlqa_jax.data.sources import open_questions
from tlqa_jax.data.tiny_world import (
    TYPE_OF,
    VALUES,
    make_people,
    new_facts,
    questions,
    tell_among_others,
    typed_mentions,
)
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.lessons import SMOKE, answering_questions as check, show, street
from tlqa_jax.lessons.claims import claim, lead, percent
from tlqa_jax.metrics.squad import bootstrap_interval, score_answers
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.text_to_text import encode_sources, qa_source
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.pretrain_spans import pretrain_spans
from tlqa_jax.training.progress import read_metrics

# %% [markdown]
# ## Who is asked about whom
#
# Before any training: what does the model know of whom? The street of lesson 5 has 24 residents. The model reads
# passages about all of them. Then it is taught to answer with questions about the first twelve, and examined on the
# others. It has *read* about these, but no question was ever *asked* about them: if it can answer, the knowledge came
# from reading, and only the way of answering came from the questions.
#
# For questions with a passage it is the other way round: the people must be strangers, whom it has not read about.
# Otherwise it could answer from memory, and we would call it reading.

# %%
# With True, runs are kept on your Google Drive, as in lesson 5.
KEEP_ON_DRIVE = False
runs = Path("runs/lessons/smoke" if SMOKE else "runs/lessons")
if KEEP_ON_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    runs = Path("/content/drive/MyDrive/tlqa_jax")

files = street.write_street(runs / "street")
rows = {
    name: [json.loads(line) for line in (files / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in ("texts", "asked", "unasked", "reading", "reading_held_out")
}
told = " ".join(row["text"] for row in rows["texts"])
people = {name: {row["title"] for row in rows[name]} for name in rows if name != "texts"}
assert all(name in told for name in people["asked"] | people["unasked"])  # all residents are told about
assert not people["asked"] & people["unasked"]  # the examined are never asked about in training
assert not any(name in told for name in people["reading"] | people["reading_held_out"])  # strangers are strangers
assert not people["reading"] & people["reading_held_out"]
for name in ("unasked", "reading_held_out"):
    print(f"{name}: {qa_source(rows[name][0]['question'], rows[name][0].get('context'))} -> {rows[name][0]['answer']}")

# %% [markdown]
# ## The wrong version first: just ask
#
# Take the pretrained model and ask it something. (The call is the one of lesson 5. It makes the run, continues it, or
# finds it complete.)

# %%
pretrained = pretrain_spans(street.pretraining(files, runs / "pretrained"))
t5 = load(pretrained)
tokenizer, (apply, params) = t5.tokenizer, as_function(t5.model())

question = rows["unasked"][0]
inputs = jnp.array(encode_sources(tokenizer, [qa_source(question["question"])], 24)[0])
generated = jax.jit(partial(greedy, apply, max_new_tokens=8))(params, inputs, inputs != 0)
print(question["question"], "->", tokenizer.decode(np.array(generated.tokens[0])), "    wanted:", question["answer"])

exam = jnp.array(encode_sources(tokenizer, [qa_source(row["question"]) for row in rows["unasked"]], 24)[0])
written = jax.jit(partial(greedy, apply, max_new_tokens=8))(params, exam, exam != 0).tokens
written = [tokenizer.decode(tokens) for tokens in np.array(written)]
as_asked = percent([text == row["answer"] for text, row in zip(written, rows["unasked"], strict=True)])
inside = percent([row["answer"] in text for text, row in zip(written, rows["unasked"], strict=True)])
print(f"the answer and nothing else: {as_asked} %; the answer somewhere in what it writes: {inside} %")

# %% [markdown]
# It has read all that there is to know, and it does not write an answer. It has learned to fill holes, and a question
# has none, so it writes what it would write for holes: sentinels, and values after them. The second number counts the
# texts in which the right value is among these. Where it is above 0, the knowledge is there. What is missing is the
# *form* of an answer, and a form is quickly learned. That is **fine-tuning**: the same model and the same loss, but now
# the input is a question and the target is an answer.
#
# ## Fine-tuning
#
# Twelve people, five facts each, asked in several forms. Beside it stands the control: *the same* fine-tuning from
# random weights. (In transfer learning a number without such a control says nothing.) For these calls, too, the same
# call again continues.
#
# The program's default settings are those of T5's authors: Adafactor at a constant rate. For models as small as ours
# AdamW learns faster, so the settings ask for it.

# %%
def answer_from_memory(out: str, start_from: Path | None) -> Path:
    settings = dict(steps=6, evaluate_every=3, warmup=2) if SMOKE else dict(steps=200, evaluate_every=100, warmup=20)
    return finetune_qa(FinetuneQASettings(
        out=str(runs / out), start_from=start_from and str(start_from), model=str(files / "model.json"),
        closed_book_questions=str(files / "asked.jsonl"), held_out_closed_book=str(files / "unasked.jsonl"),
        input_length=24, target_length=6, batch_size=64, optimizer="adamw", decay="linear", dropout=0.0,
        relative_bias_rate=30.0, **settings,
    ))  # fmt: skip


closed_book = answer_from_memory("closed_book", pretrained)

# %%
from_nothing = answer_from_memory("closed_book_from_nothing", None)

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
last = {}
titles = {"loss": "asked (training)", "eval_closed_book_qa_loss": "never asked about"}
for axes, (key, title) in zip(panels, titles.items(), strict=True):
    for run, label in [(closed_book, "pretrained"), (from_nothing, "from random weights")]:
        points = [(row["step"], row[key]) for row in read_metrics(run / "metrics.jsonl") if key in row]
        last[label, key] = points[-1][1]
        axes.plot(*zip(*points, strict=True), "o-", label=label)
    axes.set(xlabel="step", ylabel="loss, nats a token", title=title)
panels[0].set_ylim(0, 1.05 * panels[0].get_ylim()[1])  # only now: the two panels share it, and both are drawn
panels[0].legend(loc="upper center")
show(figure, "06_finetuning")
held_out_loss = {name: loss for (name, key), loss in last.items() if key == "eval_closed_book_qa_loss"}
print("held-out loss, nats a token:", {name: round(loss, 2) for name, loss in held_out_loss.items()})
claim(
    "the held-out loss from random weights is more than twice that of the pretrained model",
    held_out_loss["from random weights"] > 2 * held_out_loss["pretrained"],
)

# %% [markdown]
# Look at both pictures. On the left the two are alike in the end: any model learns the training questions by heart. The
# right picture is the one that matters: people about whom it was never asked. There, random weights have no knowledge
# to use, and their loss stays high. Only a held-out curve shows the difference between knowing and having been told the
# answers.
#
# ## How an answer is written
#
# The decoder gives, for each position, a distribution over the next token. *Greedy* decoding takes the most probable
# token, appends it, and asks again, until the model writes the end token.
#
# ## Exercise 1: write
#
# `logits(targets_in)` takes the tokens so far (a list, which begins with the start token 0) and returns an array
# [len(targets_in), V]: row $i$ predicts what follows token $i$. Return what was written, the end token (1) included.

# %%
def write_answer(logits, max_length: int) -> list[int]:
    # Hint: the row that predicts the next token is the last one. Stop after the end token, or when `max_length` tokens
    # are written. The start token was given, not written.
    # Hint: `targets_in = [0]`; append `int(np.argmax(logits(targets_in)[-1]))` as long as there is room, and break at
    # 1. Return `targets_in[1:]`.
    # BLANK
    targets_in = [0]
    while len(targets_in) <= max_length:
        targets_in.append(int(np.argmax(logits(targets_in)[-1])))
        if targets_in[-1] == 1:
            break
    return targets_in[1:]
    # END BLANK


check.write_answer(write_answer)

# %% [markdown]
# With the real decoder behind it. (The tokens are padded to one length so that JAX compiles once. The padding comes
# after them, where the causal mask hides it.)

# %%
t5 = load(closed_book)
apply, params = as_function(t5.model())
encode = jax.jit(partial(apply, method="encode"))
decode = jax.jit(partial(apply, method="decode"))
MAX = 6


def decoder(question: str):
    """The function `logits` of the exercise, for one question."""
    inputs = jnp.array(encode_sources(tokenizer, [qa_source(question)], 24)[0])
    mask = inputs != 0
    encoded = encode(params, inputs, input_mask=mask)
    padded = lambda tokens: jnp.array([tokens + [0] * (MAX - len(tokens))])
    return lambda tokens: np.array(decode(params, padded(tokens), encoded, input_mask=mask)[0, : len(tokens)])


for row in rows["unasked"][:4]:
    tokens = write_answer(decoder(row["question"]), MAX)
    print(f"{row['question']} -> {tokenizer.decode(tokens)}    (truth: {row['answer']})")

# %% [markdown]
# ## Why a cache
#
# Your loop runs the whole decoder again for every token. Yet almost everything that it computes has been computed
# before: the decoder looks only back, so the keys and values of the words already written do not change; and those of
# the encoder's output do not change at all. If they are kept, in a *cache*, a step costs one token.
#
# ## Exercise 2: count
#
# How many keys does one decoder layer compute to write $T$ tokens, of an input of $S$? (Self-attention: keys of the
# words written; cross-attention: keys of the encoder's output. At step $t$ the decoder's input has $t$ tokens.)

# %%
def keys_computed(T: int, S: int, cached: bool) -> int:
    # Hint: what is computed once, and what at each of the T steps? Without a cache, step t computes the keys of all its
    # t tokens, and of all S inputs.
    # Hint: `1 + 2 + ... + T` is `T * (T + 1) // 2`. With a cache, the key of each token and of each input is computed
    # once.
    # BLANK
    if cached:
        return T + S
    return T * (T + 1) // 2 + T * S
    # END BLANK


check.keys_computed(keys_computed)

# %%
for T, S in [(6, 24), (32, 128), (128, 512)]:
    without, cached = keys_computed(T, S, False), keys_computed(T, S, True)
    print(f"{T:3} tokens of {S:3}: {without:6} keys without a cache, {cached} with: {without / cached:.0f} times fewer")

# %% [markdown]
# Keys are only a part; what about all multiplications? JAX can count what a compiled function does, without running
# it. The step is the package's `decode_step`, with its cache made by `start_cache`.

# %%
def operations(T: int, S: int) -> tuple[float, float]:
    """Floating point operations for T tokens after S inputs: without and with a cache."""
    cpu = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])  # a GPU's or TPU's compiler does not count here
    shapes = lambda arguments: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cpu), arguments)
    count = lambda function, *arguments: jax.jit(function).lower(*shapes(arguments)).cost_analysis()["flops"]
    encoded, token = jnp.zeros((1, S, t5.config.d_model)), jnp.zeros(1, int)
    start = lambda params, encoded: apply(params, encoded, T, method="start_cache")
    step, cache = partial(apply, method="decode_step"), jax.eval_shape(start, params, encoded)
    a_step = count(step, params, token, jnp.int32(0), cache)
    first, last = (count(decode, params, jnp.zeros((1, t), int), encoded) for t in (1, T))
    return (first + last) / 2 * T, count(start, params, encoded) + T * a_step  # without: a row of T growing terms


lengths = (4, 8) if SMOKE else (2, 4, 8, 16, 32, 64)
counted = np.array([operations(T, 64) for T in lengths])
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.loglog(lengths, counted[:, 0], "o-", label="without a cache")
axes.loglog(lengths, counted[:, 1], "o-", label="with a cache")
axes.set(xlabel="tokens written", ylabel="operations", title="Decoding after 64 inputs")
axes.set_xticks(lengths, lengths)
axes.minorticks_off()
axes.legend()
show(figure, "06_cache")
assert (counted[:, 0] > counted[:, 1]).all()

# %% [markdown]
# A cache must not change an answer. The package's `greedy` runs with one, in a single compiled loop; against your
# loop:

# %%
with_cache = jax.jit(partial(greedy, apply, max_new_tokens=MAX))
asked = [row["question"] for row in rows["unasked"][: 6 if SMOKE else 30]]
inputs = jnp.array(encode_sources(tokenizer, [qa_source(text) for text in asked], 24)[0])
with jax.default_matmul_precision("float32"):  # a TPU would multiply in bfloat16: too coarse to compare
    generated = with_cache(params, inputs, inputs != 0)
    for text, tokens in zip(asked, np.array(generated.tokens).tolist(), strict=True):
        yours = write_answer(decoder(text), MAX)
        assert tokens == yours + [0] * (MAX - len(yours))
print(len(asked), "answers, the same with and without.")

# %% [markdown]
# ## How sure is it?
#
# The decoder gives each token a probability, given the tokens before it. So it gives the whole answer one, by the
# chain rule: with $y_T$ the end token,
#
# $$p(y \mid x) = \prod_{t=1}^{T} p(y_t \mid y_1 \ldots y_{t-1}, x)$$
#
# ## Exercise 3: the probability of an answer

# %%
def answer_probability(logits: np.ndarray, tokens: np.ndarray) -> float:
    """`logits` [T V], `tokens` [T]: the written ones through the end token (1), then padding.

    An answer that was cut off at max_length has no end token: all of its tokens were written.
    """
    # Hint: a product of probabilities is a sum of logarithms. Which tokens were written? All through the end token; the
    # padding after it was not.
    # Hint: `n = list(tokens).index(1) + 1 if 1 in tokens else len(tokens)`. Of `x = jax.nn.log_softmax(logits,
    # axis=-1)` the entries of the tokens are `x[np.arange(n), tokens[:n]]`. Add, then exp.
    # BLANK
    n = list(tokens).index(1) + 1 if 1 in tokens else len(tokens)
    log_p = np.array(jax.nn.log_softmax(jnp.array(logits), axis=-1))[np.arange(n), tokens[:n]]
    return float(np.exp(log_p.sum()))
    # END BLANK


check.answer_probability(answer_probability)

# %%
probabilities = np.exp(np.array(generated.log_probabilities).sum(axis=1))
for text, tokens, probability in zip(asked, np.array(generated.tokens), probabilities, strict=True):
    with jax.default_matmul_precision("float32"):  # as `generated` was made
        yours = answer_probability(decoder(text)([0, *tokens[:-1].tolist()]), tokens)
    assert np.isclose(yours, probability, rtol=1e-3, atol=1e-6)
print("Yours are the package's probabilities. The first:", asked[0], f"{probabilities[0]:.3f}")

# %% [markdown]
# ## With a passage
#
# Now reading. A passage tells one thing about a stranger, and things of the same kind about two others: where she was
# born, and where her aunt and her landlord were born. So a rule that only knows what a town is gives the right answer
# in one of three cases: *that* is the baseline here, not zero.

# %%
steps = dict(steps=6, evaluate_every=3, warmup=2) if SMOKE else dict(steps=300, evaluate_every=100, warmup=20)
reading = finetune_qa(FinetuneQASettings(
    out=str(runs / "reading"), start_from=str(pretrained), context_questions=str(files / "reading.jsonl"),
    held_out_context=str(files / "reading_held_out.jsonl"), input_length=64, target_length=6, batch_size=64,
    optimizer="adamw", dropout=0.0, relative_bias_rate=100.0, **steps,
))  # fmt: skip

# %% [markdown]
# ## The table
#
# Each score stands beside the baseline that it has to beat, and has an interval. The answers come from `open_model`,
# which the command line uses too: batches of similar length, one compiled loop, all devices.

# %%
def scored(answers: list[str], examples: list[QAExample]) -> tuple[float, float, float]:
    """Exact match in percent, and its 95% interval."""
    score = score_answers({example.id: text for example, text in zip(examples, answers, strict=True)}, examples)
    return (score.exact_match, *bootstrap_interval(score.exact_match_per_example))


unasked, held_out = (open_questions(files / f"{name}.jsonl") for name in ("unasked", "reading_held_out"))
commonest = defaultdict(Counter)
for row in rows["asked"]:
    commonest[row["relation"]][row["answer"]] += 1
of_its_kind = [typed_mentions(row["context"], TYPE_OF[row["relation"]]) for row in rows["reading_held_out"]]

# %%
answers = {
    "memory\npretrained": open_model(closed_book)(unasked, use_context=False),
    "memory\nnot pretrained": open_model(from_nothing)(unasked, use_context=False),
    "with passage": open_model(reading)(held_out),
    "without\npassage": open_model(reading)(held_out, use_context=False),
}
texts = {name: [answer.text for answer in given] for name, given in answers.items()}
table = {
    "memory\npretrained": scored(texts["memory\npretrained"], unasked),
    "memory\nnot pretrained": scored(texts["memory\nnot pretrained"], unasked),
    "commonest\nanswer": scored([commonest[row["relation"]].most_common(1)[0][0] for row in rows["unasked"]], unasked),
    "with passage": scored(texts["with passage"], held_out),
    "without\npassage": scored(texts["without\npassage"], held_out),
    "first of\nits kind": scored([values[0] for values in of_its_kind], held_out),
    "last of\nits kind": scored([values[-1] for values in of_its_kind], held_out),
}

# %%
figure, axes = plt.subplots(figsize=(10, 3.8), layout="constrained")
score, low, high = np.array(list(table.values())).T
colours = ["tab:blue", "tab:orange", "lightgray", "tab:blue", "tab:orange", "lightgray", "lightgray"]
bars = axes.bar(list(table), score, color=colours, yerr=[score - low, high - score], capsize=4)
axes.bar_label(bars, fmt="%.0f", padding=2)
axes.axvline(2.5, color="black", linewidth=0.8)
axes.set(ylabel="exact match, %", ylim=(0, 110), title="Left: people it was never asked about. Right: strangers")
show(figure, "06_scores")
for name, (score, low, high) in table.items():
    print(f"{name.replace(chr(10), ' '):22} {score:5.1f}  ({low:.1f} to {high:.1f})")

# %%
def hits(answers: list[str], examples: list[QAExample]) -> np.ndarray:
    """1 or 0 for each question."""
    score = score_answers({example.id: text for example, text in zip(examples, answers, strict=True)}, examples)
    return np.array(score.exact_match_per_example) / 100


blue, orange = (hits(texts[f"memory\n{name}"], unasked) for name in ("pretrained", "not pretrained"))
print("memory: ", end="")
claim("what it remembers came from pretraining", lead("pretrained", blue, "not pretrained", orange).low > 10)
print("reading: ", end="")
first_guess = hits([values[0] for values in of_its_kind], held_out)
lead("the model", hits(texts["with passage"], held_out), "the first of its kind", first_guess)

# %% [markdown]
# Read it as a critic would. **Memory**: the difference between blue and orange came from pretraining. Is orange higher
# than the gray bar beside it, the answer given most often in training? Then fine-tuning alone has taught it something,
# too. **Passage**: the difference between blue and *gray* is reading; the difference between blue and orange shows only
# that the passage helped somehow. Look at the last line above. If its interval contains 0, this run has *not* shown
# that the model reads: 300 steps were too few, or the 125 questions are. (One of our runs had 40.8 against 33.6, and
# its interval contained 0. In lesson 9, BERT learns to read from the same passages, and there is no doubt about it.)
# The intervals measure the choice of questions: another seed of the training would give another number again, and a
# claim in a paper would need several seeds.
#
# ## What it cannot know
#
# Now ask about people who occur nowhere: not in any passage, not in any question. There is an honest answer to that.
# Will the model give it?

# %%
nobody = make_people(random.Random(99), 40, exclude=street.people_of_the_street())
nobody = [person for person in nobody if person.name not in told]
asked_about_nobody = [
    QAExample(f"{person.name} {q.relation}", q.text, (q.answer,))
    for person in nobody for q in questions(random.Random(1), person, relations=street.RELATIONS[:3])
]  # fmt: skip
given = open_model(closed_book)(asked_about_nobody, use_context=False)
for example, answer in list(zip(asked_about_nobody, given, strict=True))[:6]:
    print(f"{example.question} -> {answer.text}   ({100 * answer.probability:.0f} %)")
kinds = {kind: sum(answer.text in values for answer in given) for kind, values in VALUES.items()}
print("answers that are a", kinds, "of", len(given))

# %% [markdown]
# It answers, in one word, and of the right kind. It has never seen "I do not know": not one of its training targets
# said so. A model of this sort cannot be silent. Does at least its probability show that it does not know?

# %%
memory = list(zip(answers["memory\npretrained"], unasked, strict=True))
sure = {
    "right": [answer.probability for answer, example in memory if answer.text in example.answers],
    "wrong": [answer.probability for answer, example in memory if answer.text not in example.answers],
    "unknowable": [answer.probability for answer in given],
}
groups = {name: p for name, p in sure.items() if p}
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
labels = [f"{name} ({len(p)})" for name, p in groups.items()]
axes.hist(list(groups.values()), bins=10, range=(0, 1), density=True, label=labels)
axes.set(xlabel="probability that it gives its answer", ylabel="density", title="How sure is it?")
axes.legend()
show(figure, "06_how_sure")
for name, p in groups.items():
    print(f"{name}: {len(p)} answers, mean probability {np.mean(p):.2f}")
assert all(0 < p <= 1.0001 for p in sum(groups.values(), []))

# %% [markdown]
# Compare the three in your figure. Where "right" stands further to the right than the other two, a threshold would
# help: give no answer below it. How much it helps has to be measured, on held-out questions, like anything else; and
# where the colours overlap, the model is *sure and wrong*. A probability says how a model divides its belief among the
# texts that it could write. That there may be nothing to know is not one of these texts.
#
# ## Passage against memory
#
# The last question is the one that matters in use: what if passage and memory disagree? Tell the reading model
# something about residents that differs from what it has read about them. Which does it believe?

# %%
rng, contradicted, remembered = random.Random(3), [], []
for person in street.people_of_the_street() * 3:
    other = new_facts(rng, person)  # the same name, another life
    passage = tell_among_others(rng, other, types=1, others=street.OTHERS, relations=street.RELATIONS)
    relation = next(mention.relation for mention in passage.mentions if mention.person is other)
    if person[relation] not in passage.text:
        q = questions(rng, other, relations=[relation])[0]
        contradicted.append(QAExample(str(len(contradicted)), q.text, (q.answer,), passage.text))
        remembered.append(person[relation])

believed = Counter()
for answer, example, memory in zip(open_model(reading)(contradicted), contradicted, remembered, strict=True):
    about_others = "passage, of somebody else" if answer.text and answer.text in example.context else "neither"
    believed[{example.answers[0]: "passage", memory: "memory"}.get(answer.text, about_others)] += 1
print(contradicted[0].context, contradicted[0].question, "    It has read:", remembered[0])
print("believes the", dict(believed), "of", len(contradicted))
assert believed.total() == len(contradicted)

# %% [markdown]
# ## What you know now
#
# - Pretraining brings knowledge, fine-tuning the way of answering; a control without pretraining shows which is which.
# - Greedy decoding takes the most probable token until the end; a cache saves what does not change, and the answers
#   stay the same.
# - An answer's probability is a product that includes the end token. A high one does not prove that the answer is
#   right.
# - People must be held out in the way that fits the claim: for memory, told about but never asked about; for reading,
#   never told about.
# - A model that is asked what it cannot know answers all the same.
#
# *Try next:* other numbers in `street.py` (more residents: when does memory fill up?). Give the runs other names then:
# a run with other settings under the same name is refused. Or the whole tiny world: `tlqa quickstart`.
#
# *Read on:* Roberts et al. 2020, "How Much Knowledge Can You Pack Into the Parameters of a Language Model?"; Lewis et
# al. 2021, "Question and Answer Test-Train Overlap in Open-Domain Question Answering Datasets", on what held out
# should mean.

# %% [markdown]
# ## Bonus: when should it be silent?
#
# Give one point for each right answer, none for silence, and take one point away for each wrong answer. (Every answer
# about a person who does not exist is wrong.) Divide the three lists of `sure` into two halves. Choose the probability
# below which the model is silent on the first half, and count the points on the second. How many points has the model
# that always answers?
#
# > Try every probability of the first half as the threshold. Choose on one half and count on the other: points on the
# > half that chose are too good.

# %% [markdown]
# ## Five questions
#
# Answer first, then look.
#
# **1.** A model from random weights reaches the same training loss as the pretrained one. Was the pretraining useless?
#
# > That does not follow. Both can learn the training questions by heart. Look at questions about people of whom neither
# > was asked in training.
#
# **2.** You allow 3 tokens for an answer instead of 6, and some right answers need 5. What happens to exact match, and
# to the probabilities of these answers?
#
# > These answers are cut off and count as wrong. Their probabilities rise: factors are missing from the product, the
# > end token's among them.
#
# **3.** Inputs have 512 tokens. You write answers of 64 tokens instead of 32. About how many more keys does a layer
# compute, with and without a cache?
#
# > With a cache 576 instead of 544, which is 6 % more. Without one about twice as many, since the keys of the inputs
# > are computed again in each step.
#
# **4.** The model writes "Oss" for a person who does not exist, with probability 0.9. Of what is 0.9 the probability?
#
# > That this model writes this text after this question. It compares texts with each other. It does not say that there
# > is something to know.
#
# **5.** Somebody tests reading with passages about residents, whom the model knows from pretraining, and is proud of
# the score. What would you change?
#
# > The people. Such a model may answer from memory. Ask about strangers, or write passages that contradict what it has
# > read.
