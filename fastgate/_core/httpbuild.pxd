# Heads that we write ourselves, with fields copied from a head that was read. One pass chooses and
# counts, one pass copies, so that the result is allocated once.

from fastgate._core.http1 cimport (
    EVENT_STREAM,
    JSON_DOCUMENT,
    MAX_FIELDS,
    OTHER_KIND,
    Field,
    NameSet,
    Reader,
)
from fastgate._core.httpchars cimport Bytes, equals, is_hop_by_hop, next_member, same_name
from fastgate._core.httphead cimport OTHER_OPTION
from libc.string cimport memcpy, strlen

cdef enum:
    STATUS_LINE_BYTES = 64      # "HTTP/1.1 200 ", the longest reason of 31, CRLF
    FRAMING_BYTES = 48          # "content-length: " with 19 digits, CRLF twice
    SIZE_LINE_BYTES = 18        # 16 hex digits, CRLF

# hot: begin

cdef inline bint is_named_by_connection(Reader r, Bytes p, Bytes name, int length) noexcept nogil:
    # RFC 9110 7.6.1. Bounded by httphead.MAX_CONNECTION_BYTES.
    cdef int i, at, end
    cdef int start = 0
    cdef int size = 0
    for i in range(r.n_fields):
        if r.fields[i].name_end - r.fields[i].name_start != 10:
            continue
        if not equals(p + r.fields[i].name_start, b"connection", 10):
            continue
        at = r.fields[i].value_start
        end = r.fields[i].value_end
        while next_member(p, &at, end, &start, &size):
            if size == length and same_name(p + start, name, size):
                return True
    return False


cdef inline Py_ssize_t choose(
        Reader r, Bytes p, NameSet names, bint listed, bint* chosen) noexcept nogil:
    # Mark the fields to copy, those that are (listed) or are not in `names`; return the bytes that
    # they need.
    cdef Py_ssize_t total = 0
    cdef Field* field
    cdef Bytes name
    cdef int i, length
    for i in range(r.n_fields):
        field = r.fields + i
        name = p + field.name_start
        length = field.name_end - field.name_start
        chosen[i] = names.contains(name, length) == listed and not is_hop_by_hop(name, length)
        if chosen[i] and r._seen & OTHER_OPTION:
            chosen[i] = not is_named_by_connection(r, p, name, length)
        if chosen[i]:
            total += length + (field.value_end - field.value_start) + 4
    return total


cdef inline unsigned char* put(
        unsigned char* to, const void* source, Py_ssize_t length) noexcept nogil:
    memcpy(to, source, <size_t>length)
    return to + length


cdef inline unsigned char* put_fields(
        Reader r, Bytes p, const bint* chosen, unsigned char* to) noexcept nogil:
    cdef Field* field
    cdef int i
    for i in range(r.n_fields):
        if not chosen[i]:
            continue
        field = r.fields + i
        to = put(to, p + field.name_start, field.name_end - field.name_start)
        to = put(to, b": ", 2)
        to = put(to, p + field.value_start, field.value_end - field.value_start)
        to = put(to, b"\r\n", 2)
    return to


cdef inline int decimal_digits(long long number, unsigned char* text) noexcept nogil:
    cdef unsigned char reversed_text[20]
    cdef int n = 0
    cdef int i
    while n == 0 or number:
        reversed_text[n] = <unsigned char>(c'0' + number % 10)
        number //= 10
        n += 1
    for i in range(n):
        text[i] = reversed_text[n - 1 - i]
    return n


cdef inline Py_ssize_t framing(long long content_length, unsigned char* text) noexcept nogil:
    # Write the framing field and the empty line; -1: chunked, -2: no field.
    cdef unsigned char* to = text
    if content_length >= 0:
        to = put(to, b"content-length: ", 16)
        to += decimal_digits(content_length, to)
        to = put(to, b"\r\n", 2)
    elif content_length == -1:
        to = put(to, b"transfer-encoding: chunked\r\n", 28)
    to = put(to, b"\r\n", 2)
    return to - text


cdef inline int hex_digits(unsigned long long number, unsigned char* text) noexcept nogil:
    # chunk-size, lower case, no leading zero.
    cdef const char* digits = b"0123456789abcdef"
    cdef int n = 1
    cdef int i
    while number >> 4 * n and n < 16:
        n += 1
    for i in range(n):
        text[i] = <unsigned char>digits[number >> 4 * (n - 1 - i) & 15]
    return n


