"""Limits and budgets of all scopes of a request, reserved as one (scopes.pxd)."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastgate._core.atomic cimport add_count, lock_word, store_word
from fastgate._core.bucket cimport (
    ADMITTED,
    BUDGET,
    FULL,
    LEASE,
    PARALLEL,
    REQUESTS,
    TOKENS,
    TOKENS_DAY,
    LimitEntry,
    LimitTable,
    leave,
    second_of,
    sum_of,
    window_add,
    window_advance,
    window_charge,
    window_give_back,
)
from fastgate._core.budget cimport BudgetEntry, BudgetTable, reserved_of
from fastgate._core.table cimport EntryHead, touch

cdef enum:
    WANTS_REQUESTS = 1
    WANTS_TOKENS = 2


cdef class Scopes:
    def __cinit__(self, list limits not None, list budgets not None):
        cdef int i
        if len(limits) > MAX_SCOPES or len(budgets) > MAX_SCOPES:
            raise ValueError(
                f"expected at most {MAX_SCOPES} limits and as many budgets, got {len(limits)} and"
                f" {len(budgets)}"
            )
        for specs in (limits, budgets):
            # Two keys stand for something else in a table (table.pyx), and share others' entries.
            keys = {spec[0] if spec[0] > 1 else ~spec[0] & 0xFFFFFFFFFFFFFFFF for spec in specs}
            if len(keys) < len(specs):
                raise ValueError("a scope stands twice")
        self.n_limits = len(limits)
        self.n_budgets = len(budgets)
        self.limits = <LimitSpec*>malloc(
            max(1, self.n_limits * sizeof(LimitSpec) + self.n_budgets * sizeof(BudgetSpec))
        )
        if self.limits == NULL:
            raise MemoryError
        self.budgets = <BudgetSpec*>(self.limits + self.n_limits)
        for i, limit in enumerate(limits):
            self.limits[i].key, self.limits[i].rpm, self.limits[i].tpm = limit[:3]
            self.limits[i].tpd, self.limits[i].parallel = limit[3:]
        for i, budget in enumerate(budgets):
            self.budgets[i].key, self.budgets[i].cap_nano, self.budgets[i].spent_nano = budget

    def __dealloc__(self):
        free(self.limits)


cdef class Held:
    pass


# hot: begin
cdef inline void in_order(const Py_ssize_t* entries, int n, int* order) noexcept nogil:
    """Fill `order` with the places of the entries, ascending."""
    cdef int i, at
    for i in range(n):
        at = i
        while at > 0 and entries[order[at - 1]] > entries[i]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = i


cdef inline int limit_check(LimitEntry* entry, const LimitSpec* spec, int64_t second, int64_t day,
                            int64_t tokens, int shares) noexcept nogil:
    # Every request makes at least one token.
    cdef int64_t least = tokens if tokens > 1 else 1
    window_advance(&entry.requests, second)
    window_advance(&entry.tokens, second)
    if entry.day < day:
        entry.day = day
        entry.day_tokens = 0
    if not entry.begun:
        entry.begun = 1
        if shares:
            entry.leased = 1
            entry.credit_requests = spec.rpm // shares if spec.rpm > 0 else 0
            entry.credit_tokens = spec.tpm // shares if spec.tpm > 0 else 0
    if 0 <= spec.rpm < entry.requests.sum + 1:
        return REQUESTS
    if 0 <= spec.tpm < entry.tokens.sum + least:
        return TOKENS
    if spec.parallel >= 0 and sum_of(entry.in_flight) + entry.remote_in_flight >= spec.parallel:
        return PARALLEL
    if spec.tpd >= 0 and entry.day_tokens + least > spec.tpd:
        return TOKENS_DAY
    if entry.leased:
        if spec.rpm >= 0 and entry.credit_requests < 1:
            entry.wanted |= WANTS_REQUESTS
            return LEASE
        if spec.tpm >= 0 and entry.credit_tokens < least:
            entry.wanted |= WANTS_TOKENS
            return LEASE
    return ADMITTED


cdef inline void limit_take(LimitEntry* entry, int worker, int64_t now_ns,
                            int64_t tokens) noexcept nogil:
    touch(&entry.head, now_ns)
    window_add(&entry.requests, 1)
    if tokens:
        window_add(&entry.tokens, tokens)
        entry.day_tokens += tokens
    if entry.leased:
        entry.credit_requests -= 1
        entry.credit_tokens -= tokens
    add_count(&entry.in_flight[worker], 1)


cdef inline int budget_check(BudgetEntry* entry, const BudgetSpec* spec, int64_t nano,
                             int shares) noexcept nogil:
    cdef int64_t spent
    cdef int64_t reserved
    if not entry.seeded:
        entry.seeded = 1
        entry.base_nano = spec.spent_nano
        if shares:
            entry.leased = 1
            entry.lease_nano = (spec.cap_nano - spec.spent_nano) // shares
    spent = entry.base_nano + entry.unposted_nano
    reserved = reserved_of(entry)
    # What is left, less what is held: no sum that could overflow.
    if spent >= spec.cap_nano or nano > spec.cap_nano - spent - reserved:
        return BUDGET
    if entry.leased and nano > entry.lease_nano - reserved:
        if nano > entry.wanted_nano:
            entry.wanted_nano = nano
        return LEASE
    return ADMITTED


cdef inline void tokens_true_up(LimitEntry* entry, int64_t reserved_ns, int64_t now_ns,
                                int64_t reserved_day, int64_t day, int64_t delta) noexcept nogil:
    window_advance(&entry.tokens, second_of(now_ns))
    if delta > 0:
        window_charge(&entry.tokens, second_of(reserved_ns), delta)
    else:
        window_give_back(&entry.tokens, second_of(reserved_ns), -delta)
    if entry.leased:
        entry.credit_tokens -= delta
    if entry.day < day:
        entry.day = day
        entry.day_tokens = 0
    if delta > 0 or entry.day == reserved_day:
        entry.day_tokens = entry.day_tokens + delta if entry.day_tokens + delta > 0 else 0
# hot: end


cpdef int reserve(
    LimitTable limits, BudgetTable budgets, Scopes scopes, Held held, int64_t now_ns, int64_t day,
    int64_t tokens, int64_t max_nano,
) except -1:
    cdef int limit_order[MAX_SCOPES]
    cdef int budget_order[MAX_SCOPES]
    cdef int n_limits = scopes.n_limits
    cdef int n_budgets = scopes.n_budgets
    cdef int refusal = ADMITTED
    cdef int found
    cdef int i
    cdef EntryHead* head
    cdef BudgetEntry* budget
    if held.scopes is not None:
        raise ValueError("expected a Held that holds nothing")
    tokens = tokens if tokens > 0 else 0
    max_nano = max_nano if max_nano > 0 else 0
    for i in range(n_limits):
        held.limit_entries[i] = limits.entry(scopes.limits[i].key, now_ns)
        if held.limit_entries[i] < 0:
            held.refused = i
            return FULL
    for i in range(n_budgets):
        held.budget_entries[i] = budgets.entry(scopes.budgets[i].key, now_ns)
        if held.budget_entries[i] < 0:
            held.refused = i
            return FULL
    in_order(held.limit_entries, n_limits, limit_order)
    in_order(held.budget_entries, n_budgets, budget_order)
    for i in range(n_limits):
        lock_word(&limits._at(held.limit_entries[limit_order[i]]).lock, limits._holder)
    for i in range(n_budgets):
        lock_word(&budgets._at(held.budget_entries[budget_order[i]]).lock, budgets._holder)
    # A share that is used up may be topped up; what is used up itself refuses for good.
    for i in range(n_limits + n_budgets):
        if i < n_limits:
            found = limit_check(<LimitEntry*>limits._at(held.limit_entries[i]), scopes.limits + i,
                                second_of(now_ns), day, tokens, limits.shares)
        else:
            found = budget_check(<BudgetEntry*>budgets._at(held.budget_entries[i - n_limits]),
                                 scopes.budgets + i - n_limits, max_nano, budgets.shares)
        if found:
            refusal = found
            held.refused = i if i < n_limits else i - n_limits
            if found != LEASE:
                break
    if not refusal:
        for i in range(n_limits):
            limit_take(<LimitEntry*>limits._at(held.limit_entries[i]), limits.worker, now_ns,
                       tokens)
        for i in range(n_budgets):
            budget = <BudgetEntry*>budgets._at(held.budget_entries[i])
            touch(&budget.head, now_ns)
            budget.reserved_nano[budgets.worker] += max_nano
            add_count(&budget.in_flight[budgets.worker], 1)
    for i in range(n_budgets):
        head = budgets._at(held.budget_entries[i])
        store_word(&head.lock, 0)
    for i in range(n_limits):
        head = limits._at(held.limit_entries[i])
        store_word(&head.lock, 0)
    if refusal:
        return refusal
    held.scopes = scopes
    held.reserved_ns = now_ns
    held.day = day
    held.tokens = tokens
    held.nano = max_nano
    return ADMITTED


cpdef void settle(
    LimitTable limits, BudgetTable budgets, Held held, int64_t now_ns, int64_t day,
    int64_t tokens_used, int64_t spent_nano,
) noexcept:
    cdef Scopes scopes = held.scopes
    cdef LimitEntry* limit
    cdef BudgetEntry* budget
    cdef int64_t delta
    cdef int i
    if scopes is None:
        return
    held.scopes = None
    delta = tokens_used - held.tokens if tokens_used >= 0 else 0
    for i in range(scopes.n_limits):
        limit = <LimitEntry*>limits._at(held.limit_entries[i])
        lock_word(&limit.head.lock, limits._holder)
        touch(&limit.head, now_ns)
        if delta:
            tokens_true_up(limit, held.reserved_ns, now_ns, held.day, day, delta)
        leave(&limit.in_flight[limits.worker])
        store_word(&limit.head.lock, 0)
    for i in range(scopes.n_budgets):
        budget = <BudgetEntry*>budgets._at(held.budget_entries[i])
        lock_word(&budget.head.lock, budgets._holder)
        touch(&budget.head, now_ns)
        if spent_nano > 0:
            budget.unposted_nano += spent_nano
            budget.lease_nano -= spent_nano
        # Not below 0: release_worker may have zeroed it.
        if budget.reserved_nano[budgets.worker] > held.nano:
            budget.reserved_nano[budgets.worker] -= held.nano
        else:
            budget.reserved_nano[budgets.worker] = 0
        leave(&budget.in_flight[budgets.worker])
        store_word(&budget.head.lock, 0)


cpdef void cancel(
    LimitTable limits, BudgetTable budgets, Held held, int64_t now_ns, int64_t day
) noexcept:
    cdef Scopes scopes = held.scopes
    cdef LimitEntry* limit
    cdef int i
    if scopes is None:
        return
    for i in range(scopes.n_limits):
        limit = <LimitEntry*>limits._at(held.limit_entries[i])
        lock_word(&limit.head.lock, limits._holder)
        window_advance(&limit.requests, second_of(now_ns))
        window_give_back(&limit.requests, second_of(held.reserved_ns), 1)
        limit.credit_requests += 1
        store_word(&limit.head.lock, 0)
    settle(limits, budgets, held, now_ns, day, 0, 0)


cpdef void charge(BudgetTable budgets, Held held, int64_t nano) noexcept:
    cdef int i
    if held.scopes is not None:
        for i in range(held.scopes.n_budgets):
            budgets.charge(held.budget_entries[i], nano)
