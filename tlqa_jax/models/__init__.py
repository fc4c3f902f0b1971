"""Models: BERT and T5 as in the papers, as Flax nnx modules that hold parameters and nothing else.

In reading order:

    layers.py      attention, feed-forward, embeddings, norms: what both are made of
    t5.py          T5: encoder, decoder, and the cache for generation
    bert.py        BERT's encoder
    bert_heads.py  BERT with a head: masked LM, causal LM, next sentence, answer spans, classes
    functional.py  a model as a pure function of a dict of arrays
"""
