# Text into pieces: the patterns of cl100k and o200k as a scanner over UTF-8.
#
# A piece is what one match of tiktoken's regular expression would be; merges never cross its end.
# One byte is looked at a small constant number of times, whatever the text. A scan may pause at any
# place and go on later, so that a piece of a megabyte does not hold its caller.
#
#   next_piece(): WHOLE -> [begin, at) is a piece; PAUSED -> call again with a later `stop`.
#
# What an alternative of the expression needs to remember is one pointer, `mark`:
#   cl100k  '(?i:[sdmt]|ll|ve|re)                       begin()
#           [^\r\n\p{L}\p{N}]?+\p{L}++                  begin() -> LETTERS
#           \p{N}{1,3}+                                 begin()
#            ?[^\s\p{L}\p{N}]++[\r\n]*+                 begin() -> SYMBOLS -> NEWLINES
#           \s++$|\s*[\r\n]|\s+(?!\S)|\s                SPACES       mark: behind the last newline
#   o200k   two alternatives for words, with U = upper case, caseless, marks and
#           l = lower case, caseless, marks: .?U*l+('s)? and .?U+l*('s)?
#                                                       begin() -> UPPERS -> LOWERS
#                                                               mark: behind the last of U and l
#           \p{N}{1,3}, spaces and symbols nearly as above

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastgate._core.jsonchars cimport Bytes, __builtin_ctzll, load8

cdef extern from "codepoints.h" nogil:
    const uint8_t* fg_block_of
    const uint8_t* fg_classes
    enum:
        OTHER "FG_OTHER"
        MARK "FG_MARK"
        UPPER "FG_UPPER"
        LOWER "FG_LOWER"
        CASELESS "FG_CASELESS"
        NUMBER "FG_NUMBER"
        SPACE "FG_SPACE"
        NEWLINE "FG_NEWLINE"

cdef enum:
    LETTER = UPPER | LOWER | CASELESS
    SYMBOL = OTHER | MARK

    # What plain_word() reads: a prefix, 24 letters and what follows.
    PLAIN_BYTES = 32

cdef extern from *:
    """
    #define FG_EACH UINT64_C(0x0101010101010101)
    """
    const uint64_t EACH "FG_EACH"

cdef enum Pattern:
    CL100K
    O200K

cdef enum Stage:
    BEGIN
    LETTERS
    UPPERS
    LOWERS
    SYMBOLS
    NEWLINES
    SPACES

cdef struct Scan:
    Bytes begin             # of the piece
    Bytes at                # everything before is scanned
    Bytes end               # of the text
    Bytes word              # o200k: where its letters begin, behind a prefix
    Bytes mark              # see above; NULL: there is none
    Pattern pattern
    Stage stage
    bint malformed          # something was not UTF-8; the piece means nothing


# hot: begin

cdef inline uint8_t class_of(Scan* scan, Bytes p, Py_ssize_t* size) noexcept nogil:
    # The class of the character at p, and how many bytes it has. What is not UTF-8 (RFC 3629 4)
    # counts as a symbol, as U+FFFD would.
    cdef uint32_t c = p[0]
    cdef Py_ssize_t left = scan.end - p
    cdef uint32_t least
    if c < 0x80:
        size[0] = 1
        return fg_classes[c]
    if 0xC2 <= c < 0xE0 and left >= 2 and is_inner(p[1]):
        size[0] = 2
        c = (c & 0x1F) << 6 | (p[1] & 0x3F)
        least = 0x80
    elif 0xE0 <= c < 0xF0 and left >= 3 and is_inner(p[1]) and is_inner(p[2]):
        size[0] = 3
        c = (c & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F)
        least = 0x800
    elif (0xF0 <= c < 0xF5 and left >= 4
            and is_inner(p[1]) and is_inner(p[2]) and is_inner(p[3])):
        size[0] = 4
        c = (c & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F)
        least = 0x10000
    else:
        least = 0x110000
    if c < least or c > 0x10FFFF or 0xD800 <= c < 0xE000:
        scan.malformed = True
        size[0] = 1
        return OTHER
    return fg_classes[fg_block_of[c >> 7] << 7 | (c & 0x7F)]


