"""Inference: from a trained model and texts to answers, generated texts and classes.

In reading order:

    greedy             the loop that generates token by token, and greedy decoding
    sampling           tokens drawn from the distribution: temperature, top-k, top-p
    beam_search        the best of many texts
    generation_config  `GenerationConfig`: which of the three, with which settings
    length_buckets     batches of a few shapes
    generator          `Generator`: rows of tokens -> texts, on all devices; one text as a stream
    answers            `Answerer`: questions -> a T5's answers
    answer_spans       `SpanAnswerer`: questions -> spans of their contexts, by a BERT
    classifier         `Classifier`: texts -> classes, by a BERT
    features           texts -> features by a frozen encoder, cached on disk
    fill_mask          texts with [MASK] -> the most probable pieces
    neighbors          words -> the words with the nearest vectors; analogies
    predictors         the whole way, from the name of a model: `ask`, `generate`, `classify`, `open_model`
"""
