# distutils: include_dirs = fastgate/_core
# distutils: depends = fastgate/_core/codepoints.h
# Counting tokens: see bpe.pxd for the way of a text, and for each part the kernels' own contract.
#
#   Counter()  ranks.pxd: parse_ranks(), build()
#   count()    advance() -> pieces.pxd: plain_word() or next_piece()
#                        -> short_count(), long_count() or none -> merges.pxd: merge_some()

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdint cimport UINT32_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.stdlib cimport posix_memalign

from fastgate._core.jsonchars cimport Bytes, load8
from fastgate._core.merges cimport (
    BYTES,
    FILTER_LOG2,
    NONE,
    Merge,
    Tables,
    merge_some,
    mix,
    start_merge,
)
from fastgate._core.pieces cimport BEGIN, CL100K, O200K, PLAIN_BYTES, Scan, next_piece, plain_word
from fastgate._core.ranks cimport Ranks, build, open_table, parse_ranks

PATTERNS = ("cl100k", "o200k")

cdef enum:
    SHORTS_LOG2 = 14        # sets of four, 1 MiB; a quarter of that took half as long again
    LONGS_LOG2 = 13         # 512 KiB
    SHORT = 15              # the longest piece of each cache
    LONG = 62
    LINE_BYTES = 80         # of a line, quoted in an error
    ALL_STEPS = 0x40000000  # more than a piece of the cache needs
    KEPT_ROOM = 0x10000     # of the longest piece, between texts: 256 KiB

cdef extern from *:
    """
    #define FG_SHORT_COUNT (UINT64_C(15) << 56)
    /* Eight bytes from 16 - n on keep the first n of eight. */
    static const unsigned char fg_keep[32] = {
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255
    };
    """
    Bytes KEEP "fg_keep"
    const uint64_t SHORT_COUNT "FG_SHORT_COUNT"

cdef enum Outcome:
    DONE
    PAUSED
    MALFORMED
    NO_MEMORY


# Progress through a text

cdef void* zeroed_lines(size_t size) noexcept nogil:
    # On cache lines: then no entry lies across two.
    cdef void* found = NULL
    if posix_memalign(&found, 64, size) != 0:
        return NULL
    memset(found, 0, size)
    return found


