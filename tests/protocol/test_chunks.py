"""How many chunks a payload takes."""

import pytest

from pie_sync._protocol.chunks import CHUNK_SIZE, count_chunks


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, 1), (1, 1), (CHUNK_SIZE - 1, 1), (CHUNK_SIZE, 1), (CHUNK_SIZE + 1, 2), (2 * CHUNK_SIZE, 2)],
)
def test_even_nothing_takes_a_chunk(size, chunks):
    assert count_chunks(size) == chunks


def test_a_chunk_is_as_large_as_the_protocol_allows():
    assert CHUNK_SIZE == 262_144
