# What one JSON document of an answer says: usage, error, content. Inline kernels for sse.pyx.
#
# A resumable RFC 8259 reader: it may stop behind any byte and go on with the next. It builds
# nothing and keeps a byte per open container and at most TOKEN_BYTES of a token that a segment cut.
#
#   walk() -> open_container() / walk_string() / walk_number() ... -> the facts in Payload
#
# The stack says what each open container means to us (Place), the key before a value what the value
# means (Key). All that is unknown is OBJECT, ARRAY and NO_KEY, and is only checked for form.
# Not checked: UTF-8 (bytes are relayed as they are). Not known: keys with escapes, which no
# provider writes.

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from .jsonchars cimport NUMBER_ZERO, Bytes, hex_value, number_step, same, skip_plain

cdef enum:
    MAX_DEPTH = 128         # as in jscan; real answers have some 10 levels
    TOKEN_BYTES = 64        # the longest name we look for has 27 bytes, a number of 2^53 has 16
    MAX_COUNT = 9007199254740992    # 2^53: up to it every JSON reader reads integers exactly

cdef enum Place:            # what an open container means
    OBJECT
    ROOT                    # the document's own object
    WRAPPER                 # "message" (Anthropic), "response" (Responses API): holds "usage"
    USAGE
    USAGE_DETAILS
    CHOICE                  # an element of CHOICES
    DELTA                   # a choice's "delta" or "message"
    PART                    # an object that carries content unless empty
    ARRAY                   # arrays from here on
    CHOICES
    PARTS                   # an array that carries content unless empty

cdef enum:                  # what the value behind a key means
    K_INPUT                 # the counts, in the order of Payload.counts
    K_OUTPUT
    K_TOTAL
    K_CACHED
    K_CACHE_WRITE
    K_REASONING
    NO_KEY
    K_KIND                  # "type" or "object"
    K_ERROR
    K_CHOICES
    K_USAGE
    K_USAGE_DETAILS
    K_WRAPPER
    K_CHOICE
    K_DELTA
    K_PART                  # carries content unless null or empty

cdef enum:
    COUNTS = NO_KEY         # number of counts

cdef enum Name:             # what an event's name, "type" or "object" says
    N_OTHER
    N_EMPTY                 # an event known to carry nothing for the user
    N_ERROR

cdef enum Expect:           # what may come next; 0: nothing but white space
    E_VALUE = 1
    E_KEY = 2
    E_COLON = 4
    E_COMMA = 8
    E_CLOSE_ARRAY = 16
    E_CLOSE_OBJECT = 32

cdef enum Token:            # the token that the last byte left open
    NO_TOKEN
    STRING
    STRING_ESCAPE           # behind '\'
    STRING_HEX              # behind '\u', hex_digits still to come
    NUMBER
    LITERAL

cdef struct Payload:
    # Read state
    int expect              # Expect, or-ed
    int token               # Token
    int depth
    unsigned char place     # Place of the innermost container
    unsigned char key       # Key of the value at hand
    bint is_key             # the open string is a key
    bint wanted             # the open token's text is needed
    bint filled             # the open string had bytes in an earlier segment
    int number              # state of number_step()
    int hex_digits
    const char* literal
    int literal_at
    int held                # bytes in `text`; above TOKEN_BYTES: it was too long
    unsigned char text[TOKEN_BYTES]
    unsigned char stack[MAX_DEPTH]
    # Facts
    bint complete           # the document's last bracket was read
    bint broken             # something came that JSON does not allow; after `complete`: surplus
    bint error
    int name                # Name of "type" or "object"
    int choices             # "choices" is an array: 1 empty, 2 not
    bint content            # something in the choices carries content
    bint usage              # a usage object was there
    bint usage_bad          # with a count that is none
    long long counts[COUNTS]    # of the last usage object; -1: absent


# hot: begin

cdef inline void begin_payload(Payload* j) noexcept nogil:
    j.expect = E_VALUE
    j.token = NO_TOKEN
    j.depth = 0
    j.place = OBJECT
    j.key = NO_KEY
    j.complete = j.broken = j.error = j.content = j.usage = j.usage_bad = False
    j.choices = 0
    j.name = N_OTHER


