cimport cython

from fastgate._core.jscan cimport BodyScan
from fastgate.gateway.catalog cimport Target
from fastgate.gateway.context cimport Context
from fastgate.gateway.peek cimport Peek
from fastgate.upstream.connection cimport Connection


@cython.locals(target=Target, scan=BodyScan, body=bytes, head=bytes)
cpdef send(Context context, Connection connection, Peek peek)


@cython.locals(target=Target)
cpdef send_upload(Context context, Connection connection, object length, list parts)
