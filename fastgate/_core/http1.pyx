"""HTTP/1.1 framing, sans-IO: bytes in, offsets out. The contract is http1.pxd.

Here is the face: segments, limits, errors, what is handed out. The machines are in httphead.pxd
(the head) and httpbody.pxd (the body), the character rules in httpchars.pxd, the writing of heads
in httpbuild.pxd, the messages in httpfaults.py.

    feed_head -> _scan (start line, fields) -> _conclude (what the head means) -> feed_body ...

Invariants: a byte is scanned once, whatever pieces it came in; no offset leaves its buffer; what a
peer sends costs at most max_head_bytes of memory plus one span a chunk of the segment being read;
after ProtocolError only reset() is allowed.
"""

cimport cython
from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE, PyByteArray_Resize,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastgate._core.httpbody cimport (
    BODY_DONE, COUNTED, SIZE_START, TO_THE_END, scan_chunked, take_payload,
)
from fastgate._core.httpbuild cimport (
    FRAMING_BYTES, SIZE_LINE_BYTES, STATUS_LINE_BYTES, choose, chunk_size_line, end_chunk, framing,
    kind_of, put, put_fields, status_line,
)
from fastgate._core.httpchars cimport LOWER, Bytes, equals
from fastgate._core.httphead cimport (
    CODING, CONTINUE, CUT_SHORT, DONE, FIELD_START, HEAD_DONE, HEAD_TOO_LONG, HOST,
    INTERIM_WITH_BODY, MAX_INTERIM, NEED_MORE, NO_HOST, NO_MEMORY, SKIPPED, START, START_AGAIN,
    SWITCHED, TOO_MANY_INTERIM, scan_fields, scan_request_line, scan_status_line, wants_keep_alive,
)

from fastgate._core.httpfaults import BYTE, FAULTS, FIELD_VALUE, ProtocolError

__all__ = [
    "NameSet",
    "ProtocolError",
    "Reader",
    "RequestReader",
    "ResponseReader",
    "as_chunk",
    "build_request_head",
    "build_response_head",
]

cdef enum:
    DEFAULT_HEAD_BYTES = 32768          # as nginx: four buffers of 8 KiB
    DEFAULT_TARGET_BYTES = 16384        # RFC 9112 3 asks for 8,000 at least
    KEPT_SPANS = 8                      # 128 bytes an idle connection
    MAX_NAME_BYTES = 63                 # the longest registered field name has 44


@cython.final
cdef class NameSet:
    # _table: for each length from 0 to MAX_NAME_BYTES + 1 an unsigned short, where the names of
    # that length begin; then the names, sorted by length.

    def __cinit__(self, names):
        cdef list ordered = sorted({name.lower() for name in names}, key=len)
        cdef Py_ssize_t index_bytes = (MAX_NAME_BYTES + 2) * sizeof(unsigned short)
        cdef Py_ssize_t at = index_bytes
        cdef Py_ssize_t length = 0
        cdef unsigned short* index
        cdef bytes joined = b"".join(ordered)
        if index_bytes + len(joined) > 0xFFFF or max(map(len, ordered), default=0) > MAX_NAME_BYTES:
            raise ValueError(f"expected names of at most {MAX_NAME_BYTES} bytes")
        self._table = <unsigned char*>malloc(<size_t>(index_bytes + len(joined)))
        if self._table == NULL:
            raise MemoryError
        memcpy(self._table + index_bytes, PyBytes_AS_STRING(joined), <size_t>len(joined))
        index = <unsigned short*>self._table
        for name in ordered:
            while length <= len(name):
                index[length] = <unsigned short>at
                length += 1
            at += len(name)
        while length < MAX_NAME_BYTES + 2:
            index[length] = <unsigned short>at
            length += 1

    def __dealloc__(self):
        free(self._table)

    # hot: begin
    cdef bint contains(self, const unsigned char* name, Py_ssize_t length) noexcept nogil:
        cdef const unsigned short* index = <const unsigned short*>self._table
        cdef unsigned char* known
        cdef unsigned char* end
        cdef unsigned char first
        if length < 1 or length > MAX_NAME_BYTES:
            return False
        known = self._table + index[length]
        end = self._table + index[length + 1]
        first = LOWER[name[0]]
        while known < end:
            if known[0] == first and equals(name, <const char*>known, <int>length):
                return True
            known += length
        return False
    # hot: end

    def __contains__(self, bytes name not None):
        return self.contains(<Bytes>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))


