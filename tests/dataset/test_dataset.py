from pathlib import Path

from autoseg.dataset.dataset import Case, ChannelSource


def test_a_file_of_several_channels_is_listed_once_in_order() -> None:
    colours, depth = Path("colours.png"), Path("depth.png")
    sources = (ChannelSource(depth), ChannelSource(colours, 1), ChannelSource(colours, 0))
    assert Case("a", sources, None, "a").files() == (depth, colours)
