"""What processes share about a limit, a token bucket, a deployment; kept in tables (table.pyx).

Exactness of a minute. A use at time t goes to the slot of second floor(t), and the window of second
s is the 61 slots s-60 .. s. 60 slots would not do: a use at 0.9 s and one at 60.1 s are 59.2 s
apart, but their seconds differ by 60. With 61, a use in second s-61 or before lies more than 60 s
before any time in second s. So at most N uses fall into any 60 s, and a use comes back 60 to 61 s
after it was made. Time in an entry never goes back: a worker whose clock reading is older than
another's is charged to the newest second that was seen.

Exactness of a bucket. What is owed is kept in units of 10^-15 tokens: with amounts in 10^-6 tokens
and rates in 10^-6 tokens/s (doubles rounded to those), both an amount and rate x elapsed ns are
whole numbers of them. So nothing is ever rounded and nothing drifts; 128 bits hold it.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t
from libc.string cimport memset

from fastgate._core.atomic cimport (
    add_count,
    load,
    load_count,
    lock_word,
    store,
    store_count,
    store_word,
)
from fastgate._core.table cimport (
    IDLE_NS,
    SECOND_NS,
    SLOTS,
    EntryHead,
    Region,
    Table,
    table_bytes,
    touch,
)

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>

    /* Token buckets. Cython has no 128-bit integers. */
    typedef unsigned __int128 fg_wide;
    typedef struct { uint64_t low, high; int64_t at_ns; } fg_debt;

    static inline int64_t fg_micro(double value) {
        if (!(value > 0))
            return 0;
        return value >= 9e12 ? (int64_t)9e18 : (int64_t)llrint(value * 1e6);
    }

    static inline fg_wide fg_owed(const fg_debt* debt, int64_t now_ns, int64_t rate) {
        fg_wide owed = ((fg_wide)debt->high << 64) | debt->low, paid;
        if (now_ns <= debt->at_ns)
            return owed;
        paid = (fg_wide)(now_ns - debt->at_ns) * (fg_wide)rate;
        return owed > paid ? owed - paid : 0;
    }

    static inline int fg_take(const fg_debt* debt, fg_debt* after, int64_t now_ns,
                              int64_t capacity, int64_t rate, int64_t amount, int64_t back) {
        fg_wide owed = fg_owed(debt, now_ns, rate) + (fg_wide)amount * 1000000000u;
        fg_wide returned = (fg_wide)back * 1000000000u;
        if (amount && owed > (fg_wide)capacity * 1000000000u)
            return 0;
        owed = owed > returned ? owed - returned : 0;
        after->low = (uint64_t)owed;
        after->high = (uint64_t)(owed >> 64);
        after->at_ns = now_ns > debt->at_ns ? now_ns : debt->at_ns;
        return 1;
    }

    /* ns until `amount` fits, counted from now_ns; -1: never */
    static inline int64_t fg_wait(const fg_debt* debt, int64_t now_ns, int64_t capacity,
                                  int64_t rate, int64_t amount) {
        fg_wide owed = fg_owed(debt, now_ns, rate) + (fg_wide)amount * 1000000000u;
        fg_wide limit = (fg_wide)capacity * 1000000000u, wait;
        if (owed <= limit)
            return 0;
        if (amount > capacity || rate == 0)
            return -1;
        wait = (owed - limit + (fg_wide)rate - 1) / (fg_wide)rate;
        /* The debt is paid off from at_ns on, which another worker's clock may have set later. */
        if (debt->at_ns > now_ns)
            wait += (fg_wide)(debt->at_ns - now_ns);
        return wait > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)wait;
    }
    """
    ctypedef struct Debt "fg_debt":
        int64_t at_ns
    int64_t micro "fg_micro"(double value) noexcept nogil
    bint debt_take "fg_take"(const Debt* debt, Debt* after, int64_t now_ns, int64_t capacity,
                             int64_t rate, int64_t amount, int64_t back) noexcept nogil
    int64_t debt_wait "fg_wait"(const Debt* debt, int64_t now_ns, int64_t capacity, int64_t rate,
                                int64_t amount) noexcept nogil

cdef extern from *:
    """
    #define FG_DAY_NS (86400 * INT64_C(1000000000))
    """
    const int64_t DAY_NS "FG_DAY_NS"

cdef struct BucketEntry:
    EntryHead head
    int64_t full_at_ns
    uint32_t current        # which of the two counts; the other one is written, then this switched
    Debt debts[2]

cdef struct DeploymentEntry:
    EntryHead head
    int32_t in_flight[SLOTS]
    unsigned char held[SLOTS]
    int64_t cooling_until_ns
    Window successes
    Window failures


