"""Threads, processes and machines on virtual time, so that the program's own code runs in a
simulation: hours of a thousand machines in a minute, and the same again with the same seed.

Each thread is a greenlet. One runs until it waits; then the next event in time is due. What stands
here for `threading`, `queue`, `concurrent.futures` and `time` is what the program uses of them.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from queue import Empty
from typing import Any, Self, cast

from greenlet import GreenletExit, getcurrent, greenlet

EPOCH = 1_800_000_000.0
"""Seconds since 1970 when a simulation begins."""


class World:
    """The events to come. `now` is in seconds since it began."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._hub = getcurrent()

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), action))

    def run(self) -> None:
        """Have everything happen, to the last event."""
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()

    def start(self, process: "Process", function: Callable[[], None]) -> None:
        """Run a function in a new thread of a process."""

        def act(*_: object) -> None:
            try:
                if not process.is_dead:
                    function()
            finally:
                process.threads.remove(thread)

        thread = _Thread(act, self._hub)
        thread.process = process
        process.threads.append(thread)
        self.at(self.now, lambda: self.wake(thread, thread.turn))

    def wait(self, seconds: float | None) -> bool:
        """Have the thread that runs wait; whether it was woken before the time was over."""
        thread = _this()
        if thread.process.is_dead:
            raise GreenletExit
        turn = thread.turn
        if seconds is not None:
            self.at(self.now + seconds, lambda: self.wake(thread, turn, early=False))
        woken = bool(self._hub.switch())
        if thread.process.is_dead:
            raise GreenletExit
        return woken

    def wake(self, thread: "_Thread", turn: int, *, early: bool = True) -> None:
        """Go on with a thread if it still waits for what it did at this `turn`."""
        process = thread.process
        if thread.turn != turn or process.is_dead:
            return
        if process.machine.frozen_until > self.now:
            thaw = process.machine.frozen_until
            self.at(thaw, lambda: self.wake(thread, turn, early=early))
            return
        thread.turn += 1
        thread.switch(early)


@dataclass(eq=False)
class Machine:
    """One whose clock is `wrong` by so many seconds, and runs faster by a part of `drift`."""

    world: World
    wrong: float = 0.0
    drift: float = 0.0
    frozen_until: float = -1.0
    stood_still: float = 0.0
    is_gone: bool = False
    processes: "list[Process]" = field(default_factory=list)
    unreachable: tuple[float, float] = (0.0, 0.0)
    """From when to when it does not reach the table."""

    def steady(self) -> float:
        """Seconds since some moment, by its own clock."""
        return (self.world.now - self.stood_still) * (1 + self.drift) + 1000

    def wall(self) -> float:
        return EPOCH + self.steady() + self.wrong

    def freeze(self, seconds: float, *, clock: bool) -> None:
        """Let nothing run on it for a time; its clocks stop, too, where that is said."""
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)
        if clock:
            self.stood_still += seconds  # seen by nobody before it goes on

    def vanish(self) -> None:
        """End all that runs on it, for ever."""
        self.is_gone = True
        for process in list(self.processes):
            process.kill()


@dataclass(eq=False)
class Process:
    """What ends as a whole."""

    machine: Machine
    about: Any = None
    is_dead: bool = False
    threads: "list[_Thread]" = field(default_factory=list)
    at_call: Callable[[str], None] | None = None
    """Called at both ends of a call to the table: it may be the last one."""

    def __post_init__(self) -> None:
        self.machine.processes.append(self)

    def start(self, main: Callable[[], None]) -> None:
        def act() -> None:
            main()
            self.kill()

        self.machine.world.start(self, act)

    def kill(self) -> None:
        """End it as SIGKILL does: what it has begun stays half done."""
        if self.is_dead:
            return
        self.is_dead = True
        self.machine.processes.remove(self)

        def end() -> None:
            for thread in list(self.threads):
                thread.throw(GreenletExit)

        self.machine.world.at(0, end)

    def may_die(self, when: str) -> None:
        """A moment at which it may be killed or frozen."""
        if self.at_call:
            self.at_call(when)
        if self.is_dead:
            raise GreenletExit
        if self.machine.frozen_until > self.machine.world.now:
            self.machine.world.wait(self.machine.frozen_until - self.machine.world.now)


