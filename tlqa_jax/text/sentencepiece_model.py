"""A SentencePiece `.model` file from pieces and scores, without the protobuf library.

    field of ModelProto   1  pieces, one by one   3  normaliser
    of a piece            1  text   2  score, float   3  kind: 1 normal, 2 unknown, 3 control (padding and end)
    of the normaliser     1  name   2  its compiled table of characters   3  whether text begins with a space

All other fields have the format's defaults, which are T5's values: a unigram model, a space before the text, single
spaces. A field is its number and kind in one byte, then its content (protobuf's encoding).
"""

import struct
from collections.abc import Sequence

VARINT, BYTES, FLOAT = 0, 2, 5
UNKNOWN, CONTROL = 2, 3
# behind a model: the last value of a field counts
WITHOUT_PREFIX = bytes([3 << 3 | BYTES, 2, 3 << 3 | VARINT, 0])


def sentencepiece_model(pieces: Sequence[tuple[str, float]], charsmap: bytes, kinds: dict[int, int]) -> bytes:
    """The file's content.

    Args:
        pieces: texts and scores, by id.
        charsmap: the normaliser's `precompiled_charsmap`, as SentencePiece and Hugging Face store it; may be empty.
        kinds: UNKNOWN or CONTROL by id; all other pieces are normal.
    """
    parts = []
    for id, (text, score) in enumerate(pieces):
        piece = _bytes(1, text.encode()) + bytes([2 << 3 | FLOAT]) + struct.pack("<f", score)
        if id in kinds:
            piece += bytes([3 << 3 | VARINT, kinds[id]])
        parts.append(_bytes(1, piece))
    normalizer = _bytes(1, b"nmt_nfkc" if charsmap else b"identity") + _bytes(2, charsmap)
    return b"".join([*parts, _bytes(3, normalizer)])


def _bytes(field: int, content: bytes) -> bytes:
    """A field that holds bytes: first its length, seven bits in each byte, lowest bits first."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([field << 3 | BYTES, *length, size]) + content
