"""What was spent of each budget, and what requests in flight may still cost (budget.pxd)."""

from libc.stdint cimport int64_t

from fastgate._core.atomic cimport load, lock_word, store_count, store_word
from fastgate._core.bucket cimport sum_of
from fastgate._core.table cimport IDLE_NS, SECOND_NS, SLOTS, EntryHead, Region, Table, table_bytes


# hot: begin
cdef int64_t reserved_of(BudgetEntry* entry) noexcept nogil:
    cdef int64_t total = 0
    cdef int i
    for i in range(SLOTS):
        total += entry.reserved_nano[i]
    return total
# hot: end


cdef class BudgetTable(Table):
    def __cinit__(self, Region region not None, int worker=0):
        self._lay_out(sizeof(BudgetEntry))

    @staticmethod
    def bytes_for(Py_ssize_t entries):
        return table_bytes(entries, sizeof(BudgetEntry))

    # hot: begin
    cdef int64_t _idle_from_ns(self, EntryHead* head, int64_t now_ns) noexcept nogil:
        cdef BudgetEntry* entry = <BudgetEntry*>head
        # What is not in the database yet must not be forgotten.
        if entry.unposted_nano or sum_of(entry.in_flight):
            return now_ns + SECOND_NS
        return load(&head.used_ns) + IDLE_NS

    cdef void _forget_worker(self, EntryHead* head, int worker, bint broken) noexcept nogil:
        cdef BudgetEntry* entry = <BudgetEntry*>head
        store_count(&entry.in_flight[worker], 0)
        entry.reserved_nano[worker] = 0
    # hot: end

    cpdef void seed(self, Py_ssize_t entry, int64_t base_nano) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        if e == NULL:
            return
        lock_word(&e.head.lock, self._holder)
        if not e.seeded:
            e.base_nano = base_nano
            e.seeded = 1
        store_word(&e.head.lock, 0)

    cpdef void post(self, Py_ssize_t entry, int64_t amount_nano, int64_t base_nano) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        if e == NULL:
            return
        lock_word(&e.head.lock, self._holder)
        e.unposted_nano = e.unposted_nano - amount_nano if e.unposted_nano > amount_nano else 0
        e.base_nano = base_nano
        e.seeded = 1
        store_word(&e.head.lock, 0)

    cpdef void charge(self, Py_ssize_t entry, int64_t nano) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        if e == NULL or nano <= 0:
            return
        lock_word(&e.head.lock, self._holder)
        e.unposted_nano += nano
        e.lease_nano -= nano
        store_word(&e.head.lock, 0)

    cpdef int64_t spent_nano(self, Py_ssize_t entry) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        cdef int64_t spent
        if e == NULL:
            return 0
        lock_word(&e.head.lock, self._holder)
        spent = e.base_nano + e.unposted_nano
        store_word(&e.head.lock, 0)
        return spent

    cpdef int64_t unposted_nano(self, Py_ssize_t entry) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        return 0 if e == NULL else e.unposted_nano

    cpdef int64_t reserved_nano(self, Py_ssize_t entry) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        return 0 if e == NULL else reserved_of(e)

    cpdef int64_t grant(self, Py_ssize_t entry, int64_t delta_nano) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        cdef int64_t free
        if e == NULL:
            return 0
        lock_word(&e.head.lock, self._holder)
        if not e.leased:
            e.leased = 1
            e.lease_nano = reserved_of(e)
        free = e.lease_nano - reserved_of(e)
        if delta_nano < 0 and -delta_nano > free:
            delta_nano = -free if free > 0 else 0
        e.lease_nano += delta_nano
        store_word(&e.head.lock, 0)
        return delta_nano

    cpdef int64_t lease_nano(self, Py_ssize_t entry) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        if e == NULL or not e.leased:
            return -1
        return e.lease_nano if e.lease_nano > 0 else 0

    cpdef void end_leases(self, Py_ssize_t entry) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        if e != NULL:
            lock_word(&e.head.lock, self._holder)
            e.leased = 0
            store_word(&e.head.lock, 0)

    cpdef int64_t take_wanted(self, Py_ssize_t entry) noexcept:
        cdef BudgetEntry* e = <BudgetEntry*>self._at(entry)
        cdef int64_t wanted
        if e == NULL:
            return 0
        lock_word(&e.head.lock, self._holder)
        wanted = e.wanted_nano
        e.wanted_nano = 0
        store_word(&e.head.lock, 0)
        return wanted
