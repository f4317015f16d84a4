# The head of a message: one state machine a byte wide, with a tight loop where bytes of one class
# follow each other.
#
#   request   START [EMPTY_LF START_AGAIN] METHOD TARGET_START TARGET VERSION LINE_CR LINE_LF
#   response  START STATUS_LINE (by the byte's index) [REASON] LINE_LF
#   both      FIELD_START [NAME SKIP_BLANKS VALUE VALUE_LF FIELD_START]* END_LF HEAD_DONE
#
# p points to where the head begins, and every offset counts from there. A scan takes up where the
# last one stopped (reader._pos), so p may have moved meanwhile, as long as it holds the same bytes.
# Syntax is refused at the first wrong byte, the meaning of a field at the end of its line. What a
# scan returns is a Code.
#
# Fields of a reader are written r.x = r.x + 1: without the GIL, the None check of the debug build
# does not go with r.x += 1.

from fastgate._core.http1 cimport MAX_FIELDS, Field, Reader, RequestReader, ResponseReader
from fastgate._core.httpchars cimport (
    CLASS, CR, LF, SP, TARGET, TCHAR, VALUE, Bytes, decimal, equals, is_alpha, is_blank, is_digit,
    is_host, next_member, run_of, skip_authority,
)
from libc.string cimport memcmp

cdef enum State:
    START
    EMPTY_LF
    START_AGAIN
    METHOD
    TARGET_START
    IN_TARGET
    VERSION
    STATUS_LINE
    REASON
    LINE_CR
    LINE_LF
    FIELD_START
    NAME
    SKIP_BLANKS
    IN_VALUE
    VALUE_LF
    END_LF
    HEAD_DONE

cdef enum Code:             # the messages are in httpfaults.py, in this order
    NEED_MORE
    DONE
    SKIPPED             # an interim response is complete; the answer follows
    BAD_METHOD
    CONNECT_UNSERVED
    BAD_TARGET
    TARGET_TOO_LONG
    BAD_VERSION
    UNKNOWN_VERSION
    BAD_STATUS
    BAD_REASON
    BAD_LINE_END
    BAD_FIELD_START
    BAD_NAME
    BAD_VALUE
    TOO_MANY_FIELDS
    HEAD_TOO_LONG
    NO_HOST
    TWO_HOSTS
    BAD_HOST
    TWO_LENGTHS
    BAD_LENGTH
    HUGE_LENGTH
    TWO_CODINGS
    UNKNOWN_CODING
    OLD_CODING
    LENGTH_AND_CODING
    CONNECTION_TOO_LONG
    SWITCHED
    TOO_MANY_INTERIM
    INTERIM_WITH_BODY
    BAD_CHUNK_SIZE
    HUGE_CHUNK
    CHUNK_LINE_TOO_LONG
    BAD_EXTENSION
    BAD_CHUNK_END
    FORBIDDEN_TRAILER
    TRAILER_TOO_LONG
    CUT_SHORT
    NO_MEMORY

cdef enum Seen:             # what the fields of this head said
    HOST = 1
    LENGTH = 2
    CODING = 4
    CLOSE = 8
    KEEP_ALIVE = 16
    CONTINUE = 32
    OTHER_OPTION = 64       # Connection names something besides close and keep-alive

cdef enum:
    # build_*_head() walks all Connection values once a field. Real ones have under 50 bytes; 32 KiB
    # of them would cost 3 ms a request.
    MAX_CONNECTION_BYTES = 1024
    MAX_INTERIM = 16        # curl takes any number; an engine sends one 100 at most

# hot: begin

cdef inline int scan_request_line(RequestReader r, Bytes p, int end) noexcept nogil:
    cdef int at = r._pos
    cdef int state = r._state
    cdef int code = NEED_MORE
    while at < end and state < FIELD_START:
        if state == START or state == START_AGAIN:
            # RFC 9112 2.2: a server should ignore an empty line before the request line; here: one.
            if p[at] == CR and state == START:
                at += 1
                state = EMPTY_LF
            elif CLASS[p[at]] & TCHAR:
                r.head_start = r.method_start = at
                state = METHOD
            else:
                code = BAD_METHOD
                break
        elif state == METHOD:
            at = run_of(p, at, end, TCHAR)
            if at == end:
                break
            if p[at] != SP:
                code = BAD_METHOD
                break
            r.method_end = at
            if at - r.method_start == 7 and not memcmp(p + r.method_start, b"CONNECT", 7):
                code = CONNECT_UNSERVED
                break
            at += 1
            r._mark = at
            state = TARGET_START
        elif state == TARGET_START:
            if p[at] != c'/' and p[at] != c'*' and not is_alpha(p[at]):
                code = BAD_TARGET
                break
            state = IN_TARGET
        elif state == IN_TARGET:
            at = run_of(p, at, end, TARGET)
            if at - r._mark > r.max_target_bytes:
                code = TARGET_TOO_LONG
                break
            if at == end:
                break
            if p[at] != SP or not split_target(r, p, at):
                code = BAD_TARGET
                break
            at += 1
            r._mark = at
            state = VERSION
        elif state == VERSION:
            code = check_version(r, p[at], at - r._mark)
            if code != NEED_MORE:
                break
            at += 1
            if at - r._mark == 8:
                state = LINE_CR
        else:
            code = check_line_end(p[at], &state)
            if code != NEED_MORE:
                break
            at += 1
    r._pos = at
    r._state = state
    return code


