# SPDX-License-Identifier: MIT
#
# memory.py: structures of the runtime, from the memory of a program that has stopped or of a core
# file. Nothing is ever written.
#
# Where they lie is read from a table in the library (runtime/layout.c), so a library without debug
# information will do.
import struct

import gdb

LAYOUT_VERSION = 1  # runtime/layout.c


def read(addr, size):
    return bytes(gdb.selected_inferior().read_memory(addr, size))


def word(addr):
    return struct.unpack("<Q", read(addr, 8))[0]


def read_text(addr, most=64):
    text = b""
    while len(text) < most and not text.endswith(b"\0"):
        text += read(addr + len(text), 1)
    return text.rstrip(b"\0").decode(errors="replace")


def address_of(symbol):
    return int(gdb.parse_and_eval("(unsigned long)&%s" % symbol))


class Record:
    """A struct of the runtime, read at once: r["field"]."""

    def __init__(self, rt, kind, addr, data=None):
        self.rt, self.kind, self.addr = rt, kind, addr
        self.data = data if data is not None else read(addr, rt.value[kind])

    def __getitem__(self, field):
        at, size = self.rt.field[self.kind + "." + field]
        return int.from_bytes(self.data[at:at + size], "little")


class Layout:
    """Where the program's libweft has its data. One for each library that was seen."""

    known = {}

    def __init__(self, table):
        self.value, self.field = {}, {}
        while self.load_list(word(table)):
            table += 8
        if self.value.get("LAYOUT_VERSION") != LAYOUT_VERSION:
            raise gdb.GdbError("weft: this script belongs to another version of libweft")

    def load_list(self, at):
        while at != 0:
            value, size, name = struct.unpack("<QI28s", read(at, 40))
            name = name.rstrip(b"\0").decode()
            if not name:
                return True
            if size:
                self.field[name] = (value, size)
            else:
                self.value[name] = value
            at += 40
        return False

    @classmethod
    def find(cls):
        try:
            table = address_of("weft_private_layout")
            key = (gdb.selected_inferior().num, gdb.selected_inferior().pid, table)
            if key not in cls.known:
                cls.known[key] = cls(table)
            return cls.known[key], table
        except gdb.error as e:
            raise gdb.GdbError("weft: there is no libweft in this program: %s" % e)
