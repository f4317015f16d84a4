cimport cython

from fastgate._core.bucket cimport LimitTable
from fastgate.config.principal cimport Principal
from fastgate.gateway.context cimport Context

cdef Py_ssize_t BYTES_PER_TOKEN


@cython.locals(principal=Principal, entry=Py_ssize_t, refusal=int, tokens="long long")
cpdef reserve(Context context, LimitTable limits, long long now_ns)


@cython.locals(used="long long")
cpdef settle(Context context, LimitTable limits, long long now_ns, long long tokens)
