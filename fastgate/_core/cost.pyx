"""What a request cost, in whole nano-dollars: exact until the one rounding at the end.

The arithmetic alone: prices are compiled to cards elsewhere and come here as bytes. Counts that a
provider reports overlap (cached tokens are also prompt tokens); they are first spread over lanes
that don't, each with a rate of its own. A part that is larger than its whole is charged in full and
leaves nothing of the whole.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.limits cimport LLONG_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    typedef unsigned __int128 fg_sum;
    """
    ctypedef unsigned long long sum_t "fg_sum"

cdef enum:
    INPUTS = 6              # lanes of the prompt: those below
    OUTPUTS = 10            # lanes of the completion: from INPUTS on

CARD_BYTES = sizeof(Card)
MAX_STEPS = STEPS
MAX_RATE = 1 << 60
LANE_NAMES = (
    "input", "cached", "cache_write", "cache_write_1h", "audio_in", "image_in",
    "output", "reasoning", "audio_out", "image_out",
    "images", "requests", "seconds",
)
assert len(LANE_NAMES) == LANES and sizeof(Card) == 8 * (3 + STEPS + STEPS * LANES)
assert LANE_NAMES[INPUTS] == "output" and LANE_NAMES[OUTPUTS] == "images"


# hot: begin
cdef inline long long part_of(long long* whole, long long part) noexcept nogil:
    if part <= 0:
        return 0
    whole[0] = whole[0] - part if whole[0] > part else 0
    return part


cdef inline void spread(const Usage* usage, long long* counts) noexcept nogil:
    """Spread what was metered over the lanes, each token into one."""
    cdef long long prompt = usage.prompt
    cdef long long written = usage.cache_write
    cdef long long completion = usage.completion
    counts[CACHED] = part_of(&prompt, usage.cached)
    part_of(&prompt, written)
    counts[CACHE_WRITE_1H] = part_of(&written, usage.cache_write_1h)
    counts[CACHE_WRITE] = written
    counts[AUDIO_IN] = part_of(&prompt, usage.audio_in)
    counts[IMAGE_IN] = part_of(&prompt, usage.image_in)
    counts[INPUT] = prompt
    counts[REASONING] = part_of(&completion, usage.reasoning)
    counts[AUDIO_OUT] = part_of(&completion, usage.audio_out)
    counts[IMAGE_OUT] = part_of(&completion, usage.image_out)
    counts[OUTPUT] = completion
    counts[IMAGES] = usage.images
    counts[REQUESTS] = usage.requests
    counts[SECONDS] = usage.duration_ns


cdef inline int step_of(const Card* card, long long prompt) noexcept nogil:
    cdef int step = 0
    while step + 1 < STEPS and card.above[step + 1] < prompt:
        step += 1
    return step


@cython.overflowcheck(False)
cdef inline long long nano_of(sum_t cost) noexcept nogil:
    return LLONG_MAX if cost > <sum_t>LLONG_MAX else <long long>cost


