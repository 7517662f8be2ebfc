"""The options of the jets and their files."""

from typing import Annotated, Literal

from pydantic import Field

from phaze_ee.config.sections import OpenFraction, Section

PartOf = Annotated[float, Field(gt=0, le=1)]


class DataOptions(Section):
    """The jets and their files."""

    data_config: str = Field(
        "data_configs/JetClass_full.yaml", description="weaver YAML file: selection, inputs, labels"
    )
    trust_expressions: bool = Field(
        False,
        description="let the expressions of data_config be any Python, not only what docs/SECURITY.md lists; those of "
        "a checkpoint may then be any that data_config has too",
    )
    train_files: list[str] = Field(
        strict=False, min_length=1, description="training files, glob patterns allowed (** is recursive)"
    )
    val_files: list[str] = Field(
        default_factory=list,
        strict=False,
        description="validation files; empty: the rows of train_files that validation_share reserves",
    )
    validation_share: OpenFraction = Field(
        0.2,
        description="share of the rows of each training file, its last ones, that validate and do not train, if "
        "val_files is empty; weaver's --train-val-split is 1 minus this. Files must not hold one class after the other",
    )
    test_files: list[str] = Field(
        default_factory=list,
        strict=False,
        description="files for evaluate; empty: the validation files, with a warning",
    )
    extra_selection: str | None = Field(
        None,
        description="expression that jets must pass too, in training and validation: weaver's (selection) & (extra)",
    )
    extra_selection_train: str | None = Field(None, description="the same in training alone")
    extra_selection_val: str | None = Field(None, description="the same in validation alone")
    extra_selection_test: str | None = Field(
        None, description="the same in calibrate, evaluate and predict, in addition to test_time_selection"
    )
    data_fraction: PartOf = Field(
        1.0,
        description="fraction of each training file that an epoch uses: jets in a row, others in each epoch",
    )
    data_fraction_val: PartOf | None = Field(
        None,
        description="fraction of the validation jets, spread over all files; the same jets in each epoch; None: "
        "data_fraction",
    )
    file_fraction: PartOf = Field(
        1.0,
        description="fraction of the training files that an epoch uses, others in each epoch; validation uses fewer "
        "jets by the same factor",
    )
    use_cache: Literal["auto", "always", "never"] = Field(
        "auto",
        description="read the cache that mode convert made; auto: if there is one for these files and this data_config",
    )
    cache_folder: str | None = Field(None, description="folder of the caches; None: data/cache of the project")
    bad_values: Literal["refuse", "zero"] = Field(
        "refuse",
        description="inputs that are NaN or infinite; refuse: an error with file and row; zero: as in weaver, NaN "
        "becomes 0 after the standardisation, and infinity the bound where the variable is clipped, else 0; they are "
        "counted",
    )
    background: str | None = Field(
        None, description="class for which rejections are computed; None: label_QCD, if there is one"
    )