# hot: begin
cdef void window_advance(Window* window, int64_t second) noexcept nogil:
    """Let what is too old fall out."""
    cdef int64_t s
    cdef int64_t* slot
    if second - window.second >= WINDOW_SLOTS:
        memset(window.slots, 0, sizeof(window.slots))
        window.sum = 0
        window.second = second
    for s in range(window.second + 1, second + 1):
        slot = &window.slots[s % WINDOW_SLOTS]
        window.sum -= slot[0]
        slot[0] = 0
        window.second = s


cdef void window_add(Window* window, int64_t amount) noexcept nogil:
    window.slots[window.second % WINDOW_SLOTS] += amount
    window.sum += amount


cdef void window_charge(Window* window, int64_t second, int64_t amount) noexcept nogil:
    """Add to an earlier second if that still counts, else to the newest."""
    if window.second - WINDOW_SLOTS < second < window.second:
        window.slots[second % WINDOW_SLOTS] += amount
        window.sum += amount
    else:
        window_add(window, amount)


cdef void window_give_back(Window* window, int64_t second, int64_t amount) noexcept nogil:
    # Where another worker's clock was ahead, the amount stands in a later slot than its second's.
    # Taking it from the oldest that has any leaves the newer uses counted, the longer of the two.
    cdef int64_t s
    cdef int64_t part
    cdef int64_t* slot
    if second <= window.second - WINDOW_SLOTS:
        return
    for s in range(second, window.second + 1):
        slot = &window.slots[s % WINDOW_SLOTS]
        part = amount if amount < slot[0] else slot[0]
        slot[0] -= part
        window.sum -= part
        amount -= part
        if amount == 0:
            return


cdef int64_t window_wait_ns(Window* window, int64_t now_ns, int64_t limit,
                            int64_t amount) noexcept nogil:
    cdef int64_t surplus = window.sum + amount - limit
    cdef int64_t s
    if limit < 0 or surplus <= 0:
        return 0
    if amount > limit:
        return -1
    # What is used has to fall out, oldest first, until there is room.
    s = window.second - WINDOW_SLOTS
    while surplus > 0 and s < window.second:
        s += 1
        if s >= 0:
            surplus -= window.slots[s % WINDOW_SLOTS]
    return (s + WINDOW_SLOTS) * SECOND_NS - now_ns


cdef void window_repair(Window* window) noexcept nogil:
    """Add up anew: a crash can leave the sum wrong, but the slots right but for the last update."""
    cdef int i
    window.sum = 0
    for i in range(WINDOW_SLOTS):
        window.sum += window.slots[i]


cdef int64_t sum_of(int32_t* counts) noexcept nogil:
    cdef int64_t total = 0
    cdef int i
    for i in range(SLOTS):
        total += load_count(counts + i)
    return total


cdef void leave(int32_t* count) noexcept nogil:
    # Not below 0: release_worker may have zeroed it.
    if load_count(count) > 0:
        add_count(count, -1)
# hot: end