cdef inline int check_line_end(unsigned char c, int* state) noexcept nogil:
    if state[0] == LINE_CR:
        state[0] = LINE_LF
        return NEED_MORE if c == CR else BAD_LINE_END
    state[0] = START_AGAIN if state[0] == EMPTY_LF else FIELD_START
    return NEED_MORE if c == LF else BAD_LINE_END


cdef inline int check_version(Reader r, unsigned char c, int index) noexcept nogil:
    # RFC 9112 2.3: HTTP-version, eight bytes; case matters.
    cdef const char* expected = b"HTTP/1."
    if index == 7:
        r.minor_version = c - c'0'
        if c == c'0' or c == c'1':
            return NEED_MORE
        return UNKNOWN_VERSION if is_digit(c) else BAD_VERSION
    if c == <unsigned char>expected[index]:
        return NEED_MORE
    return UNKNOWN_VERSION if index == 5 and is_digit(c) else BAD_VERSION


cdef inline bint split_target(RequestReader r, Bytes p, int end) noexcept nogil:
    # RFC 9112 3.2: origin-form, absolute-form, or asterisk-form with OPTIONS.
    cdef int start = r._mark
    cdef int query, skipped
    if p[start] == c'*':
        if end - start != 1 or r.method_end - r.method_start != 7:
            return False
        if memcmp(p + r.method_start, b"OPTIONS", 7):
            return False
    elif p[start] != c'/':
        skipped = skip_authority(p + start, end - start)
        if skipped < 0:
            return False
        start += skipped
    query = start
    while query < end and p[query] != c'?':
        query += 1
    r.path_start = start
    r.path_end = query
    r.query_start = query + 1 if query < end else end
    r.query_end = end
    return True


cdef inline int scan_status_line(ResponseReader r, Bytes p, int end) noexcept nogil:
    # RFC 9112 4: HTTP-version SP 3DIGIT SP [ reason ] CRLF. Many leave out the second space with
    # the reason.
    cdef int at = r._pos
    cdef int state = r._state
    cdef int code = NEED_MORE
    if state == START:
        state = STATUS_LINE
    while at < end and state < FIELD_START:
        if state == STATUS_LINE:
            code = check_status_byte(r, p[at], at)
            if code != NEED_MORE:
                break
            if at == 12:
                state = LINE_LF if p[at] == CR else REASON
            at += 1
        elif state == REASON:
            at = run_of(p, at, end, VALUE)
            if at == end:
                break
            if p[at] != CR:
                code = BAD_REASON
                break
            at += 1
            state = LINE_LF
        else:
            code = check_line_end(p[at], &state)
            if code != NEED_MORE:
                break
            at += 1
    r._pos = at
    r._state = state
    return code


cdef inline int check_status_byte(ResponseReader r, unsigned char c, int index) noexcept nogil:
    if index < 8:
        return check_version(r, c, index)
    if index == 8:
        r.status = 0
        return NEED_MORE if c == SP else BAD_VERSION
    if index == 12:
        return NEED_MORE if c == SP or c == CR else BAD_STATUS
    if not is_digit(c) or (index == 9 and (c < c'1' or c > c'5')):
        return BAD_STATUS
    r.status = r.status * 10 + (c - c'0')
    return NEED_MORE


