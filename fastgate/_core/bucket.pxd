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
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastgate._core.table cimport SECOND_NS, SLOTS, EntryHead, Table

cdef enum:
    WINDOW_SLOTS = 61       # one-second slots of a minute; why not 60: see bucket.pyx

cdef enum Refusal:
    ADMITTED = 0
    REQUESTS = 1            # requests a minute
    TOKENS = 2              # tokens a minute
    PARALLEL = 3            # requests in flight
    TOKENS_DAY = 4          # tokens a day; this and the rest: scopes.pxd
    BUDGET = 5
    LEASE = 6               # this machine's share is used up, not the limit or budget itself
    FULL = 7                # a table has no room

cdef struct Window:
    int64_t second                  # the newest that the ring holds
    int64_t sum
    int64_t slots[WINDOW_SLOTS]     # the count of second s is slots[s % WINDOW_SLOTS]

cdef struct LimitEntry:
    EntryHead head
    int32_t in_flight[SLOTS]
    Window requests
    Window tokens
    int64_t day                     # since 1970
    int64_t day_tokens
    uint32_t begun                  # has had a request
    uint32_t leased                 # machines share the limit: only what was granted is ours
    uint32_t wanted                 # refused for want of a lease: 1 requests, 2 tokens
    int32_t remote_in_flight        # on other machines
    int64_t credit_requests
    int64_t credit_tokens

# Kernels of windows, for those who lock the entry themselves.
cdef inline int64_t second_of(int64_t now_ns) noexcept nogil:
    return now_ns // SECOND_NS if now_ns > 0 else 0

cdef void window_advance(Window* window, int64_t second) noexcept nogil
cdef void window_add(Window* window, int64_t amount) noexcept nogil
cdef void window_charge(Window* window, int64_t second, int64_t amount) noexcept nogil
cdef void window_give_back(Window* window, int64_t second, int64_t amount) noexcept nogil
cdef int64_t sum_of(int32_t* counts) noexcept nogil
cdef void leave(int32_t* count) noexcept nogil


@cython.final
cdef class LimitTable(Table):
    # Machines that share limits; 0: there are no leases. An entry begins with that part of each.
    cdef public int shares
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
    cpdef int64_t tokens_of_day(self, Py_ssize_t entry, int64_t day) noexcept
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
