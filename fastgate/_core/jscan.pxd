# One pass over a request's JSON body: where the fields stand that a gateway needs, as offsets; no
# objects are built but the few values read. The whole body is validated (RFC 8259, UTF-8), so that
# what is authorised here is what every parser behind reads; what two could read differently is
# refused.

cimport cython
from libc.stdint cimport uint64_t

from .jsonchars cimport Bytes
from .strictjson cimport Reading

cdef enum:
    MAX_MEMBERS = 256       # of the top-level object; real requests have some 40
    MAX_OPTIONS = 16        # members of stream_options; real ones have 1 to 4
    MAX_KEY_BYTES = 256     # of a top-level key, decoded; real ones have up to 30
    MAX_MODEL_BYTES = 256

cdef struct Place:          # a value's place in the data, quotes and brackets included; -1: absent
    Py_ssize_t start
    Py_ssize_t end


cdef struct Edit:           # text in the place of data[start:end]
    Py_ssize_t start
    Py_ssize_t end
    const char* text
    Py_ssize_t size


@cython.final
cdef class BodyScan:
    # Reusable; every scan() overwrites all fields. After a ScanError they mean nothing.
    cdef readonly str model                         # decoded; None: absent
    cdef Place model_at
    cdef readonly int stream                        # 1, 0; -1: absent or null
    cdef readonly int include_usage                 # of stream_options: 1, 0; -1: absent or null
    cdef Place stream_options_at                    # an object or null
    cdef readonly long long max_tokens              # -1: absent or null
    cdef readonly long long max_completion_tokens   # likewise; or max_output_tokens, if larger
    cdef readonly long long n                       # 1 when absent
    cdef Place user_at                              # absent when null
    cdef Place prompt_at                            # messages, else prompt, input, query, contents
    cdef Place metadata_at
    cdef readonly Py_ssize_t members                # of the top-level object
    cdef readonly Py_ssize_t open_at                # offset of its '{'

    cpdef int scan(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    # The body data[start:end] that scan() saw, with another model name (None: as it is; put in when
    # the body has none) and, with `usage`, stream_options.include_usage true; all else as it came.
    cpdef bytes splice(self, bytes data, Py_ssize_t start, Py_ssize_t end, str model, bint usage)

    cdef Bytes base                                 # of the data being scanned
    cdef Py_ssize_t scanned_end                     # `end` of the last scan; 0: it failed
    cdef Reading reading
    cdef int prompt_field                           # which field prompt_at is
    cdef Place include_usage_at
    cdef Py_ssize_t options                         # members of stream_options
    cdef Py_ssize_t model_bytes                     # of model_text
    cdef unsigned char[MAX_MODEL_BYTES + 4] model_text
    cdef unsigned char[MAX_KEY_BYTES + 4] key_text  # a key that was written with escapes
    cdef uint64_t[MAX_MEMBERS] keys                 # hashes of the top-level keys so far
    cdef uint64_t[MAX_OPTIONS] option_keys

    cdef void _clear(self) noexcept nogil
    cdef Place _place(self, Bytes p, Bytes end) noexcept nogil
    cdef Edit _usage_edit(self) noexcept
    cdef str _describe(self, Bytes start, Bytes end)
    cdef Bytes _scan_body(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _scan_end(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _scan_key(
        self, Bytes p, Bytes end, uint64_t* keys, Py_ssize_t count, int* field
    ) noexcept nogil
    cdef Bytes _scan_field(self, int field, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _scan_model(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _scan_user(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _scan_options(self, Bytes p, Bytes end) noexcept nogil
    cdef Bytes _scan_flag(self, Bytes p, Bytes end, int* flag) noexcept nogil
    cdef Bytes _scan_count(self, Bytes p, Bytes end, long long* count) noexcept nogil
