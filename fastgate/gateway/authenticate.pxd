from fastgate.gateway.context cimport Context

cpdef authenticate(Context context, object downstream)
