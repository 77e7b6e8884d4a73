from pathlib import Path

from autoseg.splits import given_splits, make_splits


def test_no_patient_is_in_both_parts_of_a_fold() -> None:
    patients = {f"scan_{i}": f"patient_{i // 3}" for i in range(30)}
    splits = make_splits(patients)
    assert len(splits.folds) == 5
    for fold in splits.folds:
        assert not {patients[c] for c in fold.train} & {patients[c] for c in fold.validation}
    held_out = [case for fold in splits.folds for case in fold.validation]
    assert sorted(held_out) == sorted(patients)


def test_fewer_patients_than_five_give_as_many_folds() -> None:
    assert len(make_splits({"a": "a", "b": "b", "c": "c"}).folds) == 3
    assert make_splits({"a": "x", "b": "x"}).folds == ()


def test_folds_are_those_of_nnunet(hippocampus: Path) -> None:
    cases = [path.name.removesuffix(".nii.gz") for path in (hippocampus / "labelsTr").iterdir()]
    model = hippocampus.parent / "nnunet_model"
    held_out = {path.name.removesuffix(".nii.gz") for path in model.rglob("validation/*.nii.gz")}
    assert len(held_out) == 40
    assert set(make_splits({case: case for case in cases}).folds[0].validation) == held_out


def test_patients_on_both_sides_of_a_fold_are_found() -> None:
    splits = given_splits(["a", "b", "c"], [(("a", "b"), ("c",))])
    assert splits.mixed_patients({"a": "p", "b": "q", "c": "r"}) == set()
    assert splits.mixed_patients({"a": "p", "b": "q", "c": "q"}) == {"q"}
