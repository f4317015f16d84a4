# Looks at the bytes of an answer as they pass, in place, in any split: an event stream (WHATWG HTML
# 9.2, any line ending) or one JSON document. Finds usage, errors, first content and [DONE].
# It keeps no text: nothing is copied but a name or a number that a segment's end cuts in two, and a
# scanner takes some 500 bytes, whatever passes.

cimport cython

from .answer cimport Payload
from .jsonchars cimport Bytes

cdef enum Kind:
    EVENTS = 0              # text/event-stream
    DOCUMENT = 1            # one JSON document

cdef enum Seen:             # what feed() returns, or-ed: what this call saw for the first time
    NOTHING = 0
    CONTENT = 1             # the first event that carries something for the user
    ERROR = 2               # an error object or error event
    USAGE = 4               # a usable usage object (each time one is seen)
    DONE = 8                # data: [DONE]

cdef enum Line:             # where in a line the last byte left us
    L_BOM                   # before the stream's first line: a byte order mark may stand here
    L_START
    L_NAME                  # in the field's name
    L_DATA
    L_EVENT
    L_OTHER                 # a field that does not matter
    L_COMMENT

cdef enum Mode:             # what the data of the event at hand looks like
    M_BLANK                 # white space so far
    M_DONE                  # some of "[DONE]"
    M_JSON
    M_TEXT                  # neither


@cython.final
cdef class Scanner:
    cdef readonly int kind
    cdef readonly long long events              # complete events with data
    cdef readonly long long content_events      # of those, the ones that carry content
    cdef readonly bint content_seen
    cdef readonly bint error_seen
    cdef readonly bint error_first              # an error was seen before any content
    cdef readonly bint done_seen
    # usage, last one seen wins; -1: never seen. Never negative, at most 2^53.
    cdef readonly long long input_tokens        # prompt_tokens, input_tokens, promptTokenCount
    cdef readonly long long output_tokens       # completion_, output_tokens, candidatesTokenCount
    cdef readonly long long total_tokens
    cdef readonly long long cached_tokens       # cached_tokens, cache_read_input_tokens, ...
    cdef readonly long long cache_write_tokens  # cache_creation_input_tokens, cache_write_tokens
    cdef readonly long long reasoning_tokens    # reasoning_tokens, thoughtsTokenCount
    # EVENTS, after each feed():
    cdef readonly bint at_boundary              # no event is half read
    # The last offset in the segment at which none was; `start` when there is no such offset. What
    # stands behind it is the first part of an event; events and comments before it are complete.
    cdef readonly Py_ssize_t boundary
    # The first event that ended in this feed() and holds nothing but usage ("choices": [] and a
    # usage object). usage_only_end -1: none; usage_only_start -1: it began in an earlier segment,
    # at the boundary of that one.
    cdef readonly Py_ssize_t usage_only_start
    cdef readonly Py_ssize_t usage_only_end

    cdef int line                               # Line
    cdef bint after_cr                          # the last line ended with CR: LF belongs to it
    cdef bint fields                            # the event at hand has a field line
    cdef bint has_data                          # one of them is data
    cdef int name_at                            # bytes in `name`; 6: none that we know
    cdef unsigned char[6] name
    cdef int event_name                         # Name of the event: field
    cdef int mode                               # Mode
    cdef int done_at                            # bytes of "[DONE]" that matched
    cdef Py_ssize_t event_at                    # where the event at hand began; -1: before `start`
    cdef int seen
    cdef Payload payload

    cpdef void reset(self, int kind) noexcept
    cpdef int feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    # Nothing more comes. A DOCUMENT is judged now: half of one, or surplus bytes, say nothing.
    cpdef int feed_eof(self) except -1

    cdef void _feed_events(self, Bytes base, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _feed_bom(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _feed_field(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _feed_data(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _feed_done(self, Bytes p, Bytes end) noexcept nogil
    cdef void _end_line(self) noexcept nogil
    cdef void _dispatch(self, Py_ssize_t end) noexcept nogil
    cdef void _judge(self, Py_ssize_t end) noexcept nogil
    cdef int _held_name(self) noexcept nogil
    cdef void _begin_event(self) noexcept nogil
    cdef void _take_error(self) noexcept nogil
    cdef void _take_content(self) noexcept nogil
    cdef void _take_usage(self) noexcept nogil
