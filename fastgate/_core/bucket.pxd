# Limits that all workers share, in one shared memory region; time is an argument (CLOCK_MONOTONIC, ns).
#
# A LimitTable is a hash table of fixed entries, found by a 64-bit key, claimed on first use, reclaimed when
# idle. An entry holds a ring of 60 one-second slots for requests and one for tokens (a minute limit N admits
# at most N in any 60 s and lets all of it be used at once), and a count of requests in flight for each worker
# (so that a killed worker's share can be taken back). A short lock word per entry names its holder, so that
# release_worker() can break what a dead worker left.
#
# A TokenBucket (capacity, refill_per_s) is an entry of a BucketTable. A DeploymentTable holds what workers
# share about one deployment: in flight per worker, successes and failures by second, cooldown.

from libc.stdint cimport int64_t, uint64_t

cdef enum Refusal:
    ADMITTED = 0
    REQUESTS = 1            # requests a minute
    TOKENS = 2              # tokens a minute
    PARALLEL = 3            # requests in flight

cdef class Region:
    # A writable buffer (mmap) held for as long as tables point into it.
    cdef object _buffer
    cdef unsigned char* base
    cdef Py_ssize_t size

cdef class LimitTable:
    cdef Region _region
    cdef unsigned char* _base
    cdef readonly Py_ssize_t capacity
    cdef readonly int worker
    cpdef Py_ssize_t entry(self, uint64_t key, int64_t now_ns)      # found or claimed; -1: table full
    # Reserve one request, `tokens` tokens and one place in flight, or nothing. A limit of -1: none.
    cpdef int reserve(self, Py_ssize_t entry, int64_t now_ns, int64_t requests_per_min, int64_t tokens_per_min, int64_t parallel, int64_t tokens)
    # Give back the place in flight and true the tokens up by `token_delta` (may be negative), charged to the
    # second of `reserved_ns` when it is still in the window, else to now.
    cpdef void settle(self, Py_ssize_t entry, int64_t now_ns, int64_t reserved_ns, int64_t token_delta)
    # Take a reservation back wholly: the request never went out.
    cpdef void cancel(self, Py_ssize_t entry, int64_t now_ns, int64_t reserved_ns, int64_t tokens)
    cpdef int64_t requests_used(self, Py_ssize_t entry, int64_t now_ns)
    cpdef int64_t tokens_used(self, Py_ssize_t entry, int64_t now_ns)
    cpdef int64_t in_flight(self, Py_ssize_t entry)                 # over all workers
    cpdef int64_t wait_ns(self, Py_ssize_t entry, int64_t now_ns, int refusal, int64_t limit, int64_t amount)
    cpdef void release_worker(self, int worker)                     # that worker is dead

cdef class BucketTable:
    cdef Region _region
    cdef unsigned char* _base
    cdef readonly Py_ssize_t capacity
    cdef readonly int worker
    cpdef Py_ssize_t entry(self, uint64_t key, int64_t now_ns)
    cpdef bint take(self, Py_ssize_t entry, int64_t now_ns, double capacity, double refill_per_s, double amount)
    cpdef int64_t wait_ns(self, Py_ssize_t entry, int64_t now_ns, double capacity, double refill_per_s, double amount)
    cpdef void release_worker(self, int worker)

cdef class DeploymentTable:
    cdef Region _region
    cdef unsigned char* _base
    cdef readonly Py_ssize_t capacity
    cdef readonly int worker
    cpdef Py_ssize_t entry(self, uint64_t key, int64_t now_ns)
    cpdef void begin(self, Py_ssize_t entry)                        # one more attempt in flight
    cpdef void end(self, Py_ssize_t entry)
    cpdef int64_t in_flight(self, Py_ssize_t entry)                 # over all workers
    cpdef void count(self, Py_ssize_t entry, int64_t now_ns, bint failed)
    cpdef int64_t successes(self, Py_ssize_t entry, int64_t now_ns)     # of the last 60 s
    cpdef int64_t failures(self, Py_ssize_t entry, int64_t now_ns)      # of the last 60 s
    cpdef void cool_down(self, Py_ssize_t entry, int64_t until_ns)
    cpdef int64_t cooling_until_ns(self, Py_ssize_t entry)          # 0: not cooling
    cpdef void release_worker(self, int worker)
