"""Names, numbers and dates by rule: sentences with the spans drawn in, and what holds for any text."""

import re

import pytest
from hypothesis import example, given, strategies as st

from tlqa_jax.text.names_and_dates import names_and_dates

MARKED = [
    # numbers and dates
    "She sold [3,000] harps in the [1990s] for $[2.50] at [12:30].",
    "It was made on [3 May 1880], lost on [May 3rd, 1881], found in [May 1882] and shown on the [4th of June].",
    "Room [12]. [1897] was cold.",
    # the first word of a sentence says nothing by its capital, nor does one behind a quotation mark or a colon
    "The harp was lost in [Oss]. Nobody wept.",
    'A man said: "We went to [Oss]." Then: "They left (Why?)."',
    "The [Danube] is long. It is known: Rivers are.",
    # unless the text has the word elsewhere within a sentence, and never small
    "[Ada] wept when [Ada Lund] came to [Oss]. [Oss] is small.",
    "The [Bank] failed, and a bank it was. Bank after bank closed.",
    # months, of which two are words as well; I
    "[July] was hot. March was cold. May I, and am I? I'm off, I'd say. I’ve left [Oss] in [August].",
    # what belongs together, and what does not
    "When [Ada Lund] of [Oss] met [O'Neil], [Half-Blood], [Ida]'s [New York] friends went.",
    "In [1897] [Ada Lund], [Ida Lund] and  [Bo]  [Ek] met [10] [Swedes].",
    "Then [Mr. Hughes] and [J. R. Voss] of [U.S. Steel] met [Dr. Ek].",
    "so [ÉMILE ZOLA] and [Åsa] left.",
    "",
    "no names here.",
]


@pytest.mark.parametrize("marked", MARKED)
def test_by_hand(marked):
    text = re.sub(r"[\[\]]", "", marked)
    written, place = "", 0
    for start, end in names_and_dates(text):
        written += f"{text[place:start]}[{text[start:end]}]"
        place = end
    assert written + text[place:] == marked


WORDS = st.sampled_from(
    ["Ada", "Lund", "May", "the", "The", "12", "1897", "I", "a.", "B.", "wept.", "Oss!", "“No", "é", "  "]
)


@example("Ada Ada   ")  # a name at the very start of a text that ends in a space
@given(st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=60))
def test_spans_are_in_order_and_hold_whole_names_or_numbers(text):
    spans = names_and_dates(text)
    ends = [0] + [end for _, end in spans]
    for before, (start, end) in zip(ends, spans):
        span = text[start:end]
        assert before <= start < end <= len(text) and span == span.strip()
        assert span[0].isupper() or span[0].isdecimal()
        assert not (start and text[start - 1].isalnum() and span[0].isalnum()), "begins within a word"
    numbers = {place for match in re.finditer(r"\b\d+", text) for place in range(*match.span())}
    assert numbers <= {place for start, end in spans for place in range(start, end)}
