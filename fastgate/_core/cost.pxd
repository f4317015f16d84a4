# What a request cost: counts times rates, summed exactly and rounded once. A price is a card of
# fractions with one common denominator (`scale`), so that every published price is a whole number:
# $0.0375 per million tokens, 0.0375 nano-dollars for one, are a rate of 3 with a scale of 80.
#
# Nothing overflows, whatever is counted: a count is below 2^63 and a rate at most 2^60, so twice
# the sum of LANES products, with the scale, is below 2 * 13 * 2^123 + 2^60 < 2^128: it is summed in
# 128 bits.

cimport cython

cdef enum:                  # lanes: what is priced by itself; a token lies in exactly one lane
    INPUT
    CACHED                  # input read from the provider's cache
    CACHE_WRITE             # input written to it, for five minutes
    CACHE_WRITE_1H          # or an hour
    AUDIO_IN
    IMAGE_IN                # tokens of images
    OUTPUT
    REASONING
    AUDIO_OUT
    IMAGE_OUT
    IMAGES                  # images made, where they are priced by piece
    REQUESTS
    SECONDS                 # counted in nanoseconds
    LANES

cdef enum:
    STEPS = 5               # the base and four tiers; no published price has more than two
    UNPRICED = -1           # a rate: what is counted here costs an unknown amount
    UNKNOWN = -1            # a cost: something unpriced was counted

cdef struct Card:           # a price as it is from one moment on
    long long since_us      # Unix time
    unsigned long long version
    long long scale         # rate units in a nano-dollar
    # The last step with `above` below the prompt's tokens holds for the whole request. above[0] is
    # -1, that of steps not used 2^63 - 1.
    long long[5] above      # STEPS
    long long[5][13] rates  # STEPS, LANES

cdef struct Usage:          # as metered; what was never seen is 0 or below
    long long prompt        # all input: cached, written, audio and image tokens included
    long long cached
    long long cache_write   # all of it, for an hour or less
    long long cache_write_1h
    long long audio_in
    long long image_in
    long long completion    # all output: reasoning, audio and image tokens included
    long long reasoning
    long long audio_out
    long long image_out
    long long images
    long long requests
    long long duration_ns

# The cost in nano-dollars, half a one rounded up; UNKNOWN; at most 2^63 - 1.
cdef long long cost_nano(const Card* card, const Usage* usage) noexcept nogil
# The most that a request of up to so many tokens can cost, rounded up. Prices by time are left out.
cdef long long max_cost_nano(
    const Card* card, long long prompt, long long completion, long long n
) noexcept nogil


@cython.final
cdef class Rates:
    cdef Card* _cards       # ascending by since_us, at least one
    cdef Py_ssize_t _count
    cdef int _check(self) except -1
    # The card that holds at a time; before the first one's, the first.
    cdef const Card* at(self, long long time_us) noexcept nogil
    cpdef unsigned long long version(self, long long time_us) noexcept
    # For the data plane: no keywords, no objects. UNKNOWN where cost_nano() says None.
    cpdef long long charge_nano(
        self, long long time_us, long long prompt, long long cached, long long cache_write,
        long long completion, long long reasoning, long long images, long long duration_ns,
    ) noexcept
    cpdef long long most_nano(
        self, long long time_us, long long prompt, long long completion, long long n
    ) noexcept
