"""What candidate and judge say to each other: frames of plain data, never pickle, nothing that could be run.

A frame is a length of four bytes and that many bytes. A value is a tag of one byte and its content; numbers travel as
bits, never as text. What has no form of its own travels as *opaque*: equal to nothing, not even to itself.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

#: Bytes of a frame at most.
LARGEST = 1 << 20
#: Containers within containers at most.
DEEPEST = 60
#: Elements of one message at most, each of which costs the reader some tenths of a microsecond.
MOST = 100_000
#: Keys of one set or dict at most: even those of different hashes can be chosen to lie in one another's way.
KEYS = 25_000
#: Digits of a decimal or a fraction, or so many places before or behind the point.
DIGITS = 10_000
#: Keys of equal hash that a set or a dict may have: each new one is compared with all of them.
_ALIKE = 16

_LENGTH, _COUNT, _INT, _FLOAT, _COMPLEX = (struct.Struct(form) for form in ("<I", "<I", "<q", "<d", "<dd"))
_SMALL = range(-(1 << 63), 1 << 63)


class Malformed(Exception):
    """Bytes that are no message."""


class TooLarge(Exception):
    """A value that has too many elements, is nested too deep, or makes too many bytes."""


class Opaque:
    """Stands for a value that is not plain data."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


def frame(content: bytes) -> bytes:
    """A message with its length before it."""
    return _LENGTH.pack(len(content)) + content


def length(head: bytes) -> int:
    """What the first four bytes of a frame say; raises TooLarge."""
    (found,) = _LENGTH.unpack(head)
    if found > LARGEST:
        raise TooLarge
    return int(found)


def encode(value: object) -> bytes:
    """A value as bytes; raises TooLarge."""
    out: list[bytes] = []
    _put(value, out, 0)
    content = b"".join(out)
    if len(content) > LARGEST:
        raise TooLarge
    return content


def _put(value: Any, out: list[bytes], depth: int) -> None:
    if depth > DEEPEST or len(out) > 3 * MOST:
        raise TooLarge
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is None:
        for base in kind.__mro__:
            if (
                writer := _WRITERS.get(base) or _RARE.get((getattr(base, "__module__", ""), base.__qualname__))
            ) is not None:
                break
        else:
            writer = _put_opaque
    writer(value, out, depth)


def _put_opaque(value: object, out: list[bytes], depth: int) -> None:
    out.append(b"O")


def _put_none(value: None, out: list[bytes], depth: int) -> None:
    out.append(b"N")


def _put_bool(value: bool, out: list[bytes], depth: int) -> None:
    out.append(b"T" if value else b"F")


def _put_int(value: int, out: list[bytes], depth: int) -> None:
    value = int.__index__(value)
    if value in _SMALL:
        out.append(b"i" + _INT.pack(value))
        return
    size = (value.bit_length() + 8) // 8
    if size > LARGEST:
        raise TooLarge
    out.append(b"I" + _COUNT.pack(size) + value.to_bytes(size, "little", signed=True))


def _put_float(value: float, out: list[bytes], depth: int) -> None:
    out.append(b"d" + _FLOAT.pack(float.__float__(value)))


def _put_complex(value: complex, out: list[bytes], depth: int) -> None:
    value = complex.__complex__(value)
    out.append(b"c" + _COMPLEX.pack(value.real, value.imag))


def _put_bytes(value: bytes, out: list[bytes], depth: int, tag: bytes = b"b") -> None:
    if len(value) > LARGEST:
        raise TooLarge
    out.append(tag + _COUNT.pack(len(value)) + bytes(memoryview(value)))


def _put_bytearray(value: bytearray, out: list[bytes], depth: int) -> None:
    _put_bytes(bytes(memoryview(value)), out, depth, b"B")


def _put_str(value: str, out: list[bytes], depth: int) -> None:
    _put_bytes(str.encode(value, "utf-8", "surrogatepass"), out, depth, b"s")


def _put_range(value: range, out: list[bytes], depth: int) -> None:
    out.append(b"r")
    for part in (value.start, value.stop, value.step):
        _put_int(part, out, depth)


def _put_fraction(value: Any, out: list[bytes], depth: int) -> None:
    out.append(b"R")
    _put_int(value.numerator, out, depth)
    _put_int(value.denominator, out, depth)


def _put_decimal(value: Any, out: list[bytes], depth: int) -> None:
    sign, digits, exponent = value.as_tuple()
    text = f"{'-' * sign}{''.join(map(str, digits))}E{exponent}" if isinstance(exponent, int) else str(value)
    _put_bytes(text.encode(), out, depth, b"D")


def _elements(tag: bytes, parts: Callable[[Any], Iterable[object]]) -> Callable[[Any, list[bytes], int], None]:
    """Writes a container: its tag, how many elements, each element."""

    def put(value: Any, out: list[bytes], depth: int) -> None:
        found = list(parts(value))
        out.append(tag + _COUNT.pack(len(found)))
        for element in found:
            _put(element, out, depth + 1)

    return put


def _pairs(value: dict[object, object]) -> list[object]:
    return [part for pair in dict.items(value) for part in pair]


