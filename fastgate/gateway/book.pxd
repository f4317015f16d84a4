cimport cython

from fastgate._core.bucket cimport LimitTable
from fastgate._core.budget cimport BudgetTable
from fastgate._core.cost cimport Rates
from fastgate._core.journal cimport Columns, Journal, Outcome
from fastgate._core.scopes cimport charge
from fastgate._core.sse cimport Scanner
from fastgate.config.principal cimport Principal
from fastgate.gateway.booking cimport Booking, booking
from fastgate.gateway.catalog cimport Choice, Plan
from fastgate.gateway.clock cimport unix_us
from fastgate.gateway.context cimport Context
from fastgate.gateway.estimate cimport Estimate
from fastgate.gateway.limit cimport settle as settle_scopes
from fastgate.gateway.record cimport Recorder, overhead_ns

# Imported or set by the .py; as C integers they are compared without making objects.
cdef int PHASE_BODY, EVENTS
cdef int ABORTED, ESTIMATED, FAILURE, NO_USAGE, PROVIDER, SUCCESS
cdef long long UNKNOWN, SYNC_RECORDS


@cython.final
cdef class Book:
    cdef public object spend
    cdef public LimitTable limits
    cdef public BudgetTable budgets
    cdef public Journal journal
    cdef public Outcome outcome
    cdef public Recorder recorder
    cdef public bint refuses_when_full

    @cython.locals(
        wall_us="long long", columns=Columns, estimate=Estimate, prompt="long long",
        n="long long", rates=Rates, most="long long", likely="long long", reserved=bint,
    )
    cpdef open(self, Context context, long long now_ns)

    @cython.locals(
        principal=Principal, choice=Choice, found=Booking, rates=Rates,
        version="unsigned long long",
    )
    cdef Booking _booking(self, Context context, long long wall_us)
    cdef _note(self, Context context)

    @cython.locals(outcome=Outcome, wall_us="long long")
    cpdef progress(self, Context context, long long now_ns)

    @cython.locals(outcome=Outcome, scanner=Scanner, wall_us="long long", columns=Columns)
    cpdef attempt(self, Context context, str reason, long long now_ns)

    @cython.locals(
        outcome=Outcome, scanner=Scanner, wall_us="long long", kind=str, plan=Plan,
        tokens="long long",
    )
    cpdef settle(self, Context context, long long now_ns)
    cdef _times(self, Context context, Outcome outcome, long long wall_us, long long now_ns)

    @cython.locals(
        scanner=Scanner, prompt="long long", cached="long long", written="long long",
        completion="long long", reasoning="long long", source=int, rates=Rates,
        images="long long", passed="long long",
    )
    cdef _measure(
        self, Context context, Outcome outcome, long long wall_us, long long now_ns, bint broken
    )


@cython.locals(scanner=Scanner)
cpdef bint billed(Context context) except -1
