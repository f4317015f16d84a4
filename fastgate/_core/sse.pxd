# Looks at the bytes of an answer as they pass, in place, in any split: an event stream (WHATWG HTML 9.2,
# any line ending) or one JSON document. Finds usage, errors, first content and [DONE]. Copies nothing but the
# usage object (at most 8 KiB) and what is needed to know a key; it keeps no text and its memory is bounded.

cdef enum Kind:
    EVENTS = 0              # text/event-stream
    DOCUMENT = 1            # one JSON document

cdef enum Seen:             # what feed() returns, or-ed: what this call saw for the first time
    NOTHING = 0
    CONTENT = 1             # the first event that carries something for the user
    ERROR = 2               # an error object or error event
    USAGE = 4               # a usable usage object (each time one is seen)
    DONE = 8                # data: [DONE]

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
    cdef readonly long long output_tokens       # completion_tokens, output_tokens, candidatesTokenCount
    cdef readonly long long total_tokens
    cdef readonly long long cached_tokens       # prompt_tokens_details.cached_tokens, cache_read_input_tokens, ...
    cdef readonly long long cache_write_tokens  # cache_creation_input_tokens
    cdef readonly long long reasoning_tokens    # completion_tokens_details.reasoning_tokens, thoughtsTokenCount
    # EVENTS, after each feed():
    cdef readonly bint at_boundary              # no event is half read
    cdef readonly Py_ssize_t boundary           # offset in the last segment behind its last complete event;
                                                # `start` when it completed none
    # The first event of this feed() that began and ended inside it and holds nothing but usage
    # ("choices": [] and a usage object); usage_only_start -1: none
    cdef readonly Py_ssize_t usage_only_start
    cdef readonly Py_ssize_t usage_only_end

    cpdef void reset(self, int kind)
    cpdef int feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    cpdef int feed_eof(self) except -1          # DOCUMENT, or an EVENTS stream that ended: nothing more comes
