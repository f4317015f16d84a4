# Words that several processes share: atomic loads and stores, and a lock that names its holder.
#
# Loads acquire and stores release, which on x86-64 costs nothing and on ARM one instruction. A lock
# is held for a few hundred instructions, so waiting is spinning and, should the holder have been
# scheduled away, sched_yield. A process that dies inside leaves its number there, for another to
# take the lock over.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <sched.h>
    #include <stdint.h>

    #ifndef FG_ATOMIC
    #define FG_ATOMIC
    #define FG_LOAD(cell) __atomic_load_n(cell, __ATOMIC_ACQUIRE)
    #define FG_STORE(cell, value) __atomic_store_n(cell, value, __ATOMIC_RELEASE)
    #define FG_ADD(cell, value) __atomic_fetch_add(cell, value, __ATOMIC_ACQ_REL)

    static inline int fg_swap(uint32_t* word, uint32_t from, uint32_t to) {
        return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_ACQUIRE,
                                           __ATOMIC_RELAXED);
    }

    static inline void fg_lock(uint32_t* word, uint32_t holder) {
        /* 100 tries take about a microsecond: longer than any holder that is running. */
        for (int tries = 0; !fg_swap(word, 0, holder); tries++)
            if (tries > 100)
                sched_yield();
    }
    #endif
    """
    uint64_t load_key "FG_LOAD"(uint64_t* cell) noexcept nogil
    void store_key "FG_STORE"(uint64_t* cell, uint64_t value) noexcept nogil
    int64_t load "FG_LOAD"(int64_t* cell) noexcept nogil
    void store "FG_STORE"(int64_t* cell, int64_t value) noexcept nogil
    int32_t load_count "FG_LOAD"(int32_t* cell) noexcept nogil
    void store_count "FG_STORE"(int32_t* cell, int32_t value) noexcept nogil
    void add_count "FG_ADD"(int32_t* cell, int32_t value) noexcept nogil
    bint swap_word "fg_swap"(uint32_t* word, uint32_t expected, uint32_t value) noexcept nogil
    void lock_word "fg_lock"(uint32_t* word, uint32_t holder) noexcept nogil
    void store_word "FG_STORE"(uint32_t* cell, uint32_t value) noexcept nogil