@cython.overflowcheck(False)    # cannot happen (see the contract), and Cython knows 64 bits only
cdef long long cost_nano(const Card* card, const Usage* usage) noexcept nogil:
    cdef long long[13] counts
    cdef const long long* rates = card.rates[step_of(card, usage.prompt)]
    cdef sum_t total = 0
    cdef sum_t scale = <sum_t>card.scale
    cdef int lane
    spread(usage, counts)
    for lane in range(LANES):
        if counts[lane] > 0:
            if rates[lane] < 0:
                return UNKNOWN
            total += <sum_t>counts[lane] * <sum_t>rates[lane]
    return nano_of((total + total + scale) // (scale + scale))


cdef inline long long dearest(const long long* rates, int lane, int end) noexcept nogil:
    """The highest rate of the lanes up to `end`; UNPRICED when the first of them is."""
    cdef long long found = rates[lane]
    if found < 0:
        return UNPRICED
    while lane < end:
        found = rates[lane] if rates[lane] > found else found
        lane += 1
    return found


@cython.overflowcheck(False)
cdef long long max_cost_nano(
    const Card* card, long long prompt, long long completion, long long n
) noexcept nogil:
    cdef sum_t most = 0
    cdef sum_t total
    cdef sum_t scale = <sum_t>card.scale
    cdef long long read, written
    cdef int step
    cdef const long long* rates
    for step in range(step_of(card, prompt) + 1):
        rates = card.rates[step]
        read = dearest(rates, INPUT, INPUTS)
        written = dearest(rates, OUTPUT, OUTPUTS)
        if (read < 0 and prompt > 0) or (written < 0 and completion > 0 and n > 0):
            return UNKNOWN
        if rates[REQUESTS] < 0 or rates[IMAGES] < 0:
            return UNKNOWN
        total = <sum_t>rates[REQUESTS]
        if prompt > 0:
            total += <sum_t>prompt * <sum_t>read
        if n > 0:
            total += <sum_t>n * <sum_t>rates[IMAGES]
            if completion > 0:
                if completion > LLONG_MAX // n:
                    return LLONG_MAX
                total += <sum_t>(completion * n) * <sum_t>written
        most = total if total > most else most
    return nano_of((most + scale - 1) // scale)
# hot: end


cdef class Rates:
    def __cinit__(self, bytes data not None):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if size == 0 or size % <Py_ssize_t>sizeof(Card):
            raise ValueError(f"expected cards of {sizeof(Card)} bytes each, got {size} bytes")
        self._cards = <Card*>malloc(size)
        if self._cards == NULL:
            raise MemoryError
        memcpy(self._cards, PyBytes_AS_STRING(data), size)
        self._count = size // <Py_ssize_t>sizeof(Card)
        self._check()

    def __dealloc__(self):
        free(self._cards)

    @staticmethod
    def decode(bytes data not None):
        return Rates(data)

    cdef int _check(self) except -1:
        """Raise ValueError for a card that the arithmetic could not rely on."""
        cdef Card* card
        cdef Py_ssize_t i
        cdef int step, lane
        for i in range(self._count):
            card = self._cards + i
            if not 0 < card.scale <= MAX_RATE or card.above[0] != -1:
                raise ValueError(f"card {i}: not a price")
            if i and card.since_us <= self._cards[i - 1].since_us:
                raise ValueError(f"card {i}: expected a later time than the card before it")
            for step in range(STEPS):
                if step and card.above[step] < card.above[step - 1]:
                    raise ValueError(f"card {i}: expected tiers in ascending order")
                for lane in range(LANES):
                    if not UNPRICED <= card.rates[step][lane] <= MAX_RATE:
                        raise ValueError(f"card {i}: expected rates up to {MAX_RATE}")
        return 0

    cdef const Card* at(self, long long time_us) noexcept nogil:
        cdef Py_ssize_t i = self._count - 1
        while i > 0 and self._cards[i].since_us > time_us:
            i -= 1
        return self._cards + i

    cpdef unsigned long long version(self, long long time_us) noexcept:
        return self.at(time_us).version

    cpdef long long charge_nano(
        self, long long time_us, long long prompt, long long cached, long long cache_write,
        long long completion, long long reasoning, long long images, long long duration_ns,
    ) noexcept:
        cdef Usage usage
        memset(&usage, 0, sizeof(usage))
        usage.prompt = prompt
        usage.cached = cached
        usage.cache_write = cache_write
        usage.completion = completion
        usage.reasoning = reasoning
        usage.images = images
        usage.requests = 1
        usage.duration_ns = duration_ns
        return cost_nano(self.at(time_us), &usage)

    cpdef long long most_nano(
        self, long long time_us, long long prompt, long long completion, long long n
    ) noexcept:
        return max_cost_nano(self.at(time_us), prompt, completion, n)

    def cost_nano(
        self, long long time_us, long long prompt=0, long long cached=0, long long cache_write=0,
        long long completion=0, long long reasoning=0, long long audio_in=0,
        long long audio_out=0, long long requests=1, long long seconds_ns=0, *,
        long long cache_write_1h=0, long long image_in=0, long long image_out=0,
        long long images=0,
    ):
        cdef Usage usage
        usage.prompt = prompt
        usage.cached = cached
        usage.cache_write = cache_write
        usage.cache_write_1h = cache_write_1h
        usage.audio_in = audio_in
        usage.image_in = image_in
        usage.completion = completion
        usage.reasoning = reasoning
        usage.audio_out = audio_out
        usage.image_out = image_out
        usage.images = images
        usage.requests = requests
        usage.duration_ns = seconds_ns
        cdef long long cost = cost_nano(self.at(time_us), &usage)
        return None if cost == UNKNOWN else cost

    def max_cost_nano(
        self, long long time_us, long long prompt, long long completion, long long n=1
    ):
        cdef long long cost = max_cost_nano(self.at(time_us), prompt, completion, n)
        return None if cost == UNKNOWN else cost
