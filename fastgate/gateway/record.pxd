cimport cython

from fastgate._core.fields cimport Lines
from fastgate._core.histo cimport Counter
from fastgate._core.sse cimport Scanner
from fastgate.config.principal cimport Principal
from fastgate.gateway.catalog cimport Plan, Target
from fastgate.gateway.clock cimport unix_ms
from fastgate.gateway.context cimport Context, Sender


@cython.final
cdef class Recorder:
    cdef public object metrics
    cdef public object log
    cdef public Lines lines
    cdef public dict errors
    cdef public dict series

    @cython.locals(
        scanner=Scanner, plan=Plan, target=Target, last=Sender,
        input_tokens="long long", output_tokens="long long", spent_ns="long long",
        upstream_ns="long long", ttft_ns="long long", total_ns="long long",
    )
    cpdef record(self, Context context, long long now_ns)

    @cython.locals(counter=Counter)
    cpdef error(self, str source, str kind)
    cpdef unpriced(self, Context context)
    cdef _remember(self, Context context, Sender last)

    @cython.locals(
        scanner=Scanner, input_tokens="long long", output_tokens="long long", strings=bytes,
        at_ms="long long",
    )
    cdef _log(
        self, Context context, Sender last, long long total_ns, long long ttft_ns,
        long long upstream_ns, long long spent_ns,
    )

    @cython.locals(plain=bint, principal=Principal, members=bytes)
    cdef bytes _strings(self, Context context, Sender last)


@cython.locals(spent="long long")
cpdef long long overhead_ns(Context context, long long now_ns) except? -1


@cython.locals(scanner=Scanner, used="long long")
cpdef long long tokens_used(Context context) except? -2
