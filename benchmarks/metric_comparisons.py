"""What metrics of autoseg are compared with, for metrics_parity.py."""

from dataclasses import dataclass

from autoseg.evaluation.surfaces import SurfaceKind

TOLERANCE_MM = 1.5
LIBRARIES = {  # by which of the interpreters runs them
    "surface-distance": 0,
    "surface-distance, one search": 0,
    "monai": 0,
    "medpy": 0,
    "SimpleITK": 0,
    "torchmetrics": 0,
    "pycocotools": 0,
    "panoptica": 1,
    "BraTS-2023-Metrics": 2,
}

POOLED = "one percentile of both directions together; ours is the larger of two"
AT_HALF = "an IoU of exactly 0.5 matches as well; ours must be above, as in the paper"
MEANS = "mean of the two directions' means (MASD); ours is over all elements together"
NO_LOWEST = "its curve has no point at the lowest confidence that there is; ours has"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of ours and what another library calls it; `differs` says how, if it is another."""

    metric: str
    surfaces: SurfaceKind
    library: str
    function: str
    differs: str = ""


COMPARISONS = (
    Comparison("hd_mm", "area", "surface-distance", "compute_robust_hausdorff(100)"),
    Comparison("hd95_mm", "area", "surface-distance", "compute_robust_hausdorff(95)"),
    Comparison("asd_mm", "area", "surface-distance", "compute_average_surface_distance"),
    Comparison("nsd", "area", "surface-distance", "compute_surface_dice_at_tolerance"),
    Comparison("nsd", "area", "monai", "compute_surface_dice(use_subvoxels=True)"),
    Comparison("hd_mm", "voxel", "monai", "compute_hausdorff_distance"),
    Comparison("hd95_mm", "voxel", "monai", "compute_hausdorff_distance(percentile=95)"),
    Comparison("asd_mm", "voxel", "monai", "compute_average_surface_distance(symmetric=True)"),
    Comparison("nsd", "voxel", "monai", "compute_surface_dice"),
    Comparison("hd_mm", "voxel", "medpy", "hd"),
    Comparison("hd95_mm", "voxel", "medpy", "hd95", POOLED),
    Comparison("asd_mm", "voxel", "medpy", "assd"),
    Comparison("hd_mm", "voxel", "SimpleITK", "LabelContour, max"),
    Comparison("hd95_mm", "voxel", "SimpleITK", "LabelContour, percentile"),
    Comparison("asd_mm", "voxel", "SimpleITK", "LabelContour, mean"),
    Comparison("nsd", "voxel", "SimpleITK", "LabelContour, share"),
    Comparison(
        "hd_mm",
        "voxel",
        "SimpleITK",
        "HausdorffDistanceImageFilter",
        "between whole masks, voxels in both being 0 away; ours is between their surfaces",
    ),
    Comparison(
        "hd_mm",
        "voxel",
        "torchmetrics",
        "hausdorff_distance",
        "right for square pictures only, as rows are taken to be as long as the picture is high",
    ),
    Comparison("hd_mm", "voxel", "panoptica", "hausdorff_distance"),
    Comparison("hd95_mm", "voxel", "panoptica", "hausdorff_distance95", POOLED),
    Comparison("asd_mm", "voxel", "panoptica", "average_symmetric_surface_distance", MEANS),
    Comparison(
        "nsd",
        "voxel",
        "panoptica",
        "normalized_surface_dice",
        "by its own formula, which its documentation says is not the published one",
    ),
    Comparison("cldice", "voxel", "panoptica", "centerline_dice"),
    Comparison("dice", "voxel", "surface-distance", "compute_dice_coefficient"),
    Comparison("dice", "voxel", "monai", "compute_dice"),
    Comparison("iou", "voxel", "monai", "compute_iou"),
    Comparison("dice", "voxel", "medpy", "dc"),
    Comparison("iou", "voxel", "medpy", "jc"),
    Comparison("precision", "voxel", "medpy", "precision"),
    Comparison("sensitivity", "voxel", "medpy", "recall"),
    Comparison("dice", "voxel", "SimpleITK", "GetDiceCoefficient"),
    Comparison("iou", "voxel", "SimpleITK", "GetJaccardCoefficient"),
    Comparison("dice", "voxel", "torchmetrics", "dice_score"),
    Comparison("dice", "voxel", "panoptica", "volumetric_dice"),
    Comparison("iou", "voxel", "panoptica", "iou"),
    # Objects: those that nuclei have by number, components of the others.
    Comparison("pq", "voxel", "torchmetrics", "panoptic_quality"),
    Comparison("pq", "voxel", "panoptica", "Panoptica_Evaluator, pq", AT_HALF),
    Comparison("sq", "voxel", "panoptica", "Panoptica_Evaluator, sq", AT_HALF),
    Comparison("rq", "voxel", "panoptica", "Panoptica_Evaluator, rq", AT_HALF),
    Comparison("map", "voxel", "pycocotools", "COCOeval, AP"),
    Comparison("ap50", "voxel", "pycocotools", "COCOeval, AP50"),
    Comparison("froc", "voxel", "monai", "compute_froc_score, a point more"),
    Comparison("froc", "voxel", "monai", "compute_froc_score", NO_LOWEST),
    Comparison("brats_dice", "area", "BraTS-2023-Metrics", "LesionWise_Score_Dice"),
    Comparison("brats_hd95_mm", "area", "BraTS-2023-Metrics", "LesionWise_Score_HD95"),
    # Probabilities, in the box of either mask.
    Comparison("ece", "voxel", "torchmetrics", "binary_calibration_error(n_bins=15)"),
    Comparison("brier", "voxel", "torchmetrics", "mean_squared_error"),
)
