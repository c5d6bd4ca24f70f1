"""The worker: takes orders from the queues, and has each carried out by a process of its own.

Those processes are forked from this one, in which all that they need is loaded. So this one has no
threads; `queues` does the waiting.
"""

import gc
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from workflow_result import metrics
from workflow_result.engine.queues import Action, Done, Emptied, Queues, Taken, attend
from workflow_result.engine.serving import Fate, Served
from workflow_result.problem import (
    Event,
    ExitCode,
    Problem,
    Style,
    defect,
    name_record,
    say,
    say_problem,
)

RESEND_EVERY = 300.0
"""Seconds between two deliveries of what is owed."""

SOON = 60
"""Seconds after which a message comes again that nothing could be done for."""

LATER = 600
"""The same where another process works on its record: that takes its time, and each time that a
message is received counts towards the queue's limit."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_forked = multiprocessing.get_context("fork")


_OVER = (Fate.REPORTED, Fate.UNREADABLE)
"""Fates of orders that nothing is left to be done for."""


@dataclass(eq=False)
class _Order:
    taken: Taken
    process: BaseProcess
    told: Connection


class Worker:
    """Carries out orders, `at_once` at a time at the most, each with `serve`, which is given the
    message's text and whether that comes again.

    `resend` delivers what is owed; it is called now and then. `show` is given what was reported.
    With `once` the worker ends when the queues are empty, with NOT_DELIVERED where an order has no
    result yet.
    """

    def __init__(
        self,
        queues: Queues,
        serve: Callable[[bytes, bool], Served],
        resend: Callable[[], None],
        show: Callable[[dict[str, str]], None],
        *,
        at_once: int,
        once: bool,
    ) -> None:
        self._queues = queues
        self._serve = serve
        self._resend = resend
        self._show = show
        self._at_once = at_once
        self._once = once
        self._orders: list[_Order] = []
        self._resending: BaseProcess | None = None
        self._resent_at = -RESEND_EVERY
        self._signals = 0
        self._woken, self._waking = socket.socketpair()
        self._told: Connection | None = None
        self._exit_code = ExitCode.DONE
        self._is_ending = False

    def run(self) -> ExitCode:
        """Work until a signal comes, or the queues are empty where that was asked for.

        The first signal lets what applies come to its end, the next ones stop it. Returns 0, or the
        exit code of what was wrong with the set-up. Raises `Problem` where a queue cannot be used.
        """
        gc.enable()  # unlike the other commands, this one lives for weeks
        gc.freeze()  # what is loaded stays, in memory that forked processes share
        name_record("", "", in_every_line=True)  # others write between its lines
        told, theirs = _forked.Pipe()
        self._told = told
        beside = self._fork(self._attend, theirs)
        theirs.close()
        urls = told.recv()
        if isinstance(urls, Problem):
            raise urls
        queues = "1 queue" if len(urls) == 1 else f"{len(urls)} queues"
        say(f"serving {queues}, {self._at_once} orders at once at the most")
        for end in (self._woken, self._waking):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waking.fileno())
        for kind in _SIGNALS:
            if signal.getsignal(kind) != signal.SIG_IGN:
                signal.signal(kind, self._on_signal)
        self._tell(self._at_once)
        while not self._is_ending or self._orders:
            self._deliver()
            self._turn(told)
            self._reap(beside)
            if self._is_ending:
                self._tell(None)
        if self._resending and self._resending.pid:
            os.kill(self._resending.pid, signal.SIGINT)
            self._resending.join()
        told.close()
        beside.join()
        return self._exit_code

    def _reap(self, beside: BaseProcess) -> None:
        """Take note of the end of what orders have left running. In a container it comes here."""
        own = {order.process.pid for order in self._orders} | {beside.pid}
        if self._resending:
            own.add(self._resending.pid)
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in own:
                    return
                os.waitpid(ended.si_pid, 0)

    def _attend(self, worker: Connection) -> None:
        for kind in _SIGNALS:
            signal.signal(kind, signal.SIG_IGN)  # it ends with the worker
        attend(self._queues, worker)

    def _fork(self, work: Callable[..., None], *arguments: object) -> BaseProcess:
        """Begin a process that does this `work`; no signal meets it half-made."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        process = _forked.Process(target=self._do, args=[work, *arguments])
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return process

    def _do(self, work: Callable[..., None], *arguments: object) -> None:
        """Do it in a forked process, which has nothing of this one but what it is given."""
        os.setsid()  # signals come from the worker alone, each once
        signal.set_wakeup_fd(-1)
        for kind in _SIGNALS:
            signal.signal(kind, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self._told:  # who listens at the other end learns of the worker's end
            self._told.close()
        code = ExitCode.DEFECT
        try:
            work(*arguments)
            code = ExitCode.DONE
        except Problem as problem:
            say_problem(problem)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            defect(error)
        os._exit(code)

    def _turn(self, queues: Connection) -> None:
        """Wait for what happens next, and see to it."""
        listened: list[Connection | socket.socket] = [order.told for order in self._orders]
        listened.append(self._woken)
        if not queues.closed:
            listened.append(queues)
        for ready in wait(listened, timeout=RESEND_EVERY / 10):
            order = next((order for order in self._orders if order.told is ready), None)
            if order:
                self._ended(order)
            elif ready is self._woken:
                self._woken.recv(4096)
            else:
                self._hear(queues)

    def _hear(self, queues: Connection) -> None:
        try:
            told = queues.recv()
        except (EOFError, OSError):
            say("the process that asks the queues has ended: so does this one", Style.RED)
            self._exit_code = ExitCode.DEFECT
            self._is_ending = True
            queues.close()
            return
        if isinstance(told, Emptied):
            self._is_ending |= self._once and not self._orders
        elif self._is_ending:
            self._tell(Done(told.receipt, Action.RETURN))
        else:
            ours, theirs = _forked.Pipe(duplex=False)
            process = self._fork(self._carry_out, told, theirs)
            theirs.close()
            self._orders.append(_Order(told, process, ours))

    def _carry_out(self, taken: Taken, worker: Connection) -> None:
        served = self._serve(taken.body.encode(), taken.comes_again)
        with suppress(OSError):  # the worker was killed
            worker.send(served)

    def _ended(self, order: _Order) -> None:
        served: Served | None = None
        with suppress(EOFError, OSError):
            served = order.told.recv()
        order.told.close()
        order.process.join()
        self._orders.remove(order)
        if served is None:
            code = order.process.exitcode
            line = f"message {order.taken.message_id}: its process has died ({code})"
            say(line, Style.RED, event=Event.MESSAGE)
            self._tell(Done(order.taken.receipt, Action.LEAVE))
        else:
            if served.result:
                self._show(served.result)
                metrics.tell_reported(order.taken.sent_at)
            self._tell(self._done(order.taken, served))
        if self._once and (served is None or served.fate not in _OVER):
            self._exit_code = self._exit_code or ExitCode.NOT_DELIVERED
        if not self._is_ending:
            self._tell(1)

    def _done(self, taken: Taken, served: Served) -> Done:
        if served.fate == Fate.UNREADABLE:
            line = f"message {taken.message_id} cannot be an order: {served.line}"
            say(line, Style.RED, event=Event.MESSAGE)
            return Done(taken.receipt, Action.DEAD, reason=served.line)
        if served.fate in (Fate.REPORTED, Fate.OWED):
            return Done(taken.receipt, Action.DELETE)
        if served.exit_code == ExitCode.SETUP:  # it is so for the next order, too
            self._exit_code = ExitCode.SETUP
            self._is_ending = True
            return Done(taken.receipt, Action.RETURN, SOON)
        if served.fate == Fate.ELSEWHERE:
            return Done(taken.receipt, Action.RETURN, LATER)
        return Done(taken.receipt, Action.RETURN, 0 if self._signals else SOON)

    def _deliver(self) -> None:
        """Have what is owed delivered, now and then."""
        if self._resending and not self._resending.is_alive():
            self._resending.join()
            self._resending = None
        if self._resending or self._is_ending:
            return
        if time.monotonic() - self._resent_at >= RESEND_EVERY:
            self._resent_at = time.monotonic()
            self._resending = self._fork(self._send_owed)

    def _send_owed(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._resend()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        self._is_ending = True
        name = signal.Signals(number).name
        if self._signals == 1:
            say(f"{name}: what applies comes to its end, all else is given back")
        for order in self._orders:
            if order.process.is_alive() and order.process.pid:
                os.kill(order.process.pid, number)

    def _tell(self, told: object) -> None:
        with suppress(OSError):  # it has ended: the messages come again
            if self._told and not self._told.closed:
                self._told.send(told)
