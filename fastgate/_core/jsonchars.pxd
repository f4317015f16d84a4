# Character kernels that jscan and sse share: pure functions over pointers.
# Eight bytes are tested in one word (SWAR): that needs no CPU extension.

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, strlen

ctypedef const unsigned char* Bytes

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t fg_load8(const unsigned char *p) {
        uint64_t word;
        memcpy(&word, p, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        return word;
    }
    """
    uint64_t load8 "fg_load8"(Bytes p) noexcept nogil
    int __builtin_ctzll(unsigned long long word) noexcept nogil

cdef enum:
    # The states of a number's automaton (RFC 8259 6); those from NUMBER_ZERO on may end it.
    NUMBER_MINUS = 1
    NUMBER_DOT
    NUMBER_E
    NUMBER_E_SIGN
    NUMBER_ZERO
    NUMBER_INTEGER
    NUMBER_FRACTION
    NUMBER_EXPONENT


# hot: begin

cdef inline uint64_t bytes_equal(uint64_t word, uint64_t repeated) noexcept nogil:
    # The high bit of each byte of `word` that equals the one repeated. Bits above the lowest may be
    # wrong (a borrow runs upwards), the lowest never is; only that one is used.
    cdef uint64_t x = word ^ repeated
    return (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL


cdef inline Bytes skip_plain(Bytes p, Bytes end, uint64_t high) noexcept nogil:
    # The first byte in [p, end) that is '"', '\' or a control character, else `end`.
    # `high` 0x8080808080808080 also stops at bytes above 0x7f, 0 passes them.
    cdef uint64_t word, found
    while end - p >= 8:
        word = load8(p)
        found = (
            bytes_equal(word, 0x2222222222222222ULL)
            | bytes_equal(word, 0x5C5C5C5C5C5C5C5CULL)
            | ((word - 0x2020202020202020ULL) & ~word & 0x8080808080808080ULL)
            | (word & high)
        )
        if found:
            return p + (__builtin_ctzll(found) >> 3)
        p += 8
    while p < end and p[0] >= 0x20 and p[0] != c'"' and p[0] != c'\\' and not (p[0] & high):
        p += 1
    return p


cdef inline Bytes skip_line(Bytes p, Bytes end) noexcept nogil:
    # The first CR or LF in [p, end), else `end`.
    cdef uint64_t word, found
    while end - p >= 8:
        word = load8(p)
        found = bytes_equal(word, 0x0A0A0A0A0A0A0A0AULL) | bytes_equal(word, 0x0D0D0D0D0D0D0D0DULL)
        if found:
            return p + (__builtin_ctzll(found) >> 3)
        p += 8
    while p < end and p[0] != c'\n' and p[0] != c'\r':
        p += 1
    return p


cdef inline bint same(Bytes p, Py_ssize_t n, const char* name) noexcept nogil:
    return n == <Py_ssize_t>strlen(name) and memcmp(p, name, n) == 0


cdef inline int hex_value(unsigned char c) noexcept nogil:
    # -1: no hexadecimal digit
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    return -1


cdef inline int number_step(int state, unsigned char c) noexcept nogil:
    # The state behind one more byte; 0: this byte does not continue the number. State 0 begins one.
    cdef bint digit = c'0' <= c <= c'9'
    if state == NUMBER_INTEGER or state == NUMBER_ZERO:
        if digit:
            return NUMBER_INTEGER if state == NUMBER_INTEGER else 0
        if c == c'.':
            return NUMBER_DOT
        return NUMBER_E if c == c'e' or c == c'E' else 0
    if state == 0 or state == NUMBER_MINUS:
        if digit:
            return NUMBER_ZERO if c == c'0' else NUMBER_INTEGER
        return NUMBER_MINUS if c == c'-' and state == 0 else 0
    if state == NUMBER_DOT or state == NUMBER_FRACTION:
        if digit:
            return NUMBER_FRACTION
        return NUMBER_E if (c == c'e' or c == c'E') and state == NUMBER_FRACTION else 0
    if digit:
        return NUMBER_EXPONENT
    return NUMBER_E_SIGN if (c == c'+' or c == c'-') and state == NUMBER_E else 0

# hot: end
