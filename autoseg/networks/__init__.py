"""Networks: one module for each family, and the table of them.

`family` says what a family brings, `unet_family` is one, `unet` its networks, `blocks` their parts.
So are `fcn_family` with `fcn`; `deeplab_family` with `deeplab` and its encoder `resnet`;
`segformer_family` with `segformer`; `mednext_family` with `mednext`; `mask_queries_family` with
`mask_queries`, its `pixel_decoder`, `deformable` attention and `cells` that queries begin in;
`mask_rcnn_family` with `mask_rcnn`: from its `feature_pyramid` come `region_proposals`, `roi_align`
cuts them out for `region_heads`, `point_rend` refines masks, and `detections` are what queries
would say; `box_geometry` and `suppression` are of boxes alone. `one_stage_family` has `solov2` and
`yolact`, over a `one_stage_body`, which give `candidates` after `candidate_suppression`;
`chosen_rows` are the best of boxes and of candidates. `extension` makes one of another package's
network. `instance_norm` and `quick_convolution` are quick where a CPU trains, which `cpu_training`
knows. `tracing` finds what any network costs, `traced_search` fills memory by it, `unet_cost`
counts it without torch; `published_weights` knows others' weights; `inputs` puts together what
networks see.
"""

from functools import cache

from autoseg.extensions import load_extension
from autoseg.networks.deeplab_family import DEEPLAB
from autoseg.networks.extension import extension_family
from autoseg.networks.family import Family
from autoseg.networks.fcn_family import FCN_FAMILY
from autoseg.networks.mask_queries_family import MASK_QUERIES
from autoseg.networks.mask_rcnn_family import MASK_RCNN
from autoseg.networks.mednext_family import MEDNEXT
from autoseg.networks.one_stage_family import SOLOV2, YOLACT
from autoseg.networks.segformer_family import SEGFORMER
from autoseg.networks.unet_family import PLAIN_UNET, RESIDUAL_UNET

FAMILIES: dict[str, Family] = {
    "plain_unet": PLAIN_UNET,
    "residual_unet": RESIDUAL_UNET,
    "fcn": FCN_FAMILY,
    "deeplabv3plus": DEEPLAB,
    "segformer": SEGFORMER,
    "mednext": MEDNEXT,
    "mask_queries": MASK_QUERIES,
    "mask_rcnn": MASK_RCNN,
    "solov2": SOLOV2,
    "yolact": YOLACT,
}


@cache
def family_of(kind: str) -> Family:
    """The family of a kind of network. Raises AutosegError for one that nobody has installed."""
    if kind in FAMILIES:
        return FAMILIES[kind]
    return extension_family(load_extension("autoseg.networks", kind))
