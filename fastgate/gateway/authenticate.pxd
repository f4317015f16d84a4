cimport cython

from fastgate._core.http1 cimport RequestReader
from fastgate.gateway.context cimport Context, Sender


@cython.locals(reader=RequestReader, field=bytes)
cpdef bytes authenticate(Context context, Sender downstream, object keys)
