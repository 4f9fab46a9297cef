"""What the name of a TPU says of its cores, hosts and memory."""

import pytest

from tpuest.planned_tpu import parse_tpu


@pytest.mark.parametrize(
    ("text", "name", "num_cores", "num_hosts"),
    [
        ("v5e", "v5e:1x1", 1, 1),
        ("v5e:2x2", "v5e:2x2", 4, 1),
        ("v5e:4x2", "v5e:4x2", 8, 1),
        ("v5litepod-8", "v5e:2x4", 8, 1),
        ("V5E-16", "v5e:4x4", 16, 4),
        ("v6e", "v6e:1x1", 1, 1),
        ("v4", "v4:1x1x1", 2, 1),
        ("v4-8", "v4:2x2x1", 8, 1),
        ("v5p-8", "v5p:2x2x1", 4, 1),
        ("v3-8", "v3:2x2", 8, 1),
        ("v3:2x4", "v3:2x4", 16, 2),
        ("v2-32", "v2:4x4", 32, 4),
    ],
)
def test_a_tpu_is_known_by_kind_slice_or_accelerator_type(text, name, num_cores, num_hosts):
    tpu = parse_tpu(text)
    assert (tpu.name, tpu.num_cores, tpu.num_hosts) == (name, num_cores, num_hosts)


@pytest.mark.parametrize(
    "text", ["", "v9", "v5e:", "v5e:2", "v5e:2x2x2", "v5e:3x5", "v5e-5", "v4:2x2", "v5e:0x1"]
)
def test_another_name_is_refused_with_those_there_are(text):
    with pytest.raises(ValueError, match=r"There is no TPU .*v5e:2x4"):
        parse_tpu(text)
