"""One process's part in the announcements of its app: tells what was committed here, and hears what others did.

One thread, on one connection, made when the process begins to serve or commits something. A committing thread only
leaves word: what comes while a message is under way goes together with the next. Nothing is announced before its
commit, and nothing inside its transaction: notifications there have the commits of a whole server wait for each other
(decision 0031).
"""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from ..core.model import Event, Task
from ..runtime import processes
from ..runtime.background_thread import BackgroundThread, Contained
from ..runtime.fork import after_fork_in_child
from ..runtime.log_lines import Recurring
from .announcement import Announcement, Message, Pending
from .channel import ANSWER_SECONDS, Channel, ChannelLost

log = logging.getLogger("flask_bgtasks")

PROOF_SECONDS = 15.0
"""How often a process tries whether it hears itself: a connection that is lost in silence is noticed within this, and
:data:`~.channel.ANSWER_SECONDS`. Also how often the others are told that it lives."""

SEND_SECONDS = 0.01
"""Between two messages of a process, at least: under load a hundred of them a second carry what was committed."""

WORK_SECONDS = 0.05
"""Between two looks for work that was announced, at least, however many processes announce any."""

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 10.0
"""Before a lost connection is made again, doubled each time."""

DEAF_SECONDS = 300.0
"""After which it is tried again to listen where nothing could be heard."""

DEAF_LOG_SECONDS = 86_400.0
"""Between two lines about that: it is how the network is laid out, and somebody has to change it."""

LAST_WORDS_SECONDS = 1.0
"""That the end of a process waits for what is not announced yet: a command of the shell is over in a moment."""

Listener = Callable[[Announcement], None]


