cdef class Shared:
    cdef public object loop
    cdef public object limits
    cdef public object tls
    cdef public bint draining
    cdef public long long head_timeout_ns
    cdef public long long body_idle_ns
    cdef public long long body_timeout_ns
    cdef public long long keepalive_ns
    cdef public long long send_timeout_ns
    cdef public Py_ssize_t max_body_bytes
    cdef public Py_ssize_t max_upload_bytes
    cdef public Py_ssize_t high_water_bytes
