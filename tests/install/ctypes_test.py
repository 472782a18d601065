#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# ctypes_test.py: libweft.so opened by an interpreter that knew nothing of it.
# Run with the library's path. Main (Python) makes a buffered channel, fills and
# drains it, closes it; a second run in the same process must work too. Nothing
# here parks: a coroutine that does may be on another thread afterwards, and the
# interpreter's state is its thread's.
import ctypes
import sys

weft = ctypes.CDLL(sys.argv[1])
ENTRY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
weft.weft_chan_make.restype = ctypes.c_void_p
weft.weft_chan_make.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
weft.weft_id.restype = ctypes.c_uint64
for name in ("weft_send", "weft_recv"):
    getattr(weft, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p]
for name in ("weft_chan_close", "weft_chan_unref"):
    getattr(weft, name).argtypes = [ctypes.c_void_p]
weft.weft_run.argtypes = [ENTRY, ctypes.c_void_p]


@ENTRY
def main(arg):
    if weft.weft_id() == 0:
        return 10
    c = weft.weft_chan_make(4, 8)
    if not c:
        return 11
    for i in range(8):
        if weft.weft_send(c, ctypes.byref(ctypes.c_int(i))) != 0:
            return 12
    weft.weft_chan_close(c)
    v, total = ctypes.c_int(), 0
    while weft.weft_recv(c, ctypes.byref(v)) == 1:
        total += v.value
    weft.weft_chan_unref(c)
    return 0 if total == 28 else 14


for run in (1, 2):
    rc = weft.weft_run(main, None)
    if rc != 0:
        sys.exit("ctypes_test: run %d returned %d" % (run, rc))
print("ctypes: two runs in Python", sys.version.split()[0])