cdef inline int scan_fields(Reader r, Bytes p, int end, bint request) noexcept nogil:
    cdef int at = r._pos
    cdef int state = r._state
    cdef int code = NEED_MORE
    cdef Field* field = r.fields + r.n_fields
    while at < end:
        if state == NAME:
            at = run_of(p, at, end, TCHAR)
            if at == end:
                break
            if p[at] != c':':
                code = BAD_NAME
                break
            field.name_end = at
            at += 1
            state = SKIP_BLANKS
        elif state == SKIP_BLANKS:
            while at < end and is_blank(p[at]):
                at += 1
            if at == end:
                break
            field.value_start = at
            state = IN_VALUE
        elif state == IN_VALUE:
            at = run_of(p, at, end, VALUE)
            if at == end:
                break
            if p[at] != CR:
                code = BAD_VALUE
                break
            field.value_end = at
            while field.value_end > field.value_start and is_blank(p[field.value_end - 1]):
                field.value_end -= 1
            at += 1
            state = VALUE_LF
        elif state == VALUE_LF:
            if p[at] != LF:
                code = BAD_LINE_END
                break
            at += 1
            state = FIELD_START
            r.n_fields = r.n_fields + 1
            code = on_field(r, p, field, request)
            if code != NEED_MORE:
                break
            field += 1
        elif state == FIELD_START:
            if p[at] == CR:
                at += 1
                state = END_LF
                continue
            if not CLASS[p[at]] & TCHAR:
                # RFC 9112 5.2: a folded line (it begins with a blank) may be refused, and is.
                code = BAD_FIELD_START
                break
            if r.n_fields == MAX_FIELDS:
                code = TOO_MANY_FIELDS
                break
            field.name_start = at
            state = NAME
        else:
            if p[at] != LF:
                code = BAD_LINE_END
                break
            at += 1
            state = HEAD_DONE
            code = DONE
            break
    r._pos = at
    r._state = state
    return code


cdef inline int on_field(Reader r, Bytes p, const Field* field, bint request) noexcept nogil:
    # The fields that say where the message ends and what becomes of the connection.
    cdef Bytes name = p + field.name_start
    cdef Bytes value = p + field.value_start
    cdef int length = field.name_end - field.name_start
    cdef int value_length = field.value_end - field.value_start
    if length == 14 and equals(name, b"content-length", 14):
        return on_content_length(r, value, value_length)
    if length == 17 and equals(name, b"transfer-encoding", 17):
        return on_transfer_encoding(r, value, value_length)
    if length == 10 and equals(name, b"connection", 10):
        return on_connection(r, value, value_length)
    if not request:
        return NEED_MORE
    if length == 4 and equals(name, b"host", 4):
        # RFC 9112 3.2: more than one, or an invalid one: 400.
        if r._seen & HOST:
            return TWO_HOSTS
        r._seen = r._seen | HOST
        return NEED_MORE if is_host(value, value_length) else BAD_HOST
    if length == 6 and equals(name, b"expect", 6):
        on_expect(r, value, value_length)
    return NEED_MORE


cdef inline int on_content_length(Reader r, Bytes value, int length) noexcept nogil:
    # RFC 9112 6.3 (5): a list of equal numbers could be taken for one; it is refused, as is a
    # second field.
    if r._seen & LENGTH:
        return TWO_LENGTHS
    # RFC 9112 6.1: both together is how requests are smuggled.
    if r._seen & CODING:
        return LENGTH_AND_CODING
    r._seen = r._seen | LENGTH
    r.content_length = decimal(value, length)
    if r.content_length >= 0:
        return NEED_MORE
    return BAD_LENGTH if r.content_length == -1 else HUGE_LENGTH


cdef inline int on_transfer_encoding(Reader r, Bytes value, int length) noexcept nogil:
    if r._seen & CODING:
        return TWO_CODINGS
    if r._seen & LENGTH:
        return LENGTH_AND_CODING
    # RFC 9112 6.1: HTTP/1.0 has none; a message with one is taken for faulty framing.
    if r.minor_version == 0:
        return OLD_CODING
    r._seen = r._seen | CODING
    return NEED_MORE if length == 7 and equals(value, b"chunked", 7) else UNKNOWN_CODING


cdef inline int on_connection(Reader r, Bytes value, int length) noexcept nogil:
    cdef int at = 0
    cdef int start = 0
    cdef int size = 0
    r._connection_bytes = r._connection_bytes + length
    if r._connection_bytes > MAX_CONNECTION_BYTES:
        return CONNECTION_TOO_LONG
    while next_member(value, &at, length, &start, &size):
        if size == 5 and equals(value + start, b"close", 5):
            r._seen = r._seen | CLOSE
        elif size == 10 and equals(value + start, b"keep-alive", 10):
            r._seen = r._seen | KEEP_ALIVE
        else:
            r._seen = r._seen | OTHER_OPTION
    return NEED_MORE


cdef inline void on_expect(Reader r, Bytes value, int length) noexcept nogil:
    # RFC 9110 10.1.1: in a request of HTTP/1.0 it is ignored.
    cdef int at = 0
    cdef int start = 0
    cdef int size = 0
    while next_member(value, &at, length, &start, &size):
        if size == 12 and equals(value + start, b"100-continue", 12) and r.minor_version == 1:
            r._seen = r._seen | CONTINUE


cdef inline bint wants_keep_alive(Reader r) noexcept nogil:
    # RFC 9112 9.3
    if r._seen & CLOSE:
        return False
    return r.minor_version == 1 or r._seen & KEEP_ALIVE != 0

# hot: end
