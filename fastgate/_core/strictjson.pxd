# RFC 8259 read strictly, in one piece: kernels that check and step over, for jscan.pyx.
#
# Each takes where to begin and the input's end, and returns the place behind what it read, or NULL
# after fail(), which says what was expected and where. Nothing recurses: a level of nesting costs a
# byte in skip_value().
# Stricter than most readers: well-formed UTF-8 only, and keys without half a surrogate pair.

from libc.string cimport memcmp

from .jsonchars cimport Bytes, hex_value, skip_plain

cdef enum:
    # Python's own reader stops near 1,000 levels, orjson at 1,024; real bodies have some 10.
    MAX_DEPTH = 128

cdef struct Reading:
    const char* fault       # what was expected
    Bytes fault_at          # where,
    Bytes fault_end         # and the end of what came instead
    Bytes string_end        # the closing quote of the string last read
    bint escaped            # that string has escapes,
    bint lone_surrogate     # one of them half a surrogate pair


# hot: begin

cdef inline Bytes fail(Reading* r, const char* expected, Bytes at, Bytes end) noexcept nogil:
    r.fault = expected
    r.fault_at = at
    r.fault_end = end
    return NULL


cdef inline Bytes skip_space(Bytes p, Bytes end) noexcept nogil:
    while p < end and (p[0] == c' ' or p[0] == c'\n' or p[0] == c'\r' or p[0] == c'\t'):
        p += 1
    return p


cdef inline Bytes skip_digits(Bytes p, Bytes end) noexcept nogil:
    while p < end and c'0' <= p[0] <= c'9':
        p += 1
    return p


cdef inline bint is_tail(Bytes p) noexcept nogil:
    return p[0] & 0xC0 == 0x80


cdef inline int utf8_length(Bytes p, Bytes end) noexcept nogil:
    # Of the multibyte character at p; 0: malformed.
    # RFC 3629 4: no overlong form, no surrogate, nothing above U+10FFFF.
    cdef Py_ssize_t room = end - p
    if 0xC2 <= p[0] <= 0xDF:
        return 2 if room >= 2 and is_tail(p + 1) else 0
    if 0xE0 <= p[0] <= 0xEF:
        if room < 3 or not is_tail(p + 1) or not is_tail(p + 2):
            return 0
        if (p[0] == 0xE0 and p[1] < 0xA0) or (p[0] == 0xED and p[1] > 0x9F):
            return 0
        return 3
    if 0xF0 <= p[0] <= 0xF4:
        if room < 4 or not is_tail(p + 1) or not is_tail(p + 2) or not is_tail(p + 3):
            return 0
        if (p[0] == 0xF0 and p[1] < 0x90) or (p[0] == 0xF4 and p[1] > 0x8F):
            return 0
        return 4
    return 0


cdef inline int hex_unit(Bytes p) noexcept nogil:
    # The UTF-16 unit of four hexadecimal digits; -1: they are none.
    cdef int i, digit, unit = 0
    for i in range(4):
        digit = hex_value(p[i])
        if digit < 0:
            return -1
        unit = unit << 4 | digit
    return unit


cdef inline int escaped_byte(unsigned char c) noexcept nogil:
    # What \c stands for.
    if c == c'n':
        return c'\n'
    if c == c't':
        return c'\t'
    if c == c'r':
        return c'\r'
    if c == c'b':
        return c'\b'
    return c'\f' if c == c'f' else c


cdef inline int write_utf8(unsigned char* out, int c) noexcept nogil:
    if c < 0x80:
        out[0] = c
        return 1
    if c < 0x800:
        out[0] = 0xC0 | c >> 6
        out[1] = 0x80 | c & 0x3F
        return 2
    if c < 0x10000:
        out[0] = 0xE0 | c >> 12
        out[1] = 0x80 | c >> 6 & 0x3F
        out[2] = 0x80 | c & 0x3F
        return 3
    out[0] = 0xF0 | c >> 18
    out[1] = 0x80 | c >> 12 & 0x3F
    out[2] = 0x80 | c >> 6 & 0x3F
    out[3] = 0x80 | c & 0x3F
    return 4


cdef inline Py_ssize_t unescape(
    Bytes p, Bytes end, unsigned char* out, Py_ssize_t room
) noexcept nogil:
    # The inside of a valid JSON string as UTF-8; its size, or room + 1: it is longer.
    # `out` has room + 4 bytes.
    cdef Py_ssize_t n = 0
    cdef int c, low
    while p < end and n <= room:
        if p[0] != c'\\':
            out[n] = p[0]
            n += 1
            p += 1
            continue
        if p[1] != c'u':
            c = escaped_byte(p[1])
            p += 2
        else:
            c = hex_unit(p + 2)
            p += 6
            if 0xD800 <= c <= 0xDBFF and end - p >= 6 and p[0] == c'\\' and p[1] == c'u':
                low = hex_unit(p + 2)
                if 0xDC00 <= low <= 0xDFFF:
                    c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00)
                    p += 6
        n += write_utf8(out + n, c)
    return n if n <= room else room + 1


