"""Random damage to bytes, as by disks, networks, editors and attackers."""

import json
import re
import struct

# Replacements for JSON values and for values in text headers.
WORDS = (b"null", b"-1", b"0", b"1e999", b"NaN", b'""', b'"x"', b"[]", b"{}", b"true")
WORDS += (b"99999999999999999999", b"1" * 5000, b"[" * 2000, b'{"a":' * 2000, b"\xff", b"\0")
VALUES = (None, -1, 0, 1, 2.5, 10**20, float("inf"), float("nan"), "", "x", "\n", "\0", [], {})
VALUES += (True, [1], [None], {"a": 1}, [[[]]], json.loads("[" * 60 + "]" * 60), "9" * 5000)
NUMBERS = (0, 1, 0x7F, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def damaged(content, generator):
    """Returns the content with random damage of one or more kinds, always different."""
    kinds = [flipped, cut, inserted, swapped, zeroed, renumbered, reworded]
    kinds += [revalued] * (len(kinds) if content[:1] in (b"{", b"[") else 0)
    result = content
    while result == content:
        for _ in range(1 if generator.random() < 0.7 else generator.integers(2, 5)):
            result = kinds[generator.integers(len(kinds))](result, generator)
    return result


def flipped(content, generator):
    result = bytearray(content)
    for _ in range(generator.integers(1, 9)):
        if result:
            result[_place(result, generator)] ^= 1 << generator.integers(8)
    return bytes(result)


def cut(content, generator):
    return content[: _place(content, generator)]


def inserted(content, generator):
    at, count = _place(content, generator), int(generator.integers(1, 65))
    more = generator.bytes(count) if generator.random() < 0.5 else content[at : at + count]
    return content[:at] + more + content[at:]


def swapped(content, generator):
    size = int(generator.integers(1, max(2, min(512, len(content) // 2))))
    one, other = sorted((_place(content, generator), _place(content, generator)))
    other = max(other, one + size)
    first, second = content[one : one + size], content[other : other + size]
    return content[:one] + second + content[one + size : other] + first + content[other + size :]


def zeroed(content, generator):
    at, size = _place(content, generator), int(generator.integers(1, 513))
    filler = (b"\0", b"\xff")[generator.integers(2)]
    return content[:at] + filler * len(content[at : at + size]) + content[at + size :]


def renumbered(content, generator):
    """Overwrites a number at random, such as a length in a header."""
    kind = ("<I", ">I", "<Q", "<H", ">Q")[generator.integers(5)]
    number = NUMBERS[generator.integers(len(NUMBERS))] & (2 ** (8 * struct.calcsize(kind)) - 1)
    at = _place(content, generator)
    return content[:at] + struct.pack(kind, number) + content[at + struct.calcsize(kind) :]


def reworded(content, generator):
    """Replaces something that looks like a number or text of JSON."""
    found = list(re.finditer(rb'"[^"\n]{0,40}"|-?\d+(\.\d+)?|true|false|null', content[: 2**16]))
    if not found:
        return flipped(content, generator)
    match = found[generator.integers(len(found))]
    word = WORDS[generator.integers(len(WORDS))]
    return content[: match.start()] + word + content[match.end() :]


def revalued(content, generator):
    """Replaces or removes a value of valid JSON."""
    lines = content.splitlines() if content.count(b"\n{") else [content]
    at = int(generator.integers(len(lines)))
    try:
        values = json.loads(lines[at])
    except (ValueError, RecursionError):
        return reworded(content, generator)
    spots = list(_spots(values)) if isinstance(values, dict | list) else []
    if spots:
        holder, key = spots[generator.integers(len(spots))]
        if generator.random() < 0.2:
            del holder[key]
        else:
            holder[key] = VALUES[generator.integers(len(VALUES))]
    else:
        values = VALUES[generator.integers(len(VALUES))]
    lines[at] = json.dumps(values).encode()
    return b"\n".join(lines) + b"\n"


def _spots(values):
    """(list or dict, index or key) of all values within."""
    for key, value in list(values.items() if isinstance(values, dict) else enumerate(values)):
        yield values, key
        if isinstance(value, dict | list):
            yield from _spots(value)


def _place(content, generator):
    """Half of them near one end, where headers and lists of members are."""
    length = max(1, len(content))
    if generator.random() < 0.5:
        return int(generator.integers(length))
    near = int(generator.integers(min(length, 256)))
    return near if generator.random() < 0.5 else length - 1 - near
