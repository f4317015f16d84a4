# HTTP/1.1 framing, sans-IO: bytes in, offsets out. Strict RFC 9112, the strict option wherever it
# leaves a choice.
#
# A reader is fed the segments that a socket returned. It never copies a body: feed_body() leaves
# the payload's place in the segment as spans. A head that arrives in one segment is parsed in
# place; one that arrives in pieces is joined (bounded by max_head_bytes) and parsed on from where
# it stopped, never again.
#
#   feed_head(data, start) -> offset of the first byte behind the head, or -1: more bytes are needed
#   feed_body(data, start) -> offset of the first byte behind the message, or -1: the body goes on
#
# Malformed input raises ProtocolError at the first byte that no valid message could continue with.

cdef enum:
    MAX_FIELDS = 100        # fields in one head; more is 431 (Envoy's default too)

cdef enum:                  # what an answer's Content-Type says, as far as we look into bodies
    OTHER_KIND = 0
    EVENT_STREAM = 1
    JSON_DOCUMENT = 2

cdef struct Field:          # offsets into Reader.head
    int name_start
    int name_end
    int value_start         # surrounding white space is outside
    int value_end

cdef struct Span:           # a piece of payload, offsets into the segment given to feed_body()
    Py_ssize_t start
    Py_ssize_t end

cdef class NameSet:
    # A fixed set of field names, compared without case and without making objects.
    cdef unsigned char* _table              # see __cinit__
    cdef bint contains(self, const unsigned char* name, Py_ssize_t length) noexcept nogil

cdef class Reader:
    # What requests and responses share. After feed_head() returned an offset (`head`: the segment
    # itself when the head begins it, else a copy of the head alone):
    cdef readonly bytes head
    cdef readonly Py_ssize_t head_start     # an empty line may precede it
    cdef readonly Py_ssize_t head_end       # behind the empty line that ends it
    cdef readonly int n_fields
    cdef Field* fields                      # MAX_FIELDS of them; NULL between messages
    cdef readonly int minor_version         # 0 or 1
    cdef readonly bint keep_alive           # what version and Connection ask for
    cdef readonly long long content_length  # -1: none given
    cdef readonly bint chunked
    cdef readonly bint until_eof            # responses only: the body ends with the connection
    cdef readonly bint complete             # the whole message has been read
    # after each feed_body():
    cdef readonly long long body_bytes      # payload bytes so far
    cdef readonly Py_ssize_t n_spans
    cdef Span* spans
    # `whole`: this segment's part is whole plain chunks: no extension, no trailer field, starts and
    # ends on a chunk boundary. Any other body: always.
    cdef readonly bint whole
    # limits, set once
    cdef public Py_ssize_t max_head_bytes   # a trailer section is held to the same
    cdef public Py_ssize_t max_target_bytes
    # the state machine's own: httphead.pxd, httpbody.pxd
    cdef bytearray _partial                 # a head that came in pieces, as far as it is here
    cdef int _state
    cdef int _pos                           # the byte to look at next; a head counts from its first
    cdef int _mark                          # where the present element begins
    cdef int _seen                          # bits of httphead.Seen
    cdef int _connection_bytes              # of all Connection values
    cdef Py_ssize_t _line_bytes             # of a chunk's size line, or of the trailer section
    cdef long long _left                    # payload bytes to come, of this chunk or of the body
    cdef Py_ssize_t _span_capacity
    cdef unsigned char _trailer[20]         # the name of the trailer field being read
    cdef int _trailer_bytes

    cpdef Py_ssize_t feed_head(self, bytes data, Py_ssize_t start) except -2
    cpdef Py_ssize_t feed_body(self, bytes data, Py_ssize_t start) except -2
    cpdef bint started(self) noexcept               # some byte of a head has been fed
    cpdef bytes value(self, bytes lower_name)       # first field of that (lower-case) name, or None
    cpdef bint has_any(self, NameSet names) noexcept
    cpdef Py_ssize_t span_start(self, Py_ssize_t index) except -1
    cpdef Py_ssize_t span_end(self, Py_ssize_t index) except -1
    cpdef bytes payload(self, bytes data)           # the spans of the last feed_body(), joined
    cpdef bytes chunk(self, bytes data, bint last)  # as as_chunk() has it
    cpdef void reset(self) noexcept                 # ready for the next message; frees what it can
    cdef int _scan(self, const unsigned char* p, int end) noexcept nogil
    cdef const unsigned char* _hold(
        self, bytes data, Py_ssize_t start, Py_ssize_t held, Py_ssize_t taken) except NULL
    cdef int _keep_head(self, bytes data, const unsigned char* p, Py_ssize_t end) except -1
    cdef object _fault(self, int code, const unsigned char* p, Py_ssize_t at, Py_ssize_t end)
    cdef bytes _part(self, Py_ssize_t start, Py_ssize_t end)
    cdef Py_ssize_t _payload_bytes(self, bytes data) except -1
    cdef unsigned char* _put_payload(self, bytes data, unsigned char* to) noexcept
    cdef void _restart(self) noexcept

cdef class RequestReader(Reader):
    cdef readonly int method_start          # offsets into head, as are all below
    cdef readonly int method_end
    cdef readonly int path_start            # absolute-form is reduced to its path
    cdef readonly int path_end              # path_start == path_end: it has none, which is "/"
    cdef readonly int query_start           # behind '?'; query_start == query_end: none
    cdef readonly int query_end
    cdef readonly bint expect_continue
    cdef int _conclude(self) noexcept nogil
    cpdef bytes method(self)
    cpdef bytes path(self)
    cpdef bytes query(self)

cdef class ResponseReader(Reader):
    cdef readonly int status
    cdef public bint head_request           # set after reset(): the answer to HEAD has no body
    cdef readonly int interim               # 1xx heads skipped; more than 16 is an error
    cdef int _conclude(self) noexcept nogil
    cdef int _conclude_interim(self) noexcept nogil
    cpdef int content_kind(self) noexcept
    cpdef bint feed_eof(self) except -1     # True: the message ended cleanly; else raises

# head = prefix + allowed fields of `reader` + extra + framing + CRLF (+ body). content_length -1:
# chunked; -2: no framing field. `prefix` and `extra` are whole lines, each ending in CRLF. `body`:
# bytes to go out with the head, in the same allocation.
cpdef bytes build_request_head(
    bytes prefix, RequestReader reader, NameSet allowed, bytes extra, long long content_length,
    bytes body=*)

# head = status line + fields of `reader` but those hop-by-hop (RFC 9110 7.6.1), named by
# Connection, or in `denied` + extra + framing + CRLF (+ body).
cpdef bytes build_response_head(
    int status, ResponseReader reader, NameSet denied, bytes extra, long long content_length,
    bytes body=*)

# `payload` as one HTTP chunk, and behind it, if `last`, the empty chunk that ends the body. Nothing
# for nothing: an empty chunk would end it, too.
cpdef bytes as_chunk(bytes payload, bint last)
