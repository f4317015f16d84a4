cimport cython

from fastgate.upstream.connection cimport Connection


@cython.final
cdef class Pool:
    cdef public object origin
    cdef public object settings
    cdef public object resolver
    cdef public object sink
    cdef public list idle
    cdef public object waiting
    cdef public object members
    cdef public Py_ssize_t connecting
    cdef public object tasks
    cdef public object tls
    cdef public bint closing
    cdef public long long idle_ns
    cdef public long long max_age_ns

    @cython.locals(connection=Connection)
    cpdef Connection take(self, long long now_ns)
    cpdef void give_back(self, Connection connection, long long now_ns)
    cpdef void on_closed(self, Connection connection)