cdef inline Bytes skip_escape(Reading* r, Bytes p, Bytes end) noexcept nogil:
    cdef int unit
    r.escaped = True
    if end - p >= 2 and p[1] != c'u':
        if p[1] in (c'n', c'"', c'\\', c't', c'/', c'r', c'b', c'f'):
            return p + 2
    elif end - p >= 6:
        unit = hex_unit(p + 2)
        if 0xD800 <= unit <= 0xDBFF and end - p >= 12 and p[6] == c'\\' and p[7] == c'u':
            if 0xDC00 <= hex_unit(p + 8) <= 0xDFFF:
                return p + 12
        if unit >= 0:
            if 0xD800 <= unit <= 0xDFFF:
                r.lone_surrogate = True
            return p + 6
    return fail(r, b"an escape that JSON knows", p, p + 6)


cdef inline Bytes skip_string(Reading* r, Bytes p, Bytes end) noexcept nogil:
    cdef int length
    r.escaped = r.lone_surrogate = False
    p += 1
    while True:
        p = skip_plain(p, end, 0x8080808080808080ULL)
        if p == end:
            return fail(r, b"'\"'", p, p)
        if p[0] == c'"':
            r.string_end = p
            return p + 1
        if p[0] == c'\\':
            p = skip_escape(r, p, end)
            if p == NULL:
                return NULL
        elif p[0] < 0x20:
            return fail(r, b"control characters written as escapes", p, p + 1)
        else:
            while p < end and p[0] >= 0x80:
                length = utf8_length(p, end)
                if length == 0:
                    return fail(r, b"UTF-8", p, p + 4)
                p += length


cdef inline Bytes skip_number(Reading* r, Bytes p, Bytes end) noexcept nogil:
    cdef Bytes at = p
    if p < end and p[0] == c'-':
        p += 1
    if p < end and p[0] == c'0':
        p += 1
    elif p < end and c'1' <= p[0] <= c'9':
        p = skip_digits(p, end)
    else:
        return fail(r, b"a number", at, p + 1)
    if p < end and p[0] == c'.':
        p += 1
        if p == end or not c'0' <= p[0] <= c'9':
            return fail(r, b"a digit behind '.'", p, p + 1)
        p = skip_digits(p, end)
    if p < end and (p[0] == c'e' or p[0] == c'E'):
        p += 1
        if p < end and (p[0] == c'+' or p[0] == c'-'):
            p += 1
        if p == end or not c'0' <= p[0] <= c'9':
            return fail(r, b"a digit of the exponent", p, p + 1)
        p = skip_digits(p, end)
    return p


cdef inline Bytes skip_scalar(Reading* r, Bytes p, Bytes end) noexcept nogil:
    if p < end:
        if p[0] == c'"':
            return skip_string(r, p, end)
        if p[0] == c'-' or c'0' <= p[0] <= c'9':
            return skip_number(r, p, end)
        if end - p >= 4 and (memcmp(p, b"true", 4) == 0 or memcmp(p, b"null", 4) == 0):
            return p + 4
        if end - p >= 5 and memcmp(p, b"false", 5) == 0:
            return p + 5
    return fail(r, b"a JSON value", p, p + 1)


cdef inline Bytes skip_key(Reading* r, Bytes p, Bytes end) noexcept nogil:
    # A key and its colon, up to the value.
    cdef Bytes at = p
    if p == end or p[0] != c'"':
        return fail(r, b"a key", p, p + 1)
    p = skip_string(r, p, end)
    if p == NULL:
        return NULL
    if r.lone_surrogate:
        return fail(r, b"keys without half a surrogate pair", at, p)
    p = skip_space(p, end)
    if p == end or p[0] != c':':
        return fail(r, b"':'", p, p + 1)
    return skip_space(p + 1, end)


cdef inline Bytes skip_value(Reading* r, Bytes p, Bytes end, int depth) noexcept nogil:
    # A value of any kind inside `depth` containers.
    cdef unsigned char[MAX_DEPTH] brackets      # the closing ones that are due
    cdef int outer = depth
    while True:
        if p < end and (p[0] == c'{' or p[0] == c'['):
            if depth == MAX_DEPTH:
                return fail(r, b"at most 128 levels", p, p + 1)
            brackets[depth] = p[0] + 2          # ASCII: '}' is '{' + 2, ']' is '[' + 2
            depth += 1
            p = skip_space(p + 1, end)
            if p == end or p[0] != brackets[depth - 1]:
                if brackets[depth - 1] == c'}':
                    p = skip_key(r, p, end)
                    if p == NULL:
                        return NULL
                continue
        else:
            p = skip_scalar(r, p, end)
            if p == NULL:
                return NULL
            p = skip_space(p, end) if depth > outer else p
        while depth > outer and p < end and p[0] == brackets[depth - 1]:
            depth -= 1
            p += 1
            p = skip_space(p, end) if depth > outer else p
        if depth == outer:
            return p
        if p == end or p[0] != c',':
            if brackets[depth - 1] == c'}':
                return fail(r, b"',' or '}'", p, p + 1)
            return fail(r, b"',' or ']'", p, p + 1)
        p = skip_space(p + 1, end)
        if brackets[depth - 1] == c'}':
            p = skip_key(r, p, end)
            if p == NULL:
                return NULL

# hot: end