class Exchange:
    """Announces and hears, for one app in this process.

    :param make_channel: what carries the announcements; None for nothing: then nobody is told, and nobody waits for it.
    :param waits: whether a task waits that another process may begin now.
    :param frees: whether what became of a task may let another one begin, in another process.
    :param leaves_deliveries: whether this process leaves what sinks get to others.
    """

    def __init__(
        self,
        make_channel: Callable[[], Channel] | None,
        *,
        waits: Callable[[Task], bool],
        frees: Callable[[Task], bool],
        leaves_deliveries: Callable[[], bool],
    ) -> None:
        self._make_channel = make_channel
        self._waits = waits
        self._frees = frees
        self._leaves_deliveries = leaves_deliveries
        self._listeners: list[Listener] = []
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._sender = secrets.token_hex(6)
        # _lock protects _pending, and what _told says: whether it was sent. Held for no call but theirs.
        self._lock = threading.Lock()
        self._pending = Pending()
        self._unsent: list[str] = []  # what was taken of it, the thread's alone
        self._told = threading.Event()
        self._told.set()
        self._listening = False
        self.thread = BackgroundThread("bgtasks-announcements", self._serve)
        # Wakes the thread: what is sent into the one is seen at the other, beside the channel. Made by the thread.
        self._bell: tuple[socket.socket, socket.socket] | None = None
        # The thread's alone, but for being read.
        self._held_until = float("-inf")  # by time.monotonic
        self._away = False  # whether the server was, when it was tried last
        self._outage = Recurring(log)
        self._deaf = Recurring(log, seconds=DEAF_LOG_SECONDS)

    # -- what others call ----------------------------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether there are announcements at all."""
        return self._make_channel is not None

    def holds(self) -> bool:
        """Whether what others announce is heard here, as far as was proven a moment ago. Else everybody polls."""
        return time.monotonic() < self._held_until and self.thread.is_alive()

    def hear(self, listener: Listener) -> None:
        """Call this with what others announce, in the exchange's thread: it must be quick, and wait for nothing."""
        self._listeners.append(listener)

    def listen(self) -> None:
        """This process serves from now on, and wants to hear of others."""
        if self._make_channel is not None and not self._listening:
            self._listening = True
            self.thread.start()
            self._ring()

    def committed(self, task: Task, events: Sequence[Event]) -> None:
        """This process changed a task. Called in the thread that did."""
        if self._make_channel is None or not events:
            return
        waits, frees, pause = self._waits(task), self._frees(task), due_after(task)
        deliveries = self._leaves_deliveries()
        with self._lock:
            silent = not self._pending
            self._pending.add(task.request_id, task.seq, waits=waits or pause == 0.0)
            if frees:
                self._pending.add_work()
            if pause:
                self._pending.add_work(time.monotonic() + pause)
            if deliveries:
                self._pending.add_deliveries()
            self._told.clear()
        self.thread.start()
        if silent:
            self._ring()

    def close(self) -> None:
        """Announce what is left, and have the thread end; the next change begins another."""
        if self.thread.is_alive() and not self._away:
            self._told.wait(LAST_WORDS_SECONDS)
        self._listening = False
        self.thread.close(wake=self._ring, timeout=LAST_WORDS_SECONDS)

    def examine(self) -> float | str | None:
        """Try it on a connection of its own: in how many seconds an announcement comes back, or why none does.

        None where there are none.
        """
        if self._make_channel is None:
            return None
        channel = self._make_channel()
        try:
            channel.connect()
            deaf = channel.listen()
            if deaf is not None:
                return deaf
            sent, proof = time.monotonic(), secrets.token_hex(6)
            channel.prove(Message(self._sender, Announcement(process=processes.me()), proof).encode())
            with selectors.DefaultSelector() as selector:
                selector.register(channel.fileno(), selectors.EVENT_READ)
                left = ANSWER_SECONDS
                while left > 0:
                    if any(found.proof == proof for found in map(Message.decode, channel.received()) if found):
                        return time.monotonic() - sent
                    left = sent + ANSWER_SECONDS - time.monotonic()
                    selector.select(max(0.0, left))
            return f"an announcement did not come back within {ANSWER_SECONDS:g} s"
        except ChannelLost as error:
            return str(error)
        finally:
            channel.close()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        bell = self._bell
        if bell is not None:
            with suppress(OSError):  # full: it rings already; closed: the thread looks before it waits again
                bell[1].send(b"\0")

    def _serve(self, closed: threading.Event) -> None:
        assert self._make_channel is not None
        pause = FIRST_PAUSE_SECONDS
        self._bell = bell = socket.socketpair()
        try:
            for end in bell:
                end.setblocking(False)
            while not closed.is_set():
                session = _Session(self._make_channel(), bell[0])
                try:
                    session.channel.connect()
                    self._away = False
                    self._outage.over("announcements between processes go on")
                    self._attend(session, closed)
                    return
                except ChannelLost as error:
                    self._away = True
                    if session.proven:
                        pause = FIRST_PAUSE_SECONDS
                    self._outage.note("announcements between processes are lost, they poll: %s", error)
                finally:
                    self._hold_no_more()
                    session.channel.close()
                closed.wait(pause)
                pause = min(MAX_PAUSE_SECONDS, pause * 2)
        finally:
            self._bell = None
            for end in bell:
                end.close()

    def _hold_no_more(self) -> None:
        held, self._held_until = self._held_until, float("-inf")
        if held > float("-inf"):
            self._tell(Announcement(everything=True))

    def _attend(self, session: _Session, closed: threading.Event) -> None:
        """Send and hear, until the thread has to end. :raises ChannelLost: the connection is."""
        while True:
            now = time.monotonic()
            if self._listening and now >= session.listen_at:
                self._begin_to_listen(session)
            if time.monotonic() >= session.next_message or closed.is_set():
                self._send(session)
            if session.listening:
                self._hear(session, session.channel.received())  # first: this thread may have slept
                self._try_whether_heard(session)
                self._hear(session, session.channel.received())  # last: some comes with the answer to what was sent
            if session.work and time.monotonic() >= session.next_work:
                session.work, session.next_work = False, time.monotonic() + WORK_SECONDS
                self._tell(Announcement(work=True))
            if closed.is_set():
                return
            session.wait(session.left(waiting=not self._told.is_set(), listening=self._listening))

    def _begin_to_listen(self, session: _Session) -> None:
        session.listen_at = float("inf")
        deaf = session.channel.listen()
        if deaf is None:
            session.listening, session.prove_at = True, time.monotonic()
        else:
            session.listen_at = time.monotonic() + DEAF_SECONDS
            self._deaf.note("announcements of other processes cannot be heard: %s", deaf)

    def _send(self, session: _Session) -> None:
        if not self._unsent:
            with self._lock:
                if self._pending:
                    self._unsent = self._pending.take(sender=self._sender, process=processes.me(), now=time.monotonic())
        while self._unsent:
            session.channel.publish(self._unsent[0])  # where this fails it is sent over the next connection
            self._unsent.pop(0)
            session.next_message = time.monotonic() + SEND_SECONDS
        with self._lock:
            if not self._pending:
                self._told.set()

    def _try_whether_heard(self, session: _Session) -> None:
        now = time.monotonic()
        if session.expected is not None:
            if now > session.prove_at:
                raise ChannelLost(f"an announcement did not come back within {ANSWER_SECONDS:g} s")
        elif now >= session.prove_at:
            session.expected, session.prove_at = secrets.token_hex(6), now + ANSWER_SECONDS
            said = Announcement(process=processes.me())
            session.channel.prove(Message(self._sender, said, session.expected).encode())

    def _hear(self, session: _Session, texts: Sequence[str]) -> None:
        for text in texts:
            message = Message.decode(text)
            if message is None:
                self._outage.note("an announcement that this version does not know is passed over: %s", text[:100])
            elif message.sender != self._sender:
                session.work = session.work or message.announcement.work  # told of in a moment, with that of others
                self._tell(replace(message.announcement, work=False))
            elif message.proof is not None and message.proof == session.expected:
                self._proven(session)

    def _proven(self, session: _Session) -> None:
        now = time.monotonic()
        session.expected, session.prove_at = None, now + PROOF_SECONDS
        held, self._held_until = self.holds(), session.prove_at + ANSWER_SECONDS
        if not held:  # what was committed before is not announced any more
            self._tell(Announcement(everything=True))
        session.proven = True

    def _tell(self, said: Announcement) -> None:
        for listener in self._listeners:
            with Contained("a listener of announcements failed"):
                listener(said)


