cimport cython

from fastgate._core.fields cimport forward_fields
from fastgate._core.http1 cimport build_request_head
from fastgate._core.jscan cimport BodyScan
from fastgate.gateway.catalog cimport Target
from fastgate.gateway.context cimport Context
from fastgate.gateway.peek cimport Peek
from fastgate.upstream.connection cimport Connection

cdef Py_ssize_t JOIN_BYTES


@cython.locals(target=Target, scan=BodyScan, body=bytes, head=bytes, model=str, joined=bint)
cpdef send(Context context, Connection connection, Peek peek)


@cython.locals(target=Target)
cpdef send_upload(Context context, Connection connection, object length, list parts)
