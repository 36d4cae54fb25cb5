"""What candidate and judge say to each other: every plain value survives, and other bytes are refused."""

from __future__ import annotations

import contextlib
import math
import struct
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit_sandbox.inside import channel
from evalkit_sandbox.inside.channel import DEEPEST, LARGEST, MOST, Malformed, Opaque, TooLarge

#: Integers whose hashes are all 0: Python takes them modulo this number.
SAME = (1 << 61) - 1

#: Every character that Python's text may hold, halves of pairs among them.
TEXT = st.text(st.characters(), max_size=20)
BIG = st.integers(-(1 << 70), 1 << 70) | st.integers(-(1 << 2000), 1 << 2000)
FLOATS = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan, -0.0, 5e-324, 1.7976931348623157e308])
FRACTIONS = st.builds(Fraction, BIG, st.integers(1, 1 << 100))
DECIMALS = st.one_of(
    st.decimals(-(10**30), 10**30),
    st.sampled_from([*map(Decimal, ("-0", "sNaN", "NaN", "-Infinity", "3.00", "1E+10000", "1E-10000"))]),
)
#: What can be a key: a signalling NaN cannot be hashed.
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    BIG,
    FLOATS,
    st.complex_numbers(),
    TEXT,
    st.binary(max_size=20),
    FRACTIONS,
    DECIMALS.filter(lambda value: not value.is_snan()),
)
KEYS = st.recursive(ATOMS, lambda of: st.lists(of, max_size=4).map(tuple) | st.frozensets(of, max_size=4), max_leaves=6)
RANGES = st.builds(
    lambda start, length, step: range(start, start + length * step, step),
    BIG,
    st.integers(0, channel.MOST),
    st.integers(-9, 9).filter(bool),
)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    ATOMS | DECIMALS | RANGES | st.binary(max_size=20).map(bytearray),
    lambda of: st.one_of(
        st.lists(of, max_size=5),
        st.lists(of, max_size=5).map(tuple),
        st.sets(KEYS, max_size=5),
        st.frozensets(KEYS, max_size=5),
        st.dictionaries(KEYS, of, max_size=5),
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:  # noqa: PLR0911  (one for each kind)
    """Whether two values are of one type and one form, down to the sign of a zero and the bits of a NaN."""
    if type(one) is not type(other):
        return False
    match one:
        case float():
            return struct.pack("<d", one) == struct.pack("<d", other)
        case complex():
            return same(one.real, other.real) and same(one.imag, other.imag)
        case Decimal():
            return one.as_tuple() == other.as_tuple()  # type: ignore[no-any-return]
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            return same(list(one.items()), list(other.items()))
        case set() | frozenset():  # in any order, and NaN is not in a set that holds it
            left = list(other)
            for element in one:
                place = next((at for at, there in enumerate(left) if same(element, there)), None)
                if place is None:
                    return False
                del left[place]
            return not left
        case range():
            return (one.start, one.stop, one.step) == (other.start, other.stop, other.step)
    return bool(one == other)


def there_and_back(value: object) -> Any:
    """What arrives of a value that is plain."""
    found, plain = channel.decode(channel.encode(value))
    assert plain
    return found


@given(PLAIN)
def test_every_plain_value_arrives_as_it_was_sent(value: Any) -> None:
    assert same(there_and_back(value), value)


@given(ATOMS | DECIMALS | RANGES | st.lists(ATOMS).map(tuple))
def test_what_has_arrived_is_sent_on_as_the_same_bytes(value: Any) -> None:
    content = channel.encode(value)
    assert channel.encode(channel.decode(content)[0]) == content


class Loud(Enum):
    """A member is no plain value, unless its kind is one besides."""

    YES = 1


class Number(IntEnum):
    """A plain value of another name."""

    ONE = 1


class Word(str, Enum):  # noqa: UP042  (StrEnum is another class)
    """A plain value of another name."""

    ONE = "one"


class Liar(int):
    """Says that it is everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __index__(self) -> int:
        return 42

    def __int__(self) -> int:
        return 42

    def bit_length(self) -> int:
        return 1

    __hash__ = int.__hash__


class LyingFloat(float):
    """Says that it is another number."""

    def __float__(self) -> float:
        return 42.0


class LyingText(str):
    """Says that it is another text."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"42"

    def __len__(self) -> int:
        return 42


class LyingList(list[int]):
    """Says that it is long, and never ends."""

    def __len__(self) -> int:
        return 1 << 60

    def __iter__(self) -> Any:
        while True:
            yield 42


class LyingDict(dict[int, int]):
    """Says that other items are in it."""

    def items(self) -> Any:
        return [(42, 42)]

    def __iter__(self) -> Any:
        return iter([42])


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Number.ONE, 1),
        (Word.ONE, "one"),
        (Liar(7), 7),
        (LyingFloat(7), 7.0),
        (LyingText("seven"), "seven"),
        (LyingList([1, 2]), [1, 2]),
        (LyingDict({1: 2}), {1: 2}),
        (Pair(1, [2]), (1, [2])),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict([(2, 1), (1, 2)]), {2: 1, 1: 2}),
        (defaultdict(int, {1: 2}), {1: 2}),
        (type("Half", (Fraction,), {})(1, 2), Fraction(1, 2)),
        (type("Money", (Decimal,), {})("3.00"), Decimal("3.00")),
        (type("Bits", (bytes,), {})(b"x"), b"x"),
        (type("Some", (frozenset,), {})([1]), frozenset([1])),
        (memoryview(b"x").tobytes(), b"x"),
    ],
)
def test_a_subclass_arrives_as_what_it_is_a_subclass_of(value: object, arrives: object) -> None:
    assert same(there_and_back(value), arrives)


