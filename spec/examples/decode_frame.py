"""Decodes a frame or an archive of dietgpu, in plain Python: python3 decode_frame.py FRAME OUT

An example of a third-party decoder, written from spec/FRAME.md, RANS.md, DICTIONARY.md and DIETGPU.md. Clauses stand
beside the steps. It is slow: everything is done byte by byte.
"""

import sys
from zlib import crc32  # crc32(bytes, seed) is `crc` of F-8.1

BYTES = [1, 2, 2, 4, 1, 1]  # F-4.1


def rule(clause, holds, code=10):
    if not holds:
        print(f"{'refused' if code == 10 else 'unsupported'}: {clause}", file=sys.stderr)
        sys.exit(code)


class Fields:
    """Takes fields off the front of a byte string."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, clause, n):
        rule(clause, n <= len(self.data) - self.at)
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, clause, n):
        return int.from_bytes(self.take(clause, n), "little")

    def numbers(self, clause, n, count):
        return [self.number(clause, n) for _ in range(count)]

    def zeros(self, n):
        rule("F-1.2", not any(self.take("F-6.2", n)))

    def pad(self, to):
        self.zeros(-self.at % to)


def slots(f, scale_bits):
    """R-2.1 to R-2.4: the symbol of each slot, and the cumulative frequencies."""
    rule("R-2.1", 9 <= scale_bits <= 12)
    rule("R-2.2", sum(f) == 1 << scale_bits)
    symbols = [s for s in range(256) for _ in range(f[s])]
    return symbols, [sum(f[:s]) for s in range(256)]


def rans(f, scale_bits, tables, states, words, n):
    """RANS.md, section 5."""
    symbols, c = tables
    x, words, out = list(states), list(words), bytearray(n)
    rule("R-5.3", all(1 << 15 <= state < 1 << 31 for state in x))
    for step in range((n + 31) // 32 - 1, -1, -1):
        needy = []
        for i in range(32 * step, min(n, 32 * step + 32)):
            lane, r = i % 32, x[i % 32] & ((1 << scale_bits) - 1)
            s = out[i] = symbols[r]
            x[lane] = f[s] * (x[lane] >> scale_bits) + r - c[s]
            if x[lane] < 1 << 15:
                needy.append(lane)
        rule("R-5.4", len(needy) <= len(words))
        for lane in reversed(needy):
            x[lane] = x[lane] << 16 | words.pop()
    rule("R-5.4", not words)
    rule("R-5.5", all(state == 1 << 15 for state in x))
    return bytes(out)


def strings(w, costs, limit, remainder):
    """DICTIONARY.md, section 2: the strings by number."""
    order = sorted(costs, key=lambda s: (costs[s][1], s))  # V-2.3
    extra = remainder

    def tree(string, cost):
        yield string, cost
        if len(string) < 7:
            for s in order:
                if cost + costs[s][1] <= limit + 1:
                    yield from tree(string + bytes([s]), cost + costs[s][1])

    found = []
    for s in order:
        for string, cost in tree(bytes([s]), costs[s][0]):
            if len(string) > 1 and cost == limit + 1:  # V-2.4, 3
                extra -= 1
                if extra < 0:
                    continue
            found.append(string)
            rule("V-2.5", len(found) <= 1 << w)
    return found


def chunk(w, dictionary, codes, n):
    """DICTIONARY.md, section 3."""
    bits = int.from_bytes(codes, "little")
    numbers = [bits >> w * i & ((1 << w) - 1) for i in range(8 * len(codes) // w)]
    out, t = bytearray(), 0
    while len(out) < n:
        rule("V-3.3", t < len(numbers))
        out += dictionary[numbers[t] if numbers[t] < len(dictionary) else 0]  # V-2.6
        t += 1
    rule("V-3.3", len(out) == n and len(numbers) == (t + 7) // 8 * 8 and not any(numbers[t:]))
    return bytes(out)


def merge(kind, coded, planes):
    """F-4.1."""
    out = bytearray()
    for i, c in enumerate(coded):
        r = [plane[i] for plane in planes]
        if kind == 1:
            c = (r[0] & 0x80) << 8 | c << 7 | r[0] & 0x7F
        elif kind == 2:
            c = c << 8 | r[0]
        elif kind == 3:
            c = (r[2] & 0x80) << 24 | c << 23 | (r[2] & 0x7F) << 16 | r[1] << 8 | r[0]
        out += c.to_bytes(BYTES[kind], "little")
    return bytes(out)


def read_header(fields):
    """FRAME.md, section 3."""
    rule("F-3.1", fields.take("F-3.1", 8) == b"\x89DF11\r\n\x1a")
    rule("F-1.3", fields.number("F-3.1", 1) == 1, 11)
    kind, codec, model, scale, rank = fields.numbers("F-3.1", 1, 5)
    rule("F-1.3", kind < 6 and codec in (0, 1, 3) and model < 3, 11)
    rule("F-3.1", rank <= 32)
    fields.zeros(2)
    n, size = fields.number("F-3.1", 8), fields.number("F-3.1", 4)
    rule("F-3.1", size % 64 == 0 and 4096 <= size <= 65536)
    fields.zeros(4)
    product = 1
    for dimension in fields.numbers("F-3.1", 8, rank):
        product *= dimension
    rule("F-3.2", product == n and n * BYTES[kind] < 1 << 64)
    rule("F-3.3", (codec, model) in ((0, 0), (1, 1), (3, 2)) and (n > 0 or codec == 0) and (scale == 0 or model > 0))
    rule("F-3.3", codec != 3 or size % 4096 == 0)
    table = None
    if model > 0:
        marks = int.from_bytes(fields.take("F-3.1", 32), "little")
        alphabet = [s for s in range(256) if marks >> s & 1]
    if model == 1:
        f = [0] * 256
        for s in alphabet:
            f[s] = fields.number("F-3.1", 2)
            rule("F-3.3", f[s] > 0)
        table = f, scale, slots(f, scale)
    if model == 2:
        rule("F-3.1", scale in (8, 12))
        first, following = fields.take("F-3.1", len(alphabet)), fields.take("F-3.1", len(alphabet))
        rule("F-3.3", alphabet and all(first) and all(following))
        limit, remainder = fields.numbers("F-3.1", 2, 2)
        table = scale, strings(scale, dict(zip(alphabet, zip(first, following))), limit, remainder)
    fields.pad(4)
    rule("F-3.1", crc32(fields.data[:fields.at]) == fields.number("F-3.1", 4))
    fields.pad(16)
    return kind, codec, n, size, table


def read_block(fields, j, b, kind, table):
    """F-5.2 to F-5.4: the elements of a block of codec raw or rANS, and its checksum."""
    start = fields.at
    checksum, w, of_coded = fields.numbers("F-5.2", 4, 3)
    fields.zeros(4)
    if table is None:
        rule("F-5.3", w == 0 and of_coded == 0)
        elements = fields.take("F-5.2", b * BYTES[kind])
    else:
        f, scale, tables = table
        rule("F-5.2", w % 2 == 0)
        rule("F-5.3", w <= 2 * b)
        states, words = fields.numbers("F-5.2", 4, 32), fields.numbers("F-5.2", 2, w // 2)
        fields.pad(16)
        planes = [fields.take("F-5.2", b) for _ in range(BYTES[kind] - 1)]
        coded = rans(f, scale, tables, states, words, b)
        rule("F-5.4", crc32(coded) == of_coded)
        elements = merge(kind, coded, planes)
    fields.pad(16)
    rule("F-5.2", crc32(fields.data[start + 4:fields.at], j) == checksum)
    return elements, (start, checksum)


def read_chunks(fields, n, size, kind, table):
    """F-5.5 to F-5.8: all elements of a tensor of codec dictionary, and the directory."""
    w, dictionary = table
    groups = fields.numbers("F-5.5", 2, (n + 4095) // 4096)
    rule("F-5.5", all(1 <= g <= 512 for g in groups))
    planes = []
    for _ in range(BYTES[kind] - 1):
        fields.pad(256)
        planes.append(fields.take("F-5.5", n))
    fields.pad(16)
    elements, directory = b"", []
    for j in range((n + size - 1) // size):
        start, coded, covered, codes = fields.at, b"", b"", b""
        for i in range(j * size // 4096, min(len(groups), (j + 1) * size // 4096)):
            part = fields.take("F-5.5", w * groups[i])
            coded += chunk(w, dictionary, part, min(4096, n - 4096 * i))
            covered, codes = covered + groups[i].to_bytes(2, "little"), codes + part
        raw = [plane[j * size:j * size + len(coded)] for plane in planes]
        directory.append((start, crc32(covered + codes + b"".join(raw), j)))
        elements += merge(kind, coded, raw)
    fields.pad(16)
    return elements, directory


def decode_frame(frame):
    fields = Fields(frame)
    kind, codec, n, size, table = read_header(fields)
    if codec == 3:
        elements, directory = read_chunks(fields, n, size, kind, table)
    else:
        elements, directory = b"", []
        rule("F-6.2", (n + size - 1) // size * 28 + 24 <= len(frame))  # before anything is done for each block
        for j in range((n + size - 1) // size):
            some, entry = read_block(fields, j, min(size, n - j * size), kind, table)
            elements += some
            directory.append(entry)
    start = fields.at
    for entry in directory:
        rule("F-6.1", (fields.number("F-6.1", 8), fields.number("F-6.1", 4)) == entry)
    rule("F-6.2", fields.numbers("F-6.2", 8, 2) == [start, len(directory)])
    fields.number("F-6.2", 4)  # F-6.3
    rule("F-6.2", crc32(frame[start:fields.at]) == fields.number("F-6.2", 4))
    rule("F-6.2", fields.at == len(frame))
    return elements


def check(fields, options, checksum, data):
    """G-4.1."""
    found = 0
    for byte in data:
        found ^= byte
    rule("G-4.1", not options & 16 or checksum == found)


def ans(fields, is_inner=False):
    """DIETGPU.md, section 2."""
    rule("G-2.2", fields.number("G-2.2", 4) == 0xD00D0001)
    blocks, n, words, options, checksum = fields.numbers("G-2.2", 4, 5)
    fields.take("G-2.2", 8)
    rule("G-2.2", blocks == (n + 4095) // 4096)
    rule("G-2.4", 9 <= options & 15 <= 11)
    rule("G-5.1", not is_inner or not options & 16)
    f = fields.numbers("G-2.2", 2, 256)
    tables = slots(f, options & 15) if n > 0 else None
    rule("G-2.2", 128 * blocks <= len(fields.data) - fields.at)
    states = [fields.numbers("G-2.2", 4, 32) for _ in range(blocks)]
    entries = [fields.numbers("G-2.2", 4, 2) for _ in range(blocks)]
    fields.take("G-2.2", 8 * (blocks % 2))
    words = fields.take("G-2.2", 2 * words)
    out, at = b"", 0
    for j, (sizes, start) in enumerate(entries):
        b, count = min(4096, n - 4096 * j), sizes & 0xFFFF
        rule("G-2.3", sizes >> 16 == b and start == at)
        at += (count + 7) // 8 * 8
        rule("G-2.2", 2 * at <= len(words))
        of_block = [int.from_bytes(words[2 * i:2 * i + 2], "little") for i in range(start, start + count)]
        out += rans(f, options & 15, tables, states[j], of_block, b)
    rule("G-2.2", 2 * at == len(words))
    check(fields, options, checksum, out)
    return out


def decode_archive(archive):
    fields = Fields(archive)
    if archive[:4] != (0xF00F0001).to_bytes(4, "little"):
        return ans(fields)
    _, n, options, checksum = fields.numbers("G-5.1", 4, 4)
    rule("G-5.1", 1 <= options & 15 <= 3)
    size = [0, 2, 2, 4][options & 15]
    planes = []
    for width in [2, 1] if size == 4 else [1]:
        planes.append(fields.take("G-5.1", width * n))
        fields.take("G-5.1", -(width * n) % 16)
    coded = ans(fields, True)
    rule("G-5.1", len(coded) == n)
    out = bytearray()
    for i, c in enumerate(coded):  # G-5.2
        if options & 15 == 1:
            bits = c << 8 | planes[0][i]
        elif options & 15 == 2:
            bits = (planes[0][i] & 1) << 15 | c << 7 | planes[0][i] >> 1
        else:
            r = planes[1][i] << 16 | planes[0][2 * i + 1] << 8 | planes[0][2 * i]
            bits = (r & 1) << 31 | c << 23 | r >> 1
        out += bits.to_bytes(size, "little")
    check(fields, options, checksum, out[:n])  # G-5.3
    return bytes(out)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    decoded = decode_archive(data) if data[2:4] in (b"\x0d\xd0", b"\x0f\xf0") else decode_frame(data)
    with open(sys.argv[2], "wb") as file:
        file.write(decoded)
