"""The hash table of fixed entries, in shared memory, that limits and deployment state are kept in.

Memory: TableHead, then the keys, then the entries. Keys stand apart so that looking for one reads a
few cache lines, and so that entries never used stay holes in the file and cost no memory.

Finding is lock-free; claiming is not (once per key and idle time). A key stands on its probe path
before the first empty place. Places are never emptied again, only handed to another key, so a path
is never cut:

    EMPTY -> key -> RECLAIMED -> other key -> ...

Whoever hands an entry on holds the table's lock and the entry's. An entry can be handed on IDLE_NS
after its last use at the earliest, and `entry` returns only those used within FRESH_NS, so an index
stays good for at least the difference without a lock.

A worker that dies inside a lock leaves it held; `release_worker` takes it over and has the entry
repaired. So every update is ordered such that half of it can be repaired or is harmless.
"""

from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastgate._core.atomic cimport (
    load,
    load_key,
    lock_word,
    store,
    store_key,
    store_word,
    swap_word,
)

cdef extern from *:
    """
    /* The home of a key: multiplication by 2^64 / golden ratio (Knuth 6.4), scaled to the range. */
    static inline uint64_t fg_home(uint64_t key, uint64_t capacity) {
        uint64_t hash = key * UINT64_C(0x9E3779B97F4A7C15);
        return (uint64_t)(((unsigned __int128)hash * capacity) >> 64);
    }
    """
    uint64_t home_of "fg_home"(uint64_t key, uint64_t capacity) noexcept nogil

cdef enum:
    # A cache line. Also divides a page, so tables that start on a page keep entries on lines.
    LINE = 64

cdef enum:
    EMPTY = 0
    RECLAIMED = 1

MAX_WORKERS = SLOTS - 2
CONTROL = SLOTS - 2
SUPERVISOR = SLOTS - 1


cdef inline Py_ssize_t lines(Py_ssize_t size) noexcept nogil:
    return (size + LINE - 1) // LINE * LINE


cdef Py_ssize_t table_bytes(Py_ssize_t entries, Py_ssize_t entry_bytes) noexcept nogil:
    return LINE + lines(entries * 8) + entries * lines(entry_bytes)


cdef class Region:
    def __cinit__(self, object buffer, Py_ssize_t offset=0, Py_ssize_t size=-1):
        self._buffer = memoryview(buffer)
        view = PyMemoryView_GET_BUFFER(self._buffer)
        if view.readonly or not PyBuffer_IsContiguous(view, b"C"):
            raise BufferError("expected a writable, contiguous buffer")
        if not 0 <= offset <= view.len or size > view.len - offset:
            raise ValueError(f"{size} bytes at {offset} do not lie in a buffer of {view.len}")
        self.base = <unsigned char*>view.buf + offset
        self.size = size if size >= 0 else view.len - offset
        if <size_t>self.base % 8:
            raise ValueError("a region must be aligned to 8 bytes")


