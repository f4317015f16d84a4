# Limits that all workers share, in one shared memory region; time is an argument (CLOCK_MONOTONIC,
# ns).
#
# Entries are found by key and claimed on first use (table.pxd). An index out of range (the -1 of a
# full table) is refused by reserve() and take() with IndexError, ignored by what else writes, and
# reads as 0.
#
# An entry of a LimitTable holds a ring of one-second slots for requests and one for tokens (a
# minute limit N admits at most N in any 60 s and lets all of it be used at once), and a count of
# requests in flight for each worker (so that a killed one's share can be taken back).
#
# A token bucket (capacity, refill_per_s) is an entry of a BucketTable. A DeploymentTable holds what
# workers share about one deployment: in flight per worker, successes and failures by second,
# cooldown.

cimport cython
from libc.stdint cimport int64_t, uint64_t

from fastgate._core.table cimport Table

cdef enum:
    WINDOW_SLOTS = 61       # one-second slots of a minute; why not 60: see bucket.pyx

cdef enum Refusal:
    ADMITTED = 0
    REQUESTS = 1            # requests a minute
    TOKENS = 2              # tokens a minute
    PARALLEL = 3            # requests in flight

cdef struct Window:
    int64_t second                  # the newest that the ring holds
    int64_t sum
    int64_t slots[WINDOW_SLOTS]     # the count of second s is slots[s % WINDOW_SLOTS]


@cython.final
cdef class LimitTable(Table):
    # Reserve one request, `tokens` tokens and one place in flight, or nothing. A limit of -1: none.
    cpdef int reserve(self, Py_ssize_t entry, int64_t now_ns, int64_t requests_per_min,
                      int64_t tokens_per_min, int64_t parallel, int64_t tokens) except -1
    # Give back the place in flight and true the tokens up by `token_delta` (may be negative),
    # charged to the second of `reserved_ns` when it is still in the window, else to now (or, when
    # negative, dropped).
    cpdef void settle(self, Py_ssize_t entry, int64_t now_ns, int64_t reserved_ns,
                      int64_t token_delta) noexcept
    # Take a reservation back wholly: the request never went out.
    cpdef void cancel(self, Py_ssize_t entry, int64_t now_ns, int64_t reserved_ns,
                      int64_t tokens) noexcept
    cpdef int64_t requests_used(self, Py_ssize_t entry, int64_t now_ns) noexcept
    cpdef int64_t tokens_used(self, Py_ssize_t entry, int64_t now_ns) noexcept
    # Over all workers.
    cpdef int64_t in_flight(self, Py_ssize_t entry) noexcept
    # -1: never.
    cpdef int64_t wait_ns(self, Py_ssize_t entry, int64_t now_ns, int refusal, int64_t limit,
                          int64_t amount) noexcept


@cython.final
cdef class BucketTable(Table):
    cpdef int take(self, Py_ssize_t entry, int64_t now_ns, double capacity, double refill_per_s,
                   double amount) except -1
    # -1: never.
    cpdef int64_t wait_ns(self, Py_ssize_t entry, int64_t now_ns, double capacity,
                          double refill_per_s, double amount) noexcept


@cython.final
cdef class DeploymentTable(Table):
    # One more attempt in flight, one less.
    cpdef void begin(self, Py_ssize_t entry) noexcept
    cpdef void end(self, Py_ssize_t entry) noexcept
    # Over all workers.
    cpdef int64_t in_flight(self, Py_ssize_t entry) noexcept
    cpdef void count(self, Py_ssize_t entry, int64_t now_ns, bint failed) noexcept
    # Of the last 60 s.
    cpdef int64_t successes(self, Py_ssize_t entry, int64_t now_ns) noexcept
    cpdef int64_t failures(self, Py_ssize_t entry, int64_t now_ns) noexcept
    cpdef void cool_down(self, Py_ssize_t entry, int64_t until_ns) noexcept
    # 0: not cooling.
    cpdef int64_t cooling_until_ns(self, Py_ssize_t entry) noexcept
