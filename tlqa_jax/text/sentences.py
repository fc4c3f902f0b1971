"""Text into sentences, by a few rules: good enough to find where a segment of a document may begin or end.

A sentence ends with . ! ? or … (and closing quotes and brackets) if white space follows and then no small letter. It
does not end after a title, an initial or an abbreviation with points: "Dr. J. R. Voss of the U.S. Mint" is one piece.
Chinese and Japanese sentences end with 。！？ whatever follows.
"""

import re
from collections.abc import Iterator

CLOSING = r"[\"'”’»)\]]*+"
END = re.compile(rf"(?<=[.!?…]){CLOSING}\s++(?![a-z])|[。！？]{CLOSING}\s*+")
LAST_WORD = re.compile(r"[^\s(\[\"'“‘]*$")
POINTED = re.compile(r"(?:[^\W\d_]\.)+$")  # J. or U.S. or e.g.
TITLES = frozenset("Mr. Mrs. Ms. Dr. Prof. Rev. Gen. Sen. Gov. Capt. Col. Lt. St. No. vs. Jr. Fig. approx. cf.".split())


def split_sentences(text: str) -> list[str]:
    """The sentences of a text without the white space between them. Nothing else is left out."""
    return list(sentences_of(text))


def sentences_of(text: str) -> Iterator[str]:
    """`split_sentences`, one after another: all sentences of a very long text at once need several times its memory."""
    begin = 0
    for end in END.finditer(text):
        last_word = LAST_WORD.search(text[max(begin, end.start() - 20) : end.start()])[0]
        if last_word in TITLES or (POINTED.match(last_word) and end[0].isspace()):
            continue
        if sentence := text[begin : end.end()].strip():
            yield sentence
        begin = end.end()
    if sentence := text[begin:].strip():
        yield sentence