cdef bint make_room(Merge* merge, Py_ssize_t size) noexcept nogil:
    if size <= merge.room:
        return True
    drop_room(merge)
    merge.tokens = <uint32_t*>malloc(<size_t>size * sizeof(uint32_t))
    merge.dead = <uint64_t*>calloc(<size_t>size // 64 + 1, sizeof(uint64_t))
    merge.room = size
    if merge.tokens == NULL or merge.dead == NULL:
        drop_room(merge)
    return merge.room == size


cdef void drop_room(Merge* merge) noexcept nogil:
    free(merge.tokens)
    free(merge.dead)
    merge.tokens = NULL
    merge.dead = NULL
    merge.room = 0


cdef inline void forget_dead(Merge* merge) noexcept nogil:
    memset(merge.dead, 0, <size_t>(merge.size // 64 + 1) * sizeof(uint64_t))


# hot: begin

cdef inline Py_ssize_t merged(
    Tables* tables, Merge* merge, Bytes p, Py_ssize_t size
) noexcept nogil:
    # The count of a piece of at most LONG bytes, for which there is always room.
    start_merge(tables, merge, p, size)
    merge_some(tables, merge, ALL_STEPS)
    merge.dead[0] = 0
    return merge.count


cdef inline Py_ssize_t short_count(
    Tables* tables, Short* shorts, Merge* merge, Bytes p, Py_ssize_t size, Bytes end
) noexcept nogil:
    # Four places on one cache line, the one last used first.
    cdef uint8_t[16] tail
    cdef Short key
    cdef Short* places
    cdef int i = 0
    if end - p < 16:
        memset(tail, 0, sizeof(tail))
        memcpy(tail, p, size)
        p = tail
    key.low = load8(p) & load8(KEEP + 16 - size)
    key.high = load8(p + 8) & load8(KEEP + 24 - size)
    key.high |= <uint64_t>size << 60
    places = shorts + (mix(key.low ^ mix(key.high)) >> (64 - SHORTS_LOG2) << 2)
    if places.low == key.low and places.high & ~SHORT_COUNT == key.high:
        return places.high >> 56 & 15
    for i in range(1, 4):
        if places[i].low == key.low and places[i].high & ~SHORT_COUNT == key.high:
            key = places[i]
            break
    else:
        key.high |= <uint64_t>merged(tables, merge, p, size) << 56
        i = 3
    while i > 0:
        places[i] = places[i - 1]
        i -= 1
    places[0] = key
    return key.high >> 56 & 15


cdef inline Py_ssize_t long_count(
    Tables* tables, Long* longs, Merge* merge, Bytes p, Py_ssize_t size
) noexcept nogil:
    cdef uint64_t hash = load8(p + size - 8)
    cdef Py_ssize_t i
    cdef Long* place
    for i in range(0, size - 8, 8):
        hash = mix(hash ^ load8(p + i))
        hash ^= hash >> 32
    place = longs + (mix(hash) >> (64 - LONGS_LOG2))
    if place.size != size or memcmp(place.piece, p, size) != 0:
        place.count = <uint8_t>merged(tables, merge, p, size)
        place.size = <uint8_t>size
        memcpy(place.piece, p, size)
    return place.count


cdef Outcome advance(Counter counter, Progress* progress, Py_ssize_t budget) noexcept nogil:
    # Go on through about `budget` bytes: a byte scanned costs one, and a step of merging a piece
    # too long for the cache.
    cdef Tables* tables = &counter.tables
    cdef Scan* scan = &progress.scan
    cdef Merge* merge = &progress.merge
    cdef Bytes at
    cdef Py_ssize_t size
    while scan.begin < scan.end:
        if not progress.merging:
            if budget <= 0:
                return PAUSED
            if scan.stage == BEGIN and scan.end - scan.begin >= PLAIN_BYTES:
                size = plain_word(scan.begin, scan.pattern)
                if size and size <= SHORT:
                    progress.tokens += short_count(
                        tables, counter.shorts, merge, scan.begin, size, scan.end)
                    budget -= size
                    scan.begin += size
                    scan.at = scan.begin
                    continue
            at = scan.at
            if not next_piece(scan, at + budget if budget < scan.end - at else scan.end):
                return MALFORMED if scan.malformed else PAUSED
            if scan.malformed:
                return MALFORMED
            budget -= scan.at - at
            size = scan.at - scan.begin
            if size <= SHORT:
                progress.tokens += short_count(
                    tables, counter.shorts, merge, scan.begin, size, scan.end)
            elif size <= LONG:
                progress.tokens += long_count(tables, counter.longs, merge, scan.begin, size)
            elif make_room(merge, size):
                start_merge(tables, merge, scan.begin, size)
                progress.merging = True
            else:
                return NO_MEMORY
        if progress.merging:
            budget = merge_some(tables, merge, budget)
            if merge.at < merge.size:
                return PAUSED
            progress.tokens += merge.count
            forget_dead(merge)
            progress.merging = False
        scan.begin = scan.at
        scan.stage = BEGIN
    return DONE

# hot: end


cdef class Counter:
    def __cinit__(self, bytes ranks not None, str pattern not None):
        if pattern not in PATTERNS:
            raise ValueError(f"expected a pattern of {', '.join(PATTERNS)}, got {pattern!r}")
        self.pattern = CL100K if pattern == "cl100k" else O200K
        self.shorts = <Short*>zeroed_lines((4 << SHORTS_LOG2) * sizeof(Short))
        self.longs = <Long*>zeroed_lines((1 << LONGS_LOG2) * sizeof(Long))
        if self.shorts == NULL or self.longs == NULL:
            raise MemoryError
        self._load(ranks)
        self.memory_bytes = (
            (4 << SHORTS_LOG2) * sizeof(Short) + (1 << LONGS_LOG2) * sizeof(Long)
            + (<Py_ssize_t>self.tables.edges.mask + self.tables.pairs.mask + 2) * sizeof(uint64_t)
            + 2 * (1 << FILTER_LOG2 >> 3)
            + <Py_ssize_t>self.tables.size * (3 * sizeof(uint32_t) + 1)
        )

    def __dealloc__(self):
        free(self.shorts)
        free(self.longs)
        free(self.tables.edges.filter)
        free(self.tables.pairs.filter)
        free(self.tables.edges.places)
        free(self.tables.pairs.places)
        free(self.tables.left)
        free(self.tables.right)
        free(self.tables.shorter)
        free(self.tables.sizes)
        drop_room(&self.progress.merge)

    @property
    def size(self):
        return self.tables.size

    cdef int _load(self, bytes text) except -1:
        # Some 0.15 s, so others may run meanwhile.
        cdef Bytes p = <Bytes>PyBytes_AS_STRING(text)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
        cdef size_t most = <size_t>text.count(b"\n")
        cdef Tables* tables = &self.tables
        cdef Ranks ranks
        cdef uint32_t wrong = NONE
        cdef uint32_t* by_size = <uint32_t*>malloc((most + 1) * sizeof(uint32_t))
        ranks.blob = <uint8_t*>malloc(<size_t>size + 1)
        ranks.starts = <uint32_t*>malloc((most + 2) * sizeof(uint32_t))
        tables.left = <uint32_t*>malloc((most + 1) * sizeof(uint32_t))
        tables.right = <uint32_t*>malloc((most + 1) * sizeof(uint32_t))
        tables.shorter = <uint32_t*>malloc((most + 1) * sizeof(uint32_t))
        tables.sizes = <uint8_t*>malloc(most + 1)
        tables.edges.filter = <uint64_t*>calloc(1 << FILTER_LOG2 >> 6, sizeof(uint64_t))
        tables.pairs.filter = <uint64_t*>calloc(1 << FILTER_LOG2 >> 6, sizeof(uint64_t))
        try:
            if (by_size == NULL or ranks.blob == NULL or ranks.starts == NULL
                    or tables.left == NULL or tables.right == NULL or tables.shorter == NULL
                    or tables.sizes == NULL
                    or tables.edges.filter == NULL or tables.pairs.filter == NULL
                    or not open_table(&tables.edges, 16)
                    or not open_table(&tables.pairs, 16)):
                raise MemoryError
            if not BYTES <= most < NONE or size > <Py_ssize_t>UINT32_MAX:
                raise ValueError(f"expected {BYTES} to {NONE - 1} lines, one per token, got {most}")
            if not parse_ranks(&ranks, p, p + size):
                raise ValueError(
                    f"line {ranks.size + 1}: expected the token in base64 and its rank"
                    f" {ranks.size}, got {text[ranks.fault - p:].split(b"\n")[0][:LINE_BYTES]!r}")
            tables.size = ranks.size
            with nogil:
                wrong = build(tables, &ranks, by_size)
            if wrong != NONE:
                raise ValueError(
                    f"expected every token to be a byte or two tokens before it, once; {wrong} is"
                    f" {ranks.blob[ranks.starts[wrong]:ranks.starts[wrong + 1]][:LINE_BYTES]!r}")
        finally:
            free(by_size)
            free(ranks.blob)
            free(ranks.starts)
        return 0

    cpdef Py_ssize_t count(self, bytes data) except -1:
        if data is None:
            raise TypeError("expected bytes, got None")
        cdef Progress* progress = &self.progress
        if not make_room(&progress.merge, LONG):
            raise MemoryError
        start(progress, self.pattern, data)
        progress.tokens = 0
        go_on(self, progress, data, PY_SSIZE_T_MAX)
        if progress.merge.room > KEPT_ROOM:
            drop_room(&progress.merge)
        return progress.tokens

    def encode(self, bytes data not None):
        cdef Progress progress
        cdef Py_ssize_t i
        cdef list tokens = []
        memset(&progress, 0, sizeof(progress))
        data = well_formed(data)
        start(&progress, self.pattern, data)
        try:
            while progress.scan.begin < progress.scan.end:
                next_piece(&progress.scan, progress.scan.end)
                if not make_room(&progress.merge, progress.scan.at - progress.scan.begin):
                    raise MemoryError
                start_merge(&self.tables, &progress.merge, progress.scan.begin,
                            progress.scan.at - progress.scan.begin)
                merge_some(&self.tables, &progress.merge, PY_SSIZE_T_MAX)
                forget_dead(&progress.merge)
                for i in range(progress.merge.count):
                    tokens.append(progress.merge.tokens[i])
                progress.scan.begin = progress.scan.at
                progress.scan.stage = BEGIN
        finally:
            drop_room(&progress.merge)
        return tokens


cdef class Count:
    def __cinit__(self, Counter counter not None, bytes data not None):
        self.counter = counter
        self.data = data
        start(&self.progress, counter.pattern, data)
        if not make_room(&self.progress.merge, LONG):
            raise MemoryError

    def __dealloc__(self):
        drop_room(&self.progress.merge)

    @property
    def tokens(self):
        return self.progress.tokens

    cpdef bint advance(self, Py_ssize_t max_bytes) except -1:
        if max_bytes < 1:
            raise ValueError(f"expected max_bytes to be at least 1, got {max_bytes}")
        self.data = go_on(self.counter, &self.progress, self.data, max_bytes)
        return self.progress.scan.begin == self.progress.scan.end


cdef bytes go_on(Counter counter, Progress* progress, bytes data, Py_ssize_t budget):
    # Returns the text that `progress` is in: another when this one turns out not to be UTF-8.
    cdef Outcome outcome = advance(counter, progress, budget)
    if outcome == MALFORMED:
        data = well_formed(data[progress.scan.begin - <Bytes>PyBytes_AS_STRING(data):])
        start(progress, counter.pattern, data)
        outcome = advance(counter, progress, budget)
    if outcome == NO_MEMORY:
        raise MemoryError
    return data


cdef bytes well_formed(bytes data):
    return data.decode("utf-8", "replace").encode()


cdef void start(Progress* progress, Pattern pattern, bytes data) noexcept:
    # At the first byte of `data`, which must outlive it; what is counted already stays.
    progress.scan.begin = <Bytes>PyBytes_AS_STRING(data)
    progress.scan.at = progress.scan.begin
    progress.scan.end = progress.scan.begin + PyBytes_GET_SIZE(data)
    progress.scan.pattern = pattern
    progress.scan.stage = BEGIN
    progress.scan.malformed = False
    progress.merging = False