cdef inline int name_of(Bytes p, Py_ssize_t n) noexcept nogil:
    if n < 4 or (p[0] != c'e' and p[0] != c'r' and p[0] != c'p' and p[0] != c'm'):
        return N_OTHER
    if same(p, n, b"error") or same(p, n, b"response.failed"):
        return N_ERROR
    if (
        same(p, n, b"ping") or same(p, n, b"message_start") or same(p, n, b"response.created")
        or same(p, n, b"response.in_progress") or same(p, n, b"response.queued")
    ):
        return N_EMPTY
    return N_OTHER


cdef inline unsigned char usage_key(Bytes p, Py_ssize_t n) noexcept nogil:
    # OpenAI (both APIs), Anthropic, Gemini; then DeepSeek and OpenRouter, where they differ.
    if same(p, n, b"prompt_tokens") or same(p, n, b"input_tokens"):
        return K_INPUT
    if same(p, n, b"completion_tokens") or same(p, n, b"output_tokens"):
        return K_OUTPUT
    if same(p, n, b"promptTokenCount"):
        return K_INPUT
    if same(p, n, b"candidatesTokenCount"):
        return K_OUTPUT
    if same(p, n, b"total_tokens") or same(p, n, b"totalTokenCount"):
        return K_TOTAL
    if (
        same(p, n, b"cached_tokens") or same(p, n, b"cache_read_input_tokens")
        or same(p, n, b"cachedContentTokenCount") or same(p, n, b"prompt_cache_hit_tokens")
    ):
        return K_CACHED
    if same(p, n, b"cache_creation_input_tokens") or same(p, n, b"cache_write_tokens"):
        return K_CACHE_WRITE
    if same(p, n, b"reasoning_tokens") or same(p, n, b"thoughtsTokenCount"):
        return K_REASONING
    if (
        same(p, n, b"prompt_tokens_details") or same(p, n, b"completion_tokens_details")
        or same(p, n, b"input_tokens_details") or same(p, n, b"output_tokens_details")
    ):
        return K_USAGE_DETAILS
    return NO_KEY


cdef inline unsigned char key_of(int place, Bytes p, Py_ssize_t n) noexcept nogil:
    if place == ROOT:
        if same(p, n, b"type") or same(p, n, b"object"):
            return K_KIND
        if same(p, n, b"choices"):
            return K_CHOICES
        if same(p, n, b"usage") or same(p, n, b"usageMetadata"):
            return K_USAGE
        if same(p, n, b"error"):
            return K_ERROR
        if same(p, n, b"message") or same(p, n, b"response"):
            return K_WRAPPER
    elif place == DELTA:
        return NO_KEY if same(p, n, b"role") else K_PART
    elif place == CHOICE:
        if same(p, n, b"delta") or same(p, n, b"message"):
            return K_DELTA
        if same(p, n, b"text") or same(p, n, b"finish_reason"):
            return K_PART
    elif place == WRAPPER:
        if same(p, n, b"usage"):
            return K_USAGE
    elif place == USAGE or place == USAGE_DETAILS:
        return usage_key(p, n)
    return NO_KEY


cdef inline long long count_of(Bytes p, Py_ssize_t n) noexcept nogil:
    # A JSON number as a token count: exact and at most MAX_COUNT, 11.0 and 1.1e1 included; else -1.
    cdef Bytes end = p + n
    cdef uint64_t digits = 0
    cdef int exponent = 0, power = 0
    cdef bint fraction = False, minus
    if p[0] == c'-':
        return -1
    while p < end and (p[0] | 0x20) != c'e':
        if p[0] == c'.':
            fraction = True
        elif digits < 100000000000000000ULL:
            digits = digits * 10 + p[0] - c'0'
            exponent -= fraction
        elif p[0] != c'0':
            return -1
        else:
            exponent += not fraction
        p += 1
    if p < end:
        p += 1
        minus = p[0] == c'-'
        p += minus or p[0] == c'+'
        while p < end:
            power = min(power * 10 + p[0] - c'0', 9999)
            p += 1
        exponent += -power if minus else power
    while exponent > 0 and 0 < digits <= MAX_COUNT:
        digits *= 10
        exponent -= 1
    while exponent < 0 and digits > 0:
        if digits % 10:
            return -1
        digits = digits // 10
        exponent += 1
    return <long long>digits if digits <= MAX_COUNT else -1