cdef class LimitTable(Table):
    def __cinit__(self, Region region not None, int worker=0):
        self._lay_out(sizeof(LimitEntry))

    @staticmethod
    def bytes_for(Py_ssize_t entries):
        return table_bytes(entries, sizeof(LimitEntry))

    # hot: begin
    cdef int64_t _idle_from_ns(self, EntryHead* head, int64_t now_ns) noexcept nogil:
        cdef LimitEntry* entry = <LimitEntry*>head
        if sum_of(entry.in_flight):
            return now_ns + SECOND_NS
        # What counts for a day must not be forgotten within it.
        return load(&head.used_ns) + (DAY_NS if entry.day_tokens else IDLE_NS)

    cdef void _forget_worker(self, EntryHead* head, int worker, bint broken) noexcept nogil:
        cdef LimitEntry* entry = <LimitEntry*>head
        store_count(&entry.in_flight[worker], 0)
        if broken:
            window_repair(&entry.requests)
            window_repair(&entry.tokens)
    # hot: end

    cpdef int64_t tokens_of_day(self, Py_ssize_t entry, int64_t day) noexcept:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        return e.day_tokens if e != NULL and e.day == day else 0

    cpdef int reserve(self, Py_ssize_t entry, int64_t now_ns, int64_t requests_per_min,
                      int64_t tokens_per_min, int64_t parallel, int64_t tokens) except -1:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        cdef int refusal
        if e == NULL:
            raise IndexError(f"no entry {entry} in a table of {self.capacity}")
        lock_word(&e.head.lock, self._holder)
        refusal = limit_reserve(e, self.worker, now_ns, requests_per_min, tokens_per_min,
                                parallel, tokens if tokens > 0 else 0)
        store_word(&e.head.lock, 0)
        return refusal

    cpdef void settle(self, Py_ssize_t entry, int64_t now_ns, int64_t reserved_ns,
                      int64_t token_delta) noexcept:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        if e == NULL:
            return
        lock_word(&e.head.lock, self._holder)
        touch(&e.head, now_ns)
        if token_delta:
            window_advance(&e.tokens, second_of(now_ns))
            if token_delta > 0:
                window_charge(&e.tokens, second_of(reserved_ns), token_delta)
            else:
                window_give_back(&e.tokens, second_of(reserved_ns), -token_delta)
        leave(&e.in_flight[self.worker])
        store_word(&e.head.lock, 0)

    cpdef void cancel(self, Py_ssize_t entry, int64_t now_ns, int64_t reserved_ns,
                      int64_t tokens) noexcept:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        if e == NULL:
            return
        lock_word(&e.head.lock, self._holder)
        touch(&e.head, now_ns)
        window_advance(&e.requests, second_of(now_ns))
        window_give_back(&e.requests, second_of(reserved_ns), 1)
        if tokens > 0:
            window_advance(&e.tokens, second_of(now_ns))
            window_give_back(&e.tokens, second_of(reserved_ns), tokens)
        leave(&e.in_flight[self.worker])
        store_word(&e.head.lock, 0)

    cpdef int64_t requests_used(self, Py_ssize_t entry, int64_t now_ns) noexcept:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        return 0 if e == NULL else window_used(&e.head, &e.requests, self._holder, now_ns)

    cpdef int64_t tokens_used(self, Py_ssize_t entry, int64_t now_ns) noexcept:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        return 0 if e == NULL else window_used(&e.head, &e.tokens, self._holder, now_ns)

    cpdef int64_t in_flight(self, Py_ssize_t entry) noexcept:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        return 0 if e == NULL else sum_of(e.in_flight)

    cpdef int64_t wait_ns(self, Py_ssize_t entry, int64_t now_ns, int refusal, int64_t limit,
                          int64_t amount) noexcept:
        cdef LimitEntry* e = <LimitEntry*>self._at(entry)
        cdef Window* window
        cdef int64_t wait
        # When a request in flight will be over is not known here.
        if e == NULL or refusal != REQUESTS and refusal != TOKENS:
            return 0
        window = &e.requests if refusal == REQUESTS else &e.tokens
        lock_word(&e.head.lock, self._holder)
        window_advance(window, second_of(now_ns))
        wait = window_wait_ns(window, now_ns, limit, amount if amount > 1 else 1)
        store_word(&e.head.lock, 0)
        return wait


# hot: begin
cdef int limit_reserve(LimitEntry* entry, int worker, int64_t now_ns, int64_t requests_per_min,
                       int64_t tokens_per_min, int64_t parallel, int64_t tokens) noexcept nogil:
    cdef int64_t second = second_of(now_ns)
    touch(&entry.head, now_ns)
    window_advance(&entry.requests, second)
    window_advance(&entry.tokens, second)
    if 0 <= requests_per_min < entry.requests.sum + 1:
        return REQUESTS
    # Every request makes at least one token, so one whose tokens are not known yet needs room for
    # that.
    if 0 <= tokens_per_min < entry.tokens.sum + (tokens if tokens > 1 else 1):
        return TOKENS
    if parallel >= 0 and sum_of(entry.in_flight) >= parallel:
        return PARALLEL
    window_add(&entry.requests, 1)
    if tokens:
        window_add(&entry.tokens, tokens)
    add_count(&entry.in_flight[worker], 1)
    return ADMITTED


cdef int64_t window_used(EntryHead* head, Window* window, uint32_t holder,
                         int64_t now_ns) noexcept nogil:
    cdef int64_t used
    lock_word(&head.lock, holder)
    window_advance(window, second_of(now_ns))
    used = window.sum
    store_word(&head.lock, 0)
    return used
# hot: end


cdef class BucketTable(Table):
    def __cinit__(self, Region region not None, int worker=0):
        self._lay_out(sizeof(BucketEntry))

    @staticmethod
    def bytes_for(Py_ssize_t entries):
        return table_bytes(entries, sizeof(BucketEntry))

    # hot: begin
    cdef int64_t _idle_from_ns(self, EntryHead* head, int64_t now_ns) noexcept nogil:
        # Not before it is full again: a bucket claimed anew starts full.
        cdef int64_t full_ns = (<BucketEntry*>head).full_at_ns
        cdef int64_t idle_ns = load(&head.used_ns) + IDLE_NS
        return full_ns if full_ns > idle_ns else idle_ns
    # hot: end

    cpdef int take(self, Py_ssize_t entry, int64_t now_ns, double capacity, double refill_per_s,
                   double amount) except -1:
        cdef BucketEntry* e = <BucketEntry*>self._at(entry)
        cdef bint taken
        if e == NULL:
            raise IndexError(f"no entry {entry} in a table of {self.capacity}")
        lock_word(&e.head.lock, self._holder)
        taken = bucket_take(e, now_ns, micro(capacity), micro(refill_per_s), micro(amount),
                            micro(-amount))
        store_word(&e.head.lock, 0)
        return taken

    cpdef int64_t wait_ns(self, Py_ssize_t entry, int64_t now_ns, double capacity,
                          double refill_per_s, double amount) noexcept:
        cdef BucketEntry* e = <BucketEntry*>self._at(entry)
        cdef int64_t wait
        if e == NULL:
            return 0
        lock_word(&e.head.lock, self._holder)
        wait = debt_wait(&e.debts[e.current], now_ns, micro(capacity), micro(refill_per_s),
                         micro(amount))
        store_word(&e.head.lock, 0)
        return wait


