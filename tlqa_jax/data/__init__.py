"""Data: where examples come from, and batches for pmap.

In reading order:

    sources.py       texts, labelled texts and questions from files, TFDS and the tiny world
    rows.py          rows of JSON and CSV files and their fields
    text_files.py    files of UTF-8 text, plain or gzipped
    tfds_sources.py  TensorFlow Datasets without TensorFlow
    corpus.py        documents as one long array of tokens
    batches.py       batches as a function of (seed, step), shared between devices and processes
    tiny_world/      a small invented world: texts, questions and reviews
"""