cdef inline Py_ssize_t chunk_size_line(Py_ssize_t size, unsigned char* text) noexcept nogil:
    cdef int n = hex_digits(<unsigned long long>size, text)
    return put(text + n, b"\r\n", 2) - text


cdef inline void end_chunk(unsigned char* to, bint last) noexcept nogil:
    # `last`: the empty chunk that ends a body follows (RFC 9112 7.1).
    if last:
        put(to, b"\r\n0\r\n\r\n", 7)
    else:
        put(to, b"\r\n", 2)


cdef inline int kind_of(Bytes value, int length) noexcept nogil:
    if length >= 17 and equals(value, b"text/event-stream", 17):
        return EVENT_STREAM
    if length >= 16 and equals(value, b"application/json", 16):
        return JSON_DOCUMENT
    return OTHER_KIND


cdef inline Py_ssize_t status_line(int status, unsigned char* text) noexcept nogil:
    cdef const char* phrase = reason_phrase(status)
    cdef unsigned char* to = put(text, b"HTTP/1.1 ", 9)
    to += decimal_digits(status, to)
    to = put(to, b" ", 1)
    to = put(to, phrase, <Py_ssize_t>strlen(phrase))
    return put(to, b"\r\n", 2) - text


cdef inline const char* reason_phrase(int status) noexcept nogil:
    # RFC 9110 15 and the IANA registry; 529 is what some providers say for overloaded. A peer's own
    # phrase is never relayed. An unknown status has an empty one (RFC 9112 4 allows that).
    if status < 300:
        return success_phrase(status)
    if status < 400:
        return redirect_phrase(status)
    return fault_phrase(status)


cdef inline const char* success_phrase(int status) noexcept nogil:
    if status == 200:
        return b"OK"
    if status == 201:
        return b"Created"
    if status == 202:
        return b"Accepted"
    if status == 203:
        return b"Non-Authoritative Information"
    if status == 204:
        return b"No Content"
    if status == 205:
        return b"Reset Content"
    if status == 206:
        return b"Partial Content"
    return b""


cdef inline const char* redirect_phrase(int status) noexcept nogil:
    if status == 300:
        return b"Multiple Choices"
    if status == 301:
        return b"Moved Permanently"
    if status == 302:
        return b"Found"
    if status == 303:
        return b"See Other"
    if status == 304:
        return b"Not Modified"
    if status == 307:
        return b"Temporary Redirect"
    if status == 308:
        return b"Permanent Redirect"
    return b""


cdef inline const char* fault_phrase(int status) noexcept nogil:
    if status == 400:
        return b"Bad Request"
    if status == 401:
        return b"Unauthorized"
    if status == 402:
        return b"Payment Required"
    if status == 403:
        return b"Forbidden"
    if status == 404:
        return b"Not Found"
    if status == 405:
        return b"Method Not Allowed"
    if status == 406:
        return b"Not Acceptable"
    if status == 408:
        return b"Request Timeout"
    if status == 409:
        return b"Conflict"
    if status == 410:
        return b"Gone"
    if status == 411:
        return b"Length Required"
    if status == 412:
        return b"Precondition Failed"
    if status == 413:
        return b"Content Too Large"
    if status == 414:
        return b"URI Too Long"
    if status == 415:
        return b"Unsupported Media Type"
    if status == 416:
        return b"Range Not Satisfiable"
    if status == 417:
        return b"Expectation Failed"
    if status == 421:
        return b"Misdirected Request"
    if status == 422:
        return b"Unprocessable Content"
    if status == 424:
        return b"Failed Dependency"
    if status == 425:
        return b"Too Early"
    if status == 426:
        return b"Upgrade Required"
    if status == 428:
        return b"Precondition Required"
    if status == 429:
        return b"Too Many Requests"
    if status == 431:
        return b"Request Header Fields Too Large"
    if status == 451:
        return b"Unavailable For Legal Reasons"
    if status == 500:
        return b"Internal Server Error"
    if status == 501:
        return b"Not Implemented"
    if status == 502:
        return b"Bad Gateway"
    if status == 503:
        return b"Service Unavailable"
    if status == 504:
        return b"Gateway Timeout"
    if status == 505:
        return b"HTTP Version Not Supported"
    if status == 529:
        return b"Overloaded"
    return b""

# hot: end