# hot: begin
cdef bint bucket_take(BucketEntry* entry, int64_t now_ns, int64_t capacity, int64_t rate,
                      int64_t amount, int64_t back) noexcept nogil:
    cdef Debt* debt = &entry.debts[entry.current]
    cdef Debt* after = &entry.debts[1 - entry.current]
    cdef int64_t paid_ns
    touch(&entry.head, now_ns)
    if not debt_take(debt, after, now_ns, capacity, rate, amount, back):
        return False
    # The whole capacity fits when nothing is owed any more.
    paid_ns = debt_wait(after, now_ns, capacity, rate, capacity)
    entry.full_at_ns = INT64_MAX if paid_ns < 0 else now_ns + paid_ns
    # One store switches to the new state, so a worker killed before it leaves the old one, whole.
    store_word(&entry.current, 1 - entry.current)
    return True
# hot: end


cdef class DeploymentTable(Table):
    def __cinit__(self, Region region not None, int worker=0):
        self._lay_out(sizeof(DeploymentEntry))

    @staticmethod
    def bytes_for(Py_ssize_t entries):
        return table_bytes(entries, sizeof(DeploymentEntry))

    # hot: begin
    cdef int64_t _idle_from_ns(self, EntryHead* head, int64_t now_ns) noexcept nogil:
        cdef DeploymentEntry* entry = <DeploymentEntry*>head
        cdef int64_t idle_ns = load(&head.used_ns) + IDLE_NS
        cdef int i
        for i in range(SLOTS):
            if entry.held[i] or load_count(&entry.in_flight[i]):
                return now_ns + SECOND_NS
        return idle_ns if idle_ns > entry.cooling_until_ns else entry.cooling_until_ns

    cdef void _forget_worker(self, EntryHead* head, int worker, bint broken) noexcept nogil:
        cdef DeploymentEntry* entry = <DeploymentEntry*>head
        store_count(&entry.in_flight[worker], 0)
        entry.held[worker] = 0
        if broken:
            window_repair(&entry.successes)
            window_repair(&entry.failures)
    # hot: end

    cpdef Py_ssize_t entry(self, uint64_t key, int64_t now_ns) noexcept:
        # A worker keeps the index for as long as it lives. It is fresh here, so nobody can be
        # reclaiming it.
        cdef Py_ssize_t i = Table.entry(self, key, now_ns)
        if i >= 0:
            (<DeploymentEntry*>self._at(i)).held[self.worker] = 1
        return i

    cpdef void begin(self, Py_ssize_t entry) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        if e != NULL:
            add_count(&e.in_flight[self.worker], 1)

    cpdef void end(self, Py_ssize_t entry) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        if e != NULL:
            leave(&e.in_flight[self.worker])

    cpdef int64_t in_flight(self, Py_ssize_t entry) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        return 0 if e == NULL else sum_of(e.in_flight)

    cpdef void count(self, Py_ssize_t entry, int64_t now_ns, bint failed) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        cdef Window* window
        if e == NULL:
            return
        window = &e.failures if failed else &e.successes
        lock_word(&e.head.lock, self._holder)
        touch(&e.head, now_ns)
        window_advance(window, second_of(now_ns))
        window_add(window, 1)
        store_word(&e.head.lock, 0)

    cpdef int64_t successes(self, Py_ssize_t entry, int64_t now_ns) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        return 0 if e == NULL else window_used(&e.head, &e.successes, self._holder, now_ns)

    cpdef int64_t failures(self, Py_ssize_t entry, int64_t now_ns) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        return 0 if e == NULL else window_used(&e.head, &e.failures, self._holder, now_ns)

    cpdef void cool_down(self, Py_ssize_t entry, int64_t until_ns) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        if e != NULL:
            store(&e.cooling_until_ns, until_ns)

    cpdef int64_t cooling_until_ns(self, Py_ssize_t entry) noexcept:
        cdef DeploymentEntry* e = <DeploymentEntry*>self._at(entry)
        return 0 if e == NULL else load(&e.cooling_until_ns)
