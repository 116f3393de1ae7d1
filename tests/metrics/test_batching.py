"""Batches are fixed on the CPU and halved when CUDA's memory runs out; no item is lost or done twice."""

import numpy as np
import pytest
import torch

from vpbench.metrics.batching import batch_size, in_batches


def test_items_come_back_in_order_in_fixed_batches():
    seen = []

    def call(part):
        seen.append((part.start, part.stop))
        return np.arange(part.start, part.stop)

    np.testing.assert_array_equal(in_batches(call, 10, 4), np.arange(10))
    assert seen == [(0, 4), (4, 8), (8, 10)]


def test_the_batch_is_halved_when_memory_runs_out_and_the_work_goes_on(caplog):
    seen = []

    def call(part):
        if part.stop - part.start > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        seen.append((part.start, part.stop))
        return np.arange(part.start, part.stop)

    np.testing.assert_array_equal(in_batches(call, 9, 8), np.arange(9))
    assert seen == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    assert "going on with 2" in caplog.text


def test_one_item_that_does_not_fit_is_an_error():
    def call(part):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        in_batches(call, 3, 4)


def test_the_cpu_batch_is_fixed_and_the_cuda_batch_follows_free_memory(monkeypatch):
    assert batch_size("cpu", 4, 1) == 4
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert batch_size("cuda", 4, 100) == 5
    assert batch_size("cuda:1", 4, 10_000) == 1
    assert batch_size("cuda", 4, 1) == 64
