"""Metrics: scores of answers and texts.

In reading order:

    squad.py  exact match and F1 by the rules of SQuAD, thresholds for no answer, bootstrap intervals
    texts.py  metrics by name: accuracy, Matthews, Pearson, Spearman, ROUGE, BLEU
"""