cdef class Reader:
    def __cinit__(self):
        self.max_head_bytes = DEFAULT_HEAD_BYTES
        self.max_target_bytes = DEFAULT_TARGET_BYTES
        self.reset()

    def __dealloc__(self):
        free(self.fields)
        free(self.spans)

    cpdef Py_ssize_t feed_head(self, bytes data, Py_ssize_t start) except -2:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t held, taken
        cdef Bytes p
        cdef int code
        assert 0 <= start <= size, "no such place"
        assert self._state < HEAD_DONE, "a head is not what comes next"
        while start < size:
            held = 0 if self._partial is None else PyByteArray_GET_SIZE(self._partial)
            taken = max(0, min(size - start, self.max_head_bytes - held))
            p = self._hold(data, start, held, taken)
            code = self._scan(p, <int>(held + taken))
            if code == NEED_MORE:
                if held + taken >= self.max_head_bytes:
                    raise self._fault(HEAD_TOO_LONG, p, 0, 0)
                if held == 0:
                    self._partial = PyByteArray_FromStringAndSize(<const char*>p, taken)
                return -1
            if code > SKIPPED:
                raise self._fault(code, p, self._pos, held + taken)
            start += self._pos - held
            if code == DONE:
                self._keep_head(data, p, start)
                return start
            self._partial = None
            self._restart()
        return -1

    cdef Bytes _hold(
            self, bytes data, Py_ssize_t start, Py_ssize_t held, Py_ssize_t taken) except NULL:
        # Where the head is, as far as it has come: in the segment, or joined in _partial.
        if self.fields == NULL:
            self.fields = <Field*>malloc(MAX_FIELDS * sizeof(Field))
            if self.fields == NULL:
                raise MemoryError
        cdef Bytes fresh = <Bytes>PyBytes_AS_STRING(data) + start
        if held == 0:
            return fresh
        PyByteArray_Resize(self._partial, held + taken)
        memcpy(PyByteArray_AS_STRING(self._partial) + held, fresh, <size_t>taken)
        return <Bytes>PyByteArray_AS_STRING(self._partial)

    cdef int _keep_head(self, bytes data, Bytes p, Py_ssize_t end) except -1:
        # Only a head that begins the segment is left in place: else its offsets would not count
        # from p.
        self.head_end = self._pos
        if end == self._pos and self._partial is None:
            self.head = data
        else:
            self.head = PyBytes_FromStringAndSize(<const char*>p, self._pos)
            self._partial = None
        if self.complete:
            self._state = BODY_DONE
        elif self.chunked:
            self._state = SIZE_START
        elif self.until_eof:
            self._state = TO_THE_END
        else:
            self._left = self.content_length
            self._state = COUNTED
        return 0

    cpdef Py_ssize_t feed_body(self, bytes data, Py_ssize_t start) except -2:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t at = start
        cdef int code = NEED_MORE
        assert 0 <= start <= size, "no such place"
        assert HEAD_DONE < self._state < BODY_DONE, "a body is not what comes next"
        self.n_spans = 0
        if self._state >= SIZE_START:
            code = scan_chunked(self, <Bytes>PyBytes_AS_STRING(data), &at, size)
        else:
            self.whole = True
            if self._state == TO_THE_END:
                self._left = size - start
            at = take_payload(self, start, size)
            if at < 0:
                code = NO_MEMORY
            elif self._state == COUNTED and self._left == 0:
                code = DONE
        if code > DONE:
            raise self._fault(code, <Bytes>PyBytes_AS_STRING(data), at, size)
        if code == NEED_MORE:
            return -1
        self.complete = True
        self._state = BODY_DONE
        return at

    cdef object _fault(self, int code, Bytes p, Py_ssize_t at, Py_ssize_t end):
        # The exception to raise. What was read so far must not be taken for a message.
        cdef Field* field
        cdef bytes got = None
        self._state = BODY_DONE
        self.n_spans = 0
        if code == NO_MEMORY:
            return MemoryError()
        status, message, shown = FAULTS[code - SKIPPED - 1]
        if shown == BYTE and at < end:
            got = <bytes>(<const char*>p)[at:at + 1]
        elif shown == FIELD_VALUE:
            field = self.fields + self.n_fields - 1
            got = <bytes>(<const char*>p)[field.value_start:field.value_end]
        self._partial = None
        self.n_fields = 0
        return ProtocolError(status, message, got)

    cpdef bint started(self) noexcept:
        return self._state > START_AGAIN

    cpdef bytes value(self, bytes lower_name):
        cdef int length = <int>PyBytes_GET_SIZE(lower_name)
        cdef const char* name = PyBytes_AS_STRING(lower_name)
        cdef Bytes p
        cdef Field* field
        cdef int i
        if self.head is None:
            return None
        p = <Bytes>PyBytes_AS_STRING(self.head)
        for i in range(self.n_fields):
            field = self.fields + i
            if field.name_end - field.name_start != length:
                continue
            if equals(p + field.name_start, name, length):
                return self._part(field.value_start, field.value_end)
        return None

    cpdef bint has_any(self, NameSet names) noexcept:
        cdef Field* field
        cdef int i
        for i in range(self.n_fields if self.head is not None else 0):
            field = self.fields + i
            if names.contains(<Bytes>PyBytes_AS_STRING(self.head) + field.name_start,
                              field.name_end - field.name_start):
                return True
        return False

    def items(self):
        cdef int n = self.n_fields if self.head is not None else 0
        cdef Field f
        return [
            (self._part(f.name_start, f.name_end), self._part(f.value_start, f.value_end))
            for f in self.fields[:n]
        ]

    cdef bytes _part(self, Py_ssize_t start, Py_ssize_t end):
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.head) + start, end - start)

    cpdef Py_ssize_t span_start(self, Py_ssize_t index) except -1:
        assert 0 <= index < self.n_spans, "no such span"
        return self.spans[index].start

    cpdef Py_ssize_t span_end(self, Py_ssize_t index) except -1:
        assert 0 <= index < self.n_spans, "no such span"
        return self.spans[index].end

    cdef Py_ssize_t _payload_bytes(self, bytes data) except -1:
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t i, end = 0
        for i in range(self.n_spans):
            end = self.spans[i].end
            total += end - self.spans[i].start
        assert end <= PyBytes_GET_SIZE(data), "not the segment that was fed last"
        return total

    cdef unsigned char* _put_payload(self, bytes data, unsigned char* to) noexcept:
        cdef Bytes p = <Bytes>PyBytes_AS_STRING(data)
        cdef Py_ssize_t i
        for i in range(self.n_spans):
            to = put(to, p + self.spans[i].start, self.spans[i].end - self.spans[i].start)
        return to

    cpdef bytes payload(self, bytes data):
        cdef Py_ssize_t total = self._payload_bytes(data)
        cdef bytes joined
        if total == PyBytes_GET_SIZE(data):
            return data
        joined = PyBytes_FromStringAndSize(NULL, total)
        self._put_payload(data, <unsigned char*>PyBytes_AS_STRING(joined))
        return joined

    cpdef bytes chunk(self, bytes data, bint last):
        cdef Py_ssize_t total = self._payload_bytes(data)
        cdef unsigned char size_line[SIZE_LINE_BYTES]
        cdef Py_ssize_t line_bytes
        cdef unsigned char* to
        cdef bytes framed
        if not total:
            return b"0\r\n\r\n" if last else b""
        line_bytes = chunk_size_line(total, size_line)
        framed = PyBytes_FromStringAndSize(NULL, line_bytes + total + (7 if last else 2))
        to = put(<unsigned char*>PyBytes_AS_STRING(framed), size_line, line_bytes)
        end_chunk(self._put_payload(data, to), last)
        return framed

    cpdef void reset(self) noexcept:
        free(self.fields)
        self.fields = NULL
        if self._span_capacity > KEPT_SPANS:
            free(self.spans)
            self.spans = NULL
            self._span_capacity = 0
        self.head = None
        self._partial = None
        self.head_start = self.head_end = 0
        self.keep_alive = self.chunked = self.until_eof = self.complete = self.whole = False
        self.body_bytes = self.n_spans = 0
        self._restart()

    cdef void _restart(self) noexcept:
        self._state = START
        self._pos = self._seen = self._connection_bytes = 0
        self.n_fields = self.minor_version = 0
        self.content_length = -1

    # hot: begin
    cdef int _scan(self, const unsigned char* p, int end) noexcept nogil:
        # Take the head as far as it is here: a Code. At its end, decide what it means. Each
        # subclass has its own.
        return NEED_MORE
    # hot: end


