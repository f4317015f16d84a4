cimport cython

from fastgate._core.bucket cimport LimitTable
from fastgate._core.budget cimport BudgetTable
from fastgate._core.scopes cimport Held
from fastgate._core.scopes cimport reserve as take
from fastgate._core.scopes cimport settle as true_up
from fastgate.config.scopes cimport Scoped
from fastgate.gateway.catalog cimport Plan
from fastgate.gateway.clock cimport unix_us
from fastgate.gateway.context cimport Context
from fastgate.gateway.estimate cimport Estimate

cdef long long SEED_NS, DAY_US


cpdef bint is_stale(Scoped scoped, BudgetTable budgets, long long now_ns) except -1


@cython.locals(
    plan=Plan, estimate=Estimate, tokens="long long", wall_us="long long", most="long long",
    held=Held, refusal=int,
)
cpdef reserve(
    Context context, Scoped scoped, LimitTable limits, BudgetTable budgets, long long now_ns
)


@cython.locals(held=Held)
cpdef settle(
    Context context, LimitTable limits, BudgetTable budgets, long long now_ns, long long tokens
)
