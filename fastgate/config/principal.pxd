cimport cython

from fastgate.config.scopes cimport Scoped


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
    cdef public str shown
    cdef public Scoped scoped
    cdef public dict by_group
    cdef public object stored
    cdef public list everywhere
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

    cpdef Scoped scoped_for(self, str group)
