# One pass over a request's JSON body: where the fields stand that a gateway needs, as offsets; no objects
# are built but the few values read. The whole body is validated (RFC 8259, UTF-8), so that what is
# authorised here is what every parser behind reads; anything that two parsers could read differently is refused.

cdef enum:
    MAX_DEPTH = 128
    MAX_MEMBERS = 256       # of the top-level object; real requests have some 40
    MAX_MODEL_BYTES = 256

cdef struct Place:          # a value's place in the body, quotes and brackets included; start -1: absent
    Py_ssize_t start
    Py_ssize_t end

cdef class BodyScan:
    # Reusable; every scan() overwrites all fields.
    cdef readonly str model                         # decoded; None: absent
    cdef Place model_at
    cdef readonly int stream                        # 1, 0; -1: absent or null
    cdef readonly int include_usage                 # of stream_options: 1, 0; -1: absent or null
    cdef Place stream_options_at                    # an object, or absent; null counts as present
    cdef readonly long long max_tokens              # -1: absent or null
    cdef readonly long long max_completion_tokens   # likewise; also max_output_tokens
    cdef readonly long long n                       # 1 when absent
    cdef Place user_at
    cdef Place prompt_at                            # of messages, prompt, input, query or contents: the first there is
    cdef Place metadata_at
    cdef readonly Py_ssize_t members                # of the top-level object
    cdef readonly Py_ssize_t open_at                # offset of its '{'

    cpdef int scan(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    # The body data[start:end] that scan() saw, with another model name (None: as it is) and, when
    # `usage` is set, stream_options.include_usage true; every other byte as it came.
    cpdef bytes splice(self, bytes data, Py_ssize_t start, Py_ssize_t end, str model, bint usage)