_WRITERS: dict[type, Callable[[Any, list[bytes], int], None]] = {
    type(None): _put_none,
    bool: _put_bool,
    int: _put_int,
    float: _put_float,
    complex: _put_complex,
    str: _put_str,
    bytes: _put_bytes,
    bytearray: _put_bytearray,
    range: _put_range,
    # The methods of the types themselves: a subclass cannot put others in their place.
    list: _elements(b"l", list.__iter__),
    tuple: _elements(b"t", tuple.__iter__),
    set: _elements(b"S", set.__iter__),
    frozenset: _elements(b"Z", frozenset.__iter__),
    dict: _elements(b"m", _pairs),
}
#: By name: whoever has no fractions need not load them to find out.
_RARE: dict[tuple[str, str], Callable[[Any, list[bytes], int], None]] = {
    ("fractions", "Fraction"): _put_fraction,
    ("decimal", "Decimal"): _put_decimal,
}


def decode(content: bytes) -> tuple[Any, bool]:
    """The value that bytes stand for, and whether all of it is plain; raises Malformed or TooLarge.

    Safe for bytes of any origin: the work is bounded, and nothing is made but plain values.
    """
    reader = _Reader(content)
    try:
        value = reader.value(0)
    except (IndexError, struct.error, ValueError, TypeError, ArithmeticError) as error:
        raise Malformed from error
    if reader.at != len(content):
        raise Malformed
    return value, not reader.opaque


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.at, self.left, self.opaque = content, 0, MOST, False

    def value(self, depth: int) -> Any:
        self.left -= 1
        if depth > DEEPEST or self.left < 0:
            raise TooLarge
        tag = self.content[self.at]
        self.at += 1
        return _READERS[tag](self, depth)

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        found = form.unpack_from(self.content, self.at)
        self.at += form.size
        return found

    def bytes(self) -> bytes:
        (size,) = self.unpack(_COUNT)
        found = self.content[self.at : self.at + size]
        if len(found) != size:
            raise Malformed
        self.at += size
        return found

    def elements(self, depth: int) -> list[Any]:
        (count,) = self.unpack(_COUNT)
        if count > self.left:
            raise TooLarge
        return [self.value(depth + 1) for _ in range(count)]

    def keys(self, depth: int) -> list[Any]:
        return _unlike(self.elements(depth))

    def mapping(self, depth: int) -> dict[Any, Any]:
        found = self.elements(depth)
        if len(found) % 2:
            raise Malformed
        return dict(zip(_unlike(found[::2]), found[1::2], strict=True))

    def decimal(self) -> Any:
        from decimal import Decimal

        found = Decimal(self.bytes().decode())
        if found.is_finite() and abs(found.adjusted()) > DIGITS:  # to make an integer of it would take a long time
            raise TooLarge
        return found

    def fraction(self, depth: int) -> Any:
        from fractions import Fraction

        above, below = self.integer(depth), self.integer(depth)
        if max(above.bit_length(), below.bit_length()) > 4 * DIGITS:  # so would their greatest common divisor
            raise TooLarge
        return Fraction(above, below)

    def integer(self, depth: int) -> int:
        found = self.value(depth)
        if type(found) is not int:
            raise Malformed
        return found

    def stranger(self) -> Opaque:
        self.opaque = True
        return Opaque()


def _short(value: range) -> range:
    """A range, unless a test that goes through it would take a long time or much memory."""
    if abs(value.stop - value.start) > MOST * abs(value.step):
        raise TooLarge
    return value


def _unlike(keys: list[Any]) -> list[Any]:
    """The keys, unless they are so many, or so many of one hash, that to make a dict of them could take a long time."""
    if len(keys) > KEYS or (len(keys) > _ALIKE and max(Counter(map(hash, keys)).values()) > _ALIKE):
        raise TooLarge
    return keys


def _unknown(reader: _Reader, depth: int) -> Any:
    raise Malformed


_READERS: list[Callable[[_Reader, int], Any]] = [_unknown] * 256
_READERS[ord("N")] = lambda reader, depth: None
_READERS[ord("T")] = lambda reader, depth: True
_READERS[ord("F")] = lambda reader, depth: False
_READERS[ord("i")] = lambda reader, depth: reader.unpack(_INT)[0]
_READERS[ord("I")] = lambda reader, depth: int.from_bytes(reader.bytes(), "little", signed=True)
_READERS[ord("d")] = lambda reader, depth: reader.unpack(_FLOAT)[0]
_READERS[ord("c")] = lambda reader, depth: complex(*reader.unpack(_COMPLEX))
_READERS[ord("s")] = lambda reader, depth: reader.bytes().decode("utf-8", "surrogatepass")
_READERS[ord("b")] = lambda reader, depth: reader.bytes()
_READERS[ord("B")] = lambda reader, depth: bytearray(reader.bytes())
_READERS[ord("l")] = lambda reader, depth: reader.elements(depth)
_READERS[ord("t")] = lambda reader, depth: tuple(reader.elements(depth))
_READERS[ord("S")] = lambda reader, depth: set(reader.keys(depth))
_READERS[ord("Z")] = lambda reader, depth: frozenset(reader.keys(depth))
_READERS[ord("m")] = lambda reader, depth: reader.mapping(depth)
_READERS[ord("r")] = lambda reader, depth: _short(range(*(reader.integer(depth) for _ in range(3))))
_READERS[ord("R")] = lambda reader, depth: reader.fraction(depth)
_READERS[ord("D")] = lambda reader, depth: reader.decimal()
_READERS[ord("O")] = lambda reader, depth: reader.stranger()
