"""Models: BERT, T5 and word vectors as in the papers, as Flax nnx modules that hold parameters and nothing else.

In reading order:

    layers.py      attention, feed-forward, embeddings, norms: what both are made of
    t5.py          T5: encoder, decoder, and the cache for generation
    bert.py        BERT's encoder
    bert_heads.py  BERT with a head: masked LM, causal LM, next sentence, answer spans, classes
    adapters.py    adapters and LoRA: small parts to train in a model that stays as it is
    word_vectors.py  word vectors (CBOW), and a bag of them as a classifier
    features.py    features of a frozen encoder, and a head on them
    functional.py  a model as a pure function of a dict of arrays
"""