cdef inline void hold(Payload* j, Bytes p, Bytes end) noexcept nogil:
    # Keep a wanted token's bytes over the segment's end.
    cdef Py_ssize_t n = end - p
    if j.held + n > TOKEN_BYTES:
        j.held = TOKEN_BYTES + 1
    else:
        memcpy(j.text + j.held, p, n)
        j.held += <int>n


cdef inline void carry(Payload* j) noexcept nogil:
    # A value that is there: not null, not an empty string.
    if j.key == K_PART or j.key == K_DELTA:
        j.content = True
    elif j.key == K_ERROR:
        j.error = True
    elif j.key < COUNTS:
        j.usage_bad = True


cdef inline void end_value(Payload* j) noexcept nogil:
    j.token = NO_TOKEN
    if j.depth == 0:
        j.expect = 0
        j.complete = True
    else:
        j.expect = E_COMMA | (E_CLOSE_ARRAY if j.place >= ARRAY else E_CLOSE_OBJECT)


cdef inline void end_string(Payload* j, Bytes p, Py_ssize_t n) noexcept nogil:
    cdef bint filled = j.filled or n > 0
    if j.wanted and j.held:
        hold(j, p, p + n)
        p = j.text
        n = j.held if j.held <= TOKEN_BYTES else 0
    if j.is_key:
        j.key = key_of(j.place, p, n) if j.wanted else NO_KEY
        j.expect = E_COLON
        j.token = NO_TOKEN
        return
    if j.key == K_KIND:
        j.name = max(j.name, name_of(p, n))
    elif filled or not (j.key == K_PART or j.key == K_DELTA):
        carry(j)
    end_value(j)


cdef inline void end_number(Payload* j, Bytes p, Py_ssize_t n) noexcept nogil:
    cdef long long count
    if j.key >= COUNTS:
        carry(j)
    else:
        if j.held:
            hold(j, p, p + n)
            p = j.text
            n = j.held
        count = count_of(p, n) if n <= TOKEN_BYTES else -1
        j.counts[j.key] = count
        if count < 0:
            j.usage_bad = True
    end_value(j)


cdef inline Bytes walk_string(Payload* j, Bytes p, Bytes end) noexcept nogil:
    # On from inside a string; behind its closing quote, or where it broke, or `end`.
    cdef Bytes start = p
    while p < end:
        if j.token == STRING:
            p = skip_plain(p, end, 0)
            if p == end:
                break
            if p[0] == c'"':
                end_string(j, start, p - start)
                return p + 1
            if p[0] != c'\\':
                j.broken = True
                return p
            j.token = STRING_ESCAPE
        elif j.token == STRING_ESCAPE:
            if p[0] == c'u':
                j.token = STRING_HEX
                j.hex_digits = 4
            elif p[0] in (c'n', c'"', c'\\', c't', c'/', c'r', c'b', c'f'):
                j.token = STRING
            else:
                j.broken = True
                return p
        else:
            if hex_value(p[0]) < 0:
                j.broken = True
                return p
            j.hex_digits -= 1
            if j.hex_digits == 0:
                j.token = STRING
        p += 1
    j.filled = j.filled or end > start
    if j.wanted:
        hold(j, start, end)
    return end


cdef inline Bytes walk_number(Payload* j, Bytes p, Bytes end) noexcept nogil:
    cdef Bytes start = p
    cdef int state
    while p < end:
        state = number_step(j.number, p[0])
        if state == 0:
            if j.number < NUMBER_ZERO:
                j.broken = True
            else:
                end_number(j, start, p - start)
            return p
        j.number = state
        p += 1
    if j.wanted:
        hold(j, start, end)
    return end


cdef inline Bytes walk_literal(Payload* j, Bytes p, Bytes end) noexcept nogil:
    while p < end:
        if p[0] != <unsigned char>j.literal[j.literal_at]:
            j.broken = True
            return p
        p += 1
        j.literal_at += 1
        if j.literal[j.literal_at] == 0:
            if j.literal[0] != c'n':
                carry(j)
            end_value(j)
            return p
    return end