@cython.final
cdef class RequestReader(Reader):
    # hot: begin
    cdef int _scan(self, const unsigned char* p, int end) noexcept nogil:
        cdef int code = NEED_MORE
        if self._state < FIELD_START:
            code = scan_request_line(self, p, end)
        if code == NEED_MORE and self._state >= FIELD_START:
            code = scan_fields(self, p, end, True)
        return self._conclude() if code == DONE else code

    cdef int _conclude(self) noexcept nogil:
        # RFC 9112 3.2: a request of HTTP/1.1 without Host: 400.
        if self.minor_version == 1 and not self._seen & HOST:
            return NO_HOST
        self.keep_alive = wants_keep_alive(self)
        self.chunked = self._seen & CODING != 0
        self.expect_continue = self._seen & CONTINUE != 0
        # RFC 9112 6.3 (7): without either field there is no body.
        self.complete = not self.chunked and self.content_length <= 0
        return DONE
    # hot: end

    cpdef bytes method(self):
        return b"" if self.head is None else self._part(self.method_start, self.method_end)

    cpdef bytes path(self):
        if self.head is None:
            return b""
        # RFC 9112 3.2.1: an absolute-form target may have an empty path, which is "/".
        if self.path_start == self.path_end:
            return b"/"
        return self._part(self.path_start, self.path_end)

    cpdef bytes query(self):
        return b"" if self.head is None else self._part(self.query_start, self.query_end)


