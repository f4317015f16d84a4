from fastgate.gateway.context cimport Context, Sender

cpdef authenticate(Context context, Sender downstream)
