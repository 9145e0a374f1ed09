"""The loop of ranks 1..N: runners on one side, the master on the other.

Owns the order of one turn: messages, deadlines, answers, a sign of life, sleep.
Touches: the clock, and everything else through `transport`, `supervise` and `store.log_sink`.
Never:   runs user code; forks; touches a file in this thread.

How it waits: with a slot that starves, it polls for some tens of microseconds and then sleeps up to
2 ms; with all slots busy it sleeps up to 50 ms. A runner's answer wakes it at once in either case.
"""

import os
import time
from typing import assert_never

from mpirun_infer.core.events import Buffer
from mpirun_infer.core.messages import (
    Beat,
    Dispatch,
    Farewell,
    FromWorker,
    Hello,
    Release,
    Released,
    Revoke,
    Welcome,
    decode_from_master,
    encode,
    read_plan,
)
from mpirun_infer.model import NodeFacts
from mpirun_infer.roles.desk import RankDesk
from mpirun_infer.store.log_sink import LogSink
from mpirun_infer.store.run_folder import RunFolder
from mpirun_infer.supervise.poller import READ, Poller
from mpirun_infer.supervise.spawner import Exited, Spawner, SpawnFailed, Started, ZygoteLostError
from mpirun_infer.supervise.supervisor import State, Supervisor
from mpirun_infer.supervise.sweep import sweep_earlier_epochs
from mpirun_infer.transport.base import Backoff, PeerLost, Transport

MASTER = 0
STARVING_SLEEP_S = 0.002
BUSY_SLEEP_S = 0.05
UNSENT_BYTES_MAX = 256 << 20
"""With more than this on its way to the master, the runners get nothing new."""

PROCESSES_MAX = 1_000_000
LOGS_TIMEOUT_S = 5.0
FAREWELL_TIMEOUT_S = 24 * 3600.0
"""Rank 0 may have to copy the rows of several launches before it is through."""


