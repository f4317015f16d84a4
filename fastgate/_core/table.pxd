# A hash table of fixed entries in memory that several processes map; time is an argument
# (CLOCK_MONOTONIC, ns).
#
# An entry is found by a 64-bit key, claimed on first use, reclaimed when idle. An index is good for
# 60 s, or for as long as the entry has something in flight. A short lock word per entry names its
# holder, so that release_worker() can break what a dead worker left.

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastgate._core.atomic cimport store

cdef extern from *:
    # Not an enum: those are unsigned, and times are not.
    """
    #define FG_SECOND_NS INT64_C(1000000000)
    #define FG_FRESH_NS (60 * FG_SECOND_NS)
    #define FG_IDLE_NS (120 * FG_SECOND_NS)
    """
    const int64_t SECOND_NS "FG_SECOND_NS"
    const int64_t FRESH_NS "FG_FRESH_NS"
    # Longer than the minute window, so that what is forgotten counts nothing.
    const int64_t IDLE_NS "FG_IDLE_NS"

cdef enum:
    SLOTS = 66              # processes that can use a table: 64 workers, control, supervisor

cdef struct TableHead:
    uint32_t lock                   # holder's slot + 1; held while an entry is claimed
    int64_t full_until_ns           # nothing can be reclaimed before this time

cdef struct EntryHead:              # every entry starts with this
    uint32_t lock                   # holder's slot + 1
    int64_t used_ns


@cython.final
cdef class Region:
    # A part of a writable buffer (mmap), held for as long as tables point into it.
    cdef object _buffer
    cdef unsigned char* base
    cdef readonly Py_ssize_t size


cdef class Table:
    cdef Region _region
    cdef TableHead* _head
    cdef uint64_t* _keys
    cdef unsigned char* _entries
    cdef Py_ssize_t _entry_bytes
    cdef uint32_t _holder
    cdef readonly Py_ssize_t capacity
    cdef readonly int worker
    # For subclasses: what their entries are.
    cdef int _lay_out(self, Py_ssize_t entry_bytes) except -1
    cdef int64_t _idle_from_ns(self, EntryHead* entry, int64_t now_ns) noexcept nogil
    cdef void _forget_worker(self, EntryHead* entry, int worker, bint broken) noexcept nogil
    cdef Py_ssize_t _find(self, uint64_t key) noexcept nogil
    cdef bint _refresh(self, Py_ssize_t entry, uint64_t key, int64_t now_ns) noexcept nogil
    cdef Py_ssize_t _claim(self, uint64_t key, int64_t now_ns) noexcept nogil
    cdef bint _reclaim(self, Py_ssize_t entry, int64_t now_ns) noexcept nogil
    # Found or claimed; -1: table full.
    cpdef Py_ssize_t entry(self, uint64_t key, int64_t now_ns) noexcept
    # Found, and not claimed; -1: nobody has it.
    cpdef Py_ssize_t find(self, uint64_t key) noexcept
    # That worker is dead.
    cpdef void release_worker(self, int worker) noexcept

    cdef inline EntryHead* _at(self, Py_ssize_t entry) noexcept nogil:     # NULL: out of range
        if 0 <= entry < self.capacity:
            return <EntryHead*>(self._entries + entry * self._entry_bytes)
        return NULL


cdef Py_ssize_t table_bytes(Py_ssize_t entries, Py_ssize_t entry_bytes) noexcept nogil


cdef inline void touch(EntryHead* entry, int64_t now_ns) noexcept nogil:
    if now_ns > entry.used_ns:
        store(&entry.used_ns, now_ns)
