"""Which self-supervised task to pretrain on, measured by questions after fine-tuning.

    tlqa experiment pretraining-task --quick

BERTs point at answers: nothing first, causal LM, masked LM, masked LM with next-sentence prediction. T5s write them:
nothing first, span corruption with random spans, with salient spans (names and years).
"""

from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.training.finetune_qa import finetune_qa
from tlqa_jax.training.pretrain_clm import pretrain_clm
from tlqa_jax.training.pretrain_mlm import pretrain_mlm
from tlqa_jax.training.pretrain_spans import pretrain_spans

NONE, CAUSAL, MASKED, WITH_NSP = "none", "causal LM", "masked LM", "masked LM + next sentence"
RANDOM, SALIENT = "random spans", "salient spans"
BERT, T5 = "BERT: questions about strangers' passages", "T5: questions about strangers' passages"
EXPERIMENT = Experiment(
    title="Which pretraining task?",
    design="Small models are pretrained on the tiny world's passages with one task each and fine-tuned on the same questions: "
    "the same steps of pretraining, the same steps of fine-tuning, the same seeds. BERTs are compared with BERTs and T5s with "
    "T5s, as pointing and writing are different tasks. After causal LM the encoder keeps its causal mask.",
    score="F1, %", column="",
    claims=(
        Claim("Masked LM is better than no pretraining", MASKED, NONE, BERT),
        Claim("Masked LM is better than causal LM", MASKED, CAUSAL, BERT),
        Claim("Next-sentence prediction on top of masked LM helps", WITH_NSP, MASKED, BERT),
        Claim("Random spans are better than no pretraining", RANDOM, NONE, T5),
        Claim("Salient spans are better than random spans", SALIENT, RANDOM, T5),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    first, then = lab.masked_lm_steps, lab.pick(250, 600)
    with_nsp = lab.train(
        pretrain_mlm, "next-sentence", steps=first, input_length=64, learning_rate=2e-3, held_out=None
    )
    causal = lab.train(
        pretrain_clm, "causal", steps=first, input_length=64, learning_rate=2e-3, held_out=None
    )
    starts = {NONE: None, CAUSAL: causal, MASKED: lab.masked_lm(), WITH_NSP: with_nsp}
    points = {way: lab.point(f"point-{way.replace(' ', '-')}", start, steps=then) for way, start in starts.items()}

    spans = {
        way: lab.train(
            pretrain_spans, way.replace(" ", "-"), steps=lab.pick(600, 3000), input_length=48, relative_bias_rate=30.0,
            texts="tiny_world:pretraining_spans.jsonl", held_out=None, salient_share=share,
        )
        for way, share in ((RANDOM, 0.0), (SALIENT, 0.8))
    }  # fmt: skip
    written = {
        way: lab.train(
            finetune_qa, f"write-{way.replace(' ', '-')}", steps=lab.pick(300, 1500), start_from=start and str(start),
            input_length=64, target_length=6, relative_bias_rate=30.0, context_questions="tiny_world:context_train.json",
            held_out_context="tiny_world:context_dev.json",
        )
        for way, start in ({NONE: None} | spans).items()
    }  # fmt: skip
    return {
        BERT: {way: {"F1": score(run, "f1")} for way, run in points.items()},
        T5: {way: {"F1": score(run, "context_qa_f1")} for way, run in written.items()},
    }