@pytest.mark.parametrize(
    "value", [object(), Loud.YES, len, int, Ellipsis, NotImplemented, iter([1]), (n for n in [1]), memoryview(b"x")]
)
def test_everything_else_arrives_as_something_opaque(value: object) -> None:
    found, plain = channel.decode(channel.encode(value))
    assert isinstance(found, Opaque)
    assert not plain


def test_one_opaque_part_makes_the_whole_no_plain_data() -> None:
    found, plain = channel.decode(channel.encode([1, {"a": (2, object())}]))
    assert not plain
    assert found[0] == 1
    assert isinstance(found[1]["a"][1], Opaque)


@given(PLAIN)
def test_opaque_is_equal_to_nothing(value: Any) -> None:
    found, _ = channel.decode(channel.encode(object()))
    other, _ = channel.decode(channel.encode(object()))
    for one in (value, found, other, found.__class__):
        assert not found == one  # noqa: SIM201  (both operators are meant)
        assert found != one
        assert not one == found  # noqa: SIM201


def test_a_class_that_pretends_to_be_a_fraction_sends_numbers_at_most() -> None:
    fake = type("Fraction", (), {"__module__": "fractions", "numerator": 3, "denominator": 4, "__eq__": lambda *_: 1})
    fake.__qualname__ = "Fraction"
    assert same(there_and_back(fake()), Fraction(3, 4))


def nested(depth: int, kind: Any = list) -> Any:
    """So many containers, each in the next."""
    found = kind()
    for _ in range(depth - 1):
        found = kind([found])
    return found


@pytest.mark.parametrize("kind", [list, tuple, frozenset])
def test_depth_is_bounded_on_both_sides(kind: Any) -> None:
    assert there_and_back(nested(DEEPEST + 1, kind)) == nested(DEEPEST + 1, kind)
    with pytest.raises(TooLarge):
        channel.encode(nested(DEEPEST + 2, kind))
    with pytest.raises(TooLarge):
        channel.decode(b"l\1\0\0\0" * (DEEPEST + 1) + b"N")
    with pytest.raises(TooLarge):
        channel.decode(b"l\1\0\0\0" * 100_000)


def test_what_contains_itself_is_too_large() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(TooLarge):
        channel.encode(ring)
    web: list[Any] = [0]
    for _ in range(50):
        web = [web, web]
    with pytest.raises(TooLarge):
        channel.encode(web)


def test_elements_are_counted() -> None:
    most = [None] * (MOST - 1)
    assert there_and_back(most) == most
    with pytest.raises(TooLarge):
        channel.decode(b"l" + struct.pack("<I", MOST) + b"N" * MOST)
    inner = b"l" + struct.pack("<I", 999) + b"N" * 999
    with pytest.raises(TooLarge):
        channel.decode(b"l" + struct.pack("<I", 101) + inner * 101)


