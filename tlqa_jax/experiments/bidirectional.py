"""An encoder that sees both sides against one that only looks back, at equal steps.

    tlqa experiment bidirectional --quick

The ablation of Devlin et al. 2019, section 5.1, on the tiny world: masked-LM accuracy, and questions after fine-tuning.
"""

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.training.pretrain_mlm import pretrain_mlm

BOTH, BACK = "sees both sides", "looks back only"
MASKED, QUESTIONS = "masked tokens of new passages (accuracy)", "questions about strangers' passages (F1)"
EXPERIMENT = Experiment(
    title="Is it worth seeing both sides?",
    design="Two small BERTs that differ in the mask of their attention alone are pretrained by masked LM and fine-tuned to "
    "point at answers: the same text, masks, steps and seeds. Both keep their masks in fine-tuning.",
    score="%", column="",
    claims=(
        Claim("Seeing both sides predicts masked tokens better", BOTH, BACK, MASKED),
        Claim("Seeing both sides answers questions better", BOTH, BACK, QUESTIONS),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    panels = {MASKED: {}, QUESTIONS: {}}
    for way, attention in ((BOTH, "plain"), (BACK, "causal")):
        pretrained = lab.train(
            pretrain_mlm, attention, steps=lab.pick(800, 3000), next_sentence=False, input_length=64, learning_rate=2e-3,
            attention=attention,
        )  # fmt: skip
        pointing = lab.point(f"{attention}-questions", pretrained, steps=lab.pick(250, 600))
        panels[MASKED][way] = {"masked LM": 100 * score(pretrained, "mlm_accuracy")}
        panels[QUESTIONS][way] = {"F1": score(pointing, "f1"), "exact match": score(pointing, "em")}
    return panels
