"""The score after fine-tuning against the size of the pretraining corpus: at equal steps, and at equal epochs.

    tlqa experiment more-data --quick

At equal steps a smaller corpus is repeated more often (Raffel et al. 2020, section 3.4.2).
"""

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.training.pretrain_mlm import pretrain_mlm

STEPS, EPOCHS, NONE = "equal steps", "equal epochs", "no pretraining"
PANEL = "questions about strangers' passages"
TOKENS = 53_200  # nearly all of the tiny world's passages, which have 53,266
EXPERIMENT = Experiment(
    title="Does more text for pretraining help?",
    design="A small BERT is pretrained by masked LM on the first part of the tiny world's text and fine-tuned on the same "
    "1,000 questions for the same steps. At equal steps a small corpus is seen more often, so that only the number of "
    "different texts varies; at equal epochs training is shorter as well. The whole corpus is the same run in both.",
    score="F1, %", column="tokens of text",
    claims=(
        Claim("At equal steps, all of the text is better than a sixteenth of it", STEPS, STEPS, PANEL, at=(TOKENS,),
              worse_at=(TOKENS // 16,)),
        Claim("At equal epochs, all of the text is better than a sixteenth of it", EPOCHS, EPOCHS, PANEL, at=(TOKENS,),
              worse_at=(TOKENS // 16,)),
        Claim("A sixteenth of the text, repeated, is better than none", STEPS, NONE, PANEL, at=(TOKENS // 16,)),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    steps, then = lab.pick((800, 250), (3000, 600))
    sizes = [TOKENS // part for part in lab.pick((16, 4, 1), (64, 16, 4, 1))]

    def with_text(tokens: int, steps: int) -> float:
        pretrained = lab.train(
            pretrain_mlm, f"text-{tokens}-{steps}", steps=steps, next_sentence=False, input_length=64, learning_rate=2e-3,
            max_tokens=tokens, held_out=None,
        )  # fmt: skip
        return score(lab.point(f"questions-{tokens}-{steps}", pretrained, labels=1000, steps=then), "f1")

    none = score(lab.point("questions", None, labels=1000, steps=then), "f1")
    scores = {
        STEPS: {tokens: with_text(tokens, steps) for tokens in sizes},
        EPOCHS: {tokens: with_text(tokens, max(1, steps * tokens // TOKENS)) for tokens in sizes},
        NONE: dict.fromkeys(sizes, none),
    }
    return {PANEL: scores}
