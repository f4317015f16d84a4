cimport cython

from fastgate._core.scopes cimport Scopes


@cython.final
cdef class Scoped:
    cdef list _limits
    cdef public list limits
    cdef public list limit_keys
    cdef public long long rpm
    cdef public long long tpm
    cdef public list budgets
    cdef public list budget_keys
    cdef public long long made_ns
    cdef public Scopes scopes