class Worker:
    """One worker rank from Hello to Released."""

    def __init__(self, transport: Transport, spawner: Spawner, facts: NodeFacts) -> None:
        self._transport = transport
        self._spawner = spawner
        self._facts = facts
        self._poller = Poller()
        self._poller.register(spawner.fileno(), READ, self._on_zygote)
        self._desk: RankDesk | None = None
        self._sink: LogSink | None = None
        self._supervisors: dict[int, Supervisor] = {}
        self._leaving: list[Supervisor] = []
        self._processes_used: dict[int, int] = {}
        self._welcome: Welcome | None = None
        self._held_back: list[Dispatch] = []
        self._released = False
        self._farewell = False
        self._next_beat = 0.0
        self._starving = Backoff(max_s=STARVING_SLEEP_S)
        self._busy = Backoff(spins=0, max_s=BUSY_SLEEP_S)

    def run(self) -> None:
        """Until the master lets this rank go.

        Raises:
            ZygoteLostError: no runner can be started any more. The end of this rank ends the job,
                and the launcher starts all ranks anew, from the journal.
        """
        self._send(Hello(facts=self._facts))
        try:
            while not (self._released and self._all_closed()):
                if not self._turn(time.monotonic()):
                    self._sleep()
        except ZygoteLostError as error:
            self._lose_runners(error)
            if not self._released:
                self._close_logs()
                raise
        self._leave()

    def wait_for_farewell(self) -> None:
        """Asleep while rank 0 publishes: in MPI_Finalize this rank would spin."""
        backoff = Backoff(max_s=BUSY_SLEEP_S)
        deadline = time.monotonic() + FAREWELL_TIMEOUT_S
        while not self._farewell and time.monotonic() < deadline:
            for arrival in self._transport.poll():
                if not isinstance(arrival, PeerLost):
                    self._farewell = isinstance(decode_from_master(arrival.header), Farewell)
            time.sleep(backoff.next_s())

    # ------------------------------------------------------------------ one turn

    def _turn(self, now: float) -> bool:
        """Do what there is to do; False when that was nothing."""
        arrivals = self._transport.poll()
        for arrival in arrivals:
            if isinstance(arrival, PeerLost):
                continue  # the launcher ends a job whose master is gone
            self._hear(arrival.header, now)
        if self._held_back and self._transport.unsent_bytes() <= UNSENT_BYTES_MAX:
            for message in self._held_back:
                self._supervisors[message.worker].submit(message.tries)
            self._held_back.clear()
        sent = False
        for supervisor in (*self._supervisors.values(), *self._leaving):
            supervisor.check(now)
            for answer, body in supervisor.take():
                if supervisor not in self._leaving:
                    self._send(answer, body)
                    sent = True
        self._leaving = [old for old in self._leaving if old.state is not State.CLOSED]
        if self._welcome is not None and now >= self._next_beat:
            self._next_beat = now + self._welcome.beat_s
            running = (one.running(now) for one in self._supervisors.values())
            self._send(Beat(running=tuple(one for one in running if one is not None)))
        return bool(arrivals) or sent

    def _sleep(self) -> None:
        """Wait for a runner, but not longer than the master's next message may wait."""
        slots = self._supervisors.values()
        if self._transport.unsent_bytes():
            timeout_s = 0.001
        elif not slots or any(s.idle and s.state is State.READY for s in slots):
            timeout_s = self._starving.next_s()
        elif any(slot.wants_work for slot in slots):
            timeout_s = self._busy.next_s()
        else:
            timeout_s = BUSY_SLEEP_S
        if self._poller.wait(timeout_s):
            self._starving.reset()
            self._busy.reset()

    # ------------------------------------------------------------------ the master speaks

    def _hear(self, header: Buffer, now: float) -> None:
        self._starving.reset()
        self._busy.reset()
        message = decode_from_master(header)
        match message:
            case Welcome():
                self._join(message, now)
            case Dispatch():
                self._dispatch(message)
            case Revoke():
                if self._is_present(message.worker, message.incarnation):
                    self._supervisors[message.worker].revoke()
            case Release():
                self._let_go(now, at_once=message.at_once)
            case Farewell():  # to a rank that was lost when the others were released
                self._farewell = True
                self._let_go(now, at_once=True)
            case _:
                assert_never(message)

    def _let_go(self, now: float, *, at_once: bool) -> None:
        self._released = True
        self._held_back.clear()
        self._spawner.wake()
        for supervisor in self._supervisors.values():
            supervisor.release(now, at_once=at_once)

    def _dispatch(self, message: Dispatch) -> None:
        if not self._is_present(message.worker, message.incarnation):
            return
        if self._held_back or self._transport.unsent_bytes() > UNSENT_BYTES_MAX:
            self._held_back.append(message)
        else:
            self._supervisors[message.worker].submit(message.tries)

    def _is_present(self, worker: int, incarnation: int) -> bool:
        present = self._welcome is not None and self._welcome.incarnation == incarnation
        return present and worker in self._supervisors

    def _join(self, welcome: Welcome, now: float) -> None:
        """Start the runners; a second welcome means that our old work is dropped."""
        plan = read_plan(welcome.plan)
        if self._desk is None:
            folder = RunFolder(plan.output_folder, "rows")
            self._sink = LogSink(root=plan.output_folder)
            self._desk = RankDesk(folder, self._sink, self._facts.node, self._transport.rank)
        self._desk.say(f"joined as incarnation {welcome.incarnation}, pid {os.getpid()}")
        if welcome.first_on_node:
            left_over = sweep_earlier_epochs(plan.run_id)
            if left_over:
                self._desk.say(f"killed what an earlier launch had left here: {left_over}")
        self._held_back.clear()
        for old in self._supervisors.values():
            old.release(now, at_once=True)
            self._leaving.append(old)
        self._supervisors.clear()
        self._welcome = welcome
        self._next_beat = now + welcome.beat_s
        for seat in welcome.seats:
            used = self._processes_used.get(seat.worker, 0)
            first = welcome.first_process + seat.worker + used * welcome.workers_total
            supervisor = Supervisor(
                seat,
                plan,
                welcome.incarnation,
                processes=range(first, first + PROCESSES_MAX, welcome.workers_total),
                spawner=self._spawner,
                poller=self._poller,
                desk=self._desk,
            )
            self._supervisors[seat.worker] = supervisor
            supervisor.start(now)

    # ------------------------------------------------------------------ the zygote speaks

    def _on_zygote(self) -> None:
        for event in self._spawner.poll():
            owner = self._owner(event.token)
            if owner is None or self._desk is None:
                continue
            match event:
                case Started():
                    self._desk.say(f"process {event.token} started, pid {event.pid}")
                case SpawnFailed():
                    owner.spawn_failed(event)
                case Exited():
                    self._desk.say(
                        f"process {event.token} ended, wait status {event.status}, "
                        f"{len(event.killed)} left-over processes killed"
                    )
                    owner.exited(event)
            self._note_processes(owner)

    def _owner(self, token: int) -> Supervisor | None:
        for supervisor in (*self._supervisors.values(), *self._leaving):
            if supervisor.process == token:
                return supervisor
        return None

    def _note_processes(self, supervisor: Supervisor) -> None:
        """Numbers are never used twice, not even by a later incarnation."""
        if self._welcome is not None:
            offset = supervisor.process - self._welcome.first_process - supervisor.seat.worker
            used = offset // self._welcome.workers_total + 1
            worker = supervisor.seat.worker
            self._processes_used[worker] = max(used, self._processes_used.get(worker, 0))

    # ------------------------------------------------------------------ the end

    def _all_closed(self) -> bool:
        slots = (*self._supervisors.values(), *self._leaving)
        return all(supervisor.state is State.CLOSED for supervisor in slots)

    def _lose_runners(self, error: ZygoteLostError) -> None:
        """They died with the zygote."""
        if self._desk is not None:
            self._desk.say(f"rank {self._transport.rank}: {error}")
        for supervisor in (*self._supervisors.values(), *self._leaving):
            supervisor.abandon()

    def _close_logs(self) -> None:
        self._poller.close()
        if self._sink is not None:
            self._sink.close(LOGS_TIMEOUT_S)

    def _leave(self) -> None:
        self._close_logs()
        self._send(Released(processes=sum(self._processes_used.values())))
        self._transport.flush(LOGS_TIMEOUT_S)

    def _send(self, message: FromWorker, body: Buffer = b"") -> None:
        self._transport.send(MASTER, encode(message), body)