class _Thread(greenlet):
    process: Process
    turn: int = 0


def _this() -> _Thread:
    return cast("_Thread", getcurrent())


def here() -> Process:
    """The process that runs."""
    return _this().process


def _world() -> World:
    return here().machine.world


# --- threading ------------------------------------------------------------------------------


class Thread:
    def __init__(
        self, target: Callable[..., None], args: Sequence[Any] = (), *, daemon: bool = False
    ) -> None:
        self._target, self._args = target, args
        self._has_ended = Event()

    def start(self) -> None:
        _world().start(here(), self._run)

    def _run(self) -> None:
        self._target(*self._args)
        self._has_ended.set()

    def join(self) -> None:
        self._has_ended.wait()


class Event:
    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[tuple[_Thread, int]] = []

    def set(self) -> None:
        self._is_set = True
        world = _world()
        for thread, turn in self._waiting:
            world.at(world.now, lambda thread=thread, turn=turn: world.wake(thread, turn))  # type: ignore[misc]
        self._waiting.clear()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._waiting.append((_this(), _this().turn))
            _world().wait(timeout)
        return self._is_set


class Lock:
    def __init__(self) -> None:
        self._is_held = False
        self._freed = Event()

    def __enter__(self) -> Self:
        while self._is_held:
            self._freed.clear()
            self._freed.wait()
        self._is_held = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_held = False
        if not here().is_dead:
            self._freed.set()


# --- queue ----------------------------------------------------------------------------------


class SimpleQueue:
    def __init__(self) -> None:
        self._things: deque[Any] = deque()
        self._come = Event()

    def put(self, thing: Any) -> None:
        self._things.append(thing)
        self._come.set()

    def get(self, timeout: float | None = None) -> Any:
        until = None if timeout is None else Time.monotonic() + timeout
        while not self._things:
            left = None if until is None else until - Time.monotonic()
            if left is not None and left <= 0:
                raise Empty
            self._come.clear()
            self._come.wait(left)
        return self._things.popleft()

    def get_nowait(self) -> Any:
        if not self._things:
            raise Empty
        return self._things.popleft()


# --- concurrent.futures ---------------------------------------------------------------------


class Future:
    def __init__(self) -> None:
        self.ended = Event()
        self._value: Any = None
        self._error: Exception | None = None

    def do(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._value = function(*arguments)
        except Exception as error:
            self._error = error
        self.ended.set()

    def result(self) -> Any:
        self.ended.wait()
        if self._error:
            raise self._error
        return self._value


class ThreadPoolExecutor:
    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._workers = 0
        self._futures: list[Future] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        future = Future()
        self._futures.append(future)
        self._waiting.append(lambda: future.do(function, *arguments))
        if self._workers < self._at_once:
            self._workers += 1
            Thread(self._work).start()
        return future

    def _work(self) -> None:
        while self._waiting:
            self._waiting.popleft()()
        self._workers -= 1

    def map(self, function: Callable[[Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        futures = [self.submit(function, value) for value in values]
        return (future.result() for future in futures)

    def shutdown(self) -> None:
        for future in self._futures:
            future.ended.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


# --- time -----------------------------------------------------------------------------------


class Time:
    """Stands for the module `time`, where a process looks at its machine's clocks."""

    CLOCK_BOOTTIME = 7

    @staticmethod
    def time() -> float:
        return here().machine.wall()

    @staticmethod
    def clock_gettime(_: int) -> float:
        return here().machine.steady()

    @staticmethod
    def monotonic() -> float:
        return here().machine.steady()
