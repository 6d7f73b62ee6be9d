"""A pickle reader that executes no code from the file.

Unpickling calls whatever functions a file names. `Machine` interprets the opcodes itself, never
imports the names, and lets subclasses define the few expected ones. Memory and time are bounded by
a `PickleBudget`, and the result is a tree that `limits.check_tree` accepts.
"""

import pickletools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from diffusion_jax.files import limits
from diffusion_jax.files.limits import PickleBudget


class Refused(ValueError):
    """A file with unexpected content."""


@dataclass(frozen=True)
class Global:
    """The name of a function or class that the pickle refers to; it is never imported."""

    name: str


class _BudgetedStream:
    """The stream that pickletools reads; pays for a read before it takes memory."""

    def __init__(self, stream: Any, budget: PickleBudget):
        self._stream, self._budget = stream, budget

    def read(self, count: int) -> Any:
        if count > 1:
            self._budget.spend(count)
        return self._stream.read(count)

    def readline(self) -> bytes:
        line = self._stream.readline(limits.PICKLE_LINE_BYTES)
        if len(line) == limits.PICKLE_LINE_BYTES:
            raise ValueError(f"it has a line of more than {limits.PICKLE_LINE_BYTES:,} bytes")
        self._budget.spend(len(line))
        return line


class _Mark:
    """Marker on the stack before the items of a tuple, list or dict."""


class Machine:
    """Interpreter of pickle opcodes on a stack of plain values.

    name, expected: the file's name and its expected content, for error messages. budget: shared by
    all pickles that the machine runs.
    """

    # The names that a pickle may refer to, as "module name".
    globals: frozenset[str] = frozenset()

    def __init__(self, name: str, expected: str, budget: PickleBudget):
        self.name, self.expected, self.budget = name, expected, budget
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def call(self, function: str, arguments: tuple) -> Any:
        """Returns the result of a call of one of `globals`; raises `self.refused` otherwise."""
        raise self.refused(f"calls {function.replace(' ', '.')}")

    def build(self, instance: Any, state: Any) -> Any:
        """Returns the object that replaces `instance` after its `state` is set."""
        raise self.refused("sets the state of an object")

    def persistent(self, identity: Any) -> Any:
        """Returns the object outside the pickle that a persistent id refers to."""
        raise self.refused("refers to objects outside of it")

    def children(self, value: Any) -> Iterable[Any] | None:
        """Returns the values in a container, as `limits.children` does."""
        return limits.children(value)

    def refused(self, reason: str) -> Refused:
        return Refused(f"{self.name} {reason}; {self.expected} was expected")

    def run(self, stream: Any) -> Any:
        """Reads a pickle. Raises Refused if it is damaged, unexpected, or exceeds the limits.

        stream: an object with `read` and `readline`.
        """
        self.stack, self.memo = [], {}
        try:
            limited = cast(Any, _BudgetedStream(stream, self.budget))
            for opcode, argument, _ in pickletools.genops(limited):
                if opcode.name == "STOP":
                    (content,) = self._pop(1)
                    limits.check_tree(content, self.children)
                    return content
                self.budget.spend_opcode()
                self._do(opcode.name, argument)
        except Refused:
            raise
        except (ValueError, OverflowError, MemoryError) as error:
            raise self.refused(f"is damaged: {limits.one_line(error)}") from None
        raise self.refused("is damaged: its pickle has no end")

    def _do(self, opcode: str, argument: Any) -> None:
        push = self.stack.append
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                push(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                push(argument)
            case "MARK":
                push(_Mark)
            case "EMPTY_TUPLE":
                push(())
            case "EMPTY_LIST":
                push([])
            case "EMPTY_DICT":
                push({})
            case "EMPTY_SET":
                push(set())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self._pop(int(opcode[-1]))))
            case "TUPLE":
                push(tuple(self._pop_to_mark()))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if opcode == "APPEND" else self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if opcode == "SETITEM" else self._pop_to_mark()
                self._set_items(items)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self._top(object)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self._top(object)
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise self.refused("is damaged: its pickle refers to a missing memo entry")
                push(self.memo[argument])
            case "GLOBAL":
                push(self._global(argument))
            case "STACK_GLOBAL":
                module, name = self._pop(2)
                if not isinstance(module, str) or not isinstance(name, str):
                    raise self.refused("is damaged: its pickle refers to a global without a name")
                push(self._global(f"{module} {name}"))
            case "BINPERSID":
                push(self.persistent(*self._pop(1)))
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._pop(2)
                if not isinstance(function, Global) or not isinstance(arguments, tuple):
                    raise self.refused("calls something that is not a function")
                push(self.call(function.name, arguments))
            case "BUILD":
                push(self.build(*self._pop(2)))
            case _:
                raise self.refused(f"uses the pickle opcode {opcode}")

    def _pop(self, count: int) -> list[Any]:
        items = self.stack[len(self.stack) - count :] if len(self.stack) >= count else []
        if len(items) < count or any(item is _Mark for item in items):
            raise self.refused("is damaged: its pickle pops more than is on the stack")
        del self.stack[len(self.stack) - count :]
        return items

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _Mark:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise self.refused("is damaged: its pickle pops more than is on the stack")

    def _top(self, kind: type) -> Any:
        if not self.stack or self.stack[-1] is _Mark or not isinstance(self.stack[-1], kind):
            raise self.refused(f"is damaged: its pickle has no {kind.__name__} where one belongs")
        return self.stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values) or not all(isinstance(key, str | int) for key in keys):
            raise self.refused("has a dict whose keys are neither strings nor integers")
        target.update(zip(keys, values))

    def _global(self, name: str) -> Global:
        if name not in self.globals:
            raise self.refused(f"refers to {name.replace(' ', '.')[:200]!r}")
        return Global(name)
