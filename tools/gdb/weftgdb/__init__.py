# SPDX-License-Identifier: MIT
#
# weftgdb: what weft.py loads. memory.py and runtime.py read the runtime's data, stacks.py shows gdb
# the stacks of coroutines that do not run, commands.py and printers.py are what the user sees.