def due_after(task: Task) -> float | None:
    """In how many seconds of its last change a task that pauses between two attempts may begin; None if it does not.

    Both times are the store's, so that no clock is compared with another.
    """
    return None if task.retry_at is None else max(0.0, (task.retry_at - task.updated_at).total_seconds())


class _Session:
    """One connection, and when what is due on it. Used by the exchange's thread alone."""

    def __init__(self, channel: Channel, bell: socket.socket) -> None:
        self.channel = channel
        self.listening = False
        self.proven = False
        # By time.monotonic, each.
        self.listen_at = float("-inf")
        self.prove_at = float("inf")  # while one is expected: until when
        self.next_message = self.next_work = float("-inf")
        self.expected: str | None = None  # the proof that is under way
        self.work = False  # whether work was announced, and nobody was told yet
        self._bell = bell

    def left(self, *, waiting: bool, listening: bool) -> float | None:
        """Seconds until something is due; None for as long as nothing comes.

        :param waiting: whether there is something to send. :param listening: whether it is to listen.
        """
        times = []
        if waiting:
            times.append(self.next_message)
        if self.listening:
            times.append(self.prove_at)
        elif listening:
            times.append(self.listen_at)
        if self.work:
            times.append(self.next_work)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def wait(self, seconds: float | None) -> None:
        """Wait until something comes, or the bell rings."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            if self.listening:
                selector.register(self.channel.fileno(), selectors.EVENT_READ)
            selector.select(seconds)
        with suppress(OSError):  # nothing in it
            while self._bell.recv(1024):
                pass
