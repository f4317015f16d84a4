# An answer's bytes as they pass: see sse.pxd for what is found. Lines here, JSON in answer.pxd.
#
#   feed() -> _feed_events() -> _feed_field() / _feed_data() -> walk() -> _dispatch() -> _judge()
#
# Invariants: nothing that an event says counts before its empty line has come; any split of the
# same bytes gives the same facts; no input raises. Behind [DONE] events are counted, nothing more.

from cpython.bytes cimport PyBytes_AS_STRING

from .answer cimport (
    COUNTS,
    K_CACHE_WRITE,
    K_CACHED,
    K_INPUT,
    K_OUTPUT,
    K_REASONING,
    K_TOTAL,
    N_EMPTY,
    N_ERROR,
    N_OTHER,
    TOKEN_BYTES,
    begin_payload,
    hold,
    name_of,
    open_container,
    walk,
)
from .jsonchars cimport Bytes, same, skip_line

cdef enum:
    BOM_BYTES = 3
    DONE_BYTES = 6
    NAME_BYTES = 6          # one more than "event", the longest field name that matters


cdef class Scanner:
    def __cinit__(self, int kind=EVENTS):
        self.reset(kind)

    cpdef void reset(self, int kind) noexcept:
        self.kind = kind
        self.events = self.content_events = 0
        self.content_seen = self.error_seen = self.error_first = self.done_seen = False
        self.input_tokens = self.output_tokens = self.total_tokens = -1
        self.cached_tokens = self.cache_write_tokens = self.reasoning_tokens = -1
        self.at_boundary = True
        self.boundary = 0
        self.usage_only_start = self.usage_only_end = -1
        self.line = L_BOM
        self.name_at = 0
        self.after_cr = False
        self.seen = NOTHING
        self._begin_event()

    cpdef int feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
        cdef Bytes base = <Bytes>PyBytes_AS_STRING(data)
        if not 0 <= start <= end <= len(data):
            raise ValueError(f"expected 0 <= start <= end <= {len(data)}, got {start} and {end}")
        self.seen = NOTHING
        self.boundary = start
        if self.kind == EVENTS:
            self.event_at = start if self.at_boundary else -1
            self.usage_only_start = self.usage_only_end = -1
            self._feed_events(base, base + start, base + end)
            if end > start:
                self.at_boundary = self.boundary == end
        else:
            walk(&self.payload, base + start, base + end, False)
        return self.seen

    cpdef int feed_eof(self) except -1:
        cdef Bytes blank = <Bytes>b" "
        self.seen = NOTHING
        # A last event without its empty line is none (WHATWG HTML 9.2.6): nothing to add.
        if self.kind == DOCUMENT:
            walk(&self.payload, blank, blank + 1, False)     # ends a number
            if self.payload.complete and not self.payload.broken:
                if self.payload.error or self.payload.name == N_ERROR:
                    self._take_error()
                else:
                    self._take_content()
                self._take_usage()
            self._begin_event()
        return self.seen

    # hot: begin

    cdef void _feed_events(self, Bytes base, Bytes p, Bytes end) noexcept nogil:
        cdef unsigned char c
        while p < end:
            c = p[0]
            if self.line == L_START:
                if c == c'\n' or c == c'\r':
                    p += 1
                    if c == c'\r' or not self.after_cr:
                        self._dispatch(p - base)
                    self.after_cr = c == c'\r'
                    if not self.fields:
                        self.boundary = self.event_at = p - base
                    continue
                self.after_cr = False
                if end - p >= 6 and same(p, 6, b"data: "):      # nearly every line
                    self.line = L_DATA
                    p += 6
                else:
                    self.line = L_NAME
                    self.name_at = 0
            if self.line == L_DATA:
                p = self._feed_data(p, end)
            elif self.line == L_BOM:
                p = self._feed_bom(p, end)
            else:
                p = self._feed_field(p, end)
            if p < end and self.line != L_START:
                self._end_line()                                # p is at CR or LF
                self.after_cr = p[0] == c'\r'
                p += 1
            if self.line == L_START and not self.fields:        # behind a comment or the BOM
                self.boundary = self.event_at = p - base

    cdef Bytes _feed_bom(self, Bytes p, Bytes end) noexcept nogil:
        # A byte order mark before the first line is skipped; some of one is part of a field's name.
        cdef const char* bom = b"\xef\xbb\xbf"
        while p < end and self.name_at < BOM_BYTES and p[0] == <unsigned char>bom[self.name_at]:
            self.name_at += 1
            p += 1
        if self.name_at == 0 or self.name_at == BOM_BYTES:
            self.line = L_START
        elif p < end:
            self.line = L_OTHER
            return skip_line(p, end)
        return p

    cdef Bytes _feed_field(self, Bytes p, Bytes end) noexcept nogil:
        # A line that did not arrive as "data: " in one piece; up to its end, or the segment's.
        if self.line == L_NAME:
            while p < end and p[0] != c':' and p[0] != c'\n' and p[0] != c'\r':
                if self.name_at < NAME_BYTES:
                    self.name[self.name_at] = p[0]
                    self.name_at += 1
                p += 1
            if p == end or p[0] != c':':
                return p
            p += 1
            if self.name_at == 0:
                self.line = L_COMMENT
            elif same(self.name, self.name_at, b"data"):
                self.line = L_DATA
                return self._feed_data(p, end)
            elif same(self.name, self.name_at, b"event"):
                self.line = L_EVENT
                self.payload.held = 0
            else:
                self.line = L_OTHER
        cdef Bytes start = p
        p = skip_line(p, end)
        if self.line == L_EVENT:
            hold(&self.payload, start, p)
        return p

    cdef Bytes _feed_data(self, Bytes p, Bytes end) noexcept nogil:
        # The one space that may follow the colon is white space to JSON and to [DONE] alike.
        if self.mode == M_BLANK:
            while p < end and (p[0] == c' ' or p[0] == c'\t'):
                p += 1
            if p == end or p[0] == c'\n' or p[0] == c'\r':
                return p
            self.mode = M_JSON
            if p[0] == c'[':
                self.mode = M_DONE
                self.done_at = 0
        if self.mode == M_DONE:
            p = self._feed_done(p, end)
        if self.mode == M_JSON:
            p = walk(&self.payload, p, end, True)
            if self.payload.broken:
                self.mode = M_TEXT
        if self.mode == M_TEXT:
            p = skip_line(p, end)
        return p

    cdef Bytes _feed_done(self, Bytes p, Bytes end) noexcept nogil:
        cdef const char* done = b"[DONE]"
        while p < end:
            if self.done_at < DONE_BYTES and p[0] == <unsigned char>done[self.done_at]:
                self.done_at += 1
            elif self.done_at == 1:                             # a JSON array
                self.mode = M_JSON
                open_container(&self.payload, True)
                break
            elif self.done_at == DONE_BYTES and (p[0] == c'\n' or p[0] == c'\r'):
                break
            elif self.done_at < DONE_BYTES or (p[0] != c' ' and p[0] != c'\t'):
                self.mode = M_TEXT
                break
            p += 1
        return p

    cdef void _end_line(self) noexcept nogil:
        cdef int line = self.line
        self.line = L_START
        if line == L_COMMENT:
            return
        self.fields = True
        if line == L_DATA:
            self.has_data = True
        elif line == L_EVENT:
            self.event_name = self._held_name()
        elif line == L_NAME:                                    # no colon: an empty value
            if same(self.name, self.name_at, b"data"):
                self.has_data = True
            elif same(self.name, self.name_at, b"event"):
                self.event_name = N_OTHER

    cdef int _held_name(self) noexcept nogil:
        cdef int n = self.payload.held
        cdef int space = n > 0 and self.payload.text[0] == c' '
        return name_of(self.payload.text + space, n - space) if n <= TOKEN_BYTES else N_OTHER

    cdef void _dispatch(self, Py_ssize_t end) noexcept nogil:
        # An empty line; without data it only forgets what came before (WHATWG HTML 9.2.6).
        if self.has_data:
            self.events += 1
            if not self.done_seen:
                self._judge(end)
        if self.fields:
            self._begin_event()

    cdef void _judge(self, Py_ssize_t end) noexcept nogil:
        # Facts count when the first JSON value of the data is whole, surplus behind it or not.
        cdef bint whole = self.payload.complete
        if self.mode == M_DONE and self.done_at == DONE_BYTES:
            self.done_seen = True
            self.seen |= DONE
            return
        if whole and self.payload.usage:
            self._take_usage()
        if whole and (self.payload.error or self.payload.name == N_ERROR):
            self._take_error()
        elif self.event_name == N_ERROR:
            self._take_error()
        elif self.mode == M_BLANK or self.event_name == N_EMPTY:
            pass
        elif self.mode == M_TEXT or not whole:
            self._take_content()
        elif self.payload.choices == 1:
            if self.payload.usage and self.usage_only_end < 0:
                self.usage_only_start = self.event_at
                self.usage_only_end = end
        elif self.payload.name != N_EMPTY and (self.payload.choices == 0 or self.payload.content):
            self._take_content()

    cdef void _begin_event(self) noexcept nogil:
        self.fields = self.has_data = False
        self.event_name = N_OTHER
        self.mode = M_BLANK
        begin_payload(&self.payload)

    cdef void _take_error(self) noexcept nogil:
        if not self.error_seen:
            self.error_seen = True
            self.error_first = not self.content_seen
            self.seen |= ERROR

    cdef void _take_content(self) noexcept nogil:
        self.content_events += 1
        if not self.content_seen:
            self.content_seen = True
            self.seen |= CONTENT

    cdef void _take_usage(self) noexcept nogil:
        # The counts that this object has; those of an earlier one stay (Anthropic's message_delta).
        cdef long long* counts = self.payload.counts
        cdef bint any_count = False
        cdef int i
        if not self.payload.usage or self.payload.usage_bad:
            return
        for i in range(COUNTS):
            any_count = any_count or counts[i] >= 0
        if not any_count:
            return
        self.seen |= USAGE
        if counts[K_INPUT] >= 0:
            self.input_tokens = counts[K_INPUT]
        if counts[K_OUTPUT] >= 0:
            self.output_tokens = counts[K_OUTPUT]
        if counts[K_TOTAL] >= 0:
            self.total_tokens = counts[K_TOTAL]
        if counts[K_CACHED] >= 0:
            self.cached_tokens = counts[K_CACHED]
        if counts[K_CACHE_WRITE] >= 0:
            self.cache_write_tokens = counts[K_CACHE_WRITE]
        if counts[K_REASONING] >= 0:
            self.reasoning_tokens = counts[K_REASONING]

    # hot: end
