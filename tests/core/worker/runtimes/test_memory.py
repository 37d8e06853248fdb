"""The peaks of a container's memory."""

from __future__ import annotations

from cts_core.worker.runtimes.memory import Memory, MemoryPeak, larger


def _peak(*samples: Memory, total: int = 0) -> Memory | None:
    peak = MemoryPeak()
    for sample in samples:
        peak.add(sample)
    peak.add_total(total)
    return peak.peak


def test_nothing_is_known_without_a_measure() -> None:
    assert _peak() is None
    assert larger(None, None) is None


def test_total_alone_is_known_from_the_kernels_peak() -> None:
    assert _peak(total=7) == Memory(7, None)
    assert _peak(Memory(5, None)) == Memory(5, None)


def test_peaks_of_samples_are_independent() -> None:
    assert _peak(Memory(50, 40), Memory(90, 10)) == Memory(90, 40)


def test_page_cache_is_no_need() -> None:
    assert _peak(Memory(5, 2), Memory(722, 2), total=722) == Memory(722, 2)


def test_peak_between_two_samples_is_anonymous_but_for_the_pages_of_files() -> None:
    assert _peak(Memory(5, 2), Memory(160, 40), total=222) == Memory(222, 102)


def test_peak_that_no_sample_comes_near_is_taken_for_anonymous() -> None:
    assert _peak(Memory(30, 3), total=222) == Memory(222, 222)


def test_larger_of_two_peaks() -> None:
    assert larger(Memory(50, 40), Memory(90, 10)) == Memory(90, 40)
    assert larger(Memory(50, None), Memory(40, 10)) == Memory(50, 10)
    assert larger(None, Memory(40, 10)) == Memory(40, 10)
