# A request's JSON body, read once: see jscan.pxd for what is found and why so much is refused.
#
#   scan() -> _scan_body() -> _scan_key() -> _scan_field() -> strictjson.pxd: skip_value() ...
#   splice() -> edit() ... -> joined()
#
# A kernel takes where to begin and the body's end, and returns the place behind what it read, or
# NULL after fail(), as those of strictjson.pxd do.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy

from .jsonchars cimport Bytes, same, skip_plain
from .strictjson cimport (
    Reading,
    fail,
    skip_key,
    skip_number,
    skip_scalar,
    skip_space,
    skip_string,
    skip_value,
    unescape,
)

import json

cdef enum:
    NO_FIELD
    F_MODEL
    F_STREAM
    F_STREAM_OPTIONS
    F_INCLUDE_USAGE         # inside stream_options
    F_MAX_TOKENS
    F_MAX_COMPLETION_TOKENS
    F_MAX_OUTPUT_TOKENS
    F_N
    F_USER
    F_METADATA
    F_MESSAGES              # from here on: what is prompted with, the likeliest first
    F_PROMPT
    F_INPUT
    F_QUERY
    F_CONTENTS
    F_LAST

cdef enum:
    LONGEST_FIELD = 21      # max_completion_tokens
    MAX_N = 128             # OpenAI's own limit
    MAX_COUNT = 9007199254740992    # 2^53: the largest integer that every JSON reader reads exactly
    FAULT_BYTES = 80        # of the input, quoted in an error


class ScanError(Exception):
    pass


