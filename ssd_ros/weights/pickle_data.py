# SPDX-License-Identifier: Apache-2.0
"""What a pickle describes, without doing it: nothing that it names is imported or called.

A pickle is a program for a small stack machine. Here it runs on values that cannot do anything:
containers, numbers and texts are themselves; a function or class is a `Global`; a call is given to
the reader of the file, who makes data of the few calls that he knows and an `Opaque` of all others.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple


class Global(NamedTuple):
    """A function or class that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Opaque:
    """An object that is not made.

    Attributes:
        made_by: what would have been called for it, where known.
        is_module: whether it has the attributes of a torch.nn.Module.
    """

    made_by: Global | None = None
    is_module: bool = False


def interpret(
    stream: BytesIO,
    call: Callable[[Global, tuple[Any, ...]], Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """The value of the pickle at the stream's position, which is then behind the pickle.

    Dictionaries keep only the items whose keys are texts: a state dict has no others, and those of
    other keys can be chosen so that all have the same hash.

    Args:
        stream: in memory, because a pickle can announce texts of any length.
        call: makes the result of a call from the function and its arguments.
        persistent: makes what a persistent id stands for.

    Raises:
        ValueError, and other exceptions of broken data: it is not a pickle.
    """
    machine = _Machine(call, persistent)
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "STOP":
            break
        if opcode.name in _INSTRUCTIONS:
            _INSTRUCTIONS[opcode.name](machine, argument)
        elif opcode.stack_after and not opcode.stack_before:
            # Numbers and texts; what has no argument (an empty set, …) is of no use to us.
            machine.push(Opaque() if argument is None else argument)
        elif opcode.stack_after != opcode.stack_before:
            raise ValueError(f"pickle instruction {opcode.name}")
    return machine.stack[-1]


class _Machine:
    """The stack machine; each method is an instruction, with its argument."""

    def __init__(
        self, call: Callable[[Global, tuple[Any, ...]], Any], persistent: Callable[[Any], Any]
    ) -> None:
        self.stack: list[Any] = []
        self._call = call
        self._persistent = persistent
        self._below: list[list[Any]] = []  # what lies under each mark
        self._memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: None) -> None:
        self._below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def duplicate(self, _: None) -> None:
        self.push(self.stack[-1])

    def get(self, index: int) -> None:
        self.push(self._memo[index])

    def put(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self.stack[-1]

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def make_set(self, _: None) -> None:
        self.since_mark()
        self.push(Opaque())

    def append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_texts_only(items))

    def set_item(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def make_global(self, name: str | None) -> None:
        if name is not None:
            module, _, name = name.partition(" ")
        else:
            name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("a pickle names something with no text")
        self.push(Global(module, name))

    def call(self, function: Any, arguments: Any) -> None:
        known = isinstance(function, Global) and isinstance(arguments, tuple)
        self.push(self._call(function, arguments) if known else Opaque())

    def reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.call(function, arguments)

    def make_object(self, _: None) -> None:
        function, *arguments = self.since_mark()
        self.call(function, tuple(arguments))

    def make_instance(self, name: str) -> None:
        arguments = self.since_mark()
        self.make_global(name)
        self.call(self.stack.pop(), tuple(arguments))

    def make_with_keywords(self, _: None) -> None:
        self.stack.pop()
        self.reduce(None)

    def set_state(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Opaque) and isinstance(state, dict) and "_modules" in state:
            target.is_module = True

    def persistent(self, identity: str | None) -> None:
        self.push(self._persistent(self.stack.pop() if identity is None else identity))


def _texts_only(items: list[Any]) -> dict[str, Any]:
    """Alternating keys and values as a dictionary, without the keys that are no texts."""
    pairs = zip(items[::2], items[1::2], strict=True)
    return {key: value for key, value in pairs if isinstance(key, str)}


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "DUP": _Machine.duplicate,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.push(_texts_only(machine.since_mark())),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.tuple_of(0),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "ADDITEMS": lambda machine, _: machine.since_mark(),
    "FROZENSET": _Machine.make_set,
    "GLOBAL": _Machine.make_global,
    "STACK_GLOBAL": _Machine.make_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.make_with_keywords,
    "OBJ": _Machine.make_object,
    "INST": _Machine.make_instance,
    "BUILD": _Machine.set_state,
    "PERSID": _Machine.persistent,
    "BINPERSID": _Machine.persistent,
}
