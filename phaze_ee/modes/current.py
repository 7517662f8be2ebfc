"""The results of a project that belong together: of one model, one policy, the same jets and one training.

Each results file holds the hashes of what it rests on (:class:`phaze_ee.results.base.Traced`). What does not belong to
the evaluation of the current model is left out, with the reason. Files of version 0.1 lack some of the hashes; these
are not compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar, final

from phaze_ee.errors import UsageError
from phaze_ee.modes.policies import PolicySummary, find_policy
from phaze_ee.results.benchmark import BenchmarkResults, LatencyReport
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.ood import OODResults
from phaze_ee.results.placement import PlacementResults
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.project import ProjectResults, with_policy
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project, file_hash

JudgedT = TypeVar("JudgedT", DynamicResults, OODResults)


class Thresholds(Protocol):
    """Results of a policy."""

    @property
    def thresholds(self) -> list[float]: ...


@final
@dataclass(frozen=True)
class CurrentResults:
    """What can be shown of a project.

    Attributes:
        project: the project.
        static: evaluation and benchmark, with the judged policy if it is the wanted one.
        ood: how well exits notice other jets; None without.
        placement: of mode place; None without.
        history: of the training of this model; None if there is none, or if it is that of another training.
        left_out: what is left out and why, one line each.
    """

    project: Project
    static: ProjectResults
    ood: OODResults | None = None
    placement: PlacementResults | None = None
    history: TrainingHistory | None = None
    left_out: Sequence[str] = field(default=())


def read_current(project: Project, policy: str | None = None) -> CurrentResults:
    """Return the results of a project that belong to its current model and to a policy.

    Args:
        project: the project.
        policy: the name of the policy; None: the active one.

    Raises:
        UsageError: the evaluation or the benchmark is missing, unreadable or of another model; or a file cannot be
            read, or there is no such policy.
    """
    reader = _Reader(project, find_policy(project, policy))
    for mode, path in (("evaluate", project.evaluation_results), ("benchmark", project.benchmark_results)):
        if not path.is_file():
            if project.seeds_results.is_file():
                raise UsageError(
                    f"project {project} has no {path.name} of its own; it has seeds: add --seeds, or name one of the "
                    f"projects that {command('show', project)} lists"
                )
            raise UsageError(f"project {project} has no {path.name} yet; run {_what_makes(mode, project)}")
    evaluation = reader.evaluation()
    benchmark = reader.benchmark(evaluation)
    dynamic = reader.dynamic(evaluation)
    static = ProjectResults(project.name, evaluation, benchmark, dynamic)
    return CurrentResults(
        project,
        static,
        reader.ood(evaluation),
        reader.placement(evaluation),
        reader.history(evaluation),
        reader.left_out,
    )


def read_judged(project: Project) -> tuple[EvaluationResults, LatencyReport | None, DynamicResults | None]:
    """Return the exits of the current model with the judged active policy, their times, and the results of the policy.

    Raises:
        UsageError: there is no evaluation, or a file is unreadable or of another model.
    """
    reader = _Reader(project, find_policy(project, None))
    evaluation = reader.evaluation()
    benchmark = reader.benchmark(evaluation) if project.benchmark_results.is_file() else None
    dynamic = reader.dynamic(evaluation)
    return with_policy(evaluation, dynamic), None if benchmark is None else benchmark.latency, dynamic


def _what_makes(mode: str, project: Project) -> str:
    """Return the command line that makes the results of a mode, with all that it needs and that comes after it."""
    if mode == "benchmark":
        return command(mode, project)
    if not project.best_model.is_file():
        return f"{command('chain', project)} -o train_evaluate_benchmark (with c.init_from, train_ may be left out)"
    return f"{command('chain', project)} -o evaluate_benchmark"


def command(mode: str, project: Project) -> str:
    """Return the command line that runs a mode on a project."""
    return f"phaze_ee -m {mode} -p {project.workspace} {project.name}"


@final
class _Reader:
    """Reads results one by one, and notes what is left out."""

    def __init__(self, project: Project, policy: Path | None) -> None:
        self.project = project
        self.policy = policy
        self.left_out: list[str] = []

    def evaluation(self) -> EvaluationResults:
        project = self.project
        found = EvaluationResults.read(project.evaluation_results, made_by="evaluate")
        if project.model_hash not in (None, found.model_hash):
            raise UsageError(
                f"project {project}: evaluation_results.json is of another model than {project.best_model.name}, which "
                f"has been trained again; run {command('chain', project)} -o evaluate_benchmark"
            )
        return found

    def benchmark(self, evaluation: EvaluationResults) -> BenchmarkResults:
        project = self.project
        found = BenchmarkResults.read(project.benchmark_results, made_by="benchmark")
        if evaluation.model_hash != found.model_hash or list(evaluation.exits) != list(found.exits):
            raise UsageError(
                f"project {project}: evaluation_results.json and benchmark_results.json "
                f"were made with different models; run {command('chain', project)} -o evaluate_benchmark"
            )
        return found.model_copy(update={"latency": self._latency(found, evaluation)})

    def _latency(self, benchmark: BenchmarkResults, evaluation: EvaluationResults) -> LatencyReport | None:
        """Return the times, without those of another policy; None if they are of other jets."""
        latency, again = benchmark.latency, command("benchmark", self.project)
        if latency is None:
            return None
        if _differ(benchmark.data_hash, evaluation.data_hash):
            self._leave_out("the times", "benchmark_results.json is of other jets than evaluation_results.json", again)
            return None
        why = self._not_wanted("benchmark_results.json", benchmark.policy_hash, [*latency.chosen[:1], *latency.curves])
        if why:
            self._leave_out("the times of the policy", why, again)
            return latency.model_copy(update={"chosen": [], "curves": []})
        return latency

    def dynamic(self, evaluation: EvaluationResults) -> DynamicResults | None:
        again = f"{command('chain', self.project)} -o calibrate_evaluate_benchmark_plot"
        found = self._of_model(DynamicResults, self.project.dynamic_results, evaluation, "the exit policy", again)
        if found is None:
            return None
        why = self._not_wanted(self.project.dynamic_results.name, found.policy_hash, [found.policy])
        if why:
            self._leave_out("the exit policy", why, f"{command('chain', self.project)} -o evaluate_benchmark_plot")
            return None
        return found

    def ood(self, evaluation: EvaluationResults) -> OODResults | None:
        again = f"{command('evaluate', self.project)} --ood FILES"
        found = self._of_model(OODResults, self.project.ood_results, evaluation, "out-of-distribution jets", again)
        if found is None or found.policy is None:
            return found
        why = self._not_wanted(self.project.ood_results.name, found.policy_hash, [])
        if not why:
            return found
        self._leave_out("where out-of-distribution jets leave", why, again)
        return found.model_copy(update={"policy": None})

    def placement(self, evaluation: EvaluationResults) -> PlacementResults | None:
        path = self.project.placement_results
        found = PlacementResults.read(path, made_by="place") if path.is_file() else None
        if found is None or found.model_hash == evaluation.model_hash:
            return found
        why = f"{path.name} was made with another model than evaluation_results.json"
        self._leave_out("the placement of exits", why, command("place", self.project))
        return None

    def history(self, evaluation: EvaluationResults) -> TrainingHistory | None:
        path = self.project.training_history
        if not path.is_file():
            return None
        found, digest = TrainingHistory.read_hashed(path, made_by="train")
        if not _differ(evaluation.history_hash, digest):
            return found
        again = f"{command('chain', self.project)} -o evaluate_benchmark_plot"
        self._leave_out("the training curves", f"{path.name} is of another training than the evaluated model", again)
        return None

    def _of_model(
        self, kind: type[JudgedT], path: Path, evaluation: EvaluationResults, what: str, again: str
    ) -> JudgedT | None:
        """Return the results in a file; None without one, or if they are of another model or of other jets."""
        if not path.is_file():
            return None
        found = kind.read(path, made_by="evaluate")
        if found.model_hash != evaluation.model_hash or list(found.exits) != list(evaluation.exits):
            why = f"{path.name} was made with another model than evaluation_results.json"
        elif _differ(found.data_hash, evaluation.data_hash):
            why = f"{path.name} was made with other jets than evaluation_results.json"
        else:
            return found
        self._leave_out(what, why, again)
        return None

    def _not_wanted(self, name: str, policy_hash: str | None, made_with: Sequence[Thresholds]) -> str:
        """Return why results of a policy are not those of the wanted one; empty if they are.

        In files of version 0.1, which have no hash, the thresholds are compared.
        """
        if policy_hash is None and not made_with:
            return ""
        if self.policy is None:
            return f"{name} is of a policy, and the project has no active one"
        if policy_hash is None:
            wanted = PolicySummary.read(self.policy, made_by="calibrate").thresholds == made_with[0].thresholds
        else:
            wanted = policy_hash == file_hash(self.policy)
        return "" if wanted else f"{name} is of another policy than {self.policy.name}"

    def _leave_out(self, what: str, why: str, again: str) -> None:
        self.left_out.append(f"Left out: {what}, for {why}; run {again}")


def _differ(one: str | None, other: str | None) -> bool:
    """Return whether two hashes are known and differ."""
    return one is not None and other is not None and one != other
