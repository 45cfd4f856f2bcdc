"""Generated jobs: always the same, shaped and loaded like TPC-H's."""

import numpy as np

from netllm_gym.data.cjs import synthetic
from netllm_gym.data.cjs.named import workload
from netllm_gym.data.cjs.workload import FIRST, FRESH, LEVELS, REST


def means_ms(load):
    """Return the mean of each list, (M, 3, 8); nan where it is empty."""
    totals = np.concatenate([[0.0], np.cumsum(load.durations_ms)])
    begin, length = load.list_start, load.list_length
    with np.errstate(invalid="ignore"):
        return (totals[begin + length] - totals[begin]) / length


def per_job(load, values):
    return np.add.reduceat(values, load.stage_offset[:-1])


def test_it_is_always_the_same():
    np.random.seed(1)  # noqa: NPY002 global state must not matter
    one = synthetic.generate.__wrapped__()
    np.random.seed(2)  # noqa: NPY002
    assert synthetic.generate.__wrapped__().content == one.content
    assert workload("synthetic").content == one.content


def test_jobs_have_the_shape_of_tpch():
    load = workload("synthetic")
    assert (load.choices, load.num_templates) == ((22, 7), 154)
    stages = np.diff(load.stage_offset)
    assert (stages.min(), stages.max()) == (2, 18)
    assert 8.5 < stages.mean() < 9.8  # TPC-H: 9.18
    assert (load.edges[:, 0] < load.edges[:, 1]).all()
    sinks = per_job(load, (np.diff(load.child_offset) == 0).astype(int))
    sources = per_job(load, (np.diff(load.parent_offset) == 0).astype(int))
    assert set(sinks) == {1}
    assert (sources.min(), sources.max()) == (1, 8)
    tasks = per_job(load, load.num_tasks)
    assert 13 <= tasks.min() < 20
    assert 3500 < tasks.max() < 3800
    assert 1100 < tasks.mean() < 1200  # 1155
    # The sizes of a query share its graph, and a larger size is never less work.
    for query in range(22):
        graphs = [
            load.edges[load.edge_offset[each] : load.edge_offset[each + 1]].tolist()
            for each in range(7 * query, 7 * query + 7)
        ]
        assert all(graph == graphs[0] for graph in graphs)


def test_durations_have_the_order_of_the_waves():
    load = workload("synthetic")
    assert load.durations_ms.min() >= 3
    assert load.durations_ms.max() <= 40_000
    assert (load.durations_ms % 1 == 0).all()
    means = means_ms(load)
    fresh, first, rest = (np.nanmedian(means[:, wave]) for wave in (FRESH, FIRST, REST))
    assert fresh > first > rest
    at_50 = LEVELS.index(50)
    assert 600 < np.nanmedian(means[:, FRESH, at_50] - means[:, FIRST, at_50]) < 1200  # 903
    assert 150 < np.nanmedian(means[:, FIRST, at_50] - means[:, REST, at_50]) < 300  # 202
    # More executors make tasks slower, mildly: 5 against 50.
    ratio = np.nanmedian(means[:, REST, 0] / means[:, REST, at_50])
    assert 0.6 < ratio < 0.95


def test_every_fall_back_is_needed_somewhere():
    empty = workload("synthetic").list_length == 0
    for wave, low, high in ((FRESH, 0.3, 0.8), (FIRST, 0.03, 0.2), (REST, 0.2, 0.5)):
        assert low < empty[:, wave].mean() < high
    assert not (empty[:, FRESH] & empty[:, FIRST]).any()
    assert (empty[:, FIRST] & empty[:, REST]).any()


def test_the_load_is_that_of_tpch():
    load = workload("synthetic")
    upto_50 = LEVELS.index(50) + 1
    least_ms = np.nanmin(means_ms(load)[:, :, :upto_50], axis=(1, 2)) * load.num_tasks
    least_s = per_job(load, least_ms).mean() / 1000
    assert 600 < least_s < 650  # TPC-H: 625 executor-seconds, rho 0.5 at 50 executors and 25 s
    assert 850 < load.work_ms.mean() / 1000 < 1000  # 889