@pytest.mark.parametrize("tag", b"ltSZm")
@pytest.mark.parametrize("count", [MOST, 1 << 31, (1 << 32) - 1])
def test_a_count_alone_takes_no_memory(tag: int, count: int) -> None:
    with pytest.raises(TooLarge):
        channel.decode(bytes([tag]) + struct.pack("<I", count))


def test_size_is_bounded_where_it_is_made() -> None:
    for value in ("x" * (LARGEST + 1), b"x" * (LARGEST + 1), 1 << (8 * LARGEST), ["x" * 600_000] * 2):
        with pytest.raises(TooLarge):
            channel.encode(value)


def test_no_value_of_many_elements_takes_the_writer_long() -> None:
    began = time.process_time()
    with pytest.raises(TooLarge):
        channel.encode(list(range(10 * MOST)))
    with pytest.raises(TooLarge):
        channel.encode([[None] * 10] * MOST)
    assert time.process_time() - began < 3


def test_size_is_bounded_where_a_frame_begins() -> None:
    assert channel.length(channel.frame(b"abc")[:4]) == 3
    assert channel.length(struct.pack("<I", LARGEST)) == LARGEST
    for size in (LARGEST + 1, 1 << 31, (1 << 32) - 1):
        with pytest.raises(TooLarge):
            channel.length(struct.pack("<I", size))


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_bytes_are_a_value_or_are_refused(content: bytes) -> None:
    """Nothing else can come of them: no other exception, and no other kind of value."""
    with contextlib.suppress(Malformed, TooLarge):
        value, plain = channel.decode(content)
        assert there_and_back_or_opaque(value) == plain


@settings(max_examples=500)
@given(PLAIN, st.data())
def test_a_message_that_was_tampered_with_is_a_value_or_is_refused(value: Any, data: st.DataObject) -> None:
    content = bytearray(channel.encode(value))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(Malformed, TooLarge):
        found, plain = channel.decode(bytes(content))
        assert there_and_back_or_opaque(found) == plain


def there_and_back_or_opaque(value: Any) -> bool:
    """Whether a value arrives unchanged; nothing that is opaque does."""
    found, _ = channel.decode(channel.encode(value))
    return same(found, value)


#: The kinds of value that there are, and what follows their tags in the shortest message of each.
TAGS = {
    "N": b"",
    "T": b"",
    "F": b"",
    "O": b"",
    "i": bytes(8),
    "d": bytes(8),
    "c": bytes(16),
    **dict.fromkeys("sbBltSZmI", bytes(4)),
    "r": b"i\0\0\0\0\0\0\0\0i\0\0\0\0\0\0\0\0i\1\0\0\0\0\0\0\0",
    "R": b"i\0\0\0\0\0\0\0\0i\1\0\0\0\0\0\0\0",
    "D": b"\1\0\0\x000",
}


@pytest.mark.parametrize("tag", range(256))
def test_there_are_no_other_tags(tag: int) -> None:
    """Not one of pickle's codes among them, and no tag is followed by less or more than it asks for."""
    if (content := TAGS.get(chr(tag))) is None:
        for rest in (b"", bytes(4), bytes(100)):
            with pytest.raises(Malformed):
                channel.decode(bytes([tag]) + rest)
        return
    whole = bytes([tag]) + content
    channel.decode(whole)
    for wrong in (*(whole[:end] for end in range(len(whole))), whole + b"N"):
        with pytest.raises(Malformed):
            channel.decode(wrong)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"s\1\0\0\0\xff",
        b"D\1\0\0\0x",
        b"D\1\0\0\0\xff",
        b"R" + b"i" + bytes(8) + b"i" + bytes(8),
        b"r" + (b"i" + bytes(8)) * 3,
        b"R" + b"T" + b"i" + bytes(8),
        b"r" + b"d" + bytes(8) + (b"i" + bytes(8)) * 2,
        b"S\1\0\0\0l\0\0\0\0",
        b"Z\1\0\0\0m\0\0\0\0",
        b"m\2\0\0\0l\0\0\0\0N",
        b"m\1\0\0\0N",
        b"S\1\0\0\0D\4\0\0\0sNaN",
        b"s\5\0\0\0abcd",
        b"s\xff\xff\xff\xffabcd",
    ],
)
def test_what_no_value_could_be_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        channel.decode(content)


