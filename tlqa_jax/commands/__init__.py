"""The commands of `tlqa`. A command is a function; its docstring is its help.

    training.py     quickstart, pretrain-spans, pretrain-mlm, pretrain-clm, pretrain-vectors, finetune,
                    finetune-qa, finetune-spans, finetune-classifier, finetune-features
    answering.py    answer, classify, fill-mask, neighbors
    evaluating.py   evaluate
    generating.py   generate, and the flags for how a model generates text
    tools.py        vocab train, export, devices
"""
