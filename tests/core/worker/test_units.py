import pytest

from cts_core.worker.units import format_exact_size, format_memory, format_seconds, format_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1250, "1.2 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1 MB"),
        (1_500_000_000, "1.5 GB"),
        (2 * 10**12, "2 TB"),
    ],
)
def test_size_has_at_most_one_decimal(count, text):
    assert format_size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (1_000_000_000, "1 GB"),
        (1_234_567_890, "1.23 GB"),
        (123_456_789, "123 MB"),
    ],
)
def test_memory_has_three_significant_digits(count, text):
    assert format_memory(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999_900_000, "1 GB"), (1_500_000_000_000, "1.5 TB"), (10**15, "1 PB")]
)
def test_memory_is_never_in_scientific_notation(count, text):
    assert format_memory(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(4 * 10**9, "4GB"), (1_500_000_000, "1500MB"), (1000, "1kB"), (1001, 1001), (0, "0GB")],
)
def test_exact_size_is_a_whole_number_of_its_unit(count, text):
    assert format_exact_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations_are_formatted(seconds, text):
    assert format_seconds(seconds) == text
