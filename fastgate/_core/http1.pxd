# HTTP/1.1 framing, sans-IO: bytes in, offsets out. Strict RFC 9112, the strict option wherever it leaves a choice.
#
# A reader is fed the segments that a socket returned. It never copies a body: feed_body() leaves the
# payload's place in the segment as spans. A head that arrives in one segment is parsed in place; one that
# arrives in pieces is joined (bounded by max_head_bytes) and parsed on from where it stopped, never again.
#
#   feed_head(data, start) -> offset of the first byte behind the head, or -1: more bytes are needed
#   feed_body(data, start) -> offset of the first byte behind the message, or -1: the body goes on
#
# Malformed input raises ProtocolError at the first byte that no valid message could continue with.

cdef enum:
    MAX_FIELDS = 100        # fields in one head; more is 431 (Envoy's default too)

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
    cdef list _names
    cdef object _by_length
    cdef unsigned char* _table
    cdef Py_ssize_t _table_bytes
    cdef bint contains(self, const unsigned char* name, Py_ssize_t length) noexcept nogil

cdef class Reader:
    # What requests and responses share. After feed_head() returned an offset:
    cdef readonly bytes head                # the object that holds the head (perhaps the whole segment)
    cdef readonly Py_ssize_t head_start
    cdef readonly Py_ssize_t head_end       # behind the empty line
    cdef readonly int n_fields
    cdef Field* fields                      # MAX_FIELDS of them; NULL between messages
    cdef readonly int minor_version         # 0 or 1
    cdef readonly bint keep_alive           # what this message's version and Connection fields ask for
    cdef readonly long long content_length  # -1: none given
    cdef readonly bint chunked
    cdef readonly bint until_eof            # responses only: the body ends with the connection
    cdef readonly bint complete             # the whole message has been read
    # after each feed_body():
    cdef readonly long long body_bytes      # payload bytes so far
    cdef readonly Py_ssize_t n_spans
    cdef Span* spans
    cdef readonly bint whole                # this segment's part is whole plain chunks: no extension, no
                                            # trailer field, starts and ends on a chunk boundary
    # limits, set once
    cdef public Py_ssize_t max_head_bytes
    cdef public Py_ssize_t max_target_bytes
    # the state machine's own
    cdef bytearray _partial
    cdef int _state
    cdef Py_ssize_t _pos
    cdef Py_ssize_t _mark
    cdef Py_ssize_t _line_bytes
    cdef long long _left
    cdef Py_ssize_t _span_capacity
    cdef dict _scratch

    cpdef Py_ssize_t feed_head(self, bytes data, Py_ssize_t start) except -2
    cpdef Py_ssize_t feed_body(self, bytes data, Py_ssize_t start) except -2
    cpdef bint started(self)                        # some byte of a head has been fed
    cpdef bytes value(self, bytes lower_name)       # first field of that (lower-case) name, or None
    cpdef bytes payload(self, bytes data)           # the spans of the last feed_body(), joined
    cpdef bytes chunk(self, bytes data)             # the same as one HTTP chunk; b"" when there is none
    cpdef void reset(self)                          # ready for the next message; frees what it can

cdef class RequestReader(Reader):
    cdef readonly int method_start          # offsets into head, as are all below
    cdef readonly int method_end
    cdef readonly int path_start            # of the target's path; absolute-form is reduced to its path
    cdef readonly int path_end
    cdef readonly int query_start           # behind '?'; query_start == query_end: none
    cdef readonly int query_end
    cdef readonly bint expect_continue
    cpdef bytes method(self)
    cpdef bytes path(self)
    cpdef bytes query(self)

cdef class ResponseReader(Reader):
    cdef readonly int status
    cdef public bint head_request           # set before feed_head(): the answer to HEAD has no body
    cdef readonly int interim               # 1xx heads skipped; more than 16 is an error
    cpdef bint feed_eof(self) except -1     # True: the message ended cleanly with the connection; else raises

# head = prefix + allowed fields of `reader` + extra + framing + CRLF. content_length -1: chunked; -2: no
# framing field. `prefix` and `extra` are whole lines, each ending in CRLF.
cpdef bytes build_request_head(bytes prefix, RequestReader reader, NameSet allowed, bytes extra, long long content_length)

# head = status line + fields of `reader` but those hop-by-hop (RFC 9110 7.6.1), named by Connection, or in
# `denied` + extra + framing + CRLF.
cpdef bytes build_response_head(int status, ResponseReader reader, NameSet denied, bytes extra, long long content_length)
