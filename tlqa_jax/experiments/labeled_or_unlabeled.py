"""Ten times more text without labels against twice as many labels.

    tlqa experiment labeled-or-unlabeled --quick
"""

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.experiments.more_data import TOKENS
from tlqa_jax.training.pretrain_mlm import pretrain_mlm

LITTLE, TEXT, LABELS, BOTH = "little of both", "10 x more text", "2 x more labels", "both"
PANEL = "questions about strangers' passages"
EXPERIMENT = Experiment(
    title="More text, or more labels?",
    design="A small BERT is pretrained by masked LM on a tenth of the tiny world's text or on all of it, and fine-tuned on "
    "500 questions with answers or on 1,000. The same steps of pretraining and of fine-tuning everywhere, the same seeds.",
    score="F1, %", column="",
    claims=(
        Claim("Ten times more text helps", TEXT, LITTLE, PANEL),
        Claim("Twice as many labels help", LABELS, LITTLE, PANEL),
        Claim("Ten times more text helps more than twice as many labels", TEXT, LABELS, PANEL),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    few = 500
    pretrained = {
        tokens: lab.train(
            pretrain_mlm, f"text-{tokens}", steps=lab.pick(800, 3000), next_sentence=False, input_length=64,
            learning_rate=2e-3, max_tokens=tokens, held_out=None,
        )
        for tokens in (TOKENS // 10, TOKENS)
    }  # fmt: skip
    ways = {LITTLE: (TOKENS // 10, few), TEXT: (TOKENS, few), LABELS: (TOKENS // 10, 2 * few), BOTH: (TOKENS, 2 * few)}
    scores = {}
    for way, (tokens, labels) in ways.items():
        run = lab.point(f"questions-{tokens}-{labels}", pretrained[tokens], labels=labels, steps=lab.pick(250, 600))
        scores[way] = {"F1": score(run, "f1"), "exact match": score(run, "em")}
    return {PANEL: scores}
