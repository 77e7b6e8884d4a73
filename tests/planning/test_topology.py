from hypothesis import given
from hypothesis import strategies as st

from autoseg.planning.topology import PoolingRule, find_topology

PUBLISHED = PoolingRule(min_feature_edge_vox=4, lone_axis_edges=3, max_spacing_ratio=2)


def test_an_isotropic_cube_is_pooled_alike_on_all_axes() -> None:
    topology, patch = find_topology((1, 1, 1), (128, 128, 128), PUBLISHED)
    assert topology.strides == ((1, 1, 1), *[(2, 2, 2)] * 5)
    assert topology.kernel_sizes == ((3, 3, 3),) * 6
    assert patch == (128, 128, 128)


def test_anisotropic_scans_keep_thin_slices() -> None:
    topology, patch = find_topology((5, 1, 1), (20, 256, 224), PUBLISHED)
    assert topology.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert topology.kernel_sizes[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert patch == (20, 256, 224)


def test_a_patch_is_padded_to_what_the_strides_need() -> None:
    topology, patch = find_topology((1, 1, 1), (36, 50, 35), PUBLISHED)
    assert topology.divisor == (8, 8, 8)
    assert patch == (40, 56, 40)


spacings = st.tuples(*[st.floats(0.1, 10)] * 3)
sizes = st.tuples(*[st.integers(4, 400)] * 3)


@given(spacing_mm=spacings, size=sizes)
def test_any_patch_divides_by_its_strides(
    spacing_mm: tuple[float, ...], size: tuple[int, ...]
) -> None:
    topology, patch = find_topology(spacing_mm, size, PUBLISHED)
    for edge, padded, divisor in zip(size, patch, topology.divisor, strict=True):
        assert padded % divisor == 0
        assert 0 <= padded - edge < divisor
    assert len(topology.strides) == len(topology.kernel_sizes)
    assert topology.kernel_sizes[-1] == (3, 3, 3)