cdef class Table:
    def __cinit__(self, Region region not None, int worker=0):
        if not 0 <= worker < SLOTS:
            raise ValueError(f"expected a worker below {SLOTS}, got {worker}")
        self._region = region
        self.worker = worker
        self._holder = worker + 1
        # Each kind of table lays itself out again; without that, entries are bare heads.
        self._lay_out(sizeof(EntryHead))

    cdef int _lay_out(self, Py_ssize_t entry_bytes) except -1:
        cdef Py_ssize_t size = self._region.size
        cdef Py_ssize_t capacity = (size - LINE) // (8 + lines(entry_bytes))
        # The keys' last line may not be full.
        if capacity > 0 and table_bytes(capacity, entry_bytes) > size:
            capacity -= 1
        if capacity < 1:
            raise ValueError(f"a region of {size} bytes has no room for an entry")
        self.capacity = capacity
        self._entry_bytes = lines(entry_bytes)
        self._head = <TableHead*>self._region.base
        self._keys = <uint64_t*>(self._region.base + LINE)
        self._entries = self._region.base + LINE + lines(capacity * 8)
        return 0

    # hot: begin
    cdef Py_ssize_t _find(self, uint64_t key) noexcept nogil:
        cdef Py_ssize_t i = home_of(key, self.capacity)
        cdef Py_ssize_t _n
        cdef uint64_t found
        for _n in range(self.capacity):
            found = load_key(self._keys + i)
            if found == key:
                return i
            if found == EMPTY:
                return -1
            i = i + 1 if i + 1 < self.capacity else 0
        return -1

    cdef bint _refresh(self, Py_ssize_t entry, uint64_t key, int64_t now_ns) noexcept nogil:
        """Make sure that the entry is and stays the key's; False: it has been handed on."""
        cdef EntryHead* head = self._at(entry)
        cdef bint ours
        # A new owner's time is written only after the key is gone, so the key is looked at again
        # after it.
        if now_ns - load(&head.used_ns) < FRESH_NS:
            return load_key(self._keys + entry) == key
        lock_word(&head.lock, self._holder)
        ours = load_key(self._keys + entry) == key
        if ours:
            touch(head, now_ns)
        store_word(&head.lock, 0)
        return ours

    cdef Py_ssize_t _claim(self, uint64_t key, int64_t now_ns) noexcept nogil:
        """Take the first empty or idle place on the key's path. The table's lock is held."""
        cdef Py_ssize_t i = self._find(key)
        cdef Py_ssize_t _n
        cdef uint64_t found
        cdef int64_t idle_ns
        cdef int64_t soonest_ns = INT64_MAX
        if i >= 0 and self._refresh(i, key, now_ns):
            return i
        if now_ns < self._head.full_until_ns:
            return -1
        i = home_of(key, self.capacity)
        for _n in range(self.capacity):
            found = load_key(self._keys + i)
            idle_ns = 0
            if found != EMPTY and found != RECLAIMED:
                idle_ns = self._idle_from_ns(self._at(i), now_ns)
            if idle_ns <= now_ns and (found == EMPTY or self._reclaim(i, now_ns)):
                memset(<unsigned char*>self._at(i) + sizeof(uint32_t), 0,
                       self._entry_bytes - sizeof(uint32_t))
                store(&self._at(i).used_ns, now_ns)
                store_key(self._keys + i, key)
                return i
            if idle_ns < soonest_ns:
                soonest_ns = idle_ns
            i = i + 1 if i + 1 < self.capacity else 0
        self._head.full_until_ns = soonest_ns
        return -1

    cdef bint _reclaim(self, Py_ssize_t entry, int64_t now_ns) noexcept nogil:
        """Take the entry from its key if it is idle for certain."""
        cdef EntryHead* head = self._at(entry)
        cdef bint idle
        if not swap_word(&head.lock, 0, self._holder):
            return False
        idle = (load_key(self._keys + entry) == RECLAIMED
                or self._idle_from_ns(head, now_ns) <= now_ns)
        if idle:
            store_key(self._keys + entry, RECLAIMED)
        store_word(&head.lock, 0)
        return idle

    cdef int64_t _idle_from_ns(self, EntryHead* entry, int64_t now_ns) noexcept nogil:
        """When the entry may be handed on; one that is busy is looked at again a second later."""
        return load(&entry.used_ns) + IDLE_NS

    cdef void _forget_worker(self, EntryHead* entry, int worker, bint broken) noexcept nogil:
        """Drop what a dead worker has there; `broken`: it died inside an update."""
    # hot: end

    cpdef Py_ssize_t entry(self, uint64_t key, int64_t now_ns) noexcept:
        cdef Py_ssize_t i
        if key == EMPTY or key == RECLAIMED:
            key = ~key   # what stands for itself is as good a key
        i = self._find(key)
        if i >= 0 and self._refresh(i, key, now_ns):
            return i
        lock_word(&self._head.lock, self._holder)
        i = self._claim(key, now_ns)
        store_word(&self._head.lock, 0)
        return i

    cpdef Py_ssize_t find(self, uint64_t key) noexcept:
        if key == EMPTY or key == RECLAIMED:
            key = ~key
        return self._find(key)

    cpdef void release_worker(self, int worker) noexcept:
        cdef uint32_t holder
        cdef Py_ssize_t i
        cdef EntryHead* head
        cdef bint broken
        if not 0 <= worker < SLOTS:
            return
        holder = worker + 1
        for i in range(self.capacity):
            if load_key(self._keys + i) == EMPTY:
                continue
            head = self._at(i)
            # Taken over rather than opened: nobody may see the entry before it is repaired.
            broken = swap_word(&head.lock, holder, self._holder)
            self._forget_worker(head, worker, broken)
            if broken:
                store_word(&head.lock, 0)
        # Not waited for: another holder may be dead, too, or wait for an entry of one.
        store(&self._head.full_until_ns, 0)
        swap_word(&self._head.lock, holder, 0)
