# A vocabulary into the tables of merges.pxd, once.
#
#   text --parse_ranks()--> Ranks --build()--> Tables: grow_trie(), split_tokens()
#
# What is taken is a vocabulary that merging can make: the first 256 tokens are the bytes, and every
# other one is what the tokens before it encode its text as, two of them, merged. merges.pxd
# relies on that.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastgate._core.jsonchars cimport Bytes
from fastgate._core.merges cimport (
    BYTES,
    FILTER_LOG2,
    NONE,
    NOTHING,
    VALUE_BITS,
    Hashed,
    Tables,
    compatible,
    edge,
    mix,
)

cdef struct Ranks:              # the vocabulary as text says it
    uint8_t* blob               # all tokens, one behind the other
    uint32_t* starts            # of each in it; one more for the end
    uint32_t size
    Bytes fault                 # the line that is wrong


cdef inline int sextet(uint8_t c) noexcept nogil:
    # RFC 4648 4; -1: not of its alphabet
    if c'A' <= c <= c'Z':
        return c - c'A'
    if c'a' <= c <= c'z':
        return c - c'a' + 26
    if c'0' <= c <= c'9':
        return c - c'0' + 52
    return 62 if c == c'+' else 63 if c == c'/' else -1


cdef inline bint parse_ranks(Ranks* ranks, Bytes p, Bytes end) noexcept nogil:
    # Lines "base64 rank\n", ranks counted up from 0. The blob is as large as the text.
    cdef uint8_t* out = ranks.blob
    cdef uint32_t bits, rank
    cdef int count, value
    ranks.size = 0
    while p < end:
        ranks.fault = p
        ranks.starts[ranks.size] = <uint32_t>(out - ranks.blob)
        bits = 0
        count = 0
        while p < end and sextet(p[0]) >= 0:
            bits = (bits & 0x3F) << 6 | <uint32_t>sextet(p[0])
            count += 6
            if count >= 8:
                count -= 8
                out[0] = (bits >> count) & 0xFF
                out += 1
            p += 1
        while p < end and p[0] == c'=':
            p += 1
        if p == end or p[0] != c' ' or out == ranks.blob + ranks.starts[ranks.size]:
            return False
        p += 1
        rank = 0
        while p < end and c'0' <= p[0] <= c'9' and rank <= ranks.size:
            value = p[0] - c'0'
            rank = 10 * rank + <uint32_t>value
            p += 1
        if p == end or p[0] != c'\n' or rank != ranks.size:
            return False
        p += 1
        ranks.size += 1
    ranks.starts[ranks.size] = <uint32_t>(out - ranks.blob)
    return True


cdef inline bint open_table(Hashed* table, int log2) noexcept nogil:
    cdef size_t places = <size_t>1 << log2
    table.places = <uint64_t*>malloc(places * sizeof(uint64_t))
    table.mask = <uint32_t>(places - 1)
    table.shift = 64 - log2
    table.used = 0
    if table.places != NULL:
        memset(table.places, 0xFF, places * sizeof(uint64_t))
    return table.places != NULL


cdef inline void put(Hashed* table, uint64_t place) noexcept nogil:
    cdef uint32_t bit = <uint32_t>(mix(place >> VALUE_BITS) >> (64 - FILTER_LOG2))
    table.filter[bit >> 6] |= 1ULL << (bit & 63)
    cdef uint32_t i = <uint32_t>(mix(place >> VALUE_BITS) >> table.shift)
    while table.places[i] != NOTHING:
        i = (i + 1) & table.mask
    table.places[i] = place
    table.used += 1


cdef inline bint insert(Hashed* table, uint64_t key, uint32_t value) noexcept nogil:
    cdef Hashed old = table[0]
    cdef uint32_t i
    # At most 2/3 full: then looking for what is not there takes 5 steps (Knuth 6.4).
    if <uint64_t>table.used * 3 >= <uint64_t>table.mask * 2:
        if not open_table(table, 65 - old.shift):
            table[0] = old
            return False
        for i in range(old.mask + 1):
            if old.places[i] != NOTHING:
                put(table, old.places[i])
        free(old.places)
    put(table, key << VALUE_BITS | value)
    return True


cdef inline uint32_t grow_trie(Tables* tables, Ranks* ranks, uint32_t* by_size) noexcept nogil:
    # Shorter tokens first: so a node that is a token is known as one when it is made. Returns a
    # token that is there twice or has no room, else NONE.
    cdef uint32_t nodes = tables.size
    cdef uint32_t i, k, token, node, child, size
    cdef uint8_t* p
    for i in range(tables.size):
        token = by_size[i]
        p = ranks.blob + ranks.starts[token]
        size = tables.sizes[token]
        node = tables.of_byte[p[0]]
        if size == 1:
            if node != NONE:
                return token
            tables.of_byte[p[0]] = token
        tables.shorter[token] = NONE
        for k in range(1, size):
            if node < tables.size:
                tables.shorter[token] = node
            child = edge(tables, node, p[k])
            if child == NONE:
                child = nodes
                if k == size - 1:
                    child = token
                else:
                    nodes += 1
                if nodes >= NONE or not insert(&tables.edges, <uint64_t>node << 8 | p[k], child):
                    return token
            elif k == size - 1:
                return token
            node = child
    return NONE


cdef inline uint32_t lookup(const Tables* tables, Bytes p, Py_ssize_t size) noexcept nogil:
    cdef uint32_t node = tables.of_byte[p[0]]
    cdef Py_ssize_t i
    for i in range(1, size):
        if node == NONE:
            break
        node = edge(tables, node, p[i])
    return node


cdef inline uint32_t split_tokens(Tables* tables, Ranks* ranks) noexcept nogil:
    # The halves of a token are the encoding of its text by the tokens before it. Returns a token
    # whose text these encode as something else than two (or that has no room), else NONE.
    cdef uint32_t token, left, right, at
    for token in range(BYTES, tables.size):
        left = tables.shorter[token]
        while left != NONE:
            at = ranks.starts[token] + tables.sizes[left]
            right = lookup(tables, ranks.blob + at, ranks.starts[token + 1] - at)
            if left < token and right < token and compatible(tables, left, right):
                break
            left = tables.shorter[left]
        if left == NONE:
            return token
        tables.left[token] = left
        tables.right[token] = right
        if not insert(&tables.pairs, <uint64_t>left << VALUE_BITS | right, token):
            return token
    return NONE


cdef inline uint32_t build(Tables* tables, Ranks* ranks, uint32_t* by_size) noexcept nogil:
    # Fill the tables; returns the first token that does not fit, else NONE.
    cdef uint32_t[257] place_of     # BYTES + 1
    cdef uint32_t token, size
    memset(place_of, 0, sizeof(place_of))
    for token in range(<uint32_t>BYTES):
        tables.of_byte[token] = NONE
    for token in range(tables.size):
        size = ranks.starts[token + 1] - ranks.starts[token]
        if size >= BYTES or (size == 1) != (token < BYTES):
            return token
        tables.sizes[token] = <uint8_t>size
        place_of[size + 1] += 1
    for size in range(1, <uint32_t>BYTES + 1):
        place_of[size] += place_of[size - 1]
    for token in range(tables.size):
        size = tables.sizes[token]
        by_size[place_of[size]] = token
        place_of[size] += 1
    token = grow_trie(tables, ranks, by_size)
    return token if token != NONE else split_tokens(tables, ranks)
