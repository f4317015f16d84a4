# Character classes and small rules of HTTP/1.1 (RFC 9110, 9112, 3986). Pure functions over
# pointers: no state, no allocation. http1 alone uses them.

from libc.string cimport memcmp

ctypedef const unsigned char* Bytes

cdef extern from *:
    """
    /* The rules as the RFCs state them; the compiler folds them into one table of 256 bit sets. */
    #define FG_DIGIT(c) ((c) >= '0' && (c) <= '9')
    #define FG_UPPER(c) ((c) >= 'A' && (c) <= 'Z')
    #define FG_ALNUM(c) (FG_DIGIT(c) || FG_UPPER(c) || ((c) >= 'a' && (c) <= 'z'))
    #define FG_HEX(c) (FG_DIGIT(c) || ((c) >= 'A' && (c) <= 'F') || ((c) >= 'a' && (c) <= 'f'))
    /* RFC 9110 5.6.2 tchar */
    #define FG_TCHAR(c) (FG_ALNUM(c) || (c) == '!' || ((c) >= '#' && (c) <= '\\'') || (c) == '*' \\
        || (c) == '+' || (c) == '-' || (c) == '.' || (c) == '^' || (c) == '_' || (c) == '`' \\
        || (c) == '|' || (c) == '~')
    /* RFC 9110 5.5 field-vchar, SP, HTAB */
    #define FG_VALUE(c) ((c) == '\\t' || ((c) >= ' ' && (c) != 0x7f))
    /* RFC 9112 3.2: visible ASCII; a fragment never belongs into a target */
    #define FG_TARGET(c) ((c) > ' ' && (c) < 0x7f && (c) != '#')
    /* RFC 3986 2.3 unreserved, 3.2.2 reg-name, IP-literal */
    #define FG_UNRESERVED(c) (FG_ALNUM(c) || (c) == '.' || (c) == '_' || (c) == '~' || (c) == '-')
    #define FG_REGNAME(c) (FG_UNRESERVED(c) || (c) == '!' || ((c) >= '$' && (c) <= ',') \\
        || (c) == ';' || (c) == '=')
    #define FG_IPV6(c) (FG_HEX(c) || (c) == ':' || (c) == '.')
    /* RFC 9110 5.6.4 qdtext: what may stand in a quoted string without a backslash */
    #define FG_QDTEXT(c) (FG_VALUE(c) && (c) != '"' && (c) != '\\\\')
    #define FG_BITS(c) (FG_TCHAR(c) | FG_VALUE(c) << 1 | FG_TARGET(c) << 2 | FG_HEX(c) << 3 \\
        | FG_REGNAME(c) << 4 | FG_IPV6(c) << 5 | FG_UNRESERVED(c) << 6 | FG_QDTEXT(c) << 7)
    #define FG_LOWER(c) (FG_UPPER(c) ? (c) + 32 : (c))
    #define FG_4(f, c) f(c), f((c) + 1), f((c) + 2), f((c) + 3)
    #define FG_16(f, c) FG_4(f, c), FG_4(f, (c) + 4), FG_4(f, (c) + 8), FG_4(f, (c) + 12)
    #define FG_64(f, c) FG_16(f, c), FG_16(f, (c) + 16), FG_16(f, (c) + 32), FG_16(f, (c) + 48)
    #define FG_256(f) FG_64(f, 0), FG_64(f, 64), FG_64(f, 128), FG_64(f, 192)
    static const unsigned char fg_class[256] = {FG_256(FG_BITS)};
    static const unsigned char fg_lower[256] = {FG_256(FG_LOWER)};
    """
    const unsigned char CLASS "fg_class"[256]
    const unsigned char LOWER "fg_lower"[256]

cdef enum Class:
    TCHAR = 1
    VALUE = 2
    TARGET = 4
    HEX = 8
    REGNAME = 16
    IPV6 = 32
    UNRESERVED = 64
    QDTEXT = 128

cdef enum:
    HTAB = 9
    LF = 10
    CR = 13
    SP = 32

# hot: begin

cdef inline bint is_blank(unsigned char c) noexcept nogil:
    return c == SP or c == HTAB


cdef inline bint is_digit(unsigned char c) noexcept nogil:
    return c >= c'0' and c <= c'9'


cdef inline bint is_alpha(unsigned char c) noexcept nogil:
    return LOWER[c] >= c'a' and LOWER[c] <= c'z'


cdef inline int run_of(Bytes p, int at, int end, Class kind) noexcept nogil:
    # Where the run of bytes of that class ends.
    while at < end and CLASS[p[at]] & kind:
        at += 1
    return at