cdef inline Py_ssize_t plain_word(Bytes p, Pattern pattern) noexcept nogil:
    # The size of the piece at p if it is an ASCII word of common shape, else 0: next_piece() knows.
    # Eight bytes a step, as in jsonchars.pxd; there must be PLAIN_BYTES.
    cdef Bytes word = p
    cdef Py_ssize_t size = 0
    # o200k: upper case in the first place only.
    cdef uint64_t fold = EACH * 0x20 if pattern == CL100K else 0x20
    cdef uint64_t bytes, low, others
    if p[0] < 0x80 and fg_classes[p[0]] & (OTHER | SPACE) and p[0] != c"'":
        word += 1
    while size < PLAIN_BYTES - 8:
        bytes = load8(word + size) | fold
        low = bytes & EACH * 0x7F
        # The high bit of each byte that is not in a .. z.
        others = ~(low + EACH * (0x80 - c'a')) | (low + EACH * (0x7F - c'z')) | bytes
        others &= EACH * 0x80
        if others:
            size += __builtin_ctzll(others) >> 3
            break
        size += 8
        if pattern == O200K:
            fold = 0
    if size == 0 or size >= PLAIN_BYTES - 8 or word[size] >= 0x80:
        return 0
    if pattern == O200K and (word[size] == c"'" or (size == 1 and word[0] < c'a')):
        return 0
    return word + size - p


cdef inline bint is_inner(uint8_t c) noexcept nogil:
    return (c & 0xC0) == 0x80


cdef inline void skip(Scan* scan, Bytes stop, unsigned int wanted) noexcept nogil:
    # Move `at` behind the characters of the wanted classes, as far as `stop`.
    cdef Bytes p = scan.at
    cdef Py_ssize_t size = 1
    while p < stop:
        if p[0] < 0x80:
            if not fg_classes[p[0]] & wanted:
                break
            p += 1
        else:
            if not class_of(scan, p, &size) & wanted:
                break
            p += size
    scan.at = p


cdef inline Py_ssize_t contraction(Bytes p, Bytes end) noexcept nogil:
    # How many bytes of '(?i:s|t|re|ve|m|ll|d) are at p; 0: none.
    cdef uint8_t c, d
    if end - p < 2 or p[0] != c"'":
        return 0
    c = p[1] | 0x20
    if c == c's' or c == c't' or c == c'm' or c == c'd':
        return 2
    if end - p < 3:
        return 0
    # U+017F, the long s, is an s where case does not count; no other letter here has such a twin.
    if p[1] == 0xC5 and p[2] == 0xBF:
        return 3
    d = p[2] | 0x20
    if (c == c'r' and d == c'e') or (c == c'v' and d == c'e') or (c == c'l' and d == c'l'):
        return 3
    return 0


cdef inline bint paused(Scan* scan, Bytes stop) noexcept nogil:
    return stop <= scan.at < scan.end


cdef inline bint next_piece(Scan* scan, Bytes stop) noexcept nogil:
    # Find the end of the piece at `begin`, looking no further than a little behind `stop`.
    # False: paused. Needs begin < end.
    if scan.stage == BEGIN and begin(scan):
        return True
    if scan.stage == LETTERS:
        skip(scan, stop, LETTER)
        return not paused(scan, stop)
    if scan.stage == UPPERS or scan.stage == LOWERS:
        return word_end(scan, stop)
    if scan.stage == SPACES:
        return space_end(scan, stop)
    if scan.stage == SYMBOLS:
        skip(scan, stop, SYMBOL)
        if paused(scan, stop):
            return False
        scan.stage = NEWLINES
    skip_newlines(scan, stop)
    return not paused(scan, stop)


