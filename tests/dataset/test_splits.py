from pathlib import Path

from autoseg.dataset.splits import given_splits, make_splits


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


def test_a_rare_class_is_held_out_in_every_fold() -> None:
    patients = {f"case_{i:02d}": f"case_{i:02d}" for i in range(40)}
    plain = make_splits(patients)
    rare = set(plain.folds[0].validation[:6]) | {plain.folds[1].validation[0]}
    presence = {case: {1, 2} if case in rare else {1} for case in patients}
    folds = make_splits(patients, presence).folds
    held_out = [len(rare & set(fold.validation)) for fold in folds]
    assert sorted(held_out) == [1, 1, 1, 2, 2]
    assert {len(fold.validation) for fold in folds} == {8}
    everyone = sorted(case for fold in folds for case in fold.validation)
    assert everyone == sorted(patients)


def test_folds_stay_those_of_nnunet_where_they_are_balanced() -> None:
    patients = {f"case_{i:02d}": f"case_{i:02d}" for i in range(40)}
    everywhere = {case: {1, 2} for case in patients}
    assert make_splits(patients, everywhere) == make_splits(patients)
    # A class of one patient cannot be held out in every fold, so it changes nothing.
    assert make_splits(patients, everywhere | {"case_07": {1, 2, 3}}) == make_splits(patients)
