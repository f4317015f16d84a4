# How many tokens a text has: byte-pair encoding as in tiktoken's encode_ordinary, only counted.
#
#   text --pieces.pxd--> piece --cache--> count
#                               `-- merges.pxd --> count, into the cache
#
# Most pieces are words that were there before: the cache answers from their bytes, compared in
# full, so a collision can't make a count wrong. It is bounded; a new piece replaces an old one.

cimport cython
from libc.stdint cimport uint8_t, uint64_t

from fastgate._core.jsonchars cimport Bytes
from fastgate._core.merges cimport Merge, Tables
from fastgate._core.pieces cimport Pattern, Scan

cdef struct Short:              # a piece of 1 .. 15 bytes, zeros behind it;
    uint64_t low
    uint64_t high               # its highest byte: length << 4 | count

cdef struct Long:               # a piece of 16 .. 62 bytes: a cache line
    uint8_t size
    uint8_t count
    uint8_t[62] piece

cdef struct Progress:
    Scan scan
    Merge merge                 # of the piece [scan.begin, scan.at)
    bint merging
    Py_ssize_t tokens           # of the pieces before it


@cython.final
cdef class Counter:
    cdef Tables tables
    cdef Pattern pattern
    cdef Short* shorts
    cdef Long* longs
    cdef Progress progress      # count()'s own
    cdef readonly Py_ssize_t memory_bytes
    cdef int _load(self, bytes text) except -1
    cpdef Py_ssize_t count(self, bytes data) except -1


@cython.final
cdef class Count:
    cdef Counter counter
    cdef bytes data
    cdef Progress progress
    cpdef bint advance(self, Py_ssize_t max_bytes) except -1