@cython.final
cdef class ResponseReader(Reader):
    # hot: begin
    cdef int _scan(self, const unsigned char* p, int end) noexcept nogil:
        cdef int code = NEED_MORE
        if self._state < FIELD_START:
            code = scan_status_line(self, p, end)
        if code == NEED_MORE and self._state >= FIELD_START:
            code = scan_fields(self, p, end, False)
        return self._conclude() if code == DONE else code

    cdef int _conclude(self) noexcept nogil:
        cdef bint bodiless = self.head_request or self.status == 204 or self.status == 304
        self.keep_alive = wants_keep_alive(self)
        self.chunked = self._seen & CODING != 0
        if self.status < 200:
            return self._conclude_interim()
        if self.status == 204:
            # RFC 9110 8.6: has no length. A peer that gives one may well send a body, too.
            if self.chunked or self.content_length > 0:
                self.keep_alive = False
            self.content_length = -1
        # RFC 9112 6.3 (1), (8)
        if bodiless:
            self.chunked = False
        elif not self.chunked and self.content_length < 0:
            self.until_eof = True
            self.keep_alive = False
        self.complete = bodiless or self.content_length == 0
        return DONE

    cdef int _conclude_interim(self) noexcept nogil:
        # RFC 9110 15.2: any number may precede the answer. 101 is the answer to an Upgrade, which
        # we never send.
        if self.status == 101:
            return SWITCHED
        if self.chunked or self.content_length > 0:
            return INTERIM_WITH_BODY
        self.interim = self.interim + 1
        return TOO_MANY_INTERIM if self.interim > MAX_INTERIM else SKIPPED
    # hot: end

    cpdef int content_kind(self) noexcept:
        cdef Bytes p
        cdef Field* field
        cdef int i
        if self.head is None:
            return OTHER_KIND
        p = <Bytes>PyBytes_AS_STRING(self.head)
        for i in range(self.n_fields):
            field = self.fields + i
            if (field.name_end - field.name_start == 12
                    and equals(p + field.name_start, b"content-type", 12)):
                return kind_of(p + field.value_start, field.value_end - field.value_start)
        return OTHER_KIND

    cpdef bint feed_eof(self) except -1:
        if self._state == TO_THE_END:
            self.complete = True
            self._state = BODY_DONE
        if not self.complete:
            raise self._fault(CUT_SHORT, NULL, 0, 0)
        return True

    cpdef void reset(self) noexcept:
        Reader.reset(self)
        self.status = self.interim = 0
        self.head_request = False


