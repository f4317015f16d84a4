# The body of a message: where its payload lies in a segment. Chunked coding (RFC 9112 7.1) is a
# state machine a byte wide:
#
#   SIZE_START SIZE [extensions] SIZE_LF  DATA DATA_CR DATA_LF  SIZE_START ...
#   extensions = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
#   size 0: TRAILER_START [TRAILER_NAME TRAILER_VALUE TRAILER_LF TRAILER_START]* BODY_LF BODY_DONE
#
# Extensions and trailers are checked and dropped. Offsets count from the beginning of the segment.

from fastgate._core.http1 cimport Reader, Span
from fastgate._core.httpchars cimport (
    CLASS, CR, HEX, LF, LOWER, QDTEXT, TCHAR, VALUE, Bytes, is_blank, is_digit,
    is_forbidden_trailer,
)
from fastgate._core.httphead cimport (
    BAD_CHUNK_END, BAD_CHUNK_SIZE, BAD_EXTENSION, BAD_FIELD_START, BAD_LINE_END, BAD_NAME,
    BAD_VALUE, CHUNK_LINE_TOO_LONG, DONE, FORBIDDEN_TRAILER, HUGE_CHUNK, NEED_MORE,
    NO_MEMORY, TRAILER_TOO_LONG,
)
from libc.stdlib cimport realloc

cdef enum BodyState:
    COUNTED = 32            # Content-Length; above every httphead.State
    TO_THE_END              # until the connection ends
    SIZE_START
    SIZE
    BEFORE_SEMICOLON
    EXT_START
    EXT_NAME
    AFTER_EXT_NAME
    EXT_VALUE_START
    EXT_TOKEN
    EXT_QUOTED
    EXT_ESCAPED
    AFTER_QUOTED
    SIZE_LF
    DATA
    DATA_CR
    DATA_LF
    TRAILER_START
    TRAILER_NAME
    TRAILER_VALUE
    TRAILER_LF
    BODY_LF
    BODY_DONE

cdef enum:
    # Node's llhttp takes 16 KiB of extensions, nothing known sends any.
    MAX_CHUNK_LINE_BYTES = 4096
    MAX_SIZE_DIGITS = 16

cdef extern from *:
    """
    /* 1 TiB in one chunk: no peer means that. */
    #define FG_MAX_CHUNK_BYTES (1LL << 40)
    """
    const long long MAX_CHUNK_BYTES "FG_MAX_CHUNK_BYTES"

# hot: begin

