cimport cython


@cython.final
cdef class Principal:
    cdef public str alias
    cdef public str team
    cdef public bytes key_hash
    cdef public bint is_admin
    cdef public list models
    cdef public bint all_models
    cdef public frozenset names
    cdef public tuple patterns
    cdef public long long rpm
    cdef public long long tpm
    cdef public long long max_parallel
    cdef public bint limited
    cdef public unsigned long long limit_key
    cdef public str shown
    cdef public list narrowed
    cdef public dict aliases
    cdef public str user_id
    cdef public str organization_id
    cdef public list tags
    cdef public dict bookings
    cdef public list routes
    cdef public str blocked
    cdef public long long expires_unix_ms
    cdef public bint revoked
    cdef public bytes log_members
