"""What leaving early may cost."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from phaze_ee.config.sections.base import Fraction, OpenFraction, Section

_PRIOR_TOLERANCE = 1e-6


class CalibrationOptions(Section):
    """Where jets leave: what that may cost, for mode calibrate; its flags go before these options."""

    calibration_files: list[str] = Field(
        default_factory=list,
        strict=False,
        description="files that calibrate reads, never those of train_files or test_files; empty: the part of the "
        "validation jets that calibration_share keeps from the training",
    )
    calibration_share: Fraction = Field(
        0.5, description="share of the validation jets kept for calibrate, where calibration_files is empty"
    )
    exit_target: Literal["accuracy_drop", "agreement", "signal_efficiency", "budget"] = Field(
        "accuracy_drop",
        description="what leaving early may cost: jets made wrong; jets answered otherwise (no labels needed); kept "
        "signal lost at a working point; budget: the best accuracy at a mean cost",
    )
    epsilon: OpenFraction = Field(0.01, description="largest probability of what exit_target counts")
    delta: OpenFraction = Field(0.05, description="the promise may be broken with this probability")
    risk_control: Literal["ltt", "crc"] = Field(
        "ltt", description="ltt: risk below epsilon with confidence 1 - delta; crc: expected risk below epsilon"
    )
    exit_score: Literal["confidence", "entropy", "margin", "patience", "gate", "window"] | None = Field(
        None, description="by what jets leave; None: window for signal_efficiency, else confidence"
    )
    signal: str | None = Field(None, description="signal_efficiency: the signal class, against c.background")
    signal_efficiency: OpenFraction = Field(
        0.5, description="signal_efficiency: the working point, as the full model's efficiency"
    )
    background_growth: PositiveFloat = Field(
        0.05, description="signal_efficiency, two_sided: by how much the accepted background may grow, relatively"
    )
    exit_form: Literal["reject", "two_sided"] = Field(
        "reject", description="signal_efficiency: jets leave below the cut only, or on both sides of it"
    )
    cost_budget: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="budget: mean cost, as a share of the full model's MACs"
    )
    class_prior: dict[str, NonNegativeFloat] | None = Field(
        None,
        description="shares of the classes for which costs are minimised and reported, e.g. a trigger's: "
        '{"label_QCD": 0.999, "label_Hbb": 0.001}; None: as in the files',
    )
    fit_temperatures: bool = Field(
        True, description="divide the logits of each exit by a fitted temperature, so that merged scores have no steps"
    )

    @model_validator(mode="after")
    def _prior_has_weight(self) -> Self:
        if self.class_prior is not None and abs(sum(self.class_prior.values()) - 1) > _PRIOR_TOLERANCE:
            raise ValueError(f"the shares of class_prior add up to {sum(self.class_prior.values()):g}; make them 1")
        return self
