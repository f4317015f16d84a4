# Budgets that all workers share, in one shared memory region, found by key as limits are
# (table.pxd).
#
#     spent = base + unposted        base: what the database says; unposted: settled here since
#     a request fits when            spent + reserved + the most it can cost <= the budget
#
# Whoever posts rows to the database moves their sum from unposted into base, as one change, so that
# spending on other machines and resets come in with base, and nothing is counted twice.

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastgate._core.table cimport SLOTS, EntryHead, Table

cdef struct BudgetEntry:
    EntryHead head
    uint32_t seeded                 # base has been set
    uint32_t leased                 # several machines share the budget: only the lease is ours
    int64_t base_nano
    int64_t unposted_nano
    int64_t lease_nano              # what may still be held or spent here
    int64_t wanted_nano             # the most that was refused for want of a lease
    int32_t in_flight[SLOTS]
    int64_t reserved_nano[SLOTS]

cdef int64_t reserved_of(BudgetEntry* entry) noexcept nogil


@cython.final
cdef class BudgetTable(Table):
    # Machines that share budgets; 0: there are no leases. An entry begins with that part of each.
    cdef public int shares
    # Set what was spent, of an entry of which that is not known.
    cpdef void seed(self, Py_ssize_t entry, int64_t base_nano) noexcept
    # `amount_nano` of what was settled here is in `base_nano` now.
    cpdef void post(self, Py_ssize_t entry, int64_t amount_nano, int64_t base_nano) noexcept
    # Settled, without a reservation.
    cpdef void charge(self, Py_ssize_t entry, int64_t nano) noexcept
    cpdef int64_t spent_nano(self, Py_ssize_t entry) noexcept
    cpdef int64_t unposted_nano(self, Py_ssize_t entry) noexcept
    cpdef int64_t reserved_nano(self, Py_ssize_t entry) noexcept
    # Add to the lease; negative: take back, of what is not held. What was added or taken.
    cpdef int64_t grant(self, Py_ssize_t entry, int64_t delta_nano) noexcept
    cpdef int64_t lease_nano(self, Py_ssize_t entry) noexcept       # -1: no leases
    cpdef void end_leases(self, Py_ssize_t entry) noexcept
    cpdef int64_t take_wanted(self, Py_ssize_t entry) noexcept
