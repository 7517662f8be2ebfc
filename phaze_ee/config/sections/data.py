"""Where the jets come from."""

from typing import Literal

from pydantic import Field

from phaze_ee.config.sections.base import Section


class DataOptions(Section):
    """Where the jets come from."""

    data_config: str = Field(
        "data_configs/JetClass_full.yaml", description="weaver YAML file: selection, inputs, labels"
    )
    train_files: list[str] = Field(
        strict=False, min_length=1, description="training files, glob patterns allowed (** is recursive)"
    )
    val_files: list[str] = Field(strict=False, min_length=1, description="validation files")
    test_files: list[str] = Field(
        default_factory=list,
        strict=False,
        description="files that evaluate reads; empty: the validation files, with a warning",
    )
    use_cache: Literal["auto", "always", "never"] = Field(
        "auto",
        description="read what mode convert made of the files; auto: where there is one of these files and this "
        "data_config",
    )
    cache_folder: str | None = Field(
        None, description="where convert writes and others look; None: data/cache of the project"
    )
    background: str | None = Field(
        None, description="class against which rejections are computed; None: label_QCD where there is one"
    )
