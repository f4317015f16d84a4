cimport cython

from fastgate._core.fields cimport Lines
from fastgate._core.histo cimport Counter, Histogram
from fastgate._core.sse cimport Scanner
from fastgate.gateway.catalog cimport Plan, Target
from fastgate.gateway.context cimport Context, Sender


@cython.final
cdef class Recorder:
    cdef public object metrics
    cdef public object log
    cdef public Lines lines
    cdef public dict counters
    cdef public dict durations
    cdef public dict overheads
    cdef public bytes log_prefix
    cdef public long long log_prefix_ms

    @cython.locals(
        scanner=Scanner, plan=Plan, target=Target, counter=Counter, histogram=Histogram,
        input_tokens="long long", output_tokens="long long", spent_ns="long long",
        upstream_ns="long long", ttft_ns="long long", total_ns="long long",
    )
    cpdef record(self, Context context, long long now_ns)

    @cython.locals(counter=Counter)
    cdef _count(self, Context context, str model, str deployment)
    cdef bytes _prefix(self, long long now_ns)

    @cython.locals(
        scanner=Scanner, input_tokens="long long", output_tokens="long long", strings=bytes,
        prefix=bytes,
    )
    cdef _log(
        self, Context context, long long now_ns, str deployment, long long total_ns,
        long long ttft_ns, long long upstream_ns, long long spent_ns,
    )

    @cython.locals(downstream=Sender, plain=bint, who=bytes, members=bytes)
    cdef bytes _strings(self, Context context, str deployment)

cpdef long long overhead_ns(Context context, long long now_ns) except? -1
cpdef long long tokens_used(Context context) except? -2
