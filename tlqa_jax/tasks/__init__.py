"""Tasks: examples to arrays and back; numpy only, no jax.

In reading order:

    span_corruption.py       T5's pretraining: hide spans of tokens and predict them
    span_corruption_rows.py  its rows from a corpus
    masked_lm.py             BERT's pretraining: hide some tokens and predict them
    next_sentence.py         pairs of segments for BERT
    masked_lm_rows.py        the rows of both from a corpus
    causal_lm.py             rows in which each token is predicted from those before it
    word_context.py          the words around a word, and random words
    text_tasks.py            tasks as text in and text out
    text_to_text.py          their examples as arrays
    context_windows.py       contexts that are longer than T5's input
    packing.py               several short examples in one row
    mixture.py               several tasks in one stream
    task_rows.py             the training rows of several tasks
    extractive_qa.py         questions and contexts as windows for an encoder that points at the answer
    classification.py        labelled texts
"""