cdef class BodyScan:
    def __cinit__(self):
        self._clear()

    cpdef int scan(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
        if not 0 <= start <= end <= len(data):
            raise ValueError(f"expected 0 <= start <= end <= {len(data)}, got {start} and {end}")
        self._clear()
        self.model = None
        self.scanned_end = 0                        # nothing to splice after an error
        self.base = <Bytes>PyBytes_AS_STRING(data)
        if self._scan_body(self.base + start, self.base + end) == NULL:
            raise ScanError(self._describe(self.base + start, self.base + end))
        if self.model_at.start >= 0:
            self.model = PyUnicode_DecodeASCII(<char*>self.model_text, self.model_bytes, NULL)
        self.scanned_end = end
        return 0

    cpdef bytes splice(self, bytes data, Py_ssize_t start, Py_ssize_t end, str model, bint usage):
        cdef bytes name = None if model is None else inside_string(model)
        cdef bytes front = b""
        cdef Edit[3] edits
        cdef int n = 0
        if not 0 <= start <= self.open_at < self.scanned_end == end <= len(data):
            raise ValueError("expected the body that was scanned last")
        if name is not None and self.model_at.start < 0:
            front = b'"model":"' + name + b'",'
        if usage and self.stream_options_at.start < 0:
            front += b'"stream_options":{"include_usage":true},'
        if front:
            edits[n] = edit(self.open_at + 1, self.open_at + 1, front)
            edits[n].size -= self.members == 0      # no comma before '}'
            n += 1
        if name is not None and self.model_at.start >= 0:
            edits[n] = edit(self.model_at.start + 1, self.model_at.end - 1, name)
            n += 1
        if usage and self.stream_options_at.start >= 0 and self.include_usage != 1:
            edits[n] = self._usage_edit()
            n += 1
            if n > 1 and edits[n - 1].start < edits[n - 2].start:
                edits[n - 1], edits[n - 2] = edits[n - 2], edits[n - 1]
        return joined(data, start, end, edits, n)

    cdef Edit _usage_edit(self) noexcept:
        # What turns the stream_options that are there into ones with include_usage.
        cdef Place at = self.include_usage_at
        if at.start >= 0:
            return edit(at.start, at.end, b"true")
        at = self.stream_options_at
        if self.options < 0:                        # null
            return edit(at.start, at.end, b'{"include_usage":true}')
        if self.options == 0:
            return edit(at.start + 1, at.start + 1, b'"include_usage":true')
        return edit(at.start + 1, at.start + 1, b'"include_usage":true,')

    def place(self, str name):
        cdef Place at
        if name == "model":
            at = self.model_at
        elif name == "stream_options":
            at = self.stream_options_at
        elif name == "user":
            at = self.user_at
        elif name == "prompt":
            at = self.prompt_at
        elif name == "metadata":
            at = self.metadata_at
        else:
            raise KeyError(name)
        return None if at.start < 0 else (at.start, at.end)

    cdef str _describe(self, Bytes start, Bytes end):
        cdef Reading* r = &self.reading
        cdef Py_ssize_t size = min(r.fault_end, end) - r.fault_at
        came = repr((<char*>r.fault_at)[:min(size, FAULT_BYTES)]) if size else "the end"
        return f"expected {r.fault.decode()}, got {came} at offset {r.fault_at - start}"

    # hot: begin

    cdef void _clear(self) noexcept nogil:
        cdef Place absent = Place(-1, -1)
        self.model_at = self.stream_options_at = self.include_usage_at = absent
        self.user_at = self.prompt_at = self.metadata_at = absent
        self.stream = self.include_usage = -1
        self.max_tokens = self.max_completion_tokens = -1
        self.n = 1
        self.members = self.options = self.open_at = 0
        self.prompt_field = F_LAST

    cdef Bytes _scan_body(self, Bytes p, Bytes end) noexcept nogil:
        cdef Reading* r = &self.reading
        cdef int field = NO_FIELD
        p = skip_space(p, end)
        if p == end or p[0] != c'{':
            return fail(r, b"a JSON object", p, p + 1)
        self.open_at = p - self.base
        p = skip_space(p + 1, end)
        if p < end and p[0] == c'}':
            return self._scan_end(p + 1, end)
        while True:
            if self.members == MAX_MEMBERS:
                return fail(r, b"at most 256 members in the body", p, p + 1)
            p = self._scan_key(p, end, self.keys, self.members, &field)
            if p == NULL:
                return NULL
            # `+=` on a field needs the GIL where overflow is checked (the debug build).
            self.members = self.members + 1
            p = self._scan_field(field, p, end)
            if p == NULL:
                return NULL
            p = skip_space(p, end)
            if p == end or (p[0] != c',' and p[0] != c'}'):
                return fail(r, b"',' or '}'", p, p + 1)
            if p[0] == c'}':
                return self._scan_end(p + 1, end)
            p = skip_space(p + 1, end)

    cdef Bytes _scan_end(self, Bytes p, Bytes end) noexcept nogil:
        cdef Reading* r = &self.reading
        p = skip_space(p, end)
        return p if p == end else fail(r, b"nothing behind the JSON object", p, p + 1)

    cdef Bytes _scan_key(
        self, Bytes p, Bytes end, uint64_t* keys, Py_ssize_t count, int* field
    ) noexcept nogil:
        # A key whose meaning counts: which field it is, and that no reader takes another for it.
        cdef Reading* r = &self.reading
        cdef Bytes at = p
        cdef Bytes text = p + 1
        cdef Py_ssize_t i, n
        cdef uint64_t key
        p = skip_key(r, p, end)
        if p == NULL:
            return NULL
        n = r.string_end - text
        if r.escaped:
            n = unescape(text, r.string_end, self.key_text, MAX_KEY_BYTES)
            text = self.key_text
            if n <= MAX_KEY_BYTES and memchr(text, 0, n) != NULL:
                # A reader with C strings would see the key end here.
                return fail(r, b"keys without NUL", at, r.string_end + 1)
        if n > MAX_KEY_BYTES:
            return fail(r, b"keys of at most 256 bytes", at, r.string_end + 1)
        key = hash_of(text, n)
        for i in range(count):
            # Different keys of one hash (1 pair in 2^64) are refused too, which harms nobody.
            if keys[i] == key:
                return fail(r, b"each key once", at, r.string_end + 1)
        keys[count] = key
        field[0] = field_of(text, n)
        if field[0] == NO_FIELD and folds_to_field(text, n):
            return fail(r, b"known keys in their own spelling", at, r.string_end + 1)
        return p

    cdef Bytes _scan_field(self, int field, Bytes p, Bytes end) noexcept nogil:
        cdef Reading* r = &self.reading
        cdef Bytes value = p
        cdef long long count
        if field == F_MODEL:
            p = self._scan_model(p, end)
            self.model_at = self._place(value, p)
        elif field == F_STREAM:
            p = self._scan_flag(p, end, &self.stream)
        elif field == F_STREAM_OPTIONS:
            p = self._scan_options(p, end)
            self.stream_options_at = self._place(value, p)
        elif field == F_MAX_TOKENS:
            p = self._scan_count(p, end, &self.max_tokens)
        elif field == F_MAX_COMPLETION_TOKENS or field == F_MAX_OUTPUT_TOKENS:
            p = self._scan_count(p, end, &count)
            self.max_completion_tokens = max(self.max_completion_tokens, count)
        elif field == F_N:
            p = self._scan_count(p, end, &count)
            if p != NULL and count >= 0:
                if not 1 <= count <= MAX_N:
                    return fail(r, b"n from 1 to 128", value, p)
                self.n = count
        elif field == F_USER:
            p = self._scan_user(p, end)
        else:
            p = skip_value(r, p, end, 1)
            if field == F_METADATA:
                self.metadata_at = self._place(value, p)
            elif F_MESSAGES <= field < self.prompt_field:
                self.prompt_field = field
                self.prompt_at = self._place(value, p)
        return p

    cdef Place _place(self, Bytes p, Bytes end) noexcept nogil:
        return Place(-1, -1) if end == NULL else Place(p - self.base, end - self.base)

    cdef Bytes _scan_model(self, Bytes p, Bytes end) noexcept nogil:
        cdef Reading* r = &self.reading
        cdef Bytes at = p
        cdef Py_ssize_t n
        if p == end or p[0] != c'"':
            return fail(r, b"a string as model", p, p + 1)
        p = skip_string(r, p, end)
        if p == NULL:
            return NULL
        n = unescape(at + 1, r.string_end, self.model_text, MAX_MODEL_BYTES)
        if not is_model(self.model_text, n):
            return fail(r, b"a model of 1 to 256 of A-Za-z0-9._:/@+- with no '..' segment", at, p)
        self.model_bytes = n
        return p

    cdef Bytes _scan_user(self, Bytes p, Bytes end) noexcept nogil:
        cdef Reading* r = &self.reading
        cdef Bytes at = p
        if p < end and p[0] == c'n':
            return skip_scalar(r, p, end)
        if p == end or p[0] != c'"':
            return fail(r, b"a string or null as user", p, p + 1)
        p = skip_string(r, p, end)
        if p == NULL:
            return NULL
        if r.lone_surrogate:
            return fail(r, b"a user without half a surrogate pair", at, p)
        self.user_at = self._place(at, p)
        return p

    cdef Bytes _scan_options(self, Bytes p, Bytes end) noexcept nogil:
        cdef Reading* r = &self.reading
        cdef int field = NO_FIELD
        cdef Bytes value
        if p < end and p[0] == c'n':
            self.options = -1
            return skip_scalar(r, p, end)
        if p == end or p[0] != c'{':
            return fail(r, b"an object or null as stream_options", p, p + 1)
        p = skip_space(p + 1, end)
        if p < end and p[0] == c'}':
            return p + 1
        while True:
            if self.options == MAX_OPTIONS:
                return fail(r, b"at most 16 members in stream_options", p, p + 1)
            value = p = self._scan_key(p, end, self.option_keys, self.options, &field)
            if p == NULL:
                return NULL
            self.options = self.options + 1
            if field == F_INCLUDE_USAGE:
                p = self._scan_flag(p, end, &self.include_usage)
                self.include_usage_at = self._place(value, p)
            else:
                p = skip_value(r, p, end, 2)
            if p == NULL:
                return NULL
            p = skip_space(p, end)
            if p == end or (p[0] != c',' and p[0] != c'}'):
                return fail(r, b"',' or '}'", p, p + 1)
            if p[0] == c'}':
                return p + 1
            p = skip_space(p + 1, end)

    cdef Bytes _scan_flag(self, Bytes p, Bytes end, int* flag) noexcept nogil:
        cdef Reading* r = &self.reading
        if p == end or (p[0] != c't' and p[0] != c'f' and p[0] != c'n'):
            return fail(r, b"true, false or null", p, p + 1)
        flag[0] = 1 if p[0] == c't' else 0 if p[0] == c'f' else -1
        return skip_scalar(r, p, end)

    cdef Bytes _scan_count(self, Bytes p, Bytes end, long long* count) noexcept nogil:
        # -1: null. Digits only: 1e3 and 1.0 are integers to some readers and none to others.
        cdef Reading* r = &self.reading
        cdef Bytes at = p
        cdef Bytes digit = p
        count[0] = -1
        if p < end and p[0] == c'n':
            return skip_scalar(r, p, end)
        p = skip_number(r, p, end)
        if p == NULL:
            return NULL
        if p - at <= 16:                            # 2^53 has 16 digits
            count[0] = 0
            while digit < p and c'0' <= digit[0] <= c'9':
                count[0] = count[0] * 10 + digit[0] - c'0'
                digit += 1
        if digit < p or count[0] > <long long>MAX_COUNT:
            return fail(r, b"an integer from 0 to 2^53, without fraction or exponent", at, p)
        return p

    # hot: end


# hot: begin

cdef inline uint64_t hash_of(Bytes p, Py_ssize_t n) noexcept nogil:
    # Each step is a bijection of the word: two keys of up to 8 bytes never share a hash.
    cdef uint64_t h = <uint64_t>n, word
    while n > 0:
        word = 0
        memcpy(&word, p, min(n, 8))
        h = (h ^ word) * 0x9E3779B97F4A7C15ULL      # 2^64 / golden ratio, odd
        h ^= h >> 32
        p += 8
        n -= 8
    return h


cdef inline int field_of(Bytes p, Py_ssize_t n) noexcept nogil:
    if same(p, n, b"model"):
        return F_MODEL
    if same(p, n, b"messages"):
        return F_MESSAGES
    if same(p, n, b"stream"):
        return F_STREAM
    if same(p, n, b"stream_options"):
        return F_STREAM_OPTIONS
    if same(p, n, b"include_usage"):
        return F_INCLUDE_USAGE
    if same(p, n, b"max_tokens"):
        return F_MAX_TOKENS
    if same(p, n, b"max_completion_tokens"):
        return F_MAX_COMPLETION_TOKENS
    if same(p, n, b"max_output_tokens"):
        return F_MAX_OUTPUT_TOKENS
    if same(p, n, b"n"):
        return F_N
    if same(p, n, b"user"):
        return F_USER
    if same(p, n, b"metadata"):
        return F_METADATA
    if same(p, n, b"prompt"):
        return F_PROMPT
    if same(p, n, b"input"):
        return F_INPUT
    if same(p, n, b"query"):
        return F_QUERY
    return F_CONTENTS if same(p, n, b"contents") else NO_FIELD


cdef inline bint folds_to_field(Bytes p, Py_ssize_t n) noexcept nogil:
    # Go's encoding/json takes keys without regard to case, by Unicode's simple folding, in which
    # U+212A is a k and U+017F an s.
    cdef unsigned char[LONGEST_FIELD] folded
    cdef Bytes end = p + n
    cdef int m = 0
    while p < end:
        if m == LONGEST_FIELD:
            return False
        if c'A' <= p[0] <= c'Z':
            folded[m] = p[0] | 0x20
        elif end - p >= 3 and memcmp(p, b"\xe2\x84\xaa", 3) == 0:
            folded[m] = c'k'
            p += 2
        elif end - p >= 2 and memcmp(p, b"\xc5\xbf", 2) == 0:
            folded[m] = c's'
            p += 1
        else:
            folded[m] = p[0]
        m += 1
        p += 1
    return field_of(folded, m) != NO_FIELD


cdef inline bint is_parent(Bytes p, Py_ssize_t n) noexcept nogil:
    return n == 2 and p[0] == c'.' and p[1] == c'.'


cdef inline bint is_model(Bytes p, Py_ssize_t n) noexcept nogil:
    # It may become part of a URL's path, a metric's label and a log line: no '%', no '*', no '..'
    # as a path segment.
    cdef Py_ssize_t i, segment = 0
    cdef unsigned char c
    if not 1 <= n <= MAX_MODEL_BYTES:
        return False
    for i in range(n):
        c = p[i]
        if c == c'/':
            if is_parent(p + segment, i - segment):
                return False
            segment = i + 1
        elif not (c'a' <= c | 0x20 <= c'z' or c'-' <= c <= c':' or c in (c'_', c'@', c'+')):
            return False
    return not is_parent(p + segment, n - segment)

# hot: end


cdef bytes inside_string(str text):
    # As what stands between the quotes of a JSON string.
    cdef bytes plain = text.encode("utf-8", "surrogatepass")
    cdef Bytes p = <Bytes>PyBytes_AS_STRING(plain)
    cdef Bytes end = p + PyBytes_GET_SIZE(plain)
    if skip_plain(p, end, 0x8080808080808080ULL) == end:
        return plain
    plain = json.dumps(text).encode("ascii")
    return plain[1 : len(plain) - 1]


cdef Edit edit(Py_ssize_t start, Py_ssize_t end, bytes text) noexcept:
    # `text` has to live as long as the edit.
    return Edit(start, end, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef bytes joined(bytes data, Py_ssize_t start, Py_ssize_t end, const Edit* edits, int n):
    # data[start:end] with `n` edits, which are in order and do not overlap; one copy.
    cdef Py_ssize_t size = end - start, at = start
    cdef bytes result
    cdef char* out
    cdef int i
    if n == 0 and start == 0 and end == PyBytes_GET_SIZE(data):
        return data
    for i in range(n):
        size += edits[i].size - (edits[i].end - edits[i].start)
    result = PyBytes_FromStringAndSize(NULL, size)
    out = PyBytes_AS_STRING(result)
    for i in range(n):
        memcpy(out, PyBytes_AS_STRING(data) + at, edits[i].start - at)
        out += edits[i].start - at
        memcpy(out, edits[i].text, edits[i].size)
        out += edits[i].size
        at = edits[i].end
    memcpy(out, PyBytes_AS_STRING(data) + at, end - at)
    return result
