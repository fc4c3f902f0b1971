"""Text: strings to token ids and back, and files of text; no jax.

In reading order:

    sentencepiece.py        T5's tokenizer: SentencePiece and sentinels
    wordpiece.py            BERT's tokenizer, from scratch
    characters.py           the Unicode categories that WordPiece needs
    bpe.py                  byte-pair encoding, from scratch, for lesson 2
    sentencepiece_model.py  a .model file from pieces and scores
    sentences.py            text into sentences
    names_and_dates.py      the names, numbers and dates in a text
    vocabulary_file.py      vocabulary files as bytes
    json_files.py           JSON from files and lines, with errors of one line
    atomic_write.py         files that are written completely or not at all
"""
