"""Who replays the scenarios of a sweep, or the paths of a stress: this process, processes of this machine, or a Dask
cluster. The outcome is the same.

An executor takes tasks and yields each one's outcome when it is there, in any order. Few are in flight at a time, so
that outcomes do not pile up while they are stored.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any, Protocol

from backtest.errors import UserError
from backtest.sweep.worker import Done, Job, material_in, unpacked

_DIED = "the process that replayed it died (killed, or out of memory)"


class Executor(Protocol):
    """A way of having tasks done."""

    def outcomes(self, tasks: Sequence[Job], folder: str) -> Iterator[Done]:
        """The outcome of every task, in any order. ``folder`` holds the material (``worker.pack``)."""


class Serial:
    """This process, one after the other."""

    def outcomes(self, tasks: Sequence[Job], folder: str) -> Iterator[Done]:
        for task in tasks:
            yield task.perform(folder)


class Processes:
    """Processes of this machine. One that dies takes nothing with it: what was in flight is tried again, each task by
    itself.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def outcomes(self, tasks: Sequence[Job], folder: str) -> Iterator[Done]:
        waiting = list(tasks)[::-1]
        while waiting:
            lost: list[Job] = []
            yield from self._until_broken(waiting, folder, lost)
            for task in lost:
                alone: list[Job] = []
                yield from Processes(1)._until_broken([task], folder, alone)
                if alone:
                    yield Done(task.run_id, None, _DIED)

    def _until_broken(self, waiting: list[Job], folder: str, lost: list[Job]) -> Iterator[Done]:
        """Outcomes of tasks taken from the end of ``waiting``, until none is left or a process dies; then ``lost`` gets
        those in flight.
        """
        # Not forked: threads of Arrow and of the progress display would be forked in the middle of what they do.
        context = multiprocessing.get_context("spawn")
        running: dict[Future[Done], Job] = {}
        pool = ProcessPoolExecutor(self._workers, mp_context=context, initializer=begin_worker, initargs=(folder,))
        try:
            while waiting or running:
                while waiting and len(running) < 2 * self._workers:
                    running[pool.submit(_performed, waiting[-1], folder)] = waiting[-1]
                    waiting.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done = future.result()
                    del running[future]
                    yield done
        except BrokenProcessPool:
            for future, task in running.items():
                if future.done() and future.exception() is None:
                    yield future.result()
                else:
                    lost.append(task)
        finally:
            pool.shutdown(cancel_futures=True)


def _performed(task: Job, folder: str) -> Done:
    return task.perform(folder)


def begin_worker(folder: str) -> None:
    """First thing in a new process: leave Ctrl-C to the parent, end with it, and open the material."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait_for([parent.sentinel]), os._exit(1)), daemon=True).start()
    material_in(folder)


class Dask:
    """A Dask cluster. The material goes to each worker once, workers that join later included; tasks are small.

    Args:
        scheduler: its address, ``tcp://...``.
    """

    def __init__(self, scheduler: str) -> None:
        try:
            import distributed as library
        except ModuleNotFoundError:
            raise UserError(
                "a cluster needs the package distributed", "install it: pip install 'liquidation-backtest[cluster]'"
            ) from None
        distributed: Any = library  # partly without types
        try:
            self.client: Any = distributed.Client(scheduler, timeout="10s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no scheduler at {scheduler}: {str(error).splitlines()[0]}",
                "start one: dask scheduler; and workers: dask worker",
            ) from None

    def outcomes(self, tasks: Sequence[Job], folder: str) -> Iterator[Done]:
        import distributed as library

        distributed: Any = library
        plugin = _material_plugin({path.name: path.read_bytes() for path in Path(folder).iterdir()})
        try:
            self.client.register_plugin(plugin, name=plugin.name)
        except Exception as error:  # whatever a worker says
            what = f"the workers cannot take the material: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise UserError(
                what, "install the same version of backtest, with its extra [cluster], on every worker"
            ) from None
        try:
            workers = self.client.nthreads().values()
            ahead = iter(tasks)
            by_key: dict[str, Job] = {}

            def submit(count: int) -> list[Any]:
                futures = []
                for task in itertools.islice(ahead, count):
                    future = self.client.submit(_perform_held, task, pure=False)
                    by_key[future.key] = task
                    futures.append(future)
                return futures

            running = distributed.as_completed(submit(2 * max(1, sum(workers))), loop=self.client.loop)
            for future in running:
                task = by_key.pop(future.key)
                # An outcome that a dying worker takes with it is replayed by another; a scenario that several workers
                # died of is an error.
                if future.status == "finished":
                    done = future.result()
                elif future.status == "error":
                    done = Done(task.run_id, None, f"the cluster gave no result: {_reason(future)}")
                else:
                    raise UserError(
                        "the scheduler is gone", "start it again and run the same: what is stored is not replayed"
                    )
                running.update(submit(1))
                yield done
        finally:
            with suppress(OSError, TimeoutError, ValueError):  # the scheduler is gone
                self.client.unregister_worker_plugin(plugin.name)

    def close(self) -> None:
        """Leave the cluster."""
        self.client.close()


def _reason(future: Any) -> str:
    return " ".join(str(future.exception()).split())[:300]


_held = ""


def _perform_held(task: Job) -> Done:
    return task.perform(_held)


def _material_plugin(files: dict[str, bytes]) -> Any:
    """What gives a worker the material when it joins, and takes it away."""
    from distributed import WorkerPlugin

    class _Plugin(WorkerPlugin):
        name = "backtest-sweep-material"

        def setup(self, worker: Any) -> None:
            from backtest.sweep import executors

            executors._held = unpacked(files, worker.local_directory)  # which Dask clears when the worker is killed
            material_in(executors._held)

        def teardown(self, worker: Any) -> None:
            from backtest.sweep import executors

            shutil.rmtree(executors._held, ignore_errors=True)

    return _Plugin()