cdef inline bint equals(Bytes p, const char* lower, int length) noexcept nogil:
    # Whether `length` bytes at p are `lower` (a lower-case name), without regard to case.
    cdef int i
    for i in range(length):
        if LOWER[p[i]] != <unsigned char>lower[i]:
            return False
    return True


cdef inline bint same_name(Bytes p, Bytes q, int length) noexcept nogil:
    cdef int i
    for i in range(length):
        if LOWER[p[i]] != LOWER[q[i]]:
            return False
    return True


cdef inline bint next_member(Bytes p, int* at, int end, int* start, int* length) noexcept nogil:
    # The next member of a comma-separated list (RFC 9110 5.6.1; empty members are skipped), without
    # the white space around it; False at the end.
    cdef int last
    while at[0] < end and (p[at[0]] == c',' or is_blank(p[at[0]])):
        at[0] += 1
    if at[0] >= end:
        return False
    start[0] = at[0]
    while at[0] < end and p[at[0]] != c',':
        at[0] += 1
    last = at[0]
    while is_blank(p[last - 1]):
        last -= 1
    length[0] = last - start[0]
    return True


cdef inline bint is_host(Bytes p, int length) noexcept nogil:
    # RFC 9110 7.2: uri-host [ ":" port ]. A server could take an empty one; nothing that we serve
    # can.
    cdef int at, start
    if not length:
        return False
    if p[0] == c'[':
        at = run_of(p, 1, length, IPV6)
        if at == 1:
            return False
        # RFC 6874: a zone is written behind an escaped '%'.
        if length - at > 3 and not memcmp(p + at, b"%25", 3):
            start = at + 3
            at = run_of(p, start, length, UNRESERVED)
            if at == start:
                return False
        if at == length or p[at] != c']':
            return False
        at += 1
    else:
        at = 0
        while at < length and (CLASS[p[at]] & REGNAME or p[at] == c'%'):
            at += 1
    if at == length:
        return True
    # A port has at most five digits (65535), or none at all.
    if p[at] != c':' or length - at > 6:
        return False
    for start in range(at + 1, length):
        if not is_digit(p[start]):
            return False
    return True


cdef inline long long decimal(Bytes p, int length) noexcept nogil:
    # RFC 9110 8.6: 1*DIGIT. -1: something else. -2: above 18 digits, which is more than 2^59 bytes.
    cdef long long number = 0
    cdef int i
    if not length:
        return -1
    for i in range(length):
        if not is_digit(p[i]):
            return -1
        if i < 18:
            number = number * 10 + (p[i] - c'0')
    return -2 if length > 18 else number


cdef inline int skip_authority(Bytes p, int end) noexcept nogil:
    # absolute-form (RFC 9112 3.2.2): where the path begins behind scheme "://" authority; -1: it is
    # none. User information is refused (RFC 9110 4.2.4), and so is an authority that is empty.
    cdef int at = 0
    cdef int start
    if not is_alpha(p[0]):
        return -1
    while at < end and (is_alpha(p[at]) or is_digit(p[at])
                        or p[at] == c'+' or p[at] == c'-' or p[at] == c'.'):
        at += 1
    if end - at < 3 or memcmp(p + at, b"://", 3):
        return -1
    start = at + 3
    at = start
    while at < end and p[at] != c'/' and p[at] != c'?':
        if p[at] == c'@':
            return -1
        at += 1
    return -1 if at == start else at


cdef inline bint is_hop_by_hop(Bytes p, int length) noexcept nogil:
    # RFC 9110 7.6.1, with the fields that frame this one message (Content-Length, Trailer) and
    # those of the nearest proxy (11.7). None of them is ever copied.
    if length == 2:
        return equals(p, b"te", 2)
    if length == 7:
        return equals(p, b"upgrade", 7) or equals(p, b"trailer", 7)
    if length == 10:
        return equals(p, b"connection", 10) or equals(p, b"keep-alive", 10)
    if length == 14:
        return equals(p, b"content-length", 14)
    if length == 16:
        return equals(p, b"proxy-connection", 16)
    if length == 17:
        return equals(p, b"transfer-encoding", 17)
    if length == 18:
        return equals(p, b"proxy-authenticate", 18)
    if length == 19:
        return equals(p, b"proxy-authorization", 19)
    return False


cdef inline bint is_forbidden_trailer(Bytes p, int length) noexcept nogil:
    # RFC 9110 6.5.1: framing, routing, request modifiers, authentication, content format. A trailer
    # section is dropped, yet one with such a field was made to be merged by somebody.
    if length == 4:
        return equals(p, b"host", 4)
    if length == 6:
        return equals(p, b"expect", 6)
    if length == 13:
        return equals(p, b"authorization", 13)
    if length == 16:
        return equals(p, b"content-encoding", 16)
    return is_hop_by_hop(p, length)

# hot: end
