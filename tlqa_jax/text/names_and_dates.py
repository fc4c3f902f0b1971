"""The names, numbers and dates in a text, by a few rules: what must be known and cannot be guessed from grammar.

    "In 1897 the harp of Ada Lund, made on 3 May 1880 in Oss, was lost. Ada wept."
        ====              ========         ==========    ===             ===

- a number, with the characters attached to it: 1880, 3,000, 1990s, 12:30
- a date: 3 May 1880, May 3rd, May 1880
- several capitalised words in a row, or one, unless it is the first word of its sentence or stands directly behind a
  quotation mark or a colon. Such a first word counts too if the text also has it capitalised in other places and never
  in small letters: "Ada" above.

The rules are for English, and for languages that use capital letters as English does.
"""

import re

from tlqa_jax.text.sentences import TITLES, split_sentences

CERTAIN_MONTHS = "January February April June July August September October November December".split()
MONTH = "|".join([*CERTAIN_MONTHS, "March", "May"])  # March and May are ordinary words as well
DAY, YEAR = r"\d{1,2}(?:st|nd|rd|th)?\b", r"\d{3,4}\b"
PIECE = re.compile(
    rf"(?P<date>\b{DAY}(?: of)? (?:{MONTH})\b(?:,? {YEAR})?|\b(?:{MONTH})(?: {DAY}(?:,? {YEAR})?|,? {YEAR}))"
    r"|(?P<number>\b\d+(?:[.,:/]\d+)*\w*)"
    rf"|(?P<word>\b(?:{'|'.join(map(re.escape, sorted(TITLES)))}|(?:[^\W\d_]\.)+)"  # Dr. or J. or U.S.
    r"|\w+(?:['’-](?!s\b)\w+)*)"  # O'Neil, Half-Blood, Ada's without its 's
)
OPENING = "\"“‘'(["


def names_and_dates(text: str) -> list[tuple[int, int]]:
    """The spans [start, end) of names, numbers and dates, in characters: in order, none overlapping another."""
    pieces = list(PIECE.finditer(text))
    first = _first_of_sentences(text, [piece.start() for piece in pieces])
    capitalised = [piece.lastgroup == "word" and piece[0][0].isupper() and piece[0][:2] not in ("I", "I'", "I’")
                   for piece in pieces]  # fmt: skip
    within = {piece[0] for piece, large, begins in zip(pieces, capitalised, first) if large and not begins}
    small = {piece[0] for piece in pieces if piece[0][0].islower()}
    known = {word for word in within if word.lower() not in small} | set(CERTAIN_MONTHS)

    spans: list[tuple[int, int]] = []
    end_of_name: int | None = None  # where a name ends that the next capitalised word may continue
    for piece, large, begins in zip(pieces, capitalised, first):
        if large and (not begins or piece[0] in known):
            if end_of_name is not None and text[end_of_name : piece.start()] == " ":
                spans[-1] = (spans[-1][0], piece.end())
            else:
                spans.append(piece.span())
            end_of_name = piece.end()
        elif piece.lastgroup != "word":
            spans.append(piece.span())
    return spans


def _first_of_sentences(text: str, starts: list[int]) -> list[bool]:
    """For the start of each piece, whether a capital letter there is no sign of a name."""
    first = [text[start - 1 : start] in tuple(OPENING) or text[max(start - 2, 0) : start] == ": " for start in starts]
    place, piece = 0, 0
    for sentence in split_sentences(text):
        place = text.index(sentence, place)
        while piece < len(starts) and starts[piece] < place:
            piece += 1
        if piece < len(starts):
            first[piece] = True
        place += len(sentence)
    return first