cdef inline bint add_span(Reader r, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    # False: no memory.
    cdef Py_ssize_t room
    cdef Span* grown
    if r.n_spans == r._span_capacity:
        room = 4 if r._span_capacity == 0 else 2 * r._span_capacity
        grown = <Span*>realloc(r.spans, <size_t>room * sizeof(Span))
        if grown == NULL:
            return False
        r.spans = grown
        r._span_capacity = room
    r.spans[r.n_spans].start = start
    r.spans[r.n_spans].end = end
    r.n_spans = r.n_spans + 1
    r.body_bytes = r.body_bytes + (end - start)
    return True


cdef inline Py_ssize_t take_payload(Reader r, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    # Take what there is of the _left bytes; -1: no memory.
    if end - at > r._left:
        end = at + <Py_ssize_t>r._left
    if end > at and not add_span(r, at, end):
        return -1
    r._left = r._left - (end - at)
    return end


cdef inline int scan_chunked(Reader r, Bytes p, Py_ssize_t* place, Py_ssize_t end) noexcept nogil:
    # Move *place to the byte behind the body, or to `end`, or to the byte that is wrong.
    cdef Py_ssize_t at = place[0]
    cdef int code = NEED_MORE
    r.whole = r._state == SIZE_START
    while at < end and code == NEED_MORE:
        if r._state == DATA:
            at = take_payload(r, at, end)
            if at < 0:
                return NO_MEMORY
            if r._left == 0:
                r._state = DATA_CR
            continue
        if r._state < DATA:
            code = on_size_line(r, p[at])
        elif r._state == DATA_CR:
            r._state = DATA_LF
            code = NEED_MORE if p[at] == CR else BAD_CHUNK_END
        elif r._state == DATA_LF:
            r._state = SIZE_START
            code = NEED_MORE if p[at] == LF else BAD_CHUNK_END
        else:
            code = on_trailer(r, p[at])
        if code <= DONE:
            at += 1
    if r._state != SIZE_START and r._state != BODY_DONE:
        r.whole = False
    place[0] = at
    return code


cdef inline int on_size_line(Reader r, unsigned char c) noexcept nogil:
    if r._state == SIZE_START:
        if not CLASS[c] & HEX:
            return BAD_CHUNK_SIZE
        r._left = 0
        r._line_bytes = 0
        r._state = SIZE
    if r._state == SIZE_LF:
        if c != LF:
            return BAD_LINE_END
        r._line_bytes = 0
        r._state = DATA if r._left else TRAILER_START
        return NEED_MORE
    r._line_bytes = r._line_bytes + 1
    if r._state != SIZE:
        return on_extension(r, c)
    if not CLASS[c] & HEX:
        r.whole = r.whole and c == CR
        return end_element(r, c, BEFORE_SEMICOLON, BAD_CHUNK_SIZE)
    r._left = r._left << 4 | (c - c'0' if is_digit(c) else LOWER[c] - c'a' + 10)
    if r._left >= MAX_CHUNK_BYTES or r._line_bytes > MAX_SIZE_DIGITS:
        return HUGE_CHUNK
    return NEED_MORE


cdef inline int end_element(Reader r, unsigned char c, BodyState blank, int wrong) noexcept nogil:
    # Behind a complete size, name or value: the line's end, the next extension, or white space.
    if c == CR:
        r._state = SIZE_LF
    elif c == c';':
        r._state = EXT_START
    elif is_blank(c):
        r._state = blank
    else:
        return wrong
    return NEED_MORE


cdef inline int on_extension(Reader r, unsigned char c) noexcept nogil:
    cdef int state = r._state
    cdef BodyState blank
    if r._line_bytes > MAX_CHUNK_LINE_BYTES:
        return CHUNK_LINE_TOO_LONG
    if state == EXT_QUOTED:
        if c == c'"':
            r._state = AFTER_QUOTED
        elif c == c'\\':
            r._state = EXT_ESCAPED
        elif not CLASS[c] & QDTEXT:
            return BAD_EXTENSION
    elif state == EXT_ESCAPED:
        r._state = EXT_QUOTED
        if not CLASS[c] & VALUE:
            return BAD_EXTENSION
    elif state == EXT_START or state == EXT_VALUE_START:
        if CLASS[c] & TCHAR:
            r._state = EXT_NAME if state == EXT_START else EXT_TOKEN
        elif c == c'"' and state == EXT_VALUE_START:
            r._state = EXT_QUOTED
        elif not is_blank(c):
            return BAD_EXTENSION
    elif state == BEFORE_SEMICOLON or state == AFTER_EXT_NAME:
        if c == c';':
            r._state = EXT_START
        elif c == c'=' and state == AFTER_EXT_NAME:
            r._state = EXT_VALUE_START
        elif not is_blank(c):
            return BAD_EXTENSION
    elif state == EXT_NAME and c == c'=':
        r._state = EXT_VALUE_START
    elif state == AFTER_QUOTED or not CLASS[c] & TCHAR:
        blank = AFTER_EXT_NAME if state == EXT_NAME else BEFORE_SEMICOLON
        return end_element(r, c, blank, BAD_EXTENSION)
    return NEED_MORE


cdef inline int on_trailer(Reader r, unsigned char c) noexcept nogil:
    r._line_bytes = r._line_bytes + 1
    if r._line_bytes > r.max_head_bytes:
        return TRAILER_TOO_LONG
    if r._state == TRAILER_START:
        if c == CR:
            r._state = BODY_LF
            return NEED_MORE
        if not CLASS[c] & TCHAR:
            return BAD_FIELD_START
        r._trailer_bytes = 0
        r._state = TRAILER_NAME
    if r._state == TRAILER_NAME:
        if CLASS[c] & TCHAR:
            # A name that does not fit is longer than every forbidden one.
            if r._trailer_bytes < <int>sizeof(r._trailer):
                r._trailer[r._trailer_bytes] = c
                r._trailer_bytes = r._trailer_bytes + 1
            return NEED_MORE
        if c != c':':
            return BAD_NAME
        r.whole = False
        r._state = TRAILER_VALUE
        if is_forbidden_trailer(r._trailer, r._trailer_bytes):
            return FORBIDDEN_TRAILER
        return NEED_MORE
    if r._state == TRAILER_VALUE:
        if c == CR:
            r._state = TRAILER_LF
        elif not CLASS[c] & VALUE:
            return BAD_VALUE
        return NEED_MORE
    if c != LF:
        return BAD_LINE_END
    if r._state == TRAILER_LF:
        r._state = TRAILER_START
        return NEED_MORE
    r._state = BODY_DONE
    return DONE

# hot: end
