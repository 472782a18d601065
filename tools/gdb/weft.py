# SPDX-License-Identifier: MIT
#
# weft.py: coroutines in gdb (12 or later), of a program that has stopped or of a core file.
#
#   info weft coroutines [-name GLOB] [-state TEXT] [-group | -each]
#   info weft procs
#   info weft threads
#   weft ID[.FRAME] COMMAND     any command as if coroutine ID were the current thread
#   weft all [-name GLOB] [-state TEXT] COMMAND
#   weft gcore FILE
#
# and printers for weft's objects: weft_debug(7). This file is installed under the name by which gdb
# loads it along with the library; `source weft.py` does the same. The rest of it is in weftgdb/,
# beside it or where it was installed.
import os
import sys

GDBDIR = "@gdbdir@"  # by make install


def load():
    path = GDBDIR
    if "__file__" in globals():
        here = os.path.dirname(os.path.realpath(__file__))
        if os.path.isdir(os.path.join(here, "weftgdb")):
            path = here
    sys.path.insert(0, path)
    quiet, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        import weftgdb.commands
        import weftgdb.printers
        weftgdb.commands.register()
        weftgdb.printers.register()
    finally:
        sys.dont_write_bytecode = quiet
        sys.path.remove(path)


load()
