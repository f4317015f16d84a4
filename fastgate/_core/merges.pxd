# Pieces into tokens: byte-pair merges without merging.
#
# Merging the pair of lowest rank first, again and again, is quadratic when done as told. Instead:
# the encoding of a piece is the one way to cut it into tokens in which every two neighbours are
# *compatible*, that is, in which their text, encoded by itself, is these two tokens. (Merges are
# local: what joins two tokens joins them in any surroundings.) So tokens are laid left to right,
# the longest first, each compatible with the one before; where none fits, the place is a dead end,
# remembered as such, and the token before it gets shorter. Each place is a dead end once, so time
# is linear in the piece, and the work can stop after any step and go on later.
#
# Tables: a trie for the longest token at a place, what two tokens merge into, and for each token
# its halves and the next shorter token that it begins with.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastgate._core.jsonchars cimport Bytes

cdef extern from *:
    """
    #define FG_NOTHING UINT64_MAX
    /* Multiplied by 2^64 / golden ratio (Knuth 6.4); in C, where that may overflow. */
    static inline uint64_t fg_mix(uint64_t key) {
        return key * UINT64_C(0x9E3779B97F4A7C15);
    }
    """
    const uint64_t NOTHING "FG_NOTHING"
    uint64_t mix "fg_mix"(uint64_t key) noexcept nogil

cdef enum:
    VALUE_BITS = 21         # of a token or a node: room for 2 million; o200k has 200,000 tokens
    NONE = 0x1FFFFF         # the largest value
    FILTER_LOG2 = 22        # 512 KiB: small enough to stay near, large enough to be right often
    BYTES = 256             # tokens below are single bytes, which nothing was merged into

# key -> value, open addressing. Most questions are about what is not there; the filter answers nine
# in ten of them without going to memory, which made merging 1.7 times as fast.
cdef struct Hashed:         # places hold key << VALUE_BITS | value
    uint64_t* places        # NOTHING: empty
    uint32_t mask
    uint32_t used
    uint64_t* filter        # bit i: a key's hash begins with i; says no to most that are not there
    int shift               # 64 - log2(places)

cdef struct Tables:
    Hashed edges            # node << 8 | byte -> node; a token's node is the token itself
    Hashed pairs            # left << VALUE_BITS | right -> token
    uint32_t* left          # the halves of a token
    uint32_t* right
    uint32_t* shorter       # the longest token that it begins with; NONE: it is a byte
    uint8_t* sizes          # in bytes
    uint32_t[BYTES] of_byte
    uint32_t size           # tokens

cdef struct Merge:
    Bytes piece
    Py_ssize_t size
    Py_ssize_t at           # tokens[:count] encode piece[:at]
    Py_ssize_t count
    uint32_t token          # to be tried at `at`
    uint32_t* tokens
    uint64_t* dead          # bit i: no encoding of the piece has an end at i
    Py_ssize_t room         # the longest piece that `tokens` and `dead` have room for


# hot: begin

cdef inline uint32_t find(const Hashed* table, uint64_t key) noexcept nogil:
    cdef uint64_t hash = mix(key)
    cdef uint32_t i = <uint32_t>(hash >> table.shift)
    cdef uint32_t bit = <uint32_t>(hash >> (64 - FILTER_LOG2))
    cdef uint64_t place
    if not table.filter[bit >> 6] >> (bit & 63) & 1:
        return NONE
    place = table.places[i]
    while place >> VALUE_BITS != key:
        if place == NOTHING:
            return NONE
        i = (i + 1) & table.mask
        place = table.places[i]
    return place & NONE


cdef inline uint32_t pair(const Tables* tables, uint64_t left, uint32_t right) noexcept nogil:
    return find(&tables.pairs, left << VALUE_BITS | right)


cdef inline uint32_t edge(const Tables* tables, uint64_t node, uint8_t byte) noexcept nogil:
    return find(&tables.edges, node << 8 | byte)


cdef inline uint32_t longest(const Tables* tables, Bytes p, Py_ssize_t size) noexcept nogil:
    # The longest token that p[:size] begins with; size > 0.
    cdef uint32_t node = tables.of_byte[p[0]]
    cdef uint32_t found = node
    cdef Py_ssize_t i
    for i in range(1, size):
        node = edge(tables, node, p[i])
        if node < tables.size:
            found = node
        elif node == NONE:
            break
    return found


cdef inline bint compatible(const Tables* tables, uint32_t left, uint32_t right) noexcept nogil:
    # Encoding the text of both gives just them. Played backwards: take apart the one that was
    # merged last, and again; the two that face each other must never have had an earlier merge.
    cdef uint32_t sooner = NONE         # merges below this came sooner
    while pair(tables, left, right) >= sooner:
        if left < BYTES and right < BYTES:
            return True
        if left > right:
            sooner = left
            left = tables.right[left]
        else:
            sooner = right + 1          # of equal pairs the left one is merged first
            right = tables.left[right]
    return False


cdef inline void start_merge(
    const Tables* tables, Merge* merge, Bytes piece, Py_ssize_t size
) noexcept nogil:
    # `size` fits into merge.room; the bits in `dead` are zero.
    merge.piece = piece
    merge.size = size
    merge.at = 0
    merge.count = 0
    merge.token = longest(tables, piece, size)


cdef inline Py_ssize_t merge_some(
    const Tables* tables, Merge* merge, Py_ssize_t steps
) noexcept nogil:
    # Go on for about so many steps: a token tried is one, and each of its bytes that was looked up.
    # Returns what is left of them. Done when merge.at == merge.size.
    cdef uint32_t token = merge.token
    cdef Py_ssize_t end
    while merge.at < merge.size and steps > 0:
        steps -= 1
        end = merge.at + tables.sizes[token]
        if not merge.dead[end >> 6] >> (end & 63) & 1 and (
            merge.count == 0 or compatible(tables, merge.tokens[merge.count - 1], token)
        ):
            merge.tokens[merge.count] = token
            merge.count += 1
            merge.at = end
            if end < merge.size:
                token = longest(tables, merge.piece + end, merge.size - end)
                steps -= tables.sizes[token]
        elif tables.shorter[token] != NONE:
            token = tables.shorter[token]
        else:
            # Never at 0: the piece has an encoding.
            merge.dead[merge.at >> 6] |= 1ULL << (merge.at & 63)
            merge.count -= 1
            token = merge.tokens[merge.count]
            merge.at -= tables.sizes[token]
    merge.token = token
    return steps

# hot: end
