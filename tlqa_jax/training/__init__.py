"""Training: eight programs, each to be read from top to bottom, and the plain functions that they share.

In reading order:

    pretrain_spans.py       pretraining of a T5 by span corruption
    step.py                 the one update: the gradient of a global mean, over all devices
    loop.py                 a run: start or continue, report, save, evaluate, finish
    processes.py            several processes, one for each machine or GPU: found, joined, and ended if one is lost
    last_words.py           what they say when one is lost
    stopping.py             SIGTERM and Ctrl-C: the step is finished and saved
    settings.py             the settings that all programs share, with their limits
    finetune_qa.py          fine-tuning of a T5 on questions, or on many tasks
    pretrain_mlm.py         pretraining of a BERT on masked tokens and next sentences
    pretrain_clm.py         pretraining of a BERT that predicts the next token
    pretrain_vectors.py     word vectors by CBOW
    finetune_spans.py       fine-tuning of a BERT to point at answers
    finetune_classifier.py  fine-tuning of a BERT to classify texts
    finetune_features.py    a head on the features of a frozen BERT or T5
    labelled_texts.py       the labelled texts of the programs that classify
    initial_model.py        the model a program starts from: from disk, from the hub, or random weights
    sequence_loss.py        the loss of an encoder-decoder
    optimizers.py           learning rate schedules, AdamW, Adafactor
    freezing.py             which parameters are trained
    evaluation.py           every held-out example exactly once; the scores of answers
    progress.py             the progress line, metrics.jsonl, curves.png
    memory.py               what cannot fit is refused; freed memory is kept for the next step
"""