cdef inline bint begin(Scan* scan) noexcept nogil:
    # Decide which alternative matches at `begin`. True: and here it ends.
    cdef Bytes p = scan.begin
    cdef Py_ssize_t size = 1
    cdef Py_ssize_t size_next = 1
    cdef uint8_t kind = class_of(scan, p, &size)
    cdef uint8_t kind_next = 0
    cdef unsigned int of_words = LETTER if scan.pattern == CL100K else LETTER | MARK
    scan.mark = NULL
    if kind & LETTER:
        return begin_word(scan, p)
    if kind == NUMBER:
        return skip_number(scan, p + size)
    if p[0] == c"'" and scan.pattern == CL100K:
        scan.at = p + contraction(p, scan.end)
        if scan.at > p:
            return True
    if p + size < scan.end:
        kind_next = class_of(scan, p + size, &size_next)
    if kind != NEWLINE and kind_next & of_words:
        return begin_word(scan, p + size)
    if kind & of_words:
        return begin_word(scan, p)
    scan.at = p
    scan.stage = SPACES
    if kind & SYMBOL or (p[0] == c' ' and kind_next & SYMBOL):
        scan.at = p + size
        scan.stage = SYMBOLS
    return False


cdef inline bint begin_word(Scan* scan, Bytes word) noexcept nogil:
    scan.word = scan.at = word
    scan.stage = LETTERS if scan.pattern == CL100K else UPPERS
    return False


cdef inline bint skip_number(Scan* scan, Bytes p) noexcept nogil:
    # One digit stands before p; two more may follow.
    cdef Py_ssize_t size = 1
    cdef int _n
    for _n in range(2):
        if p == scan.end or class_of(scan, p, &size) != NUMBER:
            break
        p += size
    scan.at = p
    return True


cdef inline void skip_newlines(Scan* scan, Bytes stop) noexcept nogil:
    cdef Bytes p = scan.at
    while p < stop and (p[0] == c'\n' or p[0] == c'\r' or (p[0] == c'/' and scan.pattern == O200K)):
        p += 1
    scan.at = p


cdef inline bint word_end(Scan* scan, Bytes stop) noexcept nogil:
    # o200k. U* is greedy and gives back as little as l+ needs: when no lower case follows, the last
    # caseless letter or mark is what l+ matches. Without one the second alternative matches, all of
    # U+; but a prefix that is a mark is already a word by the first.
    cdef Py_ssize_t size = 1
    cdef uint8_t kind = 0
    if scan.stage == UPPERS:
        while scan.at < stop:
            kind = class_of(scan, scan.at, &size)
            if not kind & (UPPER | CASELESS | MARK):
                break
            scan.at += size
            if kind != UPPER:
                scan.mark = scan.at
        if paused(scan, stop):
            return False
        if scan.at < scan.end and kind == LOWER:
            scan.stage = LOWERS
        elif scan.mark != NULL:
            scan.at = scan.mark
        elif scan.word > scan.begin and class_of(scan, scan.begin, &size) == MARK:
            scan.at = scan.word
    if scan.stage == LOWERS:
        skip(scan, stop, LOWER | CASELESS | MARK)
        if paused(scan, stop):
            return False
    scan.at += contraction(scan.at, scan.end)
    return True


cdef inline bint space_end(Scan* scan, Bytes stop) noexcept nogil:
    cdef Bytes p = scan.at
    cdef Py_ssize_t size = 1
    cdef uint8_t kind
    while p < stop:
        kind = class_of(scan, p, &size)
        if not kind & (SPACE | NEWLINE):
            break
        p += size
        if kind == NEWLINE:
            scan.mark = p
    scan.at = p
    if paused(scan, stop):
        return False
    if p == scan.end and (scan.pattern == CL100K or scan.mark == NULL):
        return True
    if scan.mark != NULL:
        scan.at = scan.mark
        return True
    # The last one belongs to what follows, unless it is the only one.
    p -= 1
    while is_inner(p[0]):
        p -= 1
    if p > scan.begin:
        scan.at = p
    return True

# hot: end
