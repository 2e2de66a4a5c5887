"""Batches made while the networks work on the ones before: by a thread, or by other processes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Key = TypeVar("Key")
Batch = TypeVar("Batch")
Example = TypeVar("Example")


def prefetched(make: Callable[[Key], Batch], keys: Iterable[Key]) -> Iterator[Batch]:
    """`make` of each key, in order; a thread makes the next batch while the caller uses this one."""
    with ThreadPoolExecutor(1) as executor:
        pending: Future[Batch] | None = None
        for key in keys:
            ready, pending = pending, executor.submit(make, key)
            if ready is not None:
                yield ready.result()
        if pending is not None:
            yield pending.result()


def loaded_by_processes(
    dataset: Dataset[Example],
    batch: int,
    collate: Callable[[list[Example]], tuple[Tensor, ...]],
    processes: int,
    *,
    start: int = 0,
    length: int,
    prefetch: int = 2,
) -> Iterator[tuple[Tensor, ...]]:
    """
    The examples of `dataset` from number `start` up to `length`, in order, `batch` at a time.

    `processes` other processes make them, each `prefetch` batches ahead; with 0 this process does.
    """
    if processes:
        # A process forked from a parent in which OpenCV's own threads run would wait for them for ever.
        cv2.setNumThreads(1)
    loader: DataLoader[Example] = DataLoader(
        dataset,
        batch,
        sampler=range(start, length),
        num_workers=processes,
        collate_fn=collate,
        worker_init_fn=_limit_opencv_threads,
        prefetch_factor=prefetch if processes else None,
    )
    yield from iter(loader)


def _limit_opencv_threads(_: int) -> None:
    """One OpenCV thread for each process."""
    cv2.setNumThreads(1)