def colliding(count: int) -> list[int]:
    return [k * SAME for k in range(count)]


def bytes_of(tag: bytes, keys: list[Any]) -> bytes:
    """A set or a dict of these keys, made past the writer."""
    parts = [channel.encode(key) + (b"N" if tag == b"m" else b"") for key in keys]
    return tag + struct.pack("<I", len(parts) * (2 if tag == b"m" else 1)) + b"".join(parts)


@pytest.mark.parametrize("tag", [b"S", b"Z", b"m"])
def test_colliding_keys_are_refused_fast(tag: bytes) -> None:
    count = 40_000 if tag == b"m" else 80_000
    content = bytes_of(tag, colliding(count))
    assert len(content) < 2 * LARGEST  # more than a frame may hold, and still no matter
    began = time.process_time()
    with pytest.raises(TooLarge):
        channel.decode(content)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("tag", [b"S", b"Z", b"m"])
def test_a_few_keys_of_one_hash_are_no_offence(tag: bytes) -> None:
    keys = colliding(10)
    found, plain = channel.decode(bytes_of(tag, keys))
    assert sorted(found) == keys
    assert plain


def test_keys_that_collide_within_tuples_are_refused_fast() -> None:
    content = bytes_of(b"S", [(key,) for key in colliding(30_000)])
    began = time.process_time()
    with pytest.raises(TooLarge):
        channel.decode(content)
    assert time.process_time() - began < 1


def test_many_small_sets_of_colliding_keys_do_not_add_up() -> None:
    inner = bytes_of(b"Z", colliding(16))
    content = b"l" + struct.pack("<I", 5_000) + inner * 5_000
    began = time.process_time()
    channel.decode(content)
    assert time.process_time() - began < 1


def test_the_largest_whole_numbers_are_read_fast() -> None:
    """They travel as bits: to make text of them, or a number of text, takes a time that grows with their square."""
    value = (1 << (8 * (LARGEST - 100))) - 1
    began = time.process_time()
    content = channel.encode(value)
    assert channel.decode(content)[0] == value
    assert time.process_time() - began < 0.5


def test_the_largest_fractions_are_read_fast_or_refused() -> None:
    half = (LARGEST - 100) // 2
    parts = [channel.encode(int.from_bytes(byte * half, "little")) for byte in (b"\x55", b"\x7b")]
    began = time.process_time()
    with contextlib.suppress(TooLarge, Malformed):
        channel.decode(b"R" + parts[0] + parts[1])
    assert time.process_time() - began < 0.5


def test_a_decimal_of_a_megabyte_is_read_fast_or_refused() -> None:
    text = b"7" * (LARGEST - 100)
    began = time.process_time()
    with contextlib.suppress(TooLarge, Malformed):
        channel.decode(b"D" + struct.pack("<I", len(text)) + text)
    assert time.process_time() - began < 0.5


def test_text_beyond_unicode_travels() -> None:
    assert there_and_back("\ud800 \udfff \udcff \U0010ffff \0") == "\ud800 \udfff \udcff \U0010ffff \0"


def test_true_and_one_are_two_things_and_equal() -> None:
    assert same(there_and_back([True, 1, 1.0, False, 0]), [True, 1, 1.0, False, 0])
    assert there_and_back(True) == 1


def test_a_number_that_is_none_stays_one() -> None:
    assert math.isnan(there_and_back(math.nan))
    assert math.copysign(1, there_and_back(-0.0)) == -1


@pytest.mark.parametrize(
    "value",
    [
        range(channel.MOST + 1),
        range(10**30),
        range(0, -(10**6), -3),
        Decimal("1E+10001"),
        Decimal("1E-999999"),
        Fraction(1, 1 << (4 * channel.DIGITS)),
        set(range(channel.KEYS + 1)),
        dict.fromkeys(range(channel.KEYS + 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_cost_its_reader_much_is_too_large(value: object) -> None:
    with pytest.raises(channel.TooLarge):
        channel.decode(channel.encode(value))


@pytest.mark.parametrize(
    "value",
    [range(channel.MOST), Decimal("1E+10000"), set(range(channel.KEYS))],
    ids=lambda value: type(value).__name__,
)
def test_what_is_just_small_enough_arrives(value: object) -> None:
    assert channel.decode(channel.encode(value)) == (value, True)