cdef inline void open_container(Payload* j, bint array) noexcept nogil:
    cdef int key = j.key, place = ARRAY if array else OBJECT
    cdef int i
    if j.depth == MAX_DEPTH or not j.expect & E_VALUE:
        j.broken = True
        return
    if j.depth == 0:
        if not array:
            place = ROOT
    elif key == K_CHOICES:
        if array:
            place = CHOICES
            j.choices = 1
            j.content = False
    elif key == K_CHOICE:
        if not array:
            place = CHOICE
    elif key == K_DELTA or key == K_PART:
        place = PARTS if array else DELTA if key == K_DELTA else PART
    elif key == K_USAGE:
        if not array:
            place = USAGE
            j.usage = True
            j.usage_bad = False
            for i in range(COUNTS):
                j.counts[i] = -1
    elif key == K_USAGE_DETAILS:
        if not array:
            place = USAGE_DETAILS
    elif key == K_WRAPPER:
        if not array:
            place = WRAPPER
    elif key != NO_KEY:
        carry(j)
    j.stack[j.depth] = j.place
    j.depth += 1
    j.place = place
    j.key = K_CHOICE if place == CHOICES else NO_KEY
    j.expect = E_VALUE | E_CLOSE_ARRAY if array else E_KEY | E_CLOSE_OBJECT


cdef inline void close_container(Payload* j, int bracket) noexcept nogil:
    if not j.expect & bracket:
        j.broken = True
        return
    if j.expect & E_COMMA:          # it was not empty
        if j.place == PART or j.place == PARTS:
            j.content = True
        elif j.place == CHOICES:
            j.choices = 2
    j.depth -= 1
    j.place = j.stack[j.depth]
    end_value(j)


cdef inline Bytes open_scalar(Payload* j, Bytes p, Bytes end) noexcept nogil:
    # A number or literal begins at p, or something that JSON does not know.
    cdef unsigned char c = p[0]
    if not j.expect & E_VALUE:
        j.broken = True
        return p
    if c == c'n' or c == c't' or c == c'f':
        j.literal = b"null" if c == c'n' else b"true" if c == c't' else b"false"
        j.literal_at = 0
        j.token = LITERAL
        return walk_literal(j, p, end)
    j.number = 0
    j.token = NUMBER
    j.wanted = j.key < COUNTS
    j.held = 0
    return walk_number(j, p, end)


cdef inline Bytes resume_token(Payload* j, Bytes p, Bytes end) noexcept nogil:
    if j.token == NUMBER:
        return walk_number(j, p, end)
    if j.token == LITERAL:
        return walk_literal(j, p, end)
    return walk_string(j, p, end)


cdef inline Bytes walk(Payload* j, Bytes p, Bytes end, bint lines) noexcept nogil:
    # Read on; stops at `end`, where the form breaks (j.broken), and with `lines` at CR or LF. Every
    # token has ended there: none can hold a line's end.
    cdef unsigned char c
    if j.token != NO_TOKEN and p < end:
        p = resume_token(j, p, end)
    while p < end and not j.broken:
        c = p[0]
        if c == c'"':
            if not j.expect & (E_KEY | E_VALUE):
                j.broken = True
                break
            j.is_key = (j.expect & E_KEY) != 0
            j.wanted = j.place != OBJECT if j.is_key else j.key == K_KIND
            j.filled = False
            j.held = 0
            j.token = STRING
            p = walk_string(j, p + 1, end)
            continue
        elif c == c' ' or c == c'\t':
            pass
        elif c == c':':
            if not j.expect & E_COLON:
                j.broken = True
            j.expect = E_VALUE
        elif c == c',':
            if not j.expect & E_COMMA:
                j.broken = True
            j.expect = E_VALUE if j.place >= ARRAY else E_KEY
            j.key = K_CHOICE if j.place == CHOICES else NO_KEY
        elif c == c'{':
            open_container(j, False)
        elif c == c'}':
            close_container(j, E_CLOSE_OBJECT)
        elif c == c'[':
            open_container(j, True)
        elif c == c']':
            close_container(j, E_CLOSE_ARRAY)
        elif c == c'\n' or c == c'\r':
            if lines:
                return p
        else:
            p = open_scalar(j, p, end)
            continue
        p += 1
    return p

# hot: end
