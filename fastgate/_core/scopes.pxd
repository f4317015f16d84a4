# A request must fit all of its scopes (key, team, user, ...) at once: their limits and budgets are
# reserved together, under all their locks, or not at all. Locks are taken in the order of the
# tables, limits first, and of the entries in them, so that no two processes wait for each other.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from fastgate._core.bucket cimport LimitTable
from fastgate._core.budget cimport BudgetTable

cdef enum:
    MAX_SCOPES = 16         # with limits, and as many with budgets

cdef struct LimitSpec:
    uint64_t key
    int64_t rpm             # -1: none, as all
    int64_t tpm
    int64_t tpd
    int64_t parallel

cdef struct BudgetSpec:
    uint64_t key
    int64_t cap_nano
    int64_t spent_nano      # as the database had it: what an entry begins with


@cython.final
cdef class Scopes:
    # Immutable.
    cdef readonly int n_limits
    cdef readonly int n_budgets
    cdef LimitSpec* limits
    cdef BudgetSpec* budgets


@cython.final
cdef class Held:
    # What one request holds of its scopes.
    cdef readonly Scopes scopes         # None: nothing
    cdef readonly int refused           # which limit or budget refused, by its place in the scopes
    cdef readonly int64_t reserved_ns
    cdef readonly int64_t day
    cdef readonly int64_t tokens
    cdef readonly int64_t nano
    cdef Py_ssize_t limit_entries[MAX_SCOPES]
    cdef Py_ssize_t budget_entries[MAX_SCOPES]


# A Refusal of bucket.pxd.
cpdef int reserve(
    LimitTable limits, BudgetTable budgets, Scopes scopes, Held held, int64_t now_ns, int64_t day,
    int64_t tokens, int64_t max_nano,
) except -1
cpdef void settle(
    LimitTable limits, BudgetTable budgets, Held held, int64_t now_ns, int64_t day,
    int64_t tokens_used, int64_t spent_nano,
) noexcept
cpdef void cancel(
    LimitTable limits, BudgetTable budgets, Held held, int64_t now_ns, int64_t day
) noexcept
# Spent without a reservation: of an attempt that was billed, and tried again elsewhere.
cpdef void charge(BudgetTable budgets, Held held, int64_t nano) noexcept
