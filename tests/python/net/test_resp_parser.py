# SPDX-License-Identifier: Apache-2.0
"""Our parser of RESP reads what redis-py's reads, however the network cuts it, and never hangs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import resp_parsers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from resp_parsers import OurParser, redis_py

MOST_NESTED = 8  # RespReader::kMaxNesting
LONGEST_BULK = 16 << 20  # RespReader::kMaxBulkBytes
EXAMPLES = settings(
    max_examples=400,
    deadline=None,  # a busy machine
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def ours() -> Iterator[OurParser]:
    parser = OurParser()
    yield parser
    parser.close()


def line(kind: bytes, text: bytes) -> bytes:
    return kind + text + b"\r\n"


def bulk(text: bytes, kind: bytes = b"$") -> bytes:
    return b"%b%d\r\n%b\r\n" % (kind, len(text), text)


def aggregate(kind: bytes, items: list[bytes]) -> bytes:
    return b"%b%d\r\n%b" % (kind, len(items) // (2 if kind == b"%" else 1), b"".join(items))


PLAIN_TEXT = st.binary(max_size=60).filter(lambda text: not {10, 13} & set(text))
# Sizes around those of the reader's buffer and of what it receives directly.
SIZES = st.sampled_from([4095, 4096, 4097, 16383, 16384, 16385, 65536, 100_001])
LARGE = st.builds(lambda size, seed: random.Random(seed).randbytes(size), SIZES, st.integers(0, 9))
BYTES = st.binary(max_size=60) | st.sampled_from([b"", b"\r\n", b"$5\r\n", b"*1\r\n:"]) | LARGE
# Not those of which redis-py reads the text, too: LOADING, MOVED.
CODES = ["ERR", "WRONGTYPE", "OOM", "READONLY", ""]
ERRORS = st.builds(
    lambda code, text: code.encode() + b" " + text, st.sampled_from(CODES), PLAIN_TEXT
)
SIGNS = st.sampled_from([b"%d", b"%+d"])
INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats().map(repr) | st.sampled_from(
    ["inf", "-inf", "nan", "1e5", "-2.5E-7", "10", "-0"]
)

BULKS = BYTES.map(bulk) | ERRORS.map(lambda text: line(b"-", text))
RESP2_KEYS = st.one_of(
    PLAIN_TEXT.map(lambda text: line(b"+", text)),
    st.builds(lambda form, number: line(b":", form % number), SIGNS, INT64),
    BYTES.map(bulk),
)
RESP2_LEAVES = st.one_of(
    RESP2_KEYS,
    ERRORS.map(lambda text: line(b"-", text)),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n"]),
)
RESP3_KEYS = st.one_of(
    RESP2_KEYS,
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n"]),
    DOUBLES.map(lambda text: line(b",", text.encode())),
    st.integers(-(10**60), 10**60).map(lambda number: line(b"(", b"%d" % number)),
    BYTES.map(lambda text: bulk(b"txt:" + text, b"=")),
)
RESP3_LEAVES = st.one_of(
    RESP3_KEYS, ERRORS.map(lambda text: line(b"-", text)), ERRORS.map(lambda text: bulk(text, b"!"))
)


@st.composite
def nested(draw: Any, leaves: Any, keys: Any, kinds: list[bytes], depth: int = 0) -> bytes:
    """Draw a value of these leaves, nested as deeply as may be."""
    kind = draw(st.sampled_from([b"", b"", *kinds])) if depth < MOST_NESTED else b""
    if not kind:
        return bytes(draw(leaves))
    items = []
    for _ in range(draw(st.integers(0, 3))):
        if kind == b"%":
            items.append(draw(keys))
        items.append(draw(nested(leaves, keys, kinds, depth + 1)))
    return aggregate(kind, items)


RESP2 = nested(RESP2_LEAVES, RESP2_KEYS, [b"*", b"*"])
RESP3 = nested(RESP3_LEAVES, RESP3_KEYS, [b"*", b"~", b"%"])
PUSHES = st.lists(RESP3_LEAVES, max_size=3).map(
    lambda items: aggregate(b">", [bulk(b"message"), *items])
)
CUTS = st.lists(st.integers(1, 40), max_size=8) | st.lists(st.integers(1, 9000), max_size=4)


def agrees(ours: OurParser, data: bytes, cuts: list[int], protocol: int, count: int) -> None:
    """Both read so many values, the same ones, and nothing is left."""
    said = ours.read(data, cuts)
    assert said.end == "closed", said.why
    assert len(said.values) == count
    assert said.values == redis_py(data, cuts, protocol)


@EXAMPLES
@given(st.lists(RESP2, min_size=1, max_size=4), CUTS)
def test_resp2(ours: OurParser, replies: list[bytes], cuts: list[int]) -> None:
    agrees(ours, b"".join(replies), cuts, 2, len(replies))


@EXAMPLES
@given(st.lists(st.tuples(RESP3, st.lists(PUSHES, max_size=2)), min_size=1, max_size=4), CUTS)
def test_resp3_with_pushes_between(
    ours: OurParser, replies: list[tuple[bytes, list[bytes]]], cuts: list[int]
) -> None:
    data = b"".join(b"".join(pushes) + reply for reply, pushes in replies)
    agrees(ours, data, cuts, 3, len(replies))


@EXAMPLES
@given(st.lists(BULKS | st.just(b"$-1\r\n"), min_size=1, max_size=6), CUTS)
def test_bulks_received_where_they_belong(
    ours: OurParser, replies: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(replies)
    said = ours.read(data, cuts, bulks=True)
    assert (said.end, len(said.values)) == ("closed", len(replies)), said.why
    assert said.values == redis_py(data, cuts, 2)


@pytest.mark.parametrize("size", [1 << 20, LONGEST_BULK])
def test_a_big_bulk(ours: OurParser, size: int) -> None:
    text = random.Random(size).randbytes(size)
    data = aggregate(b"*", [bulk(text), bulk(b"after")]) + bulk(text[:100])
    for cuts in ([], [1, 70_000, 3], [1460]):
        agrees(ours, data, cuts, 3, 2)
    beyond = ours.read(bulk(bytes(LONGEST_BULK + 1)), [])
    assert (beyond.values, beyond.end) == ([], "corrupted")


def test_the_deepest(ours: OurParser) -> None:
    data = b"*1\r\n" * MOST_NESTED + b":7\r\n"
    agrees(ours, data, [3], 2, 1)
    assert ours.read(b"*1\r\n" + data, [3]).end == "corrupted"


@pytest.mark.parametrize(
    "data",
    [
        b"?3\r\n", b"\r\n", b"\n", b"+one\ntwo\r\n", b"+one\rtwo\r\n", b":\r\n", b":1x\r\n",
        b":9223372036854775808\r\n", b"$-2\r\n", b"$x\r\n", b"$3\r\nabcd\r\n", b"$3\r\nabc\n\n",
        b"*-2\r\n", b"*x\r\n", b"*1\r\n?\r\n", b"%1\r\n+k\r\n?\r\n", b"#yes\r\n", b"_x\r\n",
        b",\r\n", b",1.\r\n", b",0x1p3\r\n", b"(1.5\r\n", b"=3\r\ntxt\r\n", b"*1\r\n>1\r\n+x\r\n",
        b"$99999999999999999999\r\n", b"*99999999\r\n", b"%99999999\r\n", b"+" + b"x" * 20_000,
    ],
)  # fmt: skip
def test_what_is_invalid_is_an_error_at_once(ours: OurParser, data: bytes) -> None:
    for cuts in ([], [1], [2, 5]):
        said = ours.read(b"+before\r\n" + data + b"+after\r\n", cuts)
        assert (said.values, said.end) == ([("bytes", b"before")], "corrupted"), said


@st.composite
def damaged(draw: Any) -> bytes:
    """Replies of which some bytes were changed, removed or added."""
    data = bytearray(b"".join(draw(st.lists(RESP3 | RESP2, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(1, 4))):
        # Often in the first line, where the types and the counts are.
        at = draw(st.integers(0, min(len(data), 12)) | st.integers(0, len(data)))
        what = draw(st.sampled_from(b"+-:$*_#,(!=%~>|\r\n0129tf") | st.integers(0, 255))
        data[at : at + draw(st.integers(0, 2))] = bytes([what] * draw(st.integers(0, 2)))
    return bytes(data)


@EXAMPLES
@given(damaged() | st.binary(max_size=200), CUTS)
def test_damage_is_an_error_or_a_value_that_redis_py_reads_too(
    ours: OurParser, data: bytes, cuts: list[int]
) -> None:
    said = ours.read(data, [])
    assert said.end in ("closed", "corrupted"), said
    cut = ours.read(data, cuts)  # which byte of the malformed line is seen first depends on it
    assert (cut.values, cut.end) == (said.values, said.end)
    ours.read(data, cuts, bulks=True)
    # redis-py's parser of RESP3 knows neither attributes nor RESP2's null.
    if b"|" in data or b"-1" in data:
        return
    try:
        theirs = redis_py(data, [], 3, most=len(said.values))
    except TypeError:  # a map with a list as a key
        return
    assert said.values == theirs


def test_a_program_that_is_missing_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(resp_parsers, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="--target net_resp_values"):
        OurParser()