cdef bytes join_head(Bytes first, Py_ssize_t first_bytes, Reader reader, NameSet names,
                     bint listed, bytes extra, long long content_length, bytes body):
    cdef bint chosen[MAX_FIELDS]
    cdef unsigned char last[FRAMING_BYTES]
    cdef Py_ssize_t last_bytes = framing(content_length, last)
    cdef Py_ssize_t extra_bytes = PyBytes_GET_SIZE(extra)
    cdef Py_ssize_t body_bytes = 0 if body is None else PyBytes_GET_SIZE(body)
    cdef Py_ssize_t field_bytes
    cdef Bytes p
    cdef bytes head
    cdef unsigned char* to
    assert reader.head is not None, "no head has been read"
    p = <Bytes>PyBytes_AS_STRING(reader.head)
    field_bytes = choose(reader, p, names, listed, chosen)
    head = PyBytes_FromStringAndSize(
        NULL, first_bytes + field_bytes + extra_bytes + last_bytes + body_bytes)
    to = put(<unsigned char*>PyBytes_AS_STRING(head), first, first_bytes)
    to = put_fields(reader, p, chosen, to)
    to = put(to, PyBytes_AS_STRING(extra), extra_bytes)
    to = put(to, last, last_bytes)
    if body_bytes:
        put(to, PyBytes_AS_STRING(body), body_bytes)
    return head


cpdef bytes build_request_head(bytes prefix, RequestReader reader, NameSet allowed, bytes extra,
                               long long content_length, bytes body=None):
    return join_head(<Bytes>PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix), reader, allowed,
                     True, extra, content_length, body)


cpdef bytes build_response_head(int status, ResponseReader reader, NameSet denied, bytes extra,
                                long long content_length, bytes body=None):
    cdef unsigned char line[STATUS_LINE_BYTES]
    cdef Py_ssize_t line_bytes = status_line(status, line)
    return join_head(line, line_bytes, reader, denied, False, extra, content_length, body)


cpdef bytes as_chunk(bytes payload, bint last):
    cdef Py_ssize_t total = PyBytes_GET_SIZE(payload)
    cdef unsigned char size_line[SIZE_LINE_BYTES]
    cdef Py_ssize_t line_bytes
    cdef unsigned char* to
    cdef bytes framed
    if not total:
        return b"0\r\n\r\n" if last else b""
    line_bytes = chunk_size_line(total, size_line)
    framed = PyBytes_FromStringAndSize(NULL, line_bytes + total + (7 if last else 2))
    to = put(<unsigned char*>PyBytes_AS_STRING(framed), size_line, line_bytes)
    to = put(to, PyBytes_AS_STRING(payload), total)
    end_chunk(to, last)
    return framed
